"""Kills the server with SIGKILL under a client that pushes and one that watches, and starts it again at the same address.

The one pushes batches, each with an Idempotency-Key of its own, and sends one again until it is answered; the other holds a
stream of events open (`mode=all`) and goes on behind the last event that it took (`Last-Event-ID`). Some kills come while
the server is still opening its folder. At the end: every acknowledged record was accepted exactly once and is in its view;
no event was told twice, none was left out, each partition in its order; and a reader that begins where the other began
reads the same.

    live.py --seed 1 --count 50
"""

import argparse
import collections
import json
import random
import tempfile
import threading
import time

import line
from members import PASSWORD
from verdict import Campaign
from wire import Events, Wire

TENANT, ROWS = "acme", 40
PUSH = "/api/v1/records?connection=crm&stream=opportunity&system=salesforce"
# They stand on no log: a query, and what is said about the stream itself.
PASSING = {"viewed", "heartbeat", "close", "sample"}
# The stream whose one record there was before anybody counted.
BEFORE = "before/opportunity"


def counts(event):
    """Whether an event is one of those that must be told once."""
    return event[0] not in PASSING and event[2].get("stream") != BEFORE


class Client(threading.Thread):
    """Does something over and over, through refusals and broken connections, until it is told to stop."""

    def __init__(self, wire, token):
        super().__init__(daemon=True)
        self.wire, self.token, self.over, self.broken, self.failure = wire, token, threading.Event(), 0, None

    def run(self):
        try:
            self.work()
        except Exception as error:  # Told at the end; a client that breaks must not look like one that is done.
            self.failure = repr(error)

    def stop(self):
        self.over.set()
        self.join(2 * line.PATIENCE_S)


class Pusher(Client):
    """Pushes batch after batch; `acknowledged` are those that were answered, the last of them up to a position."""

    acknowledged, tries, position = 0, 0, None

    def work(self):
        while not self.over.is_set():
            self.push(self.acknowledged)
            self.acknowledged += 1

    def push(self, number):
        """One batch, again until it is acknowledged. Every tenth row renews one of the batch before."""
        row = lambda n: {"Id": f"{number - 1 if n % 10 == 9 and number else number}-{n}", "Name": f"batch {number}", "Amount": n,
                         "StageName": "Open", "LastModifiedDate": f"2026-01-01T{number // 3600 % 24:02}:{number // 60 % 60:02}:"
                                                                  f"{number % 60:02}Z"}
        body = "\n".join(json.dumps(row(n)) for n in range(ROWS))
        headers = {"content-type": "application/x-ndjson", "idempotency-key": f"batch {number}"}
        while True:
            self.tries += 1
            try:
                answer = self.wire.ask("POST", PUSH, self.token, body, headers, timeout=30)
            except OSError:
                self.broken += 1
                time.sleep(0.01)
                continue
            except Exception as error:
                if "HTTPException" not in [base.__name__ for base in type(error).__mro__]:
                    raise
                self.broken += 1  # Cut off in the middle of an answer: nothing is acknowledged.
                continue
            if answer.status == 200:
                self.position = answer.json()["position"]
                return
            if answer.status not in (429, 503):
                raise line.Failed(f"a push is answered {answer.status}: {answer.body[:300]!r}")
            time.sleep(0.05)


class Watcher(Client):
    """Takes every event, over however many connections."""

    def __init__(self, wire, token, after):
        super().__init__(wire, token)
        self.id, self.events, self.connections = after, [], 0

    def work(self):
        while not self.over.is_set():
            try:
                stream = Events(self.wire, self.token, "?mode=all", after=self.id)
            except OSError:
                self.broken += 1
                time.sleep(0.01)
                continue
            taken = 0
            while stream.thread.is_alive() and not self.over.is_set():
                stream.thread.join(0.05)
                taken = self.take(stream, taken)
            stream.close()
            self.take(stream, taken)
            if stream.status not in (0, 200, 503):
                raise line.Failed(f"a stream that goes on is answered {stream.status}: {bytes(stream.bytes[:500])!r}")
            self.connections += stream.status == 200

    def take(self, stream, taken):
        """Notes what came since."""
        new = stream.all[taken:]
        self.events.extend(event for event in new if counts(event))
        if new:
            self.id = new[-1][1]
        return taken + len(new)


def places(events):
    """The offsets that were told, in order, for each stage and partition."""
    told = collections.defaultdict(list)
    for stage, _, data in events:
        partition, offset = data["position"].rsplit(":", 1)
        told[stage, partition].append(int(offset))
    return dict(told)


def check_order(campaign, events, told):
    """Nothing twice, be it at another place of the log, and each partition in its order."""
    ids = collections.Counter((stage, data["item"]["id"]) for stage, _, data in events if "id" in data["item"])
    for (stage, id_), times in ids.items():
        if times > 1:
            campaign.anomaly(f"{stage}: the fact {id_} was told {times} times")
            break
    for (stage, partition), offsets in told.items():
        if any(later <= earlier for earlier, later in zip(offsets, offsets[1:])):
            repeated = len(offsets) - len(set(offsets))
            campaign.anomaly(f"{stage} of {partition}: {repeated} events were told twice, or not in their order")


def log_of(wire, token, topic):
    """Every item of one's own log."""
    cursor, at_end = "", False
    while not at_end:
        page = wire.ask("GET", f"/api/v1/log?topic={topic}&limit=1000{cursor}", token).json()
        yield from page["items"]
        cursor, at_end = f"&cursor={page['next']}", page["at_end"]


