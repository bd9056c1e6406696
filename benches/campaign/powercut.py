"""Cuts the power under `autonomos ingest`: what was acknowledged is there when the disk is mounted again.

The data folder lies on ext4 on a loop image. SIGSTOP holds the program, a copy of the image is what the disk would
have kept, SIGKILL ends the program; the copy is mounted (which replays ext4's own journal) and opened. Whatever was
not fsynced is lost. Needs root, losetup and mkfs.ext4.

    powercut.py --seed 1 --count 20
    powercut.py --plant --count 20      a build with the cargo feature `plant`, told to acknowledge before the fsync:
                                        ends with 0 only if acknowledged records are found to be lost
"""

import argparse
import contextlib
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import kill9
import line
import oracle
import workload
from verdict import Campaign, skip

TENANT = kill9.TENANT


def call(*command):
    """Runs a system command; its complaint becomes ours."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip()}")


@contextlib.contextmanager
def mounted(image, folder):
    """Mounts an ext4 image on a folder for a while."""
    folder.mkdir(exist_ok=True)
    call("mount", "-o", "loop", str(image), str(folder))
    try:
        yield folder
    finally:
        for _ in range(600):
            if subprocess.run(["umount", str(folder)], capture_output=True).returncode == 0:
                return
            time.sleep(0.1)
        call("umount", "-l", str(folder))


def unusable(scratch):
    """Why power cannot be cut here, or None."""
    if os.geteuid() != 0:
        return "needs root to mount a loop image"
    for tool in ("mkfs.ext4", "losetup", "mount", "umount"):
        if shutil.which(tool) is None:
            return f"needs {tool}"
    try:
        image = new_image(scratch / "probe.img", megabytes=16)
        with mounted(image, scratch / "probe"):
            pass
        image.unlink()
    except RuntimeError as error:
        return f"cannot mount a loop image: {error}"
    return None


def new_image(path, megabytes):
    """An empty ext4 file system in a sparse file."""
    path.unlink(missing_ok=True)
    with open(path, "wb") as image:
        image.truncate(megabytes << 20)
    call("mkfs.ext4", "-q", "-F", str(path))
    return path


def wait_until_stopped(pid):
    """Returns when every thread of the process has come to a halt or is in the kernel."""
    def is_stopped():
        states = []
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                states.append((task / "stat").read_text().rsplit(")", 1)[1].split()[0])
        return states and all(state in "TtDZ" for state in states)

    line.until("the program stands still", is_stopped)


def cut(run, image, copy):
    """Takes what the disk holds at one moment, then ends the program. Gives what was acknowledged before it."""
    os.kill(run.process.pid, signal.SIGSTOP)
    wait_until_stopped(run.process.pid)
    call("cp", "--sparse=always", str(image), str(copy))
    run.kill()
    return run.acknowledged


def cycle(campaign, rng, scratch, files, con, calm, megabytes, env):
    """One power cut: ingest, cut, open what is left, ingest to the end, compare."""
    image = new_image(scratch / "disk.img", megabytes)
    copy = scratch / "after.img"
    with mounted(image, scratch / "disk") as disk:
        run = line.Ingest(disk / "data", TENANT, files, env=env)
        kill9.wait_at_random(rng, run, *calm)
        if run.process.poll() is not None:
            status = run.wait()
            campaign.fired("cut after the end")
            if status != 0:
                raise line.Failed(f"the ingest ended with {status}: {run.said()}")
            call("cp", "--sparse=always", str(image), str(copy))
            acknowledged = run.acknowledged
        else:
            acknowledged = cut(run, image, copy)
            campaign.fired("power cut" if acknowledged else "power cut before any acknowledgement")
    with mounted(copy, scratch / "disk") as disk:
        data_dir = disk / "data"
        present, duplicates = line.taken(data_dir, TENANT)
        campaign.hold(acknowledged, present)
        if present > 0:
            oracle.expected(con, files, "expected_first", first=present - duplicates)
            kill9.check(con, data_dir, "expected_first", deep=False)
        line.ingest(data_dir, TENANT, files)
        kill9.check(con, data_dir, "expected", deep=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--records", type=int, default=60_000)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--megabytes", type=int, default=1024, help="size of the disk")
    parser.add_argument("--plant", action="store_true", help="acknowledge before the fsync; the campaign must notice")
    arguments = parser.parse_args()
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="powercut-"))
    rng = random.Random(arguments.seed)
    try:
        if reason := unusable(scratch):
            skip("powercut", reason)
        env = {"AUTONOMOS_PLANT": "ack_before_fsync"} if arguments.plant else {}
        campaign = Campaign("powercut", arguments.seed, count=arguments.count, plant=arguments.plant)
        files = [workload.write(scratch / "w", arguments.records, arguments.keys, seed=arguments.seed)[0]["path"]]
        con = oracle.connect()
        oracle.expected(con, files)
        calm = kill9.calm(scratch, files)
        for _ in range(arguments.count):
            try:
                cycle(campaign, rng, scratch, files, con, calm, arguments.megabytes, env)
            except (line.Failed, oracle.Mismatch, RuntimeError) as error:
                campaign.anomaly(str(error))
            campaign.cycle(every=5, total=arguments.count)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if arguments.plant:
        # Nothing but lost records counts: a disk that could not be mounted proves nothing.
        campaign.report()
        print(f"powercut: the planted fault was {'noticed' if campaign.losses else 'NOT noticed'}: records lost in "
              f"{campaign.losses} of {campaign.cycles} cycles", flush=True)
        sys.exit(0 if campaign.losses else 1)
    campaign.end()


if __name__ == "__main__":
    main()
