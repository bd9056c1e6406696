"""DataFusion on plain Parquet: a filtered and a grouped query over files. Prints {"filtered_ms", "grouped_ms"}.

    datafusion_query.py FOLDER [RUNS]      FOLDER holds Parquet files with the columns of opportunities
"""

import json
import statistics
import sys
import time

import datafusion

FILTERED = "SELECT count(*), sum(amount) FROM opportunities WHERE stage = 'Closed Won' AND amount > 1000000"
GROUPED = "SELECT stage, count(*), sum(amount) FROM opportunities GROUP BY stage"


def median_ms(run, runs):
    """The median time of a query, after one to warm up."""
    run()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        run()
        times.append((time.perf_counter() - started) * 1000)
    return round(statistics.median(times), 2)


if __name__ == "__main__":
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 15
    context = datafusion.SessionContext()
    context.register_parquet("opportunities", sys.argv[1])
    print(json.dumps({"filtered_ms": median_ms(lambda: context.sql(FILTERED).collect(), runs),
                      "grouped_ms": median_ms(lambda: context.sql(GROUPED).collect(), runs)}))
