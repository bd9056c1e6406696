"""Tenants with users of every role and one of everything, for campaigns that call the server's routes; and, for each
operation of its OpenAPI file, a call that must succeed."""

import contextlib
import http.client
import itertools
import json
import threading
import time
import urllib.error
import urllib.request
import zlib

import line

ROLES = ["admin", "editor", "viewer"]
# Who calls: people of each role, and a program with an editor's key.
CALLERS = [*ROLES, "program"]
PASSWORD = "a password that is long enough"
PUSH = "connection=crm&stream=opportunity&system=salesforce"
# Every row with every row of its stage, over and over: it runs until it is stopped, or its time is over.
MATCHED = "opportunities t0" + "".join(f" join opportunities t{n} on t{n - 1}.stage = t{n}.stage" for n in range(1, 4))
ENDLESS = f"select count(*) from {MATCHED}"
# Addresses that nobody answers at, and the operator lets notices go to.
NOWHERE, CONFIG = "http://127.0.0.1:9/hook", "webhooks: {networks: [127.0.0.0/8]}\n"
RUN = {"connection": "crm", "stream": "opportunity", "system": "salesforce"}
# Calls that a rate turned away are made again.
AGAIN = 8
# Addresses of this machine's own, so that sign-ins, which are rationed by address, come from many.
ADDRESSES = (f"127.{a}.{b}.{c}" for a in range(1, 255) for b in range(255) for c in range(1, 255))


def open_from_anew(asked, timeout):
    """Opens a request from an address that no other call came from."""
    address = (next(ADDRESSES), 0)
    connect = lambda host, **more: http.client.HTTPConnection(host, source_address=address, **more)
    class Handler(urllib.request.HTTPHandler):
        def http_open(self, request):
            return self.do_open(connect, request)
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), Handler()).open(asked, timeout=timeout)


