"""Cases of abuse: each with its number in the table, what is tried, and what was seen; and the house that they are tried on."""

import collections
import json
import pathlib
import random
import re
import time

import line
from members import ADDRESSES, CONFIG, PASSWORD, Tenant
from model import Model
from wire import Wire

CASES = []
# Dollars that a tenant's questions to the language model may cost.
BUDGET = 0.5


def case(number, title):
    """Registers a case: a function of a house and of what it sees."""
    def register(run):
        CASES.append(Case(number, title, run))
        return run
    return register


def not_built(number, title, why):
    """A case whose feature does not exist yet."""
    CASES.append(Case(number, title, None, f"not built: {why}"))


def by_cargo(number, title, test):
    """A case that cannot be tried from outside: a test of that name, which is there, holds it."""
    CASES.append(Case(number, title, None, f"cargo test {test}", test))


def by_type(number, title, why):
    """A case that no program of ours can be written to fall for."""
    CASES.append(Case(number, title, None, why))


class Case:
    """A case and how it is tried."""

    def __init__(self, number, title, run, instead=None, test=None):
        self.number, self.title, self.run, self.instead, self.test = number, title, run, instead, test

    def order(self):
        """Where it stands in the table."""
        found = re.match(r"([A-Z])(\d+)(.*)", self.number)
        return found[1], int(found[2]), found[3]

    def is_there(self):
        """Whether the test that it names exists."""
        sources = (line.ROOT / crate for crate in ("api", "projections", "pipeline", "connectors", "schemas"))
        return any(f"fn {self.test}(" in file.read_text() for source in sources for file in source.rglob("*.rs"))


class Seen:
    """What a case saw, and what of it is wrong."""

    def __init__(self):
        self.statuses, self.notes, self.wrong = collections.Counter(), [], []

    def status(self, answer, *allowed, what=""):
        """An answer's status, which must be one of these; nothing in the answer tells of the inside."""
        status = answer if isinstance(answer, int) else answer.status
        self.statuses[status] += 1
        if status not in allowed:
            said = "" if isinstance(answer, int) else f" {answer.body[:200]!r}"
            self.wrong.append(f"{what or 'it'} answers {status}{said}, not {' or '.join(map(str, allowed))}")
        if not isinstance(answer, int):
            self.quiet(answer, what)
        return answer

    def quiet(self, answer, what=""):
        """No stack, no path of the server and no panic stands in an answer."""
        for inside in (b"panicked", b".rs:", b"/root/", b"/home/", b"RUST_BACKTRACE"):
            if inside in answer.body:
                self.wrong.append(f"{what or 'it'} tells {inside!r}: {answer.body[:200]!r}")

    def that(self, truth, what):
        """Something that must be so."""
        if not truth:
            self.wrong.append(what)

    def note(self, text):
        """Something to show in the table."""
        self.notes.append(text)

    def told(self):
        """For the table."""
        statuses = " ".join(f"{status}" + (f"×{n}" if n > 1 else "") for status, n in sorted(self.statuses.items()))
        return "; ".join(filter(None, [statuses, *self.notes]))


class House:
    """A server, two tenants, and ways to ask."""

    def __init__(self, scratch, seed, slower=1.0):
        self.scratch, self.rng, self.slower = pathlib.Path(scratch), random.Random(seed), slower
        self.data = self.scratch / "data"
        names = ["acme", "zeta"]
        for name in names:
            (self.scratch / name).mkdir()
        self.roots = [option for name in names for option in ("--files-root", f"{name}={self.scratch / name}")]
        self.model = Model()
        (self.scratch / "autonomos.yaml").write_text(CONFIG + self.model.config(BUDGET))
        self.server = line.Server(self.data, more=[*self.roots, "--config", str(self.scratch / "autonomos.yaml")])
        self.wire = Wire(self.server.listen)
        self.acme, self.zeta = (Tenant(f"http://{self.server.listen}", self.data, name, self.scratch) for name in names)

    def ask(self, method, path, token=None, body=None, headers=None, **more):
        """A call below /api/v1, from an address of its own; one that a rate turns away is made again."""
        for _ in range(20):
            answer = self.wire.ask(method, f"/api/v1{path}", token, body, headers, source=next(ADDRESSES), **more)
            if answer.code != "rate_limited":
                break
            time.sleep(float(answer.headers["retry-after"]))
        return answer

    def me(self, token):
        """Who somebody is."""
        return self.ask("GET", "/auth/me", token)

    def admin(self, tenant=None):
        """An admin's token."""
        return (tenant or self.acme).tokens["admin"]

    def login(self, email, password=PASSWORD, tenant=None, source=None):
        """A sign-in, from an address of its own unless one is named."""
        body = {"email": email, "password": password, **({"tenant": tenant} if tenant else {})}
        return self.wire.ask("POST", "/api/v1/auth/login", body=body, source=source or next(ADDRESSES))

    def push(self, rows, tenant=None, connection="crm", headers=None, token=None):
        """A push of records of one stream."""
        body = rows if isinstance(rows, (bytes, str)) else "\n".join(map(json.dumps, rows))
        headers = {"content-type": "application/x-ndjson", **(headers or {})}
        path = f"/records?connection={connection}&stream=opportunity&system=salesforce"
        return self.ask("POST", path, token or self.admin(tenant), body, headers)

    def query(self, sql, token=None, **more):
        """A question in SQL."""
        return self.ask("POST", "/query", token or self.admin(), {"sql": sql}, **more)

    def cpu_seconds(self):
        """What the server has used of processors so far."""
        stat = pathlib.Path(f"/proc/{self.server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(stat[11]) + int(stat[12])) / 100

    def within(self, seconds):
        """The seconds that something may take which takes so many at most where the machine has nothing else to do."""
        return seconds * self.slower

    def is_prompt(self):
        """Whether the health check takes less than a second."""
        return self.wire.answers_within(self.within(1))

    def is_alive(self):
        """Whether the server lives and answers."""
        return self.server.is_running() and self.wire.answers_within(self.within(5))


def timed(run):
    """What a call gives, and how many seconds it took."""
    started = time.monotonic()
    return run(), time.monotonic() - started


def quantile(values, part):
    """The value below which that part of the others lies."""
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]
