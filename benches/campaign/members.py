"""Tenants with users of every role and one of everything, for campaigns that call the server's routes; and, for each
operation of its OpenAPI file, a call that must succeed."""

import contextlib
import itertools
import json
import threading
import time
import urllib.error
import urllib.request

import line

ROLES = ["admin", "editor", "viewer"]
PASSWORD = "a password that is long enough"
PUSH = "connection=crm&stream=opportunity&system=salesforce"
# Calls that a rate turned away are made again.
AGAIN = 8


class Tenant:
    """A tenant with a user of each role and one of everything, all of it marked with a word that no other tenant has."""

    def __init__(self, base, data, name, root):
        self.tokens = {}
        self.base, self.name, self.word = base, name, f"marked{name}word"
        self.numbers = itertools.count()
        (root / name / "deals.csv").write_text(f"Id,Name,LastModifiedDate\nf1,{self.word},2026-01-01T00:00:00Z\n")
        # The tenant is there already, for its folder was declared: the operator invites its first admin.
        invited = line.run(["tenant", "invite", "--json", "--data-dir", str(data), name, self.address("admin")])
        accepted = self.call("POST", "/auth/accept", {"token": json.loads(invited)["token"], "password": PASSWORD})
        self.tokens = {"admin": accepted["access_token"]}
        for role in ROLES[1:]:
            self.tokens[role] = self.user(role)
        self.seed()

    def address(self, name):
        return f"{name}@{self.word}.example"

    def call(self, method, path, body=None, token=None, content="application/json", headers=None):
        """A call that must succeed; gives its answer."""
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        headers = {"content-type": content, **(headers or {})}
        if token or self.tokens:
            headers["authorization"] = f"Bearer {token or self.tokens['admin']}"
        asked = urllib.request.Request(f"{self.base}/api/v1{path}", body and body.encode(), headers, method=method)
        for attempt in range(AGAIN):
            try:
                with line.DIRECT.open(asked, timeout=30) as answer:
                    text = answer.read()
                    self.last = answer.headers
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
        return self.call("POST", "/auth/keys", {"name": f"{self.word} {next(self.numbers)}", "role": "viewer"})["key"]["id"]

    def session(self):
        """The id of a session that nobody needs."""
        login = {"tenant": self.name, "email": self.address("admin"), "password": PASSWORD}
        self.call("POST", "/auth/login", login)
        sessions = self.call("GET", "/auth/sessions")["sessions"]
        return next(s["id"] for s in sessions if not s["current"])

    def renew(self):
        """Makes anew what calls may have ended."""
        self.known |= {"connection": self.connection(), "key": self.key(), "session": self.session(), "user": self.user_id()}

    def seed(self):
        rows = [json.dumps({"Id": f"00{n}", "Name": self.word, "Amount": n, "LastModifiedDate": "2026-01-01T00:00:00Z"})
                for n in range(20)] + [f'{{"Name":"{self.word} without an id"}}']
        self.pushed = self.call("POST", f"/records?{PUSH}", "\n".join(rows), content="application/x-ndjson")
        self.known = {"view": "opportunities"}
        self.renew()
        self.call("GET", f"/dcl/views/opportunities/rows?limit=1&min_position={self.pushed['position']}")
        deadline = time.monotonic() + 30
        while not (set_aside := self.call("GET", "/quarantine")["records"]):
            if time.monotonic() > deadline:
                raise line.Failed("the record that was set aside is not shown")
            time.sleep(0.05)
        self.known["quarantined"] = set_aside[0]["position"]


def good_calls(tenant):
    """For each operation a call that must succeed: its path, its body, a header or two, and whose token it takes."""
    new = lambda name: f"{name}{next(tenant.numbers)}"
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
        tables, name = ", ".join(f"opportunities t{number}" for number in range(8)), new("slow")
        query = {"sql": f"select count(*) from {tables}", "id": name}
        threading.Thread(target=tenant.try_call, args=("POST", "/query", query)).start()
        deadline = time.monotonic() + 30
        while name not in [query["id"] for query in tenant.call("GET", "/query")["queries"]]:
            if time.monotonic() > deadline:
                raise line.Failed("a query that takes long is not listed")
            time.sleep(0.05)
        return f"/query/{name}",
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
        "list_views": lambda: ("/dcl/views",),
        "describe_view": lambda: ("/dcl/views/opportunities",),
        "read_rows": lambda: ("/dcl/views/opportunities/rows?limit=5",),
        "query": lambda: ("/query", {"sql": "select count(*) from opportunities"}),
        "list_quarantine": lambda: ("/quarantine",),
        "show_quarantined": lambda: (f"/quarantine/{tenant.known['quarantined']}",),
        "make_ticket": lambda: ("/events/tickets",),
        "watch_events": lambda: ("/events/stream?seconds=1",),
        "read_log": lambda: ("/log",),
        "read_audit": lambda: ("/audit",),
        "export_tenant": lambda: ("/tenant/export",),
        "delete_tenant": delete_tenant,
        "cancel_query": cancel_query,
        "list_queries": lambda: ("/query",),
    }
