"""The exact final table of the workload, worked out by DuckDB from the source files alone.

A row's key is Id. Of the records of one key the greatest (LastModifiedDate, order of arrival) counts; if that one is
a delete, there is no row. Nothing of ours is linked or called here.

    oracle.py FILE... --out final.csv             the final table as CSV, ordered by key
    oracle.py FILE... --compare ours.csv          compare with what `autonomos query --format csv` printed
    oracle.py FILE... --delta DIR                 compare with the folder as `deltalake` and `polars` read it
    oracle.py FILE... --check                     compare DuckDB's table with a plain loop over the lines
"""

import argparse
import json
import sys
import tempfile

import duckdb

# Column, its value in a source record, and its type in both tables.
COLUMNS = [
    ("opportunity_id", "j->>'$.Id'", "VARCHAR"),
    ("account_id", "j->>'$.AccountId'", "VARCHAR"),
    ("name", "j->>'$.Name'", "VARCHAR"),
    ("stage", "j->>'$.StageName'", "VARCHAR"),
    ("amount", "j->>'$.Amount'", "DECIMAL(24,4)"),
    ("currency", "j->>'$.CurrencyIsoCode'", "VARCHAR"),
    ("close_date", "j->>'$.CloseDate'", "DATE"),
    ("owner_id", "j->>'$.OwnerId'", "VARCHAR"),
    ("owner_name", "j->>'$.Owner.Name'", "VARCHAR"),
    ("probability", "j->>'$.Probability'", "DECIMAL(9,4)"),
    ("type", "j->>'$.Type'", "VARCHAR"),
    ("created_at", "j->>'$.CreatedDate'", "TIMESTAMP"),
    ("updated_at", "j->>'$.LastModifiedDate'", "TIMESTAMP"),
]
NAMES = ", ".join(name for name, _, _ in COLUMNS)
# What to ask a view for, to hold its answer as CSV against a table of ours.
SELECT = f"select {NAMES} from opportunities"


class Mismatch(Exception):
    """Two tables that should be equal are not."""


def connect():
    """A connection in memory whose times are UTC."""
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = true")
    return con


def typed(value, kind):
    """A source value as the type of its column; every time of the workload is written in UTC."""
    if kind == "TIMESTAMP":
        return f"replace({value}, '+0000', '')::TIMESTAMP"
    return f"({value})::{kind}"


def expected(con, files, table="expected", first=None):
    """Makes the final table of `files`, which arrived in this order; with `first` of so many records only."""
    con.execute("CREATE OR REPLACE TEMP TABLE arrived (arrival BIGINT, j JSON)")
    for number, file in enumerate(files):
        con.execute(
            "INSERT INTO arrived SELECT ? * 1000000000::BIGINT + row_number() OVER (), json FROM read_ndjson_objects(?)",
            [number, str(file)],
        )
    if first is not None:
        con.execute("DELETE FROM arrived WHERE arrival NOT IN (SELECT arrival FROM arrived ORDER BY arrival LIMIT ?)",
                    [first])
    columns = ", ".join(f"{typed(value, kind)} AS {name}" for name, value, kind in COLUMNS)
    con.execute(f"""
        CREATE OR REPLACE TABLE {table} AS
        WITH ranked AS (
            SELECT j, row_number() OVER (
                PARTITION BY j->>'$.Id' ORDER BY j->>'$.LastModifiedDate' DESC, arrival DESC) AS place
            FROM arrived)
        SELECT {columns} FROM ranked WHERE place = 1 AND (j->>'$.IsDeleted') IS DISTINCT FROM 'true'
        ORDER BY opportunity_id""")
    con.execute("DROP TABLE arrived")


def by_loop(files):
    """The ids and amounts of the final table by a plain loop, to check the SQL above."""
    newest = {}
    for file in files:
        with open(file, encoding="utf-8") as lines:
            for line in lines:
                record = json.loads(line, parse_float=str)
                known = newest.get(record["Id"])
                if known is None or known["LastModifiedDate"] <= record["LastModifiedDate"]:
                    newest[record["Id"]] = record
    return {key: (r["LastModifiedDate"], r["Amount"]) for key, r in newest.items() if not r["IsDeleted"]}


def from_csv(con, path, table):
    """Reads what `autonomos query --format csv` printed."""
    columns = ", ".join(
        f"{name}::TIMESTAMPTZ::TIMESTAMP AS {name}" if kind == "TIMESTAMP" else f"{name}::{kind} AS {name}"
        for name, _, kind in COLUMNS
    )
    con.execute(
        f"CREATE OR REPLACE TABLE {table} AS SELECT {columns} FROM read_csv(?, all_varchar = true, header = true)",
        [str(path)],
    )


