"""DataFusion: infers the columns of each file and keeps the last record of each key. Prints {"rows", "sum"}.

It has no order of arrival, so of two records with one version either may stay: the sum may differ a little.
"""

import json
import sys

import datafusion

context = datafusion.SessionContext()
rows, total = 0, 0
for number, file in enumerate(sys.argv[1:]):
    context.register_json(f"arrived_{number}", file, file_extension=".ndjson")
    found = context.sql(f"""
        SELECT count(*) AS rows, coalesce(sum(CAST("Amount" AS DECIMAL(24,4))), 0) AS total FROM (
            SELECT *, row_number() OVER (PARTITION BY "Id" ORDER BY "LastModifiedDate" DESC) AS place
            FROM arrived_{number})
        WHERE place = 1 AND NOT "IsDeleted" """).collect()[0].to_pydict()
    rows, total = rows + found["rows"][0], total + found["total"][0]
print(json.dumps({"rows": rows, "sum": str(total)}))
