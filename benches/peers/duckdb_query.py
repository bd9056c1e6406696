"""DuckDB: a filtered and a grouped query over the files of a Delta table. Prints {"filtered_ms", "grouped_ms"}.

    duckdb_query.py FOLDER [RUNS]      FOLDER is a view's folder, data/views/TENANT/opportunities
"""

import json
import statistics
import sys
import time

import deltalake
import duckdb

FILTERED = "SELECT count(*), sum(amount) FROM opportunities WHERE stage = 'Closed Won' AND amount > 1000000"
GROUPED = "SELECT stage, count(*), sum(amount) FROM opportunities GROUP BY stage ORDER BY stage"


def median_ms(con, sql, runs):
    """The median time of a query, after one to warm up."""
    con.execute(sql).fetchall()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        con.execute(sql).fetchall()
        times.append((time.perf_counter() - started) * 1000)
    return round(statistics.median(times), 2)


if __name__ == "__main__":
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 15
    files = deltalake.DeltaTable(sys.argv[1]).file_uris()
    con = duckdb.connect()
    con.read_parquet(files).create_view("opportunities")
    print(json.dumps({"filtered_ms": median_ms(con, FILTERED, runs), "grouped_ms": median_ms(con, GROUPED, runs)}))
