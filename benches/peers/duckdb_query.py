"""DuckDB: a filtered or a grouped query over the files of a Delta table. Prints {"p50_ms"}.

    duckdb_query.py FOLDER filtered|grouped [RUNS]      FOLDER is a view's folder, data/views/TENANT/opportunities
"""

import json
import statistics
import sys
import time

import deltalake
import duckdb

QUERIES = {
    "filtered": "SELECT count(*), sum(amount) FROM opportunities WHERE stage = 'Closed Won' AND amount > 1000000",
    "grouped": "SELECT stage, count(*), sum(amount) FROM opportunities GROUP BY stage ORDER BY stage",
}


def median_ms(con, sql, runs):
    """The median time of a query, after one to warm up."""
    con.execute(sql).fetchall()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        con.execute(sql).fetchall()
        times.append((time.perf_counter() - started) * 1000)
    return round(statistics.median(times), 3)


if __name__ == "__main__":
    folder, query, *runs = sys.argv[1:]
    con = duckdb.connect()
    con.read_parquet(deltalake.DeltaTable(folder).file_uris()).create_view("opportunities")
    print(json.dumps({"p50_ms": median_ms(con, QUERIES[query], int(runs[0]) if runs else 15)}))