class Tenant:
    """A tenant with a user of each role and one of everything. A word that no other tenant has marks its data, and, unless
    a label is given that others may have too, the names of its users and keys."""

    def __init__(self, base, data, name, root, word=None, label=None):
        self.tokens = {}
        self.base, self.name, self.word = base, name, word or f"marked{name}word"
        self.label = label or self.word
        self.numbers = itertools.count()
        (root / name / "deals.csv").write_text(f"Id,Name,LastModifiedDate\nf1,{self.word},2026-01-01T00:00:00Z\n")
        # The tenant is there already, for its folder was declared: the operator invites its first admin.
        invited = line.run(["tenant", "invite", "--json", "--data-dir", str(data), name, self.address("admin")])
        accepted = self.call("POST", "/auth/accept", {"token": json.loads(invited)["token"], "password": PASSWORD})
        self.tokens = {"admin": accepted["access_token"]}
        for role in ROLES[1:]:
            self.tokens[role] = self.user(role)
        program = {"name": f"{self.label} program", "role": "editor"}
        self.tokens["program"] = self.call("POST", "/auth/keys", program)["secret"]
        self.seed()

    def address(self, name):
        return f"{name}@{self.label}.example"

    def call(self, method, path, body=None, token=None, content="application/json", headers=None):
        """A call that must succeed; gives its answer."""
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        headers = {"content-type": content, **(headers or {})}
        if token or self.tokens:
            headers["authorization"] = f"Bearer {token or self.tokens['admin']}"
        asked = urllib.request.Request(f"{self.base}/api/v1{path}", body and body.encode(), headers, method=method)
        signs_in = path in ("/auth/login", "/auth/accept", "/auth/register")
        for attempt in range(AGAIN):
            try:
                with (open_from_anew if signs_in else line.DIRECT.open)(asked, timeout=180) as answer:
                    text = answer.read()
                    self.last, self.status = answer.headers, answer.status
                    is_json = answer.headers.get("content-type", "").startswith("application/json")
                    return json.loads(text) if text and is_json else text
            except urllib.error.HTTPError as error:
                if error.code != 429 or attempt == AGAIN - 1:
                    raise line.Failed(f"{method} {path} ended with {error.code}: {error.read()[:500]}") from error
                time.sleep(float(error.headers.get("retry-after", 1)))

    def try_call(self, *call):
        """A call that may fail."""
        with contextlib.suppress(line.Failed):
            self.call(*call)

    def user(self, role):
        """A new user's token."""
        email = self.address(f"{role}{next(self.numbers)}")
        invited = self.call("POST", "/auth/users/invitations", {"email": email, "role": role})
        return self.call("POST", "/auth/accept", {"token": invited["token"], "password": PASSWORD})["access_token"]

    def user_id(self, role="viewer"):
        """The id of a user that nobody needs."""
        token = self.user(role)
        return self.call("GET", "/auth/me", token=token)["id"]

    def connection(self):
        """A connection that nobody needs."""
        name = f"files{next(self.numbers)}"
        self.call("POST", "/aam/connections", self.connection_wanted(name))
        return name

    def connection_wanted(self, name):
        stream = {"stream": "opportunity", "system": "salesforce", "files": ["deals.csv"]}
        return {"name": name, "connector": "file", "settings": {"streams": [stream]}}

    def key(self):
        """The id of a key that nobody needs."""
        return self.call("POST", "/auth/keys", {"name": f"{self.label} {next(self.numbers)}", "role": "viewer"})["key"]["id"]

    def run(self):
        """The id of a run that nobody needs."""
        return self.call("POST", "/runs", RUN)["run"]

    def session(self):
        """The id of a session that nobody needs."""
        login = {"tenant": self.name, "email": self.address("admin"), "password": PASSWORD}
        self.call("POST", "/auth/login", login)
        sessions = self.call("GET", "/auth/sessions")["sessions"]
        return next(s["id"] for s in sessions if not s["current"])

    def drifted(self, field, status):
        """A case of this status: deals whose amount is called otherwise from the hundredth on, or is not there."""
        connection = f"drift{next(self.numbers)}"
        name = lambda n: "Amount" if n < 100 else field
        amount = lambda n: {name(n): 100.5 + n * 7} if name(n) else {}
        row = {"Name": self.word, "StageName": "Open", "LastModifiedDate": "2026-01-01T00:00:00Z"}
        rows = [json.dumps({"Id": f"{n}", **amount(n), **row}) for n in range(150)]
        query = f"connection={connection}&stream=opportunity"
        self.call("POST", f"/records?{query}&system=salesforce", "\n".join(rows), content="application/x-ndjson")
        return self.case_of(query, status)

    def case_of(self, query, status):
        """The id of the stream's case of this status, once there is one."""
        is_there = lambda: self.call("GET", f"/aam/cases?{query}&status={status}")["cases"]
        return line.until("a case is told", is_there)[0]["case"]

    def doubtful(self):
        """A case that waits for a person, with a proposal of which nobody is sure."""
        return self.drifted("Bla", "waiting")

    def lacking(self):
        """A case that waits for a person, with nothing proposed."""
        return self.drifted(None, "waiting")

    def repaired(self):
        """A case that was repaired by itself."""
        return self.drifted("DealAmount", "repaired")

    def proposed(self):
        """A case that waits for a person, with a proposal: one that was repaired by itself, and reverted."""
        case = self.repaired()
        is_through = lambda: (found := self.call("GET", f"/aam/cases/{case}"))["redriven"] == found["held"]
        line.until("what it held has come again", is_through)
        self.call("POST", f"/aam/cases/{case}/revert", {"why": "for a look"})
        connection, stream = self.call("GET", f"/aam/cases/{case}")["stream"].split("/")
        return self.case_of(f"connection={connection}&stream={stream}", "waiting")

    def set_aside(self):
        """The query of a stream of which one record was set aside, and that record's position."""
        query = f"connection=aside{next(self.numbers)}&stream=opportunity"
        broken = f'{{"Name":"{self.word} that is no JSON'
        self.call("POST", f"/records?{query}&system=salesforce", broken, content="application/x-ndjson")
        is_there = lambda: self.call("GET", f"/quarantine?{query}")["records"]
        return query, line.until("a record that was set aside is shown", is_there)[0]["position"]

    def set_aside_stream(self):
        """A stream of which one record was set aside, as a body names it."""
        connection, stream = (part.split("=")[1] for part in self.set_aside()[0].split("&"))
        return {"connection": connection, "stream": stream, "why": "for a look"}

    def webhook(self):
        """The id of a webhook that nobody needs."""
        return self.call("POST", "/webhooks", {"form": "event", "url": NOWHERE})["webhook"]["id"]

    def slow_query(self):
        """The id of a query that runs until somebody stops it, or its time is over."""
        name = f"slow{next(self.numbers)}"
        query = {"sql": ENDLESS, "id": name}
        threading.Thread(target=self.try_call, args=("POST", "/query", query), daemon=True).start()
        is_listed = lambda: name in [query["id"] for query in self.call("GET", "/query")["queries"]]
        line.until("a query that takes long is listed", is_listed)
        return name

    def renew(self):
        """Makes anew what calls may have ended."""
        self.known |= {"connection": self.connection(), "key": self.key(), "session": self.session(),
                       "user": self.user_id(), "case": self.doubtful(), "run": self.run()}

    def seed(self):
        rows = [json.dumps({"Id": f"00{n}", "Name": self.word, "Amount": n, "StageName": "Open",
                            "LastModifiedDate": "2026-01-01T00:00:00Z"}) for n in range(400)]
        rows += 2 * [f'{{"Name":"{self.word} that is no JSON']
        self.pushed = self.call("POST", f"/records?{PUSH}", "\n".join(rows), content="application/x-ndjson")
        self.known = {"view": "opportunities"}
        self.renew()
        self.call("GET", f"/dcl/views/opportunities/rows?limit=1&min_position={self.pushed['position']}")
        both = lambda: [found for found in [self.call("GET", "/quarantine")["records"]] if len(found) == 2]
        set_aside = line.until("the records that were set aside are shown", both)[0]
        self.known["quarantined"] = set_aside[0]["position"]
        self.known |= {"opened": "crm", "stream": "opportunity", "webhook": self.webhook()}


