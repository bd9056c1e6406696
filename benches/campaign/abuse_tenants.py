"""Abuse across tenants and above one's role: row C of the table. `neighbours.py` calls every route with another's ids."""

import json
import socket

import line
from cases import by_type, case, not_built
from members import PASSWORD, PUSH, good_calls
from wire import Events, Socket, Wire

# What a viewer may do that is no reading: ask, look on, and mind one's own account.
VIEWERS = {"try_case", "query", "cancel_query", "make_ticket", "logout", "change_password", "end_session"}
# What an editor may do besides.
EDITORS = {"push_records", "sync_connection", "pause_connection", "resume_connection", "approve_case", "edit_case",
           "reject_case", "accept_case_as_removed", "revert_case", "snooze_case", "begin_run", "plan_run", "end_run",
           "declare_schema", "retry_quarantined", "discard_quarantined", "retry_several", "discard_several"}
# What viewers and editors may not even read.
ADMINS_READ = {"list_users", "list_keys", "read_audit", "export_tenant"}


@case("C1", "ids of another tenant, and ids that do not exist: the same 404 (every route: neighbours.py)")
def foreign_ids(house, seen):
    known, mine = house.zeta.known, house.admin()
    for kind, path, unknown in (("user", "/auth/users/{}/reset", "0" * 24), ("key", "/auth/keys/{}", "0" * 24),
                                ("session", "/auth/sessions/{}", "0" * 24), ("case", "/aam/cases/{}", "1:0:99999999"),
                                ("quarantined", "/quarantine/{}", "1:0:99999999")):
        method = {"user": "POST", "key": "DELETE", "session": "DELETE"}.get(kind, "GET")
        foreign, nowhere = (house.ask(method, path.format(id_), mine) for id_ in (known[kind], unknown))
        seen.status(foreign, 404, what=kind)
        seen.that(foreign.told() == nowhere.told(), f"{kind}: {foreign.told()} is not {nowhere.told()}")


@case("C2", "cursors made by hand, of another tenant, of another list, of another question: 400")
def cursors(house, seen):
    page = lambda path, tenant: house.ask("GET", path, house.admin(tenant)).json()["next"]
    rows = "/dcl/views/opportunities/rows?limit=1"
    others = {"/aam/connections": page("/aam/connections?limit=1", house.zeta), "/audit": page("/audit?limit=1", house.zeta),
              "/aam/cases": page("/aam/cases?limit=1", house.zeta), "/log": page("/log?limit=1", house.zeta),
              "/dcl/views/opportunities/rows": page(rows, house.zeta)}
    own = page(rows, house.acme)
    flipped = own[:-6] + ("A" if own[-6] != "A" else "B") + own[-5:]
    for path, foreign in others.items():
        for cursor in (foreign, "AAAA", "", "%00", "../..", "x" * 500, flipped, page("/audit?limit=1", house.acme)):
            if path != "/audit" or cursor in (foreign, "AAAA", flipped):
                answer = house.ask("GET", f"{path}?cursor={cursor}", house.admin())
                # Nothing between = and & is no cursor, which begins at the beginning.
                seen.status(answer, *([200, 400] if cursor == "" else [400]), what=f"{path}?cursor={cursor[:20]}")
    for more in ("&order_by=name", "&filter=amount:gte:1", "&columns=name", "&direction=desc"):
        seen.status(house.ask("GET", f"{rows}&cursor={own}{more}", house.admin()), 400, what=more)


@case("C3", "every route that changes something, by every role below the one that it takes: 403")
def roles(house, seen):
    file = house.wire.ask("GET", "/openapi.json").json()
    good, tried = good_calls(house.acme), 0
    for path, methods in file["paths"].items():
        for method, operation in methods.items():
            name = operation["operationId"]
            if not operation.get("security") or (method == "get" and name not in ADMINS_READ) or name in VIEWERS:
                continue
            target, body, headers, _ = (*good[name](), *[None] * 4)[:4]
            for role in ("viewer",) if name in EDITORS else ("viewer", "editor", "program"):
                answer = house.ask(method.upper(), target, house.acme.tokens[role], body, headers)
                seen.status(answer, 403, what=f"{name} as {role}")
                tried += 1
    seen.that(tried > 40, f"only {tried} calls were tried")
    bound = house.ask("POST", "/auth/keys", house.admin(), {"name": "bound", "role": "editor", "connections": ["erp"]}).json()
    for method, path, body in (("POST", f"/records?{PUSH}", "{}"), ("POST", "/query", {"sql": "select 1"}), ("GET", "/log", None),
                               ("GET", "/auth/users", None)):
        seen.status(house.ask(method, path, bound["secret"], body), 403, what=f"{path} with a key for another connection")
    seen.status(house.ask("POST", "/auth/keys", house.admin(), {"name": "too much", "role": "admin"}), 400, what="an admin's key")


