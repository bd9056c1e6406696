"""A stream that changes in every way that is no drift makes no case; one whose amount is renamed half way shows no row without
it at any moment, and all of them once that is decided.

The steady stream has optional fields, sparse nested objects, keys in any order, nulls, values and fields that come late, and
mapped fields that one record in a hundred, and three in a hundred, lack.
The renamed one comes at a steady rate and is the same, with another name for its amount from the middle on, which nobody could
guess. Readers ask for blank amounts over SQL and HTTP all the while. Its records before the rename, and another stream's at any
time, must be seen soon after they are acknowledged.

    steady.py --seed 1 --records 1000000
    steady.py --slower 50     it may be seen fifty times as late: the machine is slow, or has much else to do
"""

import argparse
import itertools
import json
import pathlib
import random
import tempfile
import threading
import time
import urllib.error
import urllib.request

import beside
import line
from verdict import Campaign

STEADY, RENAMED = "steady", "renamed"
NEW_NAME = "zq7"
PASSWORD = "a password that is long enough"
COUNT = "select count(*) as n, count(amount) as amounts from opportunities"
# A case that watches tells what it is within half a minute, and what it held comes again.
SETTLED_S = 600
# Records a second of the renamed stream, and the milliseconds within which nearly all that was acknowledged must be seen.
RATE, FRESH_MS = 20_000, 100
# One tenant asks and pushes more here than rates allow that are meant for tenants who share a server.
RATES = "rates: {%s}\n" % ", ".join(f"{kind}: {{per_minute: 6000000, burst: 100000}}" for kind in ("query", "push", "read"))
# Fields that nobody maps and few records have; each comes later than the one before.
LATE_FIELDS = 20


def records(count, seed, mostly=False):
    """Opportunities whose source changes nothing, each a list of members; `mostly` with fields that nearly all have."""
    rng = random.Random(seed)
    for n in range(count):
        members = [("Id", f"D{n}"), ("Name", f"Deal {n}"), ("Amount", round(rng.lognormvariate(9, 1.5) + 1, 2)),
                   ("LastModifiedDate", f"2026-01-{1 + n % 28:02}T10:00:00.000+0000")]
        # Values that were never there before come all the time.
        members.append(("StageName", f"Stage {rng.randrange(3 + n * 40 // count)}"))
        for field, share in (("AccountId", 0.99), ("OwnerId", 0.97)) if mostly else ():
            if rng.random() < share:
                members.append((field, f"{field}{rng.randrange(500)}"))
        if rng.random() < 0.85:
            members.append(("Probability", rng.randrange(101)))
        if rng.random() < 0.6:
            members.append(("CloseDate", f"2026-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}"))
        if rng.random() < 0.7:
            members.append(("Type", rng.choice(["New", "Renewal", None])))
        if rng.random() < 0.3:
            members.append(("Owner", {"Name": f"Owner {rng.randrange(50)}", "Team": rng.choice("ABC")}))
        if rng.random() < 0.05:
            members.append(("Account", rng.choice([None, {"Name": f"Account {rng.randrange(500)}"}])))
        if rng.random() < 0.02:
            members.append(("CurrencyIsoCode", rng.choice(["EUR", "USD"])))
        if rng.random() < 0.1:
            members.append(("Note", "x" * rng.randrange(30)))
        late = rng.randrange(LATE_FIELDS)
        if rng.random() < 0.1 and n * LATE_FIELDS > late * count:
            members.append((f"Late{late}", {"at": n, "by": rng.choice(["ann", "bob"])}))
        if rng.random() < 0.5:
            rng.shuffle(members)
        yield members


def write(path, members, name="Amount"):
    """Writes records as lines, their amount under this name."""
    with path.open("w") as file:
        for record in members:
            file.write(json.dumps({name if key == "Amount" else key: value for key, value in record}) + "\n")


