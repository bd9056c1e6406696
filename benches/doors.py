"""The doors under load: how many requests a second a server answers and how long each takes, at rest and while 20,000
records a second are pushed into the same view through the same door; how soon a record that was acknowledged is seen; and
what the server holds in memory.

    doors.py                 two minutes, and then the table
    doors.py --quick         whether it works, without bars

A view page is 100 rows by key; a filtered query is SQL over an amount and a stage; a push is 1,000 records, durable when it
is answered. Clients are processes of their own, each asking again as soon as it has its answer. They share the cores with
the server, so the figures are of a machine that does both. README.md beside this file says what each number means.
"""

import argparse
import http.client
import json
import multiprocessing
import pathlib
import random
import sys
import tempfile
import time

from table import Bar, Row, text

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "campaign"))

import line  # noqa: E402  The campaigns' folder must be on the path before.

PASSWORD = "a password that is long enough"
BATCH = 1_000
PAGE_MOST, FRESH_MOST, RSS_MOST = 3.0, 150, 600
# What one tenant asks here is more than rates allow that are meant for tenants who share a server.
RATES = "rates: {%s}\n" % ", ".join(f"{kind}: {{per_minute: 6000000, burst: 100000}}" for kind in ("query", "push", "read"))
# A rate that was not reached measures another question.
RATE_LEAST = 0.95
STAMP = "@@@@@@@@@@@@@@@@@@@@@@@@"
STAGES = ["Prospecting", "Qualification", "Proposal", "Negotiation", "Closed Won", "Closed Lost"]


class Client:
    """One connection that is kept open."""

    def __init__(self, listen, token):
        self.connection = http.client.HTTPConnection(listen, timeout=line.PATIENCE_S)
        self.headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}

    def ask(self, method, path, body=None, **headers):
        """The body of an answer, which must be a good one."""
        self.connection.request(method, f"/api/v1{path}", body, {**self.headers, **headers})
        answer = self.connection.getresponse()
        text = answer.read()
        if not 200 <= answer.status < 300:
            raise line.Failed(f"{method} {path} answers {answer.status}: {text[:300]!r}")
        return text

    def push(self, connection, body):
        """Pushes records; gives the position behind them."""
        path = f"/records?connection={connection}&stream=opportunity&system=salesforce"
        said = self.ask("POST", path, body, **{"content-type": "application/x-ndjson"})
        return json.loads(said)["position"]


def batches(keys, seed):
    """Bodies of 1,000 records of all keys in turn, without the time of change: that is put in when one is sent."""
    rng = random.Random(seed)
    row = lambda key: json.dumps({
        "Id": f"0065g{key:010}AAQ", "Name": f"Deal {key} {rng.getrandbits(80):020x}", "AccountId": f"0015g{key % 997:010}AAQ",
        "StageName": rng.choice(STAGES), "Amount": rng.randrange(10**6) / 100, "CloseDate": f"2026-{1 + key % 12:02}-15",
        "Probability": rng.randrange(100), "Type": "New Business", "IsDeleted": False, "CreatedDate": "2025-01-01T00:00:00.000+0000",
        "LastModifiedDate": STAMP, "Owner": {"Name": f"Owner {key % 50}", "Email": f"owner{key % 50}@x.example"}})
    lines = [row(key) for key in range(keys)]
    rng.shuffle(lines)
    return ["\n".join(lines[at:at + BATCH]).encode() for at in range(0, keys, BATCH)]


