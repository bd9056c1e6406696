"""Walks through the demo as a person would: what drifted is repaired or waits; one case is approved by curl, one
at the command line, one of the two is taken back and then decided again.

At every step each of the demo's records is counted once, no row is blank where its record had a value, and in the end
folding the log again, with nobody to ask, gives the same events and the same decisions, and a rebuild the same rows.

    walk.py --seed 1
"""

import argparse
import contextlib
import csv
import json
import pathlib
import signal
import subprocess
import tempfile

import feed
import line
from verdict import Campaign

TENANT = "demo"
BLANK = "select opportunity_id from opportunities where _connection = 'hubspot' and amount is null"
ROWS = "select count(*), count(amount) from opportunities where _connection = 'hubspot'"
EVERYTHING = "select * from {} order by _connection, 1"
PATIENCE_S = 600


@contextlib.contextmanager
def demo(folder, seed, beside=(), patience=PATIENCE_S):
    """The demo, once it has shown everything: its data folder, its address, a token. What it is started `beside` starts it."""
    more = ["--listen", "127.0.0.1:0", "--seed", str(seed), "--json"]
    command = [*beside, line.program(), "demo", "--data-dir", str(folder), *more]
    with (folder.parent / "demo.out").open("w+") as said, (folder.parent / "demo.err").open("w+") as errors:
        process = subprocess.Popen(command, stdout=said, stderr=errors, env=line.environment())

        def told():
            if process.poll() is not None:
                said_last = pathlib.Path(errors.name).read_text()[-800:]
                raise line.Failed(f"the demo ended with {process.returncode}: {said_last}")
            lines = pathlib.Path(said.name).read_text().splitlines()
            objects = [json.loads(text) for text in lines if text.startswith('{"') and text.endswith("}")]
            return objects if any("or" in found for found in objects) else None

        try:
            shows = line.until("the demo shows everything", told, patience)
            found = {key: value for given in shows for key, value in given.items()}
            yield folder / "data", found["serving"].split("/")[2], found["first"].removeprefix("export TOKEN=")
        finally:
            process.send_signal(signal.SIGTERM)
            if process.wait(timeout=line.PATIENCE_S):
                raise line.Failed(f"the demo ended with {process.returncode}")


def without_amount(folder):
    """The deals that a HubSpot file shows without an amount, under its old name or its new one."""
    found = set()
    for path in folder.glob("deals*.csv"):
        with path.open(newline="") as file:
            rows = csv.DictReader(file)
            found |= {row["hs_object_id"] for row in rows if not (row.get("amount") or row.get("tcv_2"))}
    return found


class Walk:
    """What a person does and sees."""

    def __init__(self, campaign, data, address, token):
        self.campaign, self.data, self.base, self.token = campaign, data, f"http://{address}/api/v1", token
        self.lag = feed.Lag(token, address)
        self.without = without_amount(data.parent / "files" / "hubspot")

    def cases(self):
        """A case of each stream: the one that waits, if one does."""
        said = line.run(["cases", "list", "--all", "--tenant", TENANT, "--data-dir", str(self.data), "--json"])
        found = sorted(line.json_lines(said), key=lambda case: case["status"] == "open")
        return {case["stream"]: case for case in found}

    def waiting(self, stream):
        """The case of a stream that waits, if one does."""
        case = self.cases().get(stream)
        return case if case and case["status"] == "open" else None

    def counters(self):
        """The counters of all streams by name."""
        said = line.run(["log", "stat", "--tenant", TENANT, "--data-dir", str(self.data), "--json"])
        return {row["stream"]: row for row in line.json_lines(said) if "accepted" in row}

    def numbers(self, sql):
        """The first row of an answer, as numbers."""
        return [int(cell) for cell in line.query(self.data, TENANT, sql).splitlines()[-1].split(",")]

    def curl(self, path, body):
        """One call by curl."""
        command = ["curl", "-sS", "--fail-with-body", "--noproxy", "*", "-H", f"authorization: Bearer {self.token}",
                   "-H", "content-type: application/json", "-d", json.dumps(body), self.base + path]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180)
        if done.returncode:
            raise line.Failed(f"curl {path} ended with {done.returncode}: {done.stdout[-400:]} {done.stderr[-200:]}")
        return json.loads(done.stdout)

    def command(self, verb, case, *more):
        """One decision at the command line."""
        return line.run(["cases", verb, "--tenant", TENANT, "--data-dir", str(self.data), case, *more])

    def settled(self, stream, held):
        """Waits until so many records of a stream are held and the views show the others, and holds every counter against what came in."""
        def is_so():
            counters = self.counters()
            return counters if counters[stream]["held"] == held else None

        counters = line.until(f"{held} records of {stream} are held", is_so)
        # What is counted by then comes into its view a moment later.
        line.until("the views show it", lambda: self.lag.is_none("processor", "projector"))
        for name, row in counters.items():
            parts = sum(row[part] for part in ("accepted", "deleted", "quarantined", "discarded", "held", "duplicate"))
            if row["in"] != parts:
                self.campaign.anomaly(f"{name}: {row['in']} records came in, and their fates are {parts}: {row}")
        blank = set(line.query(self.data, TENANT, BLANK).split()[1:])
        if made := blank - self.without:
            self.campaign.anomaly(f"{len(made)} rows show no amount, and their records have one: {sorted(made)[:5]}")
        self.campaign.cycle(every=1)
        return counters[stream]