class Person:
    """A tenant's admin at the server's routes."""

    def __init__(self, server, data, tenant):
        self.base, self.email = f"http://{server.listen}/api/v1", f"admin@{tenant}.example"
        self.token = None
        invited = json.loads(line.run(["tenant", "invite", "--json", "--data-dir", str(data), tenant, self.email]))
        self.token = self.call("/auth/accept", {"token": invited["token"], "password": PASSWORD})["access_token"]

    def call(self, path, body, content="application/json"):
        """Posts something and gives the answer; signs in again where its token is too old."""
        body = body if isinstance(body, str) else json.dumps(body)
        for _ in range(20):
            headers = {"content-type": content, **({"authorization": f"Bearer {self.token}"} if self.token else {})}
            asked = urllib.request.Request(self.base + path, body.encode(), headers, method="POST")
            try:
                with line.DIRECT.open(asked, timeout=120) as answer:
                    return json.loads(answer.read())
            except urllib.error.HTTPError as error:
                if error.code == 401 and self.token:
                    self.token = None
                    self.token = self.call("/auth/login", {"email": self.email, "password": PASSWORD})["access_token"]
                elif error.code in (429, 503):
                    time.sleep(float(error.headers.get("retry-after", 1)))
                else:
                    raise line.Failed(f"{path} ended with {error.code}: {error.read()[:300]}") from error
        raise line.Failed(f"{path} was turned away again and again")

    def ask(self, sql):
        """The first row of an answer."""
        return self.call("/query", {"sql": sql})["rows"][0]


class Readers:
    """Looks for rows without an amount, over SQL at the command line and over HTTP, as long as it is open."""

    def __init__(self, campaign, data, person):
        self.campaign, self.data, self.person = campaign, data, person
        self.looks, self.is_over = {"sql": 0, "http": 0}, threading.Event()
        self.threads = [threading.Thread(target=self.read, args=(way,)) for way in self.looks]

    def counts(self, way):
        """Rows, and rows with an amount, in one answer."""
        if way == "http":
            row = self.person.ask(COUNT)
            return row["n"], row["amounts"]
        return tuple(map(int, line.query(self.data, RENAMED, COUNT).splitlines()[-1].split(",")))

    def read(self, way):
        while not self.is_over.is_set():
            try:
                rows, amounts = self.counts(way)
            except line.Failed as failed:
                # Before its first record there is no table.
                if self.looks[way]:
                    self.campaign.anomaly(f"a look over {way} failed: {failed}")
                time.sleep(0.2)
                continue
            self.looks[way] += 1
            if rows != amounts:
                self.campaign.anomaly(f"over {way} {rows - amounts} of {rows} rows show no amount")
            self.is_over.wait(beside.PAUSE_S)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        for thread in self.threads:
            thread.join()


def cases(data, tenant):
    """Every case that a tenant has or had."""
    return line.json_lines(line.run(["cases", "list", "--all", "--tenant", tenant, "--data-dir", str(data), "--json"]))


def settled(data, tenant):
    """Every case, once none watches any more."""
    deadline = time.monotonic() + SETTLED_S
    while True:
        found = cases(data, tenant)
        if not any(case["status"] == "watching" for case in found) or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def stat(data, tenant, connection="crm"):
    """The counters of a tenant's stream."""
    rows = line.json_lines(line.run(["log", "stat", "--tenant", tenant, "--data-dir", str(data), "--json"]))
    return next(row for row in rows if row.get("stream", "").startswith(f"{connection}/"))


def steady(campaign, data, scratch, count, seed):
    """No drift, no case."""
    file = scratch / "steady.ndjson"
    write(file, records(count, seed, mostly=True))
    started = time.monotonic()
    line.ingest(data, STEADY, [file])
    seconds = time.monotonic() - started
    for case in settled(data, STEADY):
        campaign.anomaly(f"nothing drifted, and there is a case: {case}")
    counters = stat(data, STEADY)
    if (counters["in"], counters["accepted"], counters["held"]) != (count, count, 0):
        campaign.anomaly(f"{count} records, and the counters are {counters}")
    file.unlink()
    campaign.fired("steady stream")
    print(json.dumps({"steady_records": count, "cases": len(cases(data, STEADY)), "seconds": round(seconds, 1)}),
          flush=True)


def fresh(campaign, slower, when, spread):
    """What was acknowledged must be seen soon. Of a few looks nothing can be said."""
    print(json.dumps({"when": when, **spread}), flush=True)
    if spread["looks"] >= 10 and spread["p99_ms"] > FRESH_MS * slower:
        campaign.anomaly(f"{when}: seen within {spread['p99_ms']} ms, not {FRESH_MS * slower:.0f}")


