"""The demo on Kafka, Cassandra and a bucket, by the command that `make demo-cluster` runs: `servers.py autonomos demo`. It is walked
as `walk.py` walks the demo in a folder, drift drop included, and ends with the same rows."""

import sys

import line
import walk
from cluster_crew import answer, first_difference, healthy

# Three servers start first.
PATIENCE_S = 1800
BESIDE_SERVERS = (sys.executable, str(line.ROOT / "benches" / "campaign" / "servers.py"))


def run(campaign, scratch, options):
    """Asks the question."""
    rows = {}
    for where, beside in (("servers", BESIDE_SERVERS), ("folder", ())):
        (scratch / where).mkdir()
        with walk.demo(scratch / where / "demo", options.seed, beside, PATIENCE_S) as (data, address, token):
            walk.walk(walk.Walk(campaign, data, address, token), campaign)
            line.refold(data, 7, 2)
            healthy(data)
            tables = [row["table"] for row in line.json_lines(line.views(data, walk.TENANT, "list", "--json"))]
            rows[where] = {table: answer(data, walk.TENANT, table) for table in tables}
        campaign.fired(f"demo walked on {where}")
    if set(rows["servers"]) != set(rows["folder"]):
        campaign.anomaly(f"the servers have the tables {sorted(rows['servers'])}, the folder {sorted(rows['folder'])}")
        return
    for table, text in rows["folder"].items():
        if different := first_difference(text, rows["servers"][table]):
            campaign.anomaly(f"{table} is another one in the folder and on the servers: {different}")
