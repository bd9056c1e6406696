"""DuckDB by aggregation instead of a window: arg_max over (version, arrival). Prints {"rows", "sum"}."""

import json
import sys

import duckdb

con = duckdb.connect()
rows, total = 0, 0
for file in sys.argv[1:]:
    con.execute("""
        CREATE OR REPLACE TABLE final AS
        WITH arrived AS (SELECT *, row_number() OVER () AS arrival FROM read_json_auto(?))
        SELECT unnest(latest) FROM (
            SELECT arg_max(arrived, (LastModifiedDate, arrival)) AS latest FROM arrived GROUP BY Id)
        WHERE NOT latest.IsDeleted""", [file])
    found = con.execute("SELECT count(*), coalesce(sum(Amount::DECIMAL(24,4)), 0) FROM final").fetchone()
    rows, total = rows + found[0], total + found[1]
print(json.dumps({"rows": rows, "sum": str(total)}))