def from_arrow(con, arrow_table, table):
    """Takes a table that another reader of the Delta folder gave."""
    import pyarrow as pa

    for at, field in enumerate(arrow_table.schema):
        if pa.types.is_timestamp(field.type) and field.type.tz is not None:
            plain = arrow_table.column(at).cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us"))
            arrow_table = arrow_table.set_column(at, field.name, plain)
    con.register("arrow_table", arrow_table)
    columns = ", ".join(f"{name}::{kind} AS {name}" for name, _, kind in COLUMNS)
    con.execute(f"CREATE OR REPLACE TABLE {table} AS SELECT {columns} FROM arrow_table")
    con.unregister("arrow_table")


def from_delta(con, folder):
    """Reads a view's folder with two readers that know nothing of us; yields the name of each and its table."""
    import deltalake
    import polars

    names = [name for name, _, _ in COLUMNS]
    import pyarrow as pa

    from_arrow(con, pa.table(deltalake.DeltaTable(str(folder)).to_pyarrow_table(columns=names)), "by_deltalake")
    yield "deltalake", "by_deltalake"
    from_arrow(con, polars.scan_delta(str(folder)).select(names).collect().to_arrow(), "by_polars")
    yield "polars", "by_polars"


def compare(con, found, expected_table="expected"):
    """Raises Mismatch unless both tables hold the same rows, each as often."""
    missing = con.execute(
        f"SELECT {NAMES} FROM {expected_table} EXCEPT ALL SELECT {NAMES} FROM {found} ORDER BY 1").fetchall()
    extra = con.execute(
        f"SELECT {NAMES} FROM {found} EXCEPT ALL SELECT {NAMES} FROM {expected_table} ORDER BY 1").fetchall()
    if missing or extra:
        raise Mismatch(f"{len(missing)} rows missing, {len(extra)} rows too many; "
                       f"first missing {missing[:1]}, first too many {extra[:1]}")


def compare_by_sql(con, answer, expected_table="expected"):
    """Holds what a view answers to SELECT, as the text of a CSV, against a table of ours."""
    with tempfile.NamedTemporaryFile("w", suffix=".csv", encoding="utf-8") as file:
        file.write(answer)
        file.flush()
        from_csv(con, file.name, "found")
    compare(con, "found", expected_table)


def compare_by_readers(con, folder, expected_table="expected"):
    """Holds what other Delta readers see in a folder against a table of ours; gives their names."""
    names = []
    for reader, table in from_delta(con, folder):
        compare(con, table, expected_table)
        names.append(reader)
    return names


def summary(con, table="expected"):
    """The number of rows and the sum of amounts."""
    rows, total = con.execute(f"SELECT count(*), coalesce(sum(amount), 0) FROM {table}").fetchone()
    return {"rows": rows, "sum": str(total)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--out", help="write the final table here as CSV")
    parser.add_argument("--compare", help="a CSV to compare with")
    parser.add_argument("--delta", help="a view's folder to compare with")
    parser.add_argument("--check", action="store_true", help="check DuckDB's table by a plain loop")
    arguments = parser.parse_args()
    con = connect()
    expected(con, arguments.files)
    result = summary(con)
    try:
        if arguments.out:
            con.execute(f"COPY (SELECT {NAMES} FROM expected ORDER BY 1) TO '{arguments.out}' (HEADER)")
        if arguments.check:
            looped = by_loop(arguments.files)
            ours = con.execute("SELECT opportunity_id, amount::VARCHAR, updated_at::VARCHAR FROM expected").fetchall()
            if len(looped) != len(ours) or {row[0] for row in ours} != set(looped):
                raise Mismatch(f"the loop has {len(looped)} rows, DuckDB {len(ours)}")
            from decimal import Decimal
            wrong = [row for row in ours if (None if row[1] is None else Decimal(row[1])) !=
                     (None if looped[row[0]][1] is None else Decimal(looped[row[0]][1]))]
            if wrong:
                raise Mismatch(f"{len(wrong)} amounts differ, first {wrong[0]} and {looped[wrong[0][0]]}")
            result["checked"] = "loop"
        if arguments.compare:
            from_csv(con, arguments.compare, "found")
            compare(con, "found")
            result["compared"] = arguments.compare
        if arguments.delta:
            result |= {reader: "equal" for reader in compare_by_readers(con, arguments.delta)}
    except Mismatch as mismatch:
        print(json.dumps({**result, "mismatch": str(mismatch)}))
        sys.exit(1)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