def check(campaign, wire, token, pusher, watcher, begun):
    """What was acknowledged, and what was told, is what there is."""
    batches = pusher.acknowledged
    behind = f"/api/v1/dcl/views/opportunities/rows?limit=1&min_position={pusher.position}"
    line.until("all that was acknowledged is in its view", lambda: wire.ask("GET", behind, token).status == 200)
    expected = {f"{n}-{row}": n for n in range(batches) for row in range(ROWS) if row % 10 != 9 or n == 0}
    expected |= {f"{n - 1}-{row}": n for n in range(1, batches) for row in range(ROWS) if row % 10 == 9}
    # A processor that was killed may append facts again, under the ids that they had: the first of each counts.
    accepted, first = collections.Counter(), {}
    for item in log_of(wire, token, "events"):
        if item["item"].get("type") == "autonomos.RecordAccepted.v1" and item["stream"] != BEFORE:
            if item["item"]["id"] not in first:
                first[item["item"]["id"]] = f"events/{item['position']}"
                accepted[item["item"]["subject"], item["item"]["data"]["row"]["name"]] += 1
    positions, records = set(first.values()), batches * ROWS
    if len(first) != records:
        campaign.losses += max(0, records - len(first))
        twice = [record for record, times in accepted.items() if times > 1]
        campaign.anomaly(f"{records} records acknowledged, {len(first)} accepted; twice: {twice[:3]}")
    rows = {}
    cursor = ""
    while cursor is not None:
        page = wire.ask("GET", f"/api/v1/dcl/views/opportunities/rows?limit=10000&columns=opportunity_id,name"
                        f"&filter=_connection:eq:crm{cursor}", token).json()
        rows |= {row["opportunity_id"]: int(row["name"].removeprefix("batch ")) for row in page["rows"]}
        cursor = f"&cursor={page['next']}" if page.get("next") else None
    if rows != expected:
        wrong = {key for key in rows.keys() | expected.keys() if rows.get(key) != expected.get(key)}
        campaign.anomaly(f"{len(wrong)} rows are not what was pushed last: {sorted(wrong)[:5]}")
    stages = ("canonicalized", "materialized")
    seen = lambda stage: {data["position"] for s, _, data in list(watcher.events) if s == stage}
    line.until("the watcher has everything",
               lambda: watcher.failure or all(len(seen(stage)) >= len(positions) for stage in stages))
    again = Events(wire, token, "?mode=all", after=begun)
    try:
        line.until("a second reader has the same",
                   lambda: places(filter(counts, list(again.all))) == places(list(watcher.events)))
    except line.Failed:
        campaign.anomaly("a second reader from the same beginning was told otherwise")
    again.close()
    check_order(campaign, watcher.events, places(watcher.events))
    for stage in stages:
        if seen(stage) != positions:
            campaign.anomaly(f"{stage}: {len(positions - seen(stage))} events left out, "
                             f"{len(seen(stage) - positions)} that are on no log")


def kill_while_opening(campaign, rng, data, listen):
    """Starts a server and kills it before it is ready, or hardly."""
    import subprocess
    process = subprocess.Popen([line.program(), "serve", "--data-dir", str(data), "--listen", listen], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, env=line.environment())
    time.sleep(rng.uniform(0, 0.4))
    if process.poll() is None:
        campaign.fired("kill -9 while it opens")
    else:
        campaign.anomaly(f"a server that was to be killed ended with {process.returncode} by itself")
    process.kill()
    process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=50, help="kills")
    options = parser.parse_args()
    rng, campaign = random.Random(options.seed), Campaign("live", options.seed, count=options.count)
    with tempfile.TemporaryDirectory() as data:
        server = line.Server(data)
        wire, port = Wire(server.listen), int(server.listen.rsplit(":", 1)[1])
        body = {"name": TENANT, "email": "ada@acme.example", "password": PASSWORD}
        token = wire.ask("POST", "/api/v1/auth/register", body=body).json()["access_token"]
        # Where everything begins: the id of the first event, before anything is pushed by those who count.
        first = Events(wire, token, "?mode=all")
        line.until("the first stream is open", lambda: first.status == 200)
        wire.ask("POST", PUSH.replace("crm", "before"), token, [{"Id": "0", "Name": "before", "LastModifiedDate": "2026-01-01T00:00:00Z"}])
        first.wait_for("its row is told", lambda all_: any(e[0] == "materialized" for e in all_))
        first.close()
        begun = first.id
        pusher, watcher = Pusher(wire, token), Watcher(wire, token, begun)
        for client in (pusher, watcher):
            client.start()
        while campaign.cycles < options.count and not (pusher.failure or watcher.failure):
            acknowledged, seen = pusher.acknowledged, len(watcher.events)
            line.until("both clients get on", lambda: pusher.failure or watcher.failure or
                       pusher.acknowledged > acknowledged and len(watcher.events) > seen)
            time.sleep(rng.uniform(0, 0.5))
            server.kill()
            campaign.fired("kill -9 under load")
            while rng.random() < 0.3:
                kill_while_opening(campaign, rng, data, server.listen)
            server = line.Server(data, port=port)
            campaign.cycle(every=10, total=options.count)
        pusher.stop()
        for client in (pusher, watcher):
            if client.failure:
                campaign.anomaly(f"the {type(client).__name__.lower()} has failed: {client.failure}")
        if not campaign.anomalies:
            # What stood on the log before those who count began is not theirs.
            check(campaign, wire, token, pusher, watcher, begun)
        watcher.stop()
        print(f"live: {pusher.acknowledged} batches of {ROWS} in {pusher.tries} tries, {len(watcher.events)} events over "
              f"{watcher.connections} connections")
        server.stop()
    campaign.end()


if __name__ == "__main__":
    main()
