"""Fills the disk under a server that ingests, frees it again, and compares: nothing acknowledged is lost, nobody
restarts anything.

    full_disk.py --count 3        needs root, for a small file system in memory
"""

import argparse
import os
import pathlib
import subprocess
import tempfile

import line
import oracle
import workload
from idle_tenants import serve
from verdict import Campaign, skip

TENANT = "acme"
# Seconds that a full disk is left full.
WAITING = 6


def fill(folder, leave):
    """Takes the room of a file system but for `leave` bytes; answers the file that took it."""
    ballast = folder / "ballast"
    room = os.statvfs(folder)
    size = room.f_bavail * room.f_frsize - leave
    with open(ballast, "wb") as out:
        os.posix_fallocate(out.fileno(), 0, max(size, 1))
    return ballast


def cycle(campaign, folder, file, seed):
    """One server, a disk that fills during an ingest, and is freed."""
    data = folder / "data"
    server = serve(data)
    try:
        ballast = fill(folder, leave=24 << 20)
        run = line.Ingest(data, TENANT, [file])
        status = run.wait_at_most(WAITING)
        if status is None:
            # What is acknowledged waits for its fate, and for room.
            campaign.fired("disk full, the ingest waits")
        elif status == 0:
            campaign.fired("the ingest had room enough")
        else:
            campaign.fired("disk full, the ingest ended")
            if "full" not in "".join(run.errors):
                campaign.anomaly(f"the error does not say that the disk is full: {''.join(run.errors)[-300:]}")
        if server.poll() is not None:
            campaign.anomaly("the server has ended")
        ballast.unlink()
        if status is None and run.wait(120) != 0:
            campaign.fired("the waiting ingest ended with an error")
        counts = line.ingest(data, TENANT, [file])
        line.reconcile(counts)
        con = oracle.connect()
        oracle.expected(con, [file])
        found = folder.parent / f"found-{seed}.csv"
        found.write_text(line.query(data, TENANT, f"select {oracle.NAMES} from opportunities"))
        oracle.from_csv(con, found, "found")
        oracle.compare(con, "found")
    finally:
        server.terminate()
        server.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        skip("full disk", "mounting a small file system needs root")
    campaign = Campaign("full disk", arguments.seed, count=arguments.count)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        for number in range(arguments.count):
            folder = scratch / f"files-{number}"
            file = workload.write(folder, records=150_000, keys=20_000, seed=arguments.seed + number)[0]["path"]
            small = scratch / f"small-{number}"
            small.mkdir()
            if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(small)]).returncode != 0:
                skip("full disk", "a file system cannot be mounted here")
            try:
                cycle(campaign, small, file, number)
            except (line.Failed, oracle.Mismatch) as error:
                campaign.anomaly(str(error)[-800:])
            finally:
                subprocess.run(["umount", "-l", str(small)], check=False)
            campaign.cycle(every=1, total=arguments.count)
    campaign.end()


if __name__ == "__main__":
    main()
