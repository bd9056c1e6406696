"""Two tenants with the same names in everything: what one has, the other never sees, whatever route it takes.

Both have users of the same addresses, keys, connections, streams, views and records of the same names; their data bears a
canary each. Every operation of the server's own OpenAPI file is called with what makes it succeed for one tenant, by the
other's people and program: ids in paths and bodies, cursors, event ids, tags, positions, idempotency keys; every path also
by the methods that it does not have. Not one byte of an answer, header or event is the other's; what is another's is told
as what is not there at all, to the byte; and the owner's call still succeeds afterwards. Event streams and sockets of both
are open all the while.

    neighbours.py --rounds 2

An operation or a parameter that is new has to be told here or in `members.py`, or the campaign fails.
"""

import argparse
import json
import pathlib
import random
import re
import tempfile
import time

import line
from isolation import Scanner
from members import ADDRESSES, AGAIN, CALLERS, CONFIG, Tenant, good_calls
from verdict import Campaign
from wire import Events, Socket, Wire

API = "/api/v1"
# Parameters that carry what a tenant was given: each is tried with the other's.
GIVEN = {"cursor", "Last-Event-ID", "last_event_id", "min_position", "If-Match", "Idempotency-Key", "run"}
# A ticket is a credential of its own: who bears it is who asked for it.
OWN = {"ticket"}
# Parameters that carry nothing of anybody's: they choose among one's own.
HARMLESS = {"limit", "order_by", "direction", "filter", "columns", "connection", "stream", "system", "status", "topic",
            "stages", "connections", "streams", "entities", "mode", "seconds", "from", "to", "relay", "settled", "records",
            "version", "at_least", "kind", "severity"}
# They tell what one has asked for oneself, ids of others too.
JOURNAL = {"read_audit", "export_tenant"}
# They end the session that they are called with: called with one of their own.
ENDING = {"logout", "change_password"}
# No plain call opens them, whoever makes it: what each is answered. A neighbour keeps a socket open all the while.
SOCKETS = {"watch_events_by_socket": {400}}
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
FORGED = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE"


class Neighbour:
    """A tenant, what it alone knows, and its open streams."""

    def __init__(self, wire, data, name, scratch, canary):
        self.tenant = Tenant(f"http://{wire.listen}", data, name, scratch, word=canary, label="same")
        self.name, self.canary = name, Scanner(canary)
        me = self.tenant.call("GET", "/auth/me")
        self.secrets = {me["tenant_id"], me["id"], name, *self.tenant.tokens.values()}
        self.said = ""
        self.events = Events(wire, self.tenant.tokens["admin"])
        self.socket = Socket(wire, self.tenant.tokens["viewer"])
        self.note(*self.tenant.known.values())

    def note(self, *ids):
        """Notes ids that nobody else has: those that no other would come upon by chance."""
        self.secrets |= {text for text in map(str, ids) if re.fullmatch(r"[0-9a-f]{16,}|[\w.-]{40,}", text)}

    def seen_in(self, data, sent=""):
        """What of this tenant stands in some bytes, unless the asker sent it himself."""
        yield from (f"the canary in {form}" for form in self.canary.found(data))
        for secret in self.secrets:
            if secret.encode() in data and secret not in sent:
                yield f"{secret[:60]!r}"