@case("C4", "an idempotency key of another tenant; one key, two bodies, also such as are no text")
def idempotency(house, seen):
    key = {"idempotency-key": "the same for both"}
    row = lambda n: [{"Id": f"idem{n}", "Name": "x", "LastModifiedDate": "2026-01-01T00:00:00Z"}]
    seen.status(house.push(row(1), house.acme, headers=key), 200)
    seen.status(house.push(row(2), house.zeta, headers=key), 200, what="another tenant, another body")
    seen.status(house.push(row(3), house.acme, headers=key), 422, what="another body")
    for n, body in enumerate((b'{"Id":"\xff"}', b'{"Id":"\xfe"}')):
        seen.status(house.push(body, house.acme, headers={"idempotency-key": "no text"}), 200 if n == 0 else 422,
                    what="bytes that are no text")
    wanted = lambda name: house.acme.connection_wanted(name)
    first = house.ask("POST", "/aam/connections", house.admin(), wanted("idem"), key)
    again = house.ask("POST", "/aam/connections", house.admin(), wanted("idem"), key)
    seen.status(first, 201)
    seen.status(again, 201, what="the same again")
    seen.that(again.headers.get("idempotent-replayed") == "true" and again.body == first.body, "it was not repeated")
    seen.status(house.ask("POST", "/aam/connections", house.admin(), wanted("other"), key), 422, what="another body")
    seen.status(house.ask("POST", "/aam/connections", house.admin(house.zeta), wanted("idem"), key), 201, what="another tenant")
    for bad in ("", "x" * 201):
        seen.status(house.push(row(4), headers={"idempotency-key": bad}), 400, what=f"a key of {len(bad)} characters")


@case("C5", "Last-Event-ID of another tenant or made up; from=, a topic, a stream by its name")
def events(house, seen):
    stream = Events(house.wire, house.admin(house.zeta))
    house.push([{"Id": "ev", "Name": house.zeta.word, "LastModifiedDate": "2026-01-01T00:00:00Z"}], house.zeta)
    stream.wait_for("an event", bool)
    stream.close()
    path = "/events/stream?seconds=1"
    for id_ in (stream.id, "AAAA", "0", "../..", '{"epochs":[1,1,1,1]}'):
        seen.status(house.ask("GET", path, house.admin(), headers={"last-event-id": id_}), 400, what=f"an id {id_[:20]}")
    seen.status(house.ask("GET", f"/events/stream?seconds=1&last_event_id={stream.id}", house.admin()), 400, what="in the query")
    tenant = house.me(house.admin(house.zeta)).json()["tenant_id"]
    for query in (f"&streams={tenant}/crm/opportunity", f"&from={stream.id}", "&topic=inputs", f"&tenant={tenant}",
                  f"&connections={tenant}"):
        answer = house.ask("GET", path + query, house.admin())
        seen.status(answer, 200, 400, what=query)
        seen.that(house.zeta.word.encode() not in answer.body, f"{query} shows another tenant's events")


@case("C6", "a WebSocket from a page of another origin")
def origins(house, seen):
    for origin in ("https://evil.example", "null", f"http://{house.server.listen}.evil.example", "http://127.0.0.1:1",
                   f"https://evil.example/{house.server.listen}"):
        seen.status(Socket(house.wire, house.admin(), headers={"origin": origin}).status, 403, what=origin)
    own = Socket(house.wire, house.admin(), headers={"origin": f"http://{house.server.listen}"})
    seen.status(own.status, 101, what="our own")
    own.close()
    seen.status(Socket(house.wire).status, 401, what="no credential")


not_built("C6b", "MCP from a foreign Origin or Host", "there is no MCP")


