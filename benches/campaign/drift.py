"""Kills `autonomos` with SIGKILL at random points while a field is renamed half way, held, decided, re-driven, and the
decision taken back and made again.

In half of the cycles the rename is sure and repaired by itself, in the others it waits and is decided at the command line;
in many the repair is taken back. Each command is killed at a random moment, and given again. At the end of a cycle every
record is one row, none is blank, nothing is held, the doctor finds nothing, and folding the log again gives the same.

    drift.py --seed 1 --count 100
"""

import argparse
import json
import pathlib
import random
import shutil
import subprocess
import tempfile
import time

import line
from verdict import Campaign

TENANT = "acme"
BEFORE, AFTER = 200, 3_000
# Commands killed in a cycle; the later half of them decide, where there is something to decide.
KILLS = 6
LONGEST_S = 0.3
NAMES = {"sure": "DealAmount", "doubtful": "Bla"}


def deals(ids, name):
    """Opportunities as Salesforce writes them, their amount under this name."""
    row = {"StageName": "Open", "LastModifiedDate": "2026-01-02T10:00:00.000+0000"}
    rows = ({"Id": f"D{n}", "Name": f"Deal {n}", name: 1000.5 + n * 37, **row} for n in ids)
    return "".join(json.dumps(row) + "\n" for row in rows)


class Cycle:
    """One folder and one file."""

    def __init__(self, scratch, name):
        self.data, self.file, self.name = scratch / "data", scratch / "deals.ndjson", name
        self.file.write_text(deals(range(BEFORE), "Amount"))
        line.ingest(self.data, TENANT, [self.file])
        with self.file.open("a") as file:
            file.write(deals(range(BEFORE, BEFORE + AFTER), name))

    def ask(self, *arguments):
        """Runs a command and gives the lines of its answer."""
        return line.run([*arguments, "--data-dir", str(self.data), "--json"]).splitlines()

    def decision(self):
        """The command that decides the case that waits, if one does."""
        waiting = [json.loads(text) for text in self.ask("cases", "list", "--tenant", TENANT)]
        if not waiting:
            return None
        return ["cases", "edit", "--tenant", TENANT, waiting[0]["case"], "--move", f"Amount={self.name}",
                "--data-dir", str(self.data)]

    def taking_back(self):
        """The command that takes the repair back, if there is one."""
        cases = [json.loads(text) for text in self.ask("cases", "list", "--all", "--tenant", TENANT)]
        repaired = [case["case"] for case in cases if case["status"] == "repaired"]
        return ["cases", "revert", "--tenant", TENANT, repaired[0], "--data-dir", str(self.data)] if repaired else None

    def next(self, turn, taken_back):
        """The command of a turn: what is to be decided, taken back in one turn of those that do, else the files."""
        if turn >= KILLS // 2 and (decision := self.decision()):
            return decision
        ingest = line.ingest_arguments(self.data, TENANT, [self.file])
        return (self.taking_back() if turn == taken_back else None) or ingest

    def kill(self, arguments, after):
        """Starts a command and kills it; false when it was done before."""
        run = subprocess.Popen([line.program(), *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env=line.environment())
        time.sleep(after)
        was_running = run.poll() is None
        run.kill()
        run.wait()
        return was_running

    def check(self):
        """What is wrong at the end."""
        line.ingest(self.data, TENANT, [self.file])
        if decision := self.decision():
            line.run(decision)
        sql = "select count(*), count(distinct _key), count(amount) from opportunities"
        counts = line.run(["query", "--tenant", TENANT, "--format", "csv", sql, "--data-dir", str(self.data)])
        everything = BEFORE + AFTER
        if counts.splitlines()[-1] != f"{everything},{everything},{everything}":
            yield f"{everything} records, and rows, keys and amounts are {counts.splitlines()[-1]}"
        stream = json.loads(self.ask("log", "stat", "--tenant", TENANT)[-1])
        if stream["held"] != 0 or stream["accepted"] != everything:
            yield f"the counters are {stream}"
        for arguments in (["doctor"], ["log", "refold"]):
            try:
                self.ask(*arguments)
            except line.Failed as failed:
                yield str(failed)


def main():
    """Runs the campaign."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=100, help="kills that fire")
    options = parser.parse_args()
    rng, campaign = random.Random(options.seed), Campaign("drift", options.seed, count=options.count)
    with tempfile.TemporaryDirectory() as folder:
        while sum(campaign.faults.values()) < options.count and len(campaign.anomalies) < 20:
            scratch = pathlib.Path(folder) / str(campaign.cycles)
            scratch.mkdir()
            kind = rng.choice(list(NAMES))
            cycle = Cycle(scratch, NAMES[kind])
            taken_back = rng.randrange(KILLS // 2, KILLS + 2)
            for turn in range(KILLS):
                command = cycle.next(turn, taken_back)
                if cycle.kill(command, rng.random() * LONGEST_S):
                    what = " ".join(command[:2]) if command[0] == "cases" else command[0]
                    campaign.fired(f"kill in {what}, {kind}")
            for wrong in cycle.check():
                campaign.anomaly(wrong)
            shutil.rmtree(scratch)
            campaign.cycle()
    campaign.end()


if __name__ == "__main__":
    main()
