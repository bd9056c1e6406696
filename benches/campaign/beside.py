"""What goes on beside a change of shape: records that come at a steady rate, and looks at how soon what is acknowledged is seen.
Each is a process of its own, so that none waits for another's turn."""

import contextlib
import http.client
import json
import multiprocessing
import queue
import time

import line

# Records of one push.
BATCH = 1_000
# So long is waited between two looks.
PAUSE_S = 0.1
BESIDE = "beside"
# Whoever starts them has threads.
PROCESSES = multiprocessing.get_context("spawn")


class Client:
    """One connection that is kept open."""

    def __init__(self, listen, token):
        self.connection = http.client.HTTPConnection(listen, timeout=300)
        self.headers = {"authorization": f"Bearer {token}"}

    def ask(self, method, path, body=None, content="application/json"):
        """An answer, which must be a good one."""
        self.connection.request(method, f"/api/v1{path}", body, {**self.headers, "content-type": content})
        answer = self.connection.getresponse()
        text = answer.read()
        if not 200 <= answer.status < 300:
            raise line.Failed(f"{method} {path} answers {answer.status}: {text[:300]!r}")
        return json.loads(text)

    def push(self, connection, body):
        """Pushes records; gives the position behind them."""
        path = f"/records?connection={connection}&stream=opportunity&system=salesforce"
        return self.ask("POST", path, body, "application/x-ndjson")["position"]

    def see(self, key, position):
        """Returns once a read of everything before a position shows a row; it must have it."""
        path = f"/dcl/views/opportunities/rows?limit=1&columns=opportunity_id&filter=opportunity_id:eq:{key}"
        shown = [row["opportunity_id"] for row in self.ask("GET", f"{path}&min_position={position}")["rows"]]
        if shown != [key]:
            raise line.Failed(f"{key} is acknowledged and waited for, and what is shown is {shown}")


def feed(listen, token, file, rate, told, tells):
    """Pushes the lines of a file, so many a second, each batch when it is due. Tells where some of them ended, and at last how
    fast it was, or what failed."""
    try:
        client, rows = Client(listen, token), file.read_bytes().splitlines(keepends=True)
        started, late = time.monotonic(), 0
        for number, at in enumerate(range(0, len(rows), BATCH)):
            due = started + at / rate
            time.sleep(max(0.0, due - time.monotonic()))
            late += time.monotonic() > due + BATCH / rate
            position = client.push("crm", b"".join(rows[at:at + BATCH]))
            if number % 5 == 0:
                tells.put((json.loads(rows[at])["Id"], position, time.monotonic()))
        told.put({"rate": round(len(rows) / (time.monotonic() - started)), "late": late})
    except Exception as failed:  # Whatever it is, somebody waits to hear of it.
        told.put({"failed": repr(failed)})


def look(listen, token, over, told):
    """Pushes a record of its own into another stream, and measures how long after the answer a read shows it."""
    try:
        client, lags, number = Client(listen, token), [], 0
        while not over.is_set():
            number += 1
            record = {"Id": f"P{number}", "Name": "Other", "Amount": 1, "LastModifiedDate": "2026-01-01T00:00:00Z"}
            position = client.push(BESIDE, json.dumps(record).encode())
            lags.append(lag(client, f"P{number}", position, time.monotonic()))
            time.sleep(PAUSE_S)
        told.put(lags)
    except Exception as failed:  # As above.
        told.put(repr(failed))


def follow(listen, token, tells, over, told):
    """Measures how long after it was acknowledged a read shows what was fed."""
    try:
        client, lags = Client(listen, token), []
        while not over.is_set():
            try:
                key, position, acknowledged = tells.get(timeout=PAUSE_S)
            except queue.Empty:
                continue
            lags.append(lag(client, key, position, acknowledged))
        told.put(lags)
    except Exception as failed:  # As above.
        told.put(repr(failed))


def lag(client, key, position, acknowledged):
    """When its row is seen, in milliseconds since it was acknowledged."""
    client.see(key, position)
    return (time.monotonic() - acknowledged) * 1000


class Looks:
    """Looks as long as it is open; behind it `lags` has the milliseconds of each."""

    def __init__(self, does, *arguments):
        self.over, self.told, self.lags = PROCESSES.Event(), PROCESSES.Queue(), []
        self.process = PROCESSES.Process(target=does, args=(*arguments, self.over, self.told))

    def __enter__(self):
        self.process.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        found = self.told.get(timeout=600)
        self.process.join()
        if isinstance(found, str):
            raise line.Failed(found)
        self.lags = sorted(found)

    def spread(self):
        """How many looks, and within how many milliseconds one, and nearly all, were seen."""
        at = lambda share: round(self.lags[min(len(self.lags) - 1, int(len(self.lags) * share))]) if self.lags else None
        return {"looks": len(self.lags), "p50_ms": at(0.5), "p99_ms": at(0.99)}


def fed(listen, token, file, rate, is_seen=True):
    """Feeds a file; gives how fast it was, and how soon what it has is seen, if it is seen and not held."""
    tells, told = PROCESSES.Queue(), PROCESSES.Queue()
    process = PROCESSES.Process(target=feed, args=(listen, token, file, rate, told, tells))
    looks = Looks(follow, listen, token, tells)
    with looks if is_seen else contextlib.nullcontext():
        process.start()
        done = told.get()
        process.join()
    if "failed" in done:
        raise line.Failed(done["failed"])
    return {**done, **looks.spread()}
