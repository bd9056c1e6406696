"""Abuse, case by case: what is tried, which statuses were seen, whether that is as it should be. A case whose feature does
not exist yet says so; one that cannot be tried from outside names its test.

    abuse.py              all of them
    abuse.py --only B     some of them, by the beginnings of their numbers
    abuse.py --slower 5   what has its time may take five times as long: the machine is slow, or has much else to do
"""

import argparse
import tempfile
import traceback

import abuse_access
import abuse_model
import abuse_sources
import abuse_sql
import abuse_tenants
import abuse_wire
from cases import CASES, House, Seen
from verdict import Campaign

# Read for the cases that they register.
PARTS = (abuse_access, abuse_tenants, abuse_sql, abuse_sources, abuse_model, abuse_wire)


def attempt(case, house, campaign):
    """Tries a case; gives what the table says."""
    if case.test and not case.is_there():
        campaign.anomaly(f"{case.number}: there is no test {case.test}")
        return case.instead, "MISSING"
    if case.instead:
        return case.instead, "not built" if case.instead.startswith("not built") else "-"
    seen = Seen()
    try:
        case.run(house, seen)
        seen.that(house.is_alive(), f"the server has ended or is stuck: {house.server.said()}")
    except Exception:  # A case that breaks is one that fails; the others go on.
        seen.wrong.append(traceback.format_exc(limit=-3).replace("\n", " "))
    for wrong in seen.wrong[:5]:
        campaign.anomaly(f"{case.number}: {wrong}")
    return seen.told(), "pass" if not seen.wrong else f"FAIL ({len(seen.wrong)})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[""])
    parser.add_argument("--slower", type=float, default=1.0)
    options = parser.parse_args()
    campaign = Campaign("abuse", options.seed, only=options.only, slower=options.slower)
    wanted = [case for case in sorted(CASES, key=lambda case: case.order()) if case.number.startswith(tuple(options.only))]
    with tempfile.TemporaryDirectory() as scratch:
        house = House(scratch, options.seed, options.slower)
        with house.server:
            for case in wanted:
                told, verdict = attempt(case, house, campaign)
                print(f"{case.number:5}{verdict:10}{case.title:66}{told}", flush=True)
                campaign.fired(verdict.split(" ")[0])
                campaign.cycle(every=len(wanted) + 1)
    campaign.end()


if __name__ == "__main__":
    main()