def renamed(campaign, data, scratch, count, seed, person, listen, slower):
    """A rename that waits for a person: no blank row before, and every row after."""
    half = count // 2
    before, after = scratch / "before.ndjson", scratch / "after.ndjson"
    everything = records(count, seed + 1)
    write(before, itertools.islice(everything, half))
    write(after, everything, NEW_NAME)
    other = lambda: beside.Looks(beside.look, listen, person.token)
    with Readers(campaign, data, person) as readers:
        with other() as looks:
            fresh(campaign, slower, "the stream before the rename", beside.fed(listen, person.token, before, RATE))
        fresh(campaign, slower, "another stream before the rename", looks.spread())
        with other() as looks:
            beside.fed(listen, person.token, after, RATE, is_seen=False)
            waiting = [case for case in settled(data, RENAMED) if case["status"] == "open"]
        fresh(campaign, slower, "another stream while records are held", looks.spread())
        held = stat(data, RENAMED)["held"]
        if held != count - half or len(waiting) != 1:
            campaign.anomaly(f"{count - half} records are of the new shape, {held} are held, and what waits is {waiting}")
            return
        with other() as looks:
            seconds = decided(campaign, data, count, waiting[0]["case"], person)
        fresh(campaign, slower, "another stream while records come again", looks.spread())
    if not all(readers.looks.values()):
        campaign.anomaly(f"a reader saw nothing: {readers.looks}")
    campaign.fired("rename")
    print(json.dumps({"renamed_records": count - half, "held": held, "looks_for_blank_rows": readers.looks,
                      "seconds_from_decision_to_all_visible": round(seconds, 1)}), flush=True)


def decided(campaign, data, count, case, person):
    """Decides the case; gives how many seconds later everything is visible."""
    started = time.monotonic()
    line.run(["cases", "edit", "--tenant", RENAMED, "--data-dir", str(data), case, "--move", f"Amount={NEW_NAME}"],
             timeout=7200)
    while person.ask(f"{COUNT} where _connection = 'crm'")["n"] < count:
        if time.monotonic() - started > 7200:
            raise line.Failed("what was held is not visible two hours after the decision")
        time.sleep(0.1)
    seconds = time.monotonic() - started
    row = person.ask(f"{COUNT} where _connection = 'crm'")
    if (row["n"], row["amounts"]) != (count, count):
        campaign.anomaly(f"{count} records, and rows and amounts are {row}")
    counters = stat(data, RENAMED)
    if (counters["in"], counters["accepted"], counters["held"]) != (count, count, 0):
        campaign.anomaly(f"{count} records, and the counters are {counters}")
    return seconds


def main():
    """Runs the campaign."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--slower", type=float, default=1.0)
    options = parser.parse_args()
    campaign = Campaign("steady", options.seed, records=options.records, slower=options.slower)
    with tempfile.TemporaryDirectory(prefix="steady-") as scratch:
        scratch = pathlib.Path(scratch)
        data = scratch / "data"
        config = scratch / "autonomos.yaml"
        config.write_text(RATES)
        with line.Server(data, more=["--config", str(config)]) as server:
            try:
                steady(campaign, data, scratch, options.records, options.seed)
                campaign.cycle(every=1, total=2)
                # A tenant is there from its first stream on.
                first = scratch / "first.ndjson"
                write(first, records(1, options.seed))
                line.run(["ingest", "--data-dir", str(data), "--tenant", RENAMED, "--connection", "first", "--system",
                          "salesforce", "--stream", "opportunity", str(first)])
                person = Person(server, data, RENAMED)
                renamed(campaign, data, scratch, options.records, options.seed, person, server.listen, options.slower)
                campaign.cycle(every=1, total=2)
            except line.Failed as failed:
                campaign.anomaly(str(failed))
        try:
            line.run(["doctor", "--data-dir", str(data)], timeout=7200)
            line.refold(data, 777, 2)
        except line.Failed as failed:
            campaign.anomaly(str(failed))
    campaign.end()


if __name__ == "__main__":
    main()