def stamped(body):
    """A body whose records were changed just now."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03}Z"
    return body.replace(STAMP.encode(), stamp.encode())


def page(client, bodies, rng):
    client.ask("GET", "/dcl/views/opportunities/rows?limit=100")


def filtered(client, bodies, rng):
    low = rng.randrange(9_000)
    sql = (f"select opportunity_id, name, amount from opportunities where amount between {low} and {low + 100} "
           f"and stage = '{rng.choice(STAGES)}' order by amount limit 100")
    client.ask("POST", "/query", json.dumps({"sql": sql}))


def push(client, bodies, rng):
    client.push("load", stamped(rng.choice(bodies)))


QUESTIONS = {"view page": page, "filtered query": filtered, "push of 1,000": push}


def asking(ask, listen, token, bodies, seconds, seed, results):
    """Asks one question over and over for some seconds."""
    client, rng, took = Client(listen, token), random.Random(seed), []
    until = time.monotonic() + seconds
    while (started := time.monotonic()) < until:
        ask(client, bodies, rng)
        took.append(time.monotonic() - started)
    results.put(took)


def ingesting(listen, token, bodies, rate, pause, over, results):
    """Pushes so many records a second, each batch when it is due; late ones are sent at once and counted."""
    client, started, sent, late = Client(listen, token), time.monotonic(), 0, 0
    while not over.is_set():
        due = started + sent * BATCH / rate
        now = time.monotonic()
        if now < due:
            time.sleep(due - now)
        late += now > due + pause
        client.push("crm", stamped(bodies[sent % len(bodies)]))
        sent += 1
    results.put((sent * BATCH / (time.monotonic() - started), late))


def looking(listen, token, over, results):
    """Pushes a record of its own, and measures how long after the answer a read shows it, ten times a second."""
    client, took, number = Client(listen, token), [], 0
    while not over.is_set():
        number += 1
        record = json.dumps({"Id": "watched", "Name": f"look {number}", "Amount": number, "LastModifiedDate": STAMP}).encode()
        position = client.push("watched", stamped(record))
        acknowledged = time.monotonic()
        rows = "/dcl/views/opportunities/rows?limit=1&columns=name&filter=opportunity_id:eq:watched"
        shown = json.loads(client.ask("GET", f"{rows}&min_position={position}"))["rows"]
        if [row["name"] for row in shown] != [f"look {number}"]:
            raise line.Failed(f"look {number} is acknowledged and waited for, and not shown: {shown}")
        took.append(time.monotonic() - acknowledged)
        time.sleep(max(0.0, acknowledged + 0.1 - time.monotonic()))
    results.put(took)


def quantile(values, part):
    """The value, in milliseconds, below which that part of the others lies."""
    return sorted(values)[min(int(len(values) * part), len(values) - 1)] * 1000


class Bench:
    """A server that holds a view, and what was measured of it."""

    def __init__(self, server, options):
        self.server, self.options, self.rss = server, options, 0.0
        self.bodies = batches(options.keys, options.seed)
        anybody = http.client.HTTPConnection(server.listen)
        account = {"name": "acme", "email": "ada@acme.example", "password": PASSWORD}
        anybody.request("POST", "/api/v1/auth/register", json.dumps(account), {"content-type": "application/json"})
        self.token = json.loads(anybody.getresponse().read())["access_token"]
        client = Client(server.listen, self.token)
        for body in self.bodies:
            position = client.push("crm", stamped(body))
        client.ask("GET", f"/dcl/views/opportunities/rows?limit=1&min_position={position}")

    def measure(self, name):
        """Requests a second, p50 and p99 of one question."""
        results, clients = multiprocessing.Queue(), self.options.clients
        arguments = (QUESTIONS[name], self.server.listen, self.token, self.bodies[:20], self.options.seconds)
        askers = [multiprocessing.Process(target=asking, args=(*arguments, seed, results)) for seed in range(clients)]
        for asker in askers:
            asker.start()
        took, rss = [], self.server.rss_mb()
        for _ in askers:
            took += results.get(timeout=self.options.seconds + line.PATIENCE_S)
            rss = max(rss, self.server.rss_mb())
        self.rss = max(self.rss, rss)
        for asker in askers:
            asker.join()
        return {"per_second": len(took) / self.options.seconds, "p50": quantile(took, 0.5), "p99": quantile(took, 0.99),
                "rss": rss}

    def all(self):
        """Every question once."""
        return {name: self.measure(name) for name in QUESTIONS}

    def under_ingest(self):
        """Every question while records arrive; with it the rate that was reached and how soon they are seen."""
        over, rates, looks = multiprocessing.Event(), multiprocessing.Queue(), multiprocessing.Queue()
        each = self.options.rate / self.options.feeds
        beside = [multiprocessing.Process(target=ingesting, args=(self.server.listen, self.token, self.bodies[n::self.options.feeds],
                                                                  each, BATCH / each, over, rates))
                  for n in range(self.options.feeds)]
        beside.append(multiprocessing.Process(target=looking, args=(self.server.listen, self.token, over, looks)))
        for process in beside:
            process.start()
        measured = self.all()
        over.set()
        reached = [rates.get(timeout=line.PATIENCE_S) for _ in range(self.options.feeds)]
        fresh = looks.get(timeout=line.PATIENCE_S)
        for process in beside:
            process.join()
        return measured, sum(rate for rate, _ in reached), sum(late for _, late in reached), fresh


def rows_of(bench, idle, loaded, rate, late, fresh):
    """The table."""
    options, rows = bench.options, []
    reached = Bar("rate", options.rate * RATE_LEAST / rate, 1.0)
    for name in QUESTIONS:
        for who, measured in (("at rest", idle[name]), (f"beside {rate:,.0f} records/s", loaded[name])):
            row = Row(name, who, rows_s=measured["per_second"], p50=measured["p50"], p99=measured["p99"],
                      rss=measured["rss"])
            if measured is loaded[name]:
                row.ratio, row.base = measured["p99"] / idle[name]["p99"], "p99 at rest"
                if name == "view page" and not options.quick:
                    row.bars = [Bar("page p99", row.ratio, PAGE_MOST)]
            rows.append(row)
    row = Row("acknowledged to seen", f"{len(fresh)} looks", p50=quantile(fresh, 0.5), p99=quantile(fresh, 0.99))
    memory = Row("the server", "", rss=bench.rss, note=f"{late} batches late" if late else "")
    if not options.quick:
        row.bars, memory.bars = [Bar("p99", row.p99, FRESH_MOST), reached], [Bar("RSS", bench.rss, RSS_MOST)]
    return [*rows, row, memory]


def report(bench):
    """Measures, and prints the table."""
    idle = bench.all()
    loaded, rate, late, fresh = bench.under_ingest()
    rows = rows_of(bench, idle, loaded, rate, late, fresh)
    # Here a row of the table is a request.
    print(text(rows).replace("rows/s", "asks/s", 1))
    print(json.dumps({"bench": "doors", "commit": line.git_hash(), "idle": idle, "loaded": loaded, "rate": rate,
                      "late": late, "fresh_p50_ms": quantile(fresh, 0.5), "fresh_p99_ms": quantile(fresh, 0.99),
                      "rss_mb": bench.rss}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--rate", type=int, default=20_000, help="records a second")
    parser.add_argument("--feeds", type=int, default=2, help="clients that share the rate")
    parser.add_argument("--clients", type=int, default=2, help="clients that ask one question at once")
    parser.add_argument("--seconds", type=float, default=20, help="for each question")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.keys, options.rate, options.seconds = 5_000, 2_000, 1.0
    multiprocessing.set_start_method("fork")
    with tempfile.TemporaryDirectory() as scratch:
        config = pathlib.Path(scratch) / "autonomos.yaml"
        config.write_text(RATES)
        with line.Server(pathlib.Path(scratch) / "data", more=("--config", str(config))) as server:
            report(Bench(server, options))


if __name__ == "__main__":
    main()
