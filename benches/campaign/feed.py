"""Pushes workload files through several servers of one line, as a program does that must lose nothing: each batch has an
Idempotency-Key of its own and is sent again, to the next server, until it is answered."""

import collections
import contextlib
import http.client
import pathlib
import threading
import time

import line
from wire import Wire

PASSWORD = "a password that is long enough"
PUSH = "/api/v1/records?connection=crm&stream=opportunity&system=salesforce"
ROWS = 2_000
# A push that is answered neither well nor badly for so long is given up with the campaign.
PATIENCE_S = 1800
# One tenant pushes more here than rates allow that are meant for tenants who share a server.
RATES = {kind: {"per_minute": 6_000_000, "burst": 100_000} for kind in ("query", "push", "read", "sign_in")}


class Tenant:
    """A tenant, its admin's token, and the batches of its file."""

    def __init__(self, name, listen, file):
        self.name, self.records, self.keys, self.path = name, file["records"], file["keys"], pathlib.Path(file["path"])
        answer = Wire(listen).ask("POST", "/api/v1/auth/register", None,
                                  {"name": name, "email": f"admin@{name}.example", "password": PASSWORD})
        if answer.status not in (200, 201):
            raise line.Failed(f"the tenant {name} cannot be made: {answer.status} {answer.body[:300]!r}")
        self.token = answer.json()["access_token"]

    def batches(self):
        """The file in batches, each with its number."""
        rows = self.path.read_bytes().splitlines(keepends=True)
        return [(self, number, b"".join(rows[at:at + ROWS])) for number, at in enumerate(range(0, len(rows), ROWS))]


class Feeder(threading.Thread):
    """Pushes the tenants' batches by turns, as far as it is let. Which server takes a batch goes around; one that fails to
    answer hands it on to the next."""

    def __init__(self, tenants, listens):
        super().__init__(daemon=True)
        each = [tenant.batches() for tenant in tenants]
        self.batches = [batch for turn in range(max(map(len, each))) for batches in each for batch in batches[turn:turn + 1]]
        self.wires = [Wire(listen) for listen in listens]
        self.may, self.over = threading.Semaphore(0), threading.Event()
        self.acknowledged, self.taken, self.again, self.failure, self.allowed = 0, 0, 0, None, 0
        self.refusals = collections.Counter()

    def allow(self, share):
        """Lets it go on until this share of everything is pushed."""
        most = round(len(self.batches) * min(1.0, share))
        if most > self.allowed:
            self.may.release(most - self.allowed)
            self.allowed = most

    def run(self):
        try:
            for at, batch in enumerate(self.batches):
                self.may.acquire()
                if self.over.is_set():
                    return
                self.push(at, *batch)
        except Exception as error:  # Told by whoever waits; a feeder that breaks must not look like one that is done.
            self.failure = repr(error)

    def push(self, at, tenant, number, body):
        """One batch, until it is acknowledged."""
        headers = {"content-type": "application/x-ndjson", "idempotency-key": f"batch {number}"}
        deadline, told = time.monotonic() + PATIENCE_S, "nothing"
        while time.monotonic() < deadline and not self.over.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                answer = self.wires[at % len(self.wires)].ask("POST", PUSH, tenant.token, body, headers, timeout=60)
                if answer.status == 200:
                    self.acknowledged, self.taken = self.acknowledged + body.count(b"\n"), self.taken + 1
                    return
                told = f"{answer.status} {answer.body[:300]!r}"
                self.refusals[answer.status] += 1
                if answer.status not in (429, 500, 503):
                    raise line.Failed(f"a push is answered {told}")
            self.again, at = self.again + 1, at + 1
            time.sleep(0.05)
        if not self.over.is_set():
            raise line.Failed(f"batch {number} of {tenant.name} was not taken for {PATIENCE_S} s; the last answer is {told}")

    def is_done(self):
        """Whether everything is acknowledged; fails when it cannot be."""
        if self.failure:
            raise line.Failed(self.failure)
        return not self.is_alive()

    def is_behind(self):
        """Whether it has not come to where it may go."""
        return self.taken < self.allowed

    def stop(self):
        """Ends it where it is."""
        self.over.set()
        self.may.release()
        self.join(120)


def feed(tenants, listens):
    """Pushes everything at once, and returns when it is acknowledged."""
    feeder = Feeder(tenants, listens)
    feeder.allow(1)
    feeder.start()
    feeder.join()
    feeder.is_done()
    return feeder


class Lag:
    """How far each role is behind, by what a server says."""

    def __init__(self, token, listen):
        self.token, self.wire, self.behind_ms = token, Wire(listen), 0

    def look(self):
        """Items that are not done yet, by role; nothing while nobody answers."""
        try:
            answer = self.wire.ask("GET", "/api/v1/lag", self.token, timeout=30)
        except (OSError, http.client.HTTPException):
            return None
        if answer.status != 200:
            return None
        told, lags = answer.json(), {}
        self.behind_ms = max(self.behind_ms, told["behind_ms"])
        for role in told["roles"]:
            lags[role["role"]] = lags.get(role["role"], 0) + role["items"]
        return lags

    def is_none(self, *roles):
        """Whether nothing is left to these roles, or to any."""
        lags = self.look()
        return lags is not None and not any(items for role, items in lags.items() if not roles or role in roles)
