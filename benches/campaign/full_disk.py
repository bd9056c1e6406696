"""Fills the disk under a server that ingests, frees it again, and compares: nothing acknowledged is lost, nobody
restarts anything. By turns the same under a command that has no server: it ends with a clear error, and so does what
reads after it, or it answers.

    full_disk.py --count 3        needs root, for a small file system in memory
"""

import argparse
import contextlib
import os
import pathlib
import random
import subprocess
import tempfile

import line
import oracle
import workload
from verdict import Campaign, skip

TENANT = "acme"
# Seconds that a full disk is left full, and that an ingest may take to end once there is room again.
WAITING, ENDING = 6, 600
SIZE = 400 << 20
# Megabytes that are left free, from and to: in turn so few that appends fail, and enough for those but not for what
# becomes of them.
LEFT_FREE = [(26, 50), (57, 66)]


def fill(folder, leave):
    """Takes the room of a file system but for `leave` bytes; answers the file that took it."""
    ballast = folder / "ballast"
    room = os.statvfs(folder)
    size = room.f_bavail * room.f_frsize - leave
    with open(ballast, "wb") as out:
        os.posix_fallocate(out.fileno(), 0, max(size, 1))
    return ballast


@contextlib.contextmanager
def mounted(folder):
    """A small file system in memory, for a while."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]).returncode != 0:
        skip("full disk", "a file system cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def ingest_into_full_disk(campaign, server, folder, file, leave):
    """An ingest that runs out of room, which comes back some seconds later. Gives what it acknowledged."""
    ballast = fill(folder, leave)
    run = line.Ingest(folder / "data", TENANT, [file])
    status = run.wait_at_most(WAITING)
    if status == 0:
        campaign.anomaly(f"the disk never filled: {leave >> 20} MB were room enough")
    elif status is None:
        # What is acknowledged waits for its fate, and for room.
        campaign.fired("disk full, the ingest waits")
    else:
        campaign.fired("disk full, the ingest ended")
        if "full" not in run.said():
            campaign.anomaly(f"the error does not say that the disk is full: {run.said()}")
    if not server.is_running():
        campaign.anomaly(f"the server has ended: {server.said()}")
    ballast.unlink()
    if status is None:
        status = run.wait_at_most(ENDING)
        if status is None:
            run.kill()
            campaign.anomaly(f"the ingest still waits {ENDING} s after there was room again")
        else:
            campaign.fired("room again, the ingest went on" if status == 0 else "room again, the ingest ended in error")
    campaign.fired("records acknowledged" if run.acknowledged else "nothing acknowledged")
    return run.acknowledged


def cycle(campaign, folder, file, con, leave):
    """One server, a disk that fills during an ingest, and is freed."""
    data = folder / "data"
    with line.Server(data) as server:
        acknowledged = ingest_into_full_disk(campaign, server, folder, file, leave)
        present, duplicates = line.taken(data, TENANT)
        campaign.hold(acknowledged, present)
        if present > 0:
            oracle.expected(con, [file], "expected_first", first=present - duplicates)
            oracle.compare_by_sql(con, line.query(data, TENANT, oracle.SELECT), "expected_first")
        line.ingest(data, TENANT, [file])
        oracle.compare_by_sql(con, line.query(data, TENANT, oracle.SELECT))


def cycle_alone(campaign, folder, file, con, leave):
    """No server: the command itself meets the full disk, and ends."""
    data = folder / "data"
    ballast = fill(folder, leave)
    run = line.Ingest(data, TENANT, [file])
    status = run.wait_at_most(ENDING)
    if status is None:
        run.kill()
        campaign.anomaly(f"without a server the ingest still waits {ENDING} s after the disk was full")
    elif status == 0:
        campaign.anomaly(f"the disk never filled: {leave >> 20} MB were room enough")
    elif "full" in run.said():
        campaign.fired("disk full, the command alone ended")
    else:
        campaign.anomaly(f"the error does not say that the disk is full: {run.said()}")
    if run.acknowledged:
        # It reads what is there, or says that it cannot; it does not wait.
        try:
            line.query(data, TENANT, "select count(*) from opportunities", timeout=ENDING)
            campaign.fired("disk full, a query alone answered")
        except line.Failed as error:
            campaign.fired("disk full, a query alone failed")
            if "full" not in str(error):
                campaign.anomaly(f"the error does not say that the disk is full: {error}")
    ballast.unlink()
    present, _ = line.taken(data, TENANT)
    campaign.hold(run.acknowledged, present)
    line.ingest(data, TENANT, [file])
    oracle.compare_by_sql(con, line.query(data, TENANT, oracle.SELECT))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        skip("full disk", "mounting a small file system needs root")
    campaign = Campaign("full disk", arguments.seed, count=arguments.count)
    rng = random.Random(arguments.seed)
    con = oracle.connect()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        for number in range(arguments.count):
            folder = scratch / f"files-{number}"
            file = workload.write(folder, records=150_000, keys=20_000, seed=arguments.seed + number)[0]["path"]
            oracle.expected(con, [file])
            with mounted(scratch / f"small-{number}") as small:
                try:
                    cycle_of = cycle_alone if number % 3 == 2 else cycle
                    cycle_of(campaign, small, file, con, rng.randint(*LEFT_FREE[number % 2]) << 20)
                except (line.Failed, oracle.Mismatch) as error:
                    campaign.anomaly(str(error)[-800:])
            campaign.cycle(every=1, total=arguments.count)
    campaign.end()


if __name__ == "__main__":
    main()
