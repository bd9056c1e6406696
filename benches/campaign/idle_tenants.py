"""How much memory do tenants cost that do nothing? Serves a folder with many of them and reads the server's RSS.

    idle_tenants.py --count 1000
"""

import argparse
import json
import pathlib
import tempfile

import line
import workload
from verdict import Campaign

# What a server may take beside its tenants: caches that fill with the first of them.
SLACK_MB = 32
# What the server may take while it fills: the tenants' views are open until their budget closes them.
FILLED_MB_MAX = 400


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--kb-per-tenant", type=int, default=32, help="what an idle tenant may cost")
    arguments = parser.parse_args()
    campaign = Campaign("idle tenants", 1, count=arguments.count, kb_per_tenant=arguments.kb_per_tenant)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        file = workload.write(scratch / "files", records=10, keys=10)[0]["path"]
        with line.Server(scratch / "data") as server:
            empty = server.rss_mb()
            for number in range(arguments.count):
                line.ingest(scratch / "data", f"tenant-{number}", [file])
                campaign.cycle(every=250, total=arguments.count)
            filled = server.rss_mb()
        with line.Server(scratch / "data") as server:
            idle = server.rss_mb()
            for number in (0, arguments.count - 1):
                found = line.query(scratch / "data", f"tenant-{number}", "select count(*) from opportunities").split()[-1]
                if int(found) == 0:
                    campaign.anomaly(f"tenant-{number} has no rows after the restart")
        bound = empty + SLACK_MB + arguments.count * arguments.kb_per_tenant / 1024
        print(json.dumps({"tenants": arguments.count, "rss_mb_empty": round(empty), "rss_mb_after_ingest": round(filled),
                          "rss_mb_idle_after_restart": round(idle), "rss_mb_bound": round(bound)}))
        if idle > bound:
            campaign.anomaly(f"{idle:.0f} MB with {arguments.count} idle tenants, more than {bound:.0f}")
        if filled > FILLED_MB_MAX:
            campaign.anomaly(f"{filled:.0f} MB after {arguments.count} tenants were filled, more than {FILLED_MB_MAX}")
    campaign.end()


if __name__ == "__main__":
    main()