class Street:
    """Both neighbours, and what is asked between them."""

    def __init__(self, campaign, wire, neighbours, file, rng):
        self.campaign, self.wire, self.neighbours, self.file, self.rng = campaign, wire, neighbours, file, rng
        self.table = {}

    def ask(self, asker, method, path, token, body=None, headers=None, what=""):
        """A call whose answer holds nothing of the other, and is no fault of the server's."""
        for _ in range(AGAIN):
            answer = self.wire.ask(method, path, token, body, headers, source=next(ADDRESSES))
            if answer.code != "rate_limited":
                break
            time.sleep(float(answer.headers["retry-after"]))
        self.campaign.fired("calls")
        sent = f"{path} {json.dumps(body) if not isinstance(body, (bytes, str)) else body} {headers}"
        asker.said += path + "\n"
        if what.split(" ")[0].rstrip(",") in JOURNAL:
            sent += asker.said
        for other in self.neighbours:
            if other is not asker:
                for found in other.seen_in(answer.bytes, sent):
                    self.campaign.anomaly(f"{asker.name} reads {found} of {other.name} by {what} {method} {path}")
        if answer.status >= 500 and answer.status not in (503, 507):
            self.campaign.anomaly(f"{what} {method} {path} answers {answer.status}: {answer.body[:300]!r}")
        return answer

    def operation(self, path, method, operation, mine, other):
        """One operation, made for the other and asked by me; then by the other itself."""
        name = operation["operationId"]
        if name in SOCKETS:
            self.plain(name, path, method, mine)
            return
        good = good_calls(other.tenant).get(name)
        if not operation.get("security") and good is None:
            self.ask(mine, method, path, None, what=name)
            return
        target, body, headers, token = pad(good())
        other.note(*target.split("/"))
        target = API + target
        row = self.table.setdefault(name, {"own": set(), "foreign": set(), "unknown": set()})
        if operation.get("security"):
            self.foreign(name, path, method, mine, (target, body, headers), row)
            self.given(name, path, method, operation, mine, other, (target, body, headers))
        own = self.ask(other, method, target, token or (operation.get("security") and other.tenant.tokens["admin"]), body,
                       headers, what=name)
        row["own"].add(own.status)
        if not 200 <= own.status < 300:
            self.campaign.anomaly(f"{name} does not succeed for {other.name} after {mine.name} has tried: {own.status} "
                                  f"{own.body[:300]!r}")
        self.formats(name, method, operation, mine, other, (target, body, headers))

    def plain(self, name, path, method, mine):
        """What takes a handshake, without one."""
        row = self.table.setdefault(name, {"own": set(), "foreign": set(), "unknown": set()})
        for who in CALLERS:
            answer = self.ask(mine, method, path, mine.tenant.tokens[who], what=f"{name} as {who}")
            row["own"].add(answer.status)
            if answer.status not in SOCKETS[name]:
                self.campaign.anomaly(f"{name} answers {answer.status} without a handshake: {answer.body[:200]!r}")

    def foreign(self, name, path, method, mine, call, row):
        """All of mine call what is the other's."""
        target, body, headers = call
        for who in CALLERS:
            if name in ENDING and who == "program":
                continue
            token = mine.tenant.user(who) if name in ENDING else mine.tenant.tokens[who]
            answer = self.ask(mine, method, target, token, body, headers, what=f"{name} as {who}")
            if who == "admin":
                row["foreign"].add(answer.status)
                if "{" in path:
                    self.compare_with_unknown(name, path, method, mine, call, answer, row)

    def compare_with_unknown(self, name, path, method, mine, call, answer, row):
        """What is the other's is told as what is not there at all. A name that both have is one's own."""
        target, body, headers = call
        made_up = self.made_up(path, target)
        unknown = self.ask(mine, method, made_up, mine.tenant.tokens["admin"], body, headers, what=f"{name}, made up")
        row["unknown"].add(unknown.status)
        if unknown.status != 404:
            self.campaign.anomaly(f"{name} answers {unknown.status} to an id that does not exist: {unknown.body[:200]!r}")
        if self.is_shared(path, target, mine):
            return
        if answer.told() != unknown.told():
            self.campaign.anomaly(f"{name} tells what is another's, {answer.told()}, from what is not there, "
                                  f"{unknown.told()}")

    def made_up(self, path, target):
        """The same path with ids that nobody has, of the same form."""
        def other_than(text):
            if re.fullmatch(r"\d+:\d+:\d+", text):
                return f"{text.rsplit(':', 1)[0]}:{self.rng.randrange(10**8, 10**9)}"
            if re.fullmatch(r"[0-9a-f]{16,}", text):
                return f"{self.rng.getrandbits(4 * len(text)):0{len(text)}x}"
            return f"nobody{self.rng.randrange(10**6)}"
        target, question, query = target.partition("?")
        parts = zip(path.split("/"), target.split("/"), strict=True)
        return "/".join(other_than(given) if part.startswith("{") else given for part, given in parts) + question + query

    def is_shared(self, path, target, mine):
        """Whether a path names what both have: a view, a stream or a connection of the same name."""
        found = re.search(r"\{(\w+)\}", path)
        own = target[found.start():].split("/")[0].split("?")[0]
        if "/connections/" in path:
            return self.wire.ask("GET", f"{API}/aam/connections/{own}", mine.tenant.tokens["admin"]).status == 200
        return any(shared in path for shared in ("/views/", "/mappings/", "/drift/"))

    def given(self, name, path, method, operation, mine, other, call):
        """Every parameter that carries what a tenant was given, with what the other was given."""
        target, body, headers = call
        if name in ENDING or name == "delete_tenant":
            return
        token, join = mine.tenant.tokens["admin"], "&" if "?" in target else "?"
        parameters = {(p["in"], p["name"]) for p in operation.get("parameters", []) if p["in"] != "path"}
        for where, parameter in sorted(parameters):
            if parameter not in GIVEN | OWN | HARMLESS:
                self.campaign.anomaly(f"neighbours.py does not know what the parameter {parameter} of {name} carries")
            if parameter not in GIVEN:
                continue
            for value in self.values(parameter, method, target, other):
                with_it = f"{target}{join}{parameter}={value}" if where == "query" else target
                more = {**(headers or {}), **({parameter: value} if where == "header" else {})}
                answer = self.ask(mine, method, with_it, token, body, more, what=f"{name} with {other.name}'s {parameter}")
                if parameter in ("cursor", "Last-Event-ID", "last_event_id"):
                    forged = with_it.replace(value, FORGED), {k: FORGED if v == value else v for k, v in more.items()}
                    told = self.ask(mine, method, forged[0], token, body, forged[1], what=f"{name}, forged").told()
                    if answer.status != 400 or answer.told() != told:
                        self.campaign.anomaly(f"{name} takes {other.name}'s {parameter} otherwise than a forged one: "
                                              f"{answer.told()}, {told}")
        if method == "GET":
            tag = self.wire.ask(method, target, other.tenant.tokens["admin"]).headers.get("etag")
            answer = tag and self.ask(mine, method, target, token, headers={"if-none-match": tag}, what=f"{name} with a tag")
            # Where both are told the same, the tag is the same.
            if answer and answer.status == 304 and len({self.wire.ask(method, target, one.tenant.tokens["admin"]).body
                                                        for one in (mine, other)}) > 1:
                self.campaign.anomaly(f"{name} tells {mine.name} that it has what is {other.name}'s")
        elif "Idempotency-Key" not in {parameter for _, parameter in parameters}:
            # Every write takes one.
            key = {**(headers or {}), "idempotency-key": f"same-{self.rng.getrandbits(32)}"}
            nowhere = self.made_up(path, target) if "{" in path else target
            for asker in (other, mine):
                answer = self.ask(asker, method, nowhere, asker.tenant.tokens["viewer"], body, key, what=f"{name} with a key")
                if "idempotent-replayed" in answer.headers:
                    self.campaign.anomaly(f"{name} repeats to {asker.name} what another was answered")

    def values(self, parameter, method, target, other):
        """What the other was given for a parameter."""
        token = other.tenant.tokens["admin"]
        if parameter == "cursor":
            page = self.wire.ask(method, target.partition("?")[0] + "?limit=1", token).json()
            if not page.get("next"):
                self.campaign.anomaly(f"{other.name} has no second page of {target}")
            return [page["next"]] if page.get("next") else []
        if parameter in ("Last-Event-ID", "last_event_id"):
            other.events.wait_for("an event with an id", lambda _: other.events.id)
            return [other.events.id]
        if parameter == "run":
            return [other.tenant.run()]
        if parameter == "min_position":
            return [other.tenant.pushed["position"]]
        if parameter == "If-Match":
            return [self.wire.ask("GET", target, token).headers.get("etag", "none")]
        key = f"same-{self.rng.getrandbits(32)}"
        # The other uses it first, for a body of its own.
        rows = [{"Id": "keyed", "Name": other.tenant.word, "LastModifiedDate": "2026-01-01T00:00:00Z"}]
        self.ask(other, method, target, token, rows, {parameter: key}, what="a key")
        return [key]

    def formats(self, name, method, operation, mine, other, call):
        """The same in every format that there is, for both."""
        target, body, headers = call
        media = operation["responses"].get("200", {}).get("content", {})
        if len(media) > 1 and method in ("GET", "POST"):
            for accept in media:
                for asker in (mine, other):
                    self.ask(asker, method, target, asker.tenant.tokens["viewer"], body, {**(headers or {}), "accept": accept},
                             what=f"{name} as {accept}")

    def methods(self, path, mine, other):
        """A path by the methods that the file does not have for it."""
        target = path
        for word, known in (("connection", "connection"), ("view", "view"), ("case", "case"), ("position", "quarantined"), ("stream", "stream"),
                            ("id", "user")):
            target = target.replace(f"{{{word}}}", str(other.tenant.known[known]))
        for method in METHODS:
            if method.lower() not in self.file["paths"][path]:
                answer = self.ask(mine, method, target, mine.tenant.tokens["admin"], what="another method")
                if 200 <= answer.status < 300 and method != "HEAD":
                    self.campaign.anomaly(f"{method} {target} answers {answer.status}, and the file does not know it")