@case("C7", "tenant_id, owner, status, confidence in a change: 400, and nothing is changed")
def mass_assignment(house, seen):
    user, case_ = house.acme.user_id(), house.acme.doubtful()
    for more in ({"tenant_id": "x"}, {"owner": "x"}, {"id": "x"}, {"email": "x@y.example"}, {"password": "x"}):
        seen.status(house.ask("PATCH", f"/auth/users/{user}", house.admin(), {"role": "editor", **more}), 400, what=str(more))
    for more in ({"status": "repaired"}, {"confidence": 1}, {"by": "rules"}, {"held": 0}, {"tenant": "zeta"}):
        seen.status(house.ask("POST", f"/aam/cases/{case_}/approve", house.admin(), {"why": "", **more}), 400, what=str(more))
    users = {u["id"]: u["role"] for u in house.ask("GET", "/auth/users", house.admin()).json()["users"]}
    seen.that(users[user] == "viewer", "a refused change has changed the role")
    seen.that(house.ask("GET", f"/aam/cases/{case_}", house.admin()).json()["status"] == "open", "the case was decided")


@case("C8", "tags of another tenant; HEAD, OPTIONS and other methods tell nothing")
def tags(house, seen):
    for path in ("/dcl/views/opportunities/rows", "/aam/connections", "/auth/users", "/quarantine", "/auth/me"):
        tag = house.ask("GET", path, house.admin(house.zeta)).headers["etag"]
        seen.status(house.ask("GET", path, house.admin(), headers={"if-none-match": tag}), 200, what=f"{path} with a tag")
    for method in ("HEAD", "OPTIONS", "TRACE", "PUT", "PATCH"):
        for path in ("/auth/users", f"/auth/users/{house.zeta.known['user']}", "/dcl/views/opportunities/rows"):
            answer = house.ask(method, path, house.admin())
            seen.status(answer, 200, 400, 404, 405, 415, what=f"{method} {path}")
            seen.that(house.zeta.word.encode() not in answer.bytes, f"{method} {path} tells of another tenant")
            seen.status(house.ask(method, path), 401, what=f"{method} {path} by nobody")


@case("C9", "metrics from elsewhere, debugging pages, and what the file and the log tell")
def outside(house, seen):
    for path in ("/debug", "/debug/pprof", "/metrics/x", "/actuator", "/.env", "/api/v1", "/api/v1/", "/..%2fetc/passwd", "/admin"):
        seen.status(house.wire.ask("GET", path), 401, 404, what=path)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # Nothing is sent: only the route is asked for.
        probe.connect(("198.51.100.1", 9))
        address = probe.getsockname()[0]
    if address.startswith("127."):
        seen.note("this machine has no address but loopback: /metrics from elsewhere was not asked")
    else:
        with line.Server(house.scratch / "open", more=["--allow-plain-http"], host=address) as server:
            wire = Wire(server.listen)
            for token in (None, "x" * 32):
                seen.status(wire.ask("GET", "/metrics", token), 401, what="/metrics from elsewhere")
    for path in ("/metrics", "/openapi.json"):
        text = house.wire.ask("GET", path).body.decode()
        for tenant in (house.acme, house.zeta):
            seen.that(tenant.word not in text and f'"{tenant.name}"' not in text, f"{path} tells of {tenant.name}")
    said = house.server.said(1 << 20)
    for secret in (house.acme.word, house.admin(), PASSWORD, house.acme.tokens["program"]):
        seen.that(secret not in said, f"the log tells {secret[:30]!r}")


@case("C10", "tenants' names that are paths, too long, look alike, or differ in case")
def names(house, seen):
    for name in ("../x", "a.b", "Acme", "ACME", "..", ".", "tenant%00", "a\x00b", "\u0430cme", "acme\u200b", "x" * 10_000, "a/b",
                 "a\\b", " acme", "acme ", "a b", "", "-", "con:", "a\nb", "$(id)", "'; drop table x"):
        body = {"name": name, "email": "ada@names.example", "password": PASSWORD}
        seen.status(house.ask("POST", "/auth/register", body=body), 400, what=f"{name[:20]!r}")
    taken = {"name": "acme", "email": "ada@names.example", "password": PASSWORD}
    seen.status(house.ask("POST", "/auth/register", body=taken), 409, what="a name that is taken")
    for name in ("../x", "..", "a/b", "x" * 200, "a\x00b", ""):
        answer = house.ask("POST", "/aam/connections", house.admin(), house.acme.connection_wanted(name))
        seen.status(answer, 400, what=f"a connection {name[:20]!r}")


by_type("C11", "no tenant in an internal context", "by type: every port takes a tenant first, and there is none that is none")
