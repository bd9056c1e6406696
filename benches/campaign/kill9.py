"""Kills `autonomos ingest` with SIGKILL at random points, starts it again until it is done, and compares.

After each kill: the log holds every record that was acknowledged. At the end of a cycle: the counts reconcile, the
view equals the oracle through our SQL and, every few cycles, as other Delta readers see it and after a rebuild; the
same command once more adds nothing.

    kill9.py --seed 1 --count 200
"""

import argparse
import pathlib
import random
import shutil
import tempfile
import time

import line
import oracle
import workload
from verdict import Campaign

TENANT = "acme"


def calm_seconds(data_dir, files):
    """How long an ingest takes that nobody disturbs."""
    started = time.monotonic()
    line.ingest(data_dir, TENANT, files)
    return time.monotonic() - started


def kills_then_end(campaign, rng, data_dir, files, seconds, count):
    """Kills up to `count` times at random points, then lets the ingest end. Gives the number of kills."""
    killed = 0
    while killed < count:
        before = line.input_end(data_dir)
        run = line.Ingest(data_dir, TENANT, files)
        time.sleep(rng.uniform(0.0, seconds * 1.05))
        alive = run.process.poll() is None
        status = run.kill()
        if not alive:
            campaign.fired("ended before the kill")
            if status != 0:
                raise line.Failed(f"the ingest ended with {status} by itself: {''.join(run.errors)[-500:]}")
            return killed
        killed += 1
        campaign.fired("kill -9" if run.acknowledged else "kill -9 before any acknowledgement")
        after = line.input_end(data_dir)
        if after < before + run.acknowledged:
            campaign.anomaly(f"{before} on the log and {run.acknowledged} acknowledged, then {after} on the log")
    line.reconcile(line.ingest(data_dir, TENANT, files))
    return killed


def check(con, data_dir, scratch, deep):
    """Compares the view with the table `expected`."""
    def by_sql():
        path = scratch / "found.csv"
        path.write_text(line.query(data_dir, TENANT, f"select {oracle.NAMES} from opportunities"))
        oracle.from_csv(con, path, "found")
        oracle.compare(con, "found")

    by_sql()
    if deep:
        for _, table in oracle.from_delta(con, line.view_folder(data_dir, TENANT)):
            oracle.compare(con, table)
        line.views(data_dir, TENANT, "rebuild")
        by_sql()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=200, help="kills in all")
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--keys", type=int, default=4_000)
    parser.add_argument("--kills-per-cycle", type=int, default=3)
    parser.add_argument("--deep-every", type=int, default=10, help="cycles between deep comparisons")
    parser.add_argument("--keep", action="store_true", help="keep the folder of a cycle with an anomaly")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    campaign = Campaign("kill9", arguments.seed, count=arguments.count, records=arguments.records)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="kill9-"))
    try:
        files = [workload.write(scratch / str(n), arguments.records, arguments.keys, seed=arguments.seed + n)[0]["path"]
                 for n in range(2)]
        con = oracle.connect()
        oracle.expected(con, files)
        seconds = min(calm_seconds(scratch / name, files) for name in ("cold", "calm"))
        check(con, scratch / "calm", scratch, deep=True)
        print(f"kill9: an undisturbed ingest takes {seconds:.2f} s", flush=True)
        left = arguments.count
        while left > 0 and len(campaign.anomalies) < 20:
            data_dir = scratch / f"cycle-{campaign.cycles}"
            before = len(campaign.anomalies)
            try:
                kills = kills_then_end(campaign, rng, data_dir, files, seconds,
                                       min(left, rng.randint(1, arguments.kills_per_cycle)))
                left -= max(kills, 1)
                check(con, data_dir, scratch, deep=campaign.cycles % arguments.deep_every == 0)
                again = line.ingest(data_dir, TENANT, files)
                if again["in"] != 0:
                    campaign.anomaly(f"a second run added something: {again}")
            except (line.Failed, oracle.Mismatch) as error:
                campaign.anomaly(str(error))
                left -= 1
            if not (arguments.keep and len(campaign.anomalies) > before):
                shutil.rmtree(data_dir, ignore_errors=True)
            campaign.cycle(total=None)
    finally:
        if not arguments.keep:
            shutil.rmtree(scratch, ignore_errors=True)
    campaign.end()


if __name__ == "__main__":
    main()