def pad(call):
    """A call's path, body, headers and token; what it does not name is nothing."""
    return (*call, *[None] * (4 - len(call)))


def watch(campaign, neighbours):
    """What the open streams have shown: one's own, and nothing else."""
    for one in neighbours:
        for kind, stream in (("events", one.events), ("socket", one.socket)):
            if not list(one.canary.found(bytes(stream.bytes))):
                campaign.anomaly(f"{one.name}'s {kind} show nothing of its own: they prove nothing")
            for other in neighbours:
                if other is not one:
                    for found in other.seen_in(bytes(stream.bytes)):
                        campaign.anomaly(f"{one.name}'s {kind} show {found} of {other.name}")
            stream.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    rng, campaign = random.Random(options.seed), Campaign("neighbours", options.seed, rounds=options.rounds)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        names = [f"{name}{rng.getrandbits(48):012x}" for name in ("left", "right")]
        for name in names:
            (scratch / name).mkdir()
        roots = [option for name in names for option in ("--files-root", f"{name}={scratch / name}")]
        (scratch / "autonomos.yaml").write_text(CONFIG)
        with line.Server(scratch / "data", more=[*roots, "--config", str(scratch / "autonomos.yaml")]) as server:
            wire = Wire(server.listen)
            neighbours = [Neighbour(wire, scratch / "data", name, scratch, f"{rng.getrandbits(96):024x}") for name in names]
            file = wire.ask("GET", "/openapi.json").json()
            street = Street(campaign, wire, neighbours, file, rng)
            for round_ in range(options.rounds):
                for path, methods in file["paths"].items():
                    for mine, other in (neighbours, neighbours[::-1]):
                        for method, operation in methods.items():
                            street.operation(path, method.upper(), operation, mine, other)
                        street.methods(path, mine, other)
                    campaign.cycle(every=20, total=options.rounds * len(file["paths"]))
            for path in ("/metrics", "/openapi.json", "/docs", "/healthz", "/readyz"):
                for one in neighbours:
                    for found in one.seen_in(wire.ask("GET", path).bytes):
                        campaign.anomaly(f"{path} shows {found} of {one.name} to anybody")
            watch(campaign, neighbours)
            for name, row in street.table.items():
                print(f"{name:28}" + "  ".join(f"{what}: {' '.join(map(str, sorted(row[what]))) or '-':12}" for what in row))
            missing = {o["operationId"] for p in file["paths"].values() for o in p.values() if o.get("security")}
            for name in missing - set(street.table):
                campaign.anomaly(f"{name} was not called")
            if not server.is_running():
                campaign.anomaly(f"the server has ended: {server.said()}")
    campaign.end()


if __name__ == "__main__":
    main()