def good_calls(tenant):
    """For each operation a call that must succeed: its path, its body, a header or two, and whose token it takes."""
    # Nobody else makes anything of that name, also not with a call that was meant for this tenant.
    new = lambda name: f"{name}{zlib.crc32(tenant.name.encode()):08x}{next(tenant.numbers)}"
    connection = lambda rest="": f"/aam/connections/{tenant.known['connection']}{rest}"
    def change_connection():
        tenant.call("GET", connection())
        return connection(), {"settings": tenant.connection_wanted("x")["settings"]}, {"if-match": tenant.last["etag"]}
    def accept():
        invited = tenant.call("POST", "/auth/users/invitations", {"email": tenant.address(new("guest")), "role": "viewer"})
        return "/auth/accept", {"token": invited["token"], "password": PASSWORD}
    def register():
        name = new(f"{tenant.name}-other-")
        return "/auth/register", {"name": name, "email": tenant.address(name), "password": PASSWORD}
    def delete_tenant():
        name = new(f"{tenant.name}-gone-")
        register = {"name": name, "email": tenant.address(name), "password": PASSWORD}
        return "/tenant", {"name": name}, {}, tenant.call("POST", "/auth/register", register)["access_token"]
    def cancel_query():
        return f"/query/{tenant.slow_query()}",
    mapping = "/aam/mappings/crm/opportunity"
    def set_mapping():
        mapping_ = tenant.call("GET", mapping)["mapping"]
        return mapping, {"mapping": mapping_, "why": "for a look"}, {"if-match": tenant.last["etag"]}
    aside = lambda what: (f"/quarantine/{tenant.set_aside()[1]}/{what}", {"why": "for a look"})
    any_tag = {"if-match": "*"}
    decide = lambda case, verdict, **body: (f"/aam/cases/{case}/{verdict}", {"why": "for a look", **body})
    login = {"tenant": tenant.name, "email": tenant.address("admin"), "password": PASSWORD}
    return {
        "register": register,
        "login": lambda: ("/auth/login", login),
        "accept": accept,
        "logout": lambda: ("/auth/logout", None, {}, tenant.user("viewer")),
        "me": lambda: ("/auth/me",),
        "list_sessions": lambda: ("/auth/sessions",),
        "end_session": lambda: (f"/auth/sessions/{tenant.session()}",),
        "change_password": lambda: ("/auth/password", {"old_password": PASSWORD, "new_password": PASSWORD + "!"}, {},
                                    tenant.user("viewer")),
        "list_users": lambda: ("/auth/users",),
        "invite_user": lambda: ("/auth/users/invitations", {"email": tenant.address(new("guest")), "role": "viewer"}),
        "reset_user": lambda: (f"/auth/users/{tenant.known['user']}/reset",),
        "change_user": lambda: (f"/auth/users/{tenant.known['user']}", {"role": "editor"}),
        "remove_user": lambda: (f"/auth/users/{tenant.user_id()}",),
        "list_keys": lambda: ("/auth/keys",),
        "make_key": lambda: ("/auth/keys", {"name": new("key"), "role": "viewer"}),
        "revoke_key": lambda: (f"/auth/keys/{tenant.key()}",),
        "list_connectors": lambda: ("/aam/connectors",),
        "list_connections": lambda: ("/aam/connections",),
        "make_connection": lambda: ("/aam/connections", tenant.connection_wanted(new("files"))),
        "show_connection": lambda: (connection(),),
        "change_connection": change_connection,
        "delete_connection": lambda: (f"/aam/connections/{tenant.connection()}",),
        "sync_connection": lambda: (connection("/sync"),),
        "pause_connection": lambda: (connection("/pause"),),
        "resume_connection": lambda: (connection("/resume"),),
        "check_connection": lambda: (connection("/health"),),
        "list_connection_streams": lambda: (connection("/streams"),),
        "push_records": lambda: (f"/records?{PUSH}", [{"Id": "more", "LastModifiedDate": "2026-01-01T00:00:00Z"}]),
        "list_streams": lambda: ("/streams",),
        "begin_run": lambda: ("/runs", RUN),
        "plan_run": lambda: ("/runs/plan", RUN),
        "show_run": lambda: (f"/runs/{tenant.run()}",),
        "declare_schema": lambda: (f"/runs/{tenant.run()}/schema", {"fields": [{"path": "Id", "type": "text"}]}),
        "end_run": lambda: (f"/runs/{tenant.run()}",),
        "list_views": lambda: ("/dcl/views",),
        "describe_view": lambda: ("/dcl/views/opportunities",),
        "read_rows": lambda: ("/dcl/views/opportunities/rows?limit=5",),
        "query": lambda: ("/query", {"sql": "select count(*) from opportunities"}),
        "list_cases": lambda: ("/aam/cases",),
        "show_case": lambda: (f"/aam/cases/{tenant.known['case']}",),
        "approve_case": lambda: decide(tenant.proposed(), "approve"),
        "edit_case": lambda: decide(tenant.doubtful(), "edit", moves=[{"from": "Amount", "to": ["Bla"]}]),
        "reject_case": lambda: decide(tenant.doubtful(), "reject"),
        "accept_case_as_removed": lambda: decide(tenant.doubtful(), "accept-removed"),
        "revert_case": lambda: decide(tenant.repaired(), "revert"),
        "snooze_case": lambda: decide(tenant.doubtful(), "snooze", until="2099-01-01T00:00:00Z"),
        "dry_run_case": lambda: (f"/aam/cases/{tenant.proposed()}/dry_run",),
        "try_case": lambda: (f"/aam/cases/{tenant.doubtful()}/dry_run",
                             {"decision": "edit", "moves": [{"from": "Amount", "to": ["Bla"]}]}),
        "show_policy": lambda: ("/aam/policy",),
        "set_policy": lambda: ("/aam/policy", {"remind_hours": 48}, any_tag),
        "clear_policy": lambda: ("/aam/policy", None, any_tag),
        "backtest_policy": lambda: ("/aam/policy/backtest",),
        "list_mappings": lambda: ("/aam/mappings",),
        "show_mapping": lambda: (mapping,),
        "list_mapping_versions": lambda: (f"{mapping}/history",),
        "suggest_mapping": lambda: (f"{mapping}/suggestions",),
        "diff_mapping_versions": lambda: (f"{mapping}/diff?from=1",),
        "set_mapping": set_mapping,
        "list_drift": lambda: ("/aam/drift",),
        "show_drift": lambda: ("/aam/drift/crm/opportunity",),
        "show_advice_usage": lambda: ("/aam/advice/usage",),
        "reset_advice_usage": lambda: ("/aam/advice/usage/reset",),
        "list_webhooks": lambda: ("/webhooks",),
        "make_webhook": lambda: ("/webhooks", {"form": "event", "url": NOWHERE}),
        "show_webhook": lambda: (f"/webhooks/{tenant.known['webhook']}",),
        "change_webhook": lambda: (f"/webhooks/{tenant.known['webhook']}", {"paused": False}),
        "test_webhook": lambda: (f"/webhooks/{tenant.known['webhook']}/test",),
        "remove_webhook": lambda: (f"/webhooks/{tenant.webhook()}",),
        "retry_quarantined": lambda: aside("retry"),
        "discard_quarantined": lambda: aside("discard"),
        "retry_several": lambda: ("/quarantine/retry", tenant.set_aside_stream()),
        "discard_several": lambda: ("/quarantine/discard", tenant.set_aside_stream()),
        "list_quarantine": lambda: ("/quarantine",),
        "show_quarantined": lambda: (f"/quarantine/{tenant.known['quarantined']}",),
        "make_ticket": lambda: ("/events/tickets",),
        "watch_events": lambda: ("/events/stream?seconds=1",),
        "read_log": lambda: ("/log",),
        "read_audit": lambda: ("/audit",),
        "show_lag": lambda: ("/lag",),
        "export_tenant": lambda: ("/tenant/export",),
        "delete_tenant": delete_tenant,
        "cancel_query": cancel_query,
        "list_queries": lambda: ("/query",),
    }
