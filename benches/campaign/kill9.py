"""Kills `autonomos ingest` with SIGKILL at random points, starts it again until it is done, and compares.

After each kill, before anything is ingested again: the log holds every record that was acknowledged, and in every few
cycles the view is what the oracle makes of just the records that are on the log. At the end of a cycle: the counts
reconcile, the view equals the oracle through our SQL and, every few cycles, as other Delta readers see it and after a
rebuild; the same command once more adds nothing. Some cycles are large enough for views to be flushed in mid run.

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
# So many cycles in a row without a kill, or anomalies in all, and the campaign gives up.
GIVE_UP = 20


class Load:
    """Files, what becomes of them, and how long an ingest takes that nobody disturbs."""

    def __init__(self, con, scratch, name, records, keys, seed):
        self.con, self.table = con, f"expected_{name}"
        self.files = [workload.write(scratch / f"{name}-{n}", records // 2, keys, seed=seed + n)[0]["path"]
                      for n in range(2)]
        oracle.expected(con, self.files, self.table)
        self.start, self.rest = calm(scratch, self.files)
        self.check(scratch / "calm", deep=True)
        print(f"kill9: an undisturbed ingest of {records} records takes {self.start:.2f} s until the first are "
              f"acknowledged, and {self.rest:.2f} s from then on", flush=True)

    def check(self, data_dir, deep):
        """Compares the view with the oracle."""
        check(self.con, data_dir, self.table, deep)

    def check_first(self, data_dir, records):
        """Compares the view with what the oracle makes of the first records."""
        oracle.expected(self.con, self.files, "expected_first", first=records)
        check(self.con, data_dir, "expected_first", deep=False)


def calm(scratch, files):
    """How long an ingest takes that nobody disturbs: until something is acknowledged, and from then to its end."""
    times = []
    for _ in ("cold", "warm"):
        shutil.rmtree(scratch / "calm", ignore_errors=True)
        started = time.monotonic()
        run = line.Ingest(scratch / "calm", TENANT, files)
        run.begun.wait()
        begun = time.monotonic()
        if run.wait() != 0:
            raise line.Failed(f"an ingest that nobody disturbed failed: {run.said()}")
        times.append((begun - started, time.monotonic() - begun))
    return min(times, key=sum)


def wait_at_random(rng, run, start, rest):
    """Returns at a random point of an ingest: as often before the first acknowledgement as a third, else behind it."""
    if rng.random() < 1 / 3:
        time.sleep(rng.uniform(0.0, start))
    else:
        run.begun.wait()
        time.sleep(rng.uniform(0.0, rest))


def check(con, data_dir, table, deep):
    """Compares the view with a table of the oracle: by our SQL, `deep` also by other readers and after a rebuild."""
    oracle.compare_by_sql(con, line.query(data_dir, TENANT, oracle.SELECT), table)
    if deep:
        oracle.compare_by_readers(con, line.view_folder(data_dir, TENANT), table)
        line.views(data_dir, TENANT, "rebuild")
        oracle.compare_by_sql(con, line.query(data_dir, TENANT, oracle.SELECT), table)


def flushes(data_dir):
    """How many commits have put files into the view's table."""
    commits = pathlib.Path(data_dir).glob(f"views/*/{line.TABLE}/_delta_log/*.json")
    return sum('"add"' in commit.read_text() for commit in commits)


class Cycle:
    """One data folder that is killed a few times and then left in peace."""

    def __init__(self, campaign, rng, data_dir, load, deep):
        self.campaign, self.rng, self.data_dir, self.load, self.deep = campaign, rng, data_dir, load, deep
        self.kills = 0

    def run(self, kills):
        """Kills up to so many times, then lets the ingest end and compares."""
        while self.kills < kills and self.kill():
            pass
        line.ingest(self.data_dir, TENANT, self.load.files)
        self.load.check(self.data_dir, self.deep)
        again = line.ingest(self.data_dir, TENANT, self.load.files)
        if again["in"] != 0:
            self.campaign.anomaly(f"a second run added something: {again}")

    def kill(self):
        """Starts an ingest and kills it at a random point. Gives whether it still ran by then."""
        before, _ = line.taken(self.data_dir, TENANT)
        flushed = flushes(self.data_dir)
        run = line.Ingest(self.data_dir, TENANT, self.load.files)
        wait_at_random(self.rng, run, self.load.start, self.load.rest)
        alive = run.process.poll() is None
        status = run.kill()
        if not alive:
            self.campaign.fired("ended before the kill")
            if status != 0:
                raise line.Failed(f"the ingest ended with {status} by itself: {run.said()}")
            return False
        self.kills += 1
        if flushes(self.data_dir) > flushed:
            self.campaign.fired("kill -9 behind a flush")
        else:
            self.campaign.fired("kill -9" if run.acknowledged else "kill -9, nothing acknowledged in the run")
        after, duplicates = line.taken(self.data_dir, TENANT)
        self.campaign.hold(before + run.acknowledged, after)
        if self.deep and after > 0:
            self.load.check_first(self.data_dir, after - duplicates)
            self.campaign.fired("view compared before the rest was ingested")
        return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=200, help="kills in all")
    parser.add_argument("--records", type=int, default=40_000)
    parser.add_argument("--keys", type=int, default=4_000)
    parser.add_argument("--large-every", type=int, default=4, help="one cycle in so many has the large load")
    parser.add_argument("--large-records", type=int, default=400_000)
    parser.add_argument("--kills-per-cycle", type=int, default=3)
    parser.add_argument("--deep-every", type=int, default=3, help="cycles between deep comparisons")
    parser.add_argument("--keep", action="store_true", help="keep the folder of a cycle with an anomaly")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    campaign = Campaign("kill9", arguments.seed, count=arguments.count, records=arguments.records,
                        large_records=arguments.large_records)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="kill9-"))
    try:
        con = oracle.connect()
        small = Load(con, scratch, "small", arguments.records, arguments.keys, arguments.seed)
        large = Load(con, scratch, "large", arguments.large_records, arguments.large_records // 2, arguments.seed)
        left, in_vain = arguments.count, 0
        while left > 0 and in_vain < GIVE_UP and len(campaign.anomalies) < GIVE_UP:
            data_dir = scratch / f"cycle-{campaign.cycles}"
            before = len(campaign.anomalies)
            load = large if campaign.cycles % arguments.large_every == arguments.large_every - 1 else small
            cycle = Cycle(campaign, rng, data_dir, load, deep=campaign.cycles % arguments.deep_every == 0)
            try:
                cycle.run(min(left, rng.randint(1, arguments.kills_per_cycle)))
            except (line.Failed, oracle.Mismatch) as error:
                campaign.anomaly(str(error))
            left -= cycle.kills
            in_vain = 0 if cycle.kills else in_vain + 1
            if not (arguments.keep and len(campaign.anomalies) > before):
                shutil.rmtree(data_dir, ignore_errors=True)
            campaign.cycle()
        print(f"kill9: {arguments.count - left} kills", flush=True)
        if left > 0:
            campaign.anomaly(f"gave up after {arguments.count - left} of {arguments.count} kills")
    finally:
        if not arguments.keep:
            shutil.rmtree(scratch, ignore_errors=True)
    campaign.end()


if __name__ == "__main__":
    main()