def walk(person, campaign):
    """From the drift drop to a decision that is taken back."""
    cases = person.cases()
    repaired = [case for case in cases.values() if case["status"] == "repaired"]
    waiting = [case for case in cases.values() if case["status"] == "open"]
    if not repaired or len(waiting) < 2 or any(case["held"] for case in repaired):
        campaign.anomaly(f"nothing was repaired by itself, or too little waits: {cases}")
        return
    doubtful, nested = cases["hubspot/opportunity"], cases["pipedrive/opportunity"]
    before = person.numbers(ROWS)
    print(json.dumps({"repaired": [shown(case) for case in repaired], "waiting": [shown(case) for case in waiting],
                      "hubspot_rows": before[0]}), flush=True)

    person.settled("hubspot/opportunity", doubtful["held"])
    person.curl(f"/aam/cases/{doubtful['case']}/approve", {"why": "the vendor told us"})
    counters = person.settled("hubspot/opportunity", 0)
    # A record that updates a row adds none.
    approved = person.numbers(ROWS)
    campaign.fired("approved by curl")
    print(json.dumps({"approved": doubtful["case"], "hubspot_rows": approved[0], "accepted": counters["accepted"]}),
          flush=True)

    person.command("approve", nested["case"], "--why", "it moved into an object")
    person.settled("pipedrive/opportunity", 0)
    campaign.fired("approved at the command line")

    person.command("revert", doubtful["case"], "--why", "it was another sum")
    counters = person.settled("hubspot/opportunity", doubtful["held"])
    reverted = person.numbers(ROWS)
    campaign.fired("reverted")
    print(json.dumps({"reverted": doubtful["case"], "hubspot_rows": reverted[0], "held": counters["held"]}), flush=True)
    if reverted[0] != approved[0] - counters["held"]:
        campaign.anomaly(f"{approved[0]} rows, and {reverted[0]} once {counters['held']} of them are held again")

    again = line.until("the case is there again", lambda: person.waiting("hubspot/opportunity"))
    person.command("edit", again["case"], "--move", "amount=tcv_2", "--why", "it was the same sum")
    person.settled("hubspot/opportunity", 0)
    if (rows := person.numbers(ROWS)) != approved:
        campaign.anomaly(f"{approved} rows and amounts, and {rows} once it is decided again")
    campaign.fired("decided again")


def shown(case):
    """What matters of a case."""
    return {name: case[name] for name in ("stream", "kind", "proposed", "confidence", "held")}


def replayed(campaign, data):
    """Folds the log anew, and rebuilds every view from it: the same events, decisions and rows."""
    line.refold(data, 7, 2)
    tables = [row["table"] for row in line.json_lines(line.views(data, TENANT, "list", "--json"))]
    before = {table: line.query(data, TENANT, EVERYTHING.format(table)) for table in tables}
    line.views(data, TENANT, "rebuild")
    for table, rows in before.items():
        if line.query(data, TENANT, EVERYTHING.format(table)) != rows:
            campaign.anomaly(f"{table} is another one after a rebuild")
    campaign.fired("replayed")
    print(json.dumps({"rows": {table: rows.count("\n") - 1 for table, rows in before.items()}}), flush=True)


def main():
    """Runs the campaign."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    campaign = Campaign("walk", options.seed)
    with tempfile.TemporaryDirectory(prefix="walk-") as scratch:
        try:
            with demo(pathlib.Path(scratch) / "demo", options.seed) as (data, address, token):
                walk(Walk(campaign, data, address, token), campaign)
            replayed(campaign, data)
            line.run(["doctor", "--data-dir", str(data)])
        except line.Failed as failed:
            campaign.anomaly(str(failed))
    campaign.end()


if __name__ == "__main__":
    main()
