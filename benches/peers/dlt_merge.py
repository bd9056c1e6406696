"""dlt: merges each file into a DuckDB table by key, newest version first, deletes applied. Prints {"rows", "sum"}.

It has no order of arrival, so of two records with one version either may stay: the sum may differ a little.
"""

import json
import os
import sys
import tempfile

os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
os.environ["RUNTIME__LOG_LEVEL"] = "ERROR"

import dlt  # noqa: E402  The settings above must stand before it is loaded.
import duckdb  # noqa: E402



def source(file):
    """The file's records as a resource, 5,000 at a time. dlt fills a generator's parameters itself, so it has none."""
    @dlt.resource(name="opportunity", primary_key="Id", write_disposition={"disposition": "merge"}, columns={
        "LastModifiedDate": {"dedup_sort": "desc"}, "IsDeleted": {"hard_delete": True}})
    def records():
        with open(file, encoding="utf-8") as lines:
            batch = []
            for text in lines:
                batch.append(json.loads(text))
                if len(batch) == 5000:
                    yield batch
                    batch = []
            yield batch

    return records


def main():
    rows, total = 0, 0
    with tempfile.TemporaryDirectory(prefix="dlt-peer-") as scratch:
        for number, file in enumerate(sys.argv[1:]):
            database = f"{scratch}/{number}.duckdb"
            dlt.pipeline(f"peer_{number}", pipelines_dir=f"{scratch}/p", dataset_name="crm",
                         destination=dlt.destinations.duckdb(database)).run(source(file)())
            with duckdb.connect(database) as con:
                found = con.execute(
                    "SELECT count(*), coalesce(sum(amount::DECIMAL(24,4)), 0) FROM crm.opportunity").fetchone()
            rows, total = rows + found[0], total + found[1]
    print(json.dumps({"rows": rows, "sum": str(total)}))


if __name__ == "__main__":
    main()
