"""Abuse of sources and of what they bring, and of decisions: rows E and F of the table, as far as there is something."""

import concurrent.futures
import csv
import gzip
import io
import json
import os
import zipfile

import line
from cases import by_cargo, case, not_built, timed

for number, title in (("E1", "hosts that are inside: loopback, link-local, mapped and odd spellings"), ("E2", "DNS rebinding"),
                      ("E3", "redirects inward"), ("E4", "database URIs with sockets, files, several hosts"),
                      ("E6", "endless, slow and lying answers of a source"), ("E8", "a connection test as a port scanner")):
    not_built(number, title, "no connector calls a host yet")
by_cargo("E1b", "a webhook to a host that is inside, however it is spelt",
         "no_webhook_leads_to_where_the_operator_did_not_allow_it")
by_cargo("E2b", "a webhook's name that leads inside once it is looked up",
         "a_name_that_leads_to_a_private_address_is_refused_whenever_it_is_looked_up")
by_cargo("E3b", "a webhook's receiver that redirects",
         "what_a_receiver_did_not_take_is_sent_again_also_by_another_process_and_nobody_waits_for_it")
not_built("E9", "a connection's credentials read back", "no connector has credentials yet")
not_built("E10", "a webhook without, with a wrong, with an old signature",
          "webhooks go out only, none comes in; what is pushed needs a credential")


def connection(house, name, files, **more):
    """Asks for a file connection."""
    stream = {"stream": "opportunity", "system": "salesforce", "files": files, **more}
    return house.ask("POST", "/aam/connections", house.admin(), {"name": name, "connector": "file",
                                                                "settings": {"streams": [stream]}})


def synced(house, name):
    """Reads a connection once; gives its streams afterwards."""
    path = f"/aam/connections/{name}"
    house.ask("POST", f"{path}/sync", house.admin())
    streams = lambda: house.ask("GET", f"{path}/streams", house.admin()).json()
    line.until(f"the sync of {name} ends", lambda: streams()["state"] == "idle" and streams()["streams"][0]["runs"], 600)
    return streams()["streams"][0]


@case("E5", "files outside: ../, absolute, links, /proc, a pipe, the data folder")
def outside(house, seen):
    root = house.scratch / "acme"
    (house.scratch / "secret.csv").write_text("Id,Name\n1,x\n")
    os.symlink(house.scratch / "secret.csv", root / "link.csv")
    os.symlink(house.scratch, root / "folder")
    for n, file in enumerate(("../secret.csv", "../zeta/deals.csv", "link.csv", "folder/secret.csv", "/etc/passwd",
                              "/proc/self/environ", "/dev/zero", str(house.data / "master.key"), "../data/*", "a/../../secret.csv",
                              "deals.csv\x00.png", "../acme2/x.csv")):
        seen.status(connection(house, f"e5{n}", [file]), 422, what=file)
    # They name what may lie in the folder, and does not.
    for n, file in enumerate(("file:///etc/passwd", "http://127.0.0.1:1/x.csv", "~/x.csv", "$HOME/x.csv", "$(id).csv", "`id`.csv")):
        seen.status(connection(house, f"odd{n}", [file]), 201, what=file)
        health = house.ask("GET", f"/aam/connections/odd{n}/health", house.admin()).json()
        seen.that(health["healthy"] is False, f"{file} is read: {health}")
    # What turns into a link, a pipe or a device only later is not read either.
    for n, (file, make) in enumerate({"late.csv": lambda p: os.symlink(house.scratch / "secret.csv", p), "late_pipe.csv": os.mkfifo,
                                      "late_folder.csv": lambda p: os.symlink("/etc", p)}.items()):
        seen.status(connection(house, f"late{n}", [file]), 201, what=file)
        make(root / file)
        health, took = timed(lambda n=n: house.ask("GET", f"/aam/connections/late{n}/health", house.admin()))
        seen.status(health, 200, what=f"health of {file}")
        seen.that(health.json()["healthy"] is False and took < house.within(5), f"{file}: {health.body[:200]!r} in {took:.1f} s")
        told = synced(house, f"late{n}")
        seen.that("last_error" in told and not told.get("counts", {}).get("taken"), f"{file} was read: {told}")
        for text in (health.body.decode(), json.dumps(told)):
            seen.that(str(house.scratch / "secret.csv") not in text, f"{file}: the place outside is told: {text[:200]}")
    for file in ("link.csv", "late.csv", "late_pipe.csv", "late_folder.csv", "folder"):
        (root / file).unlink()


@case("E5b", "files that are too much: 100 GB of holes, bombs in zip and gzip, 200,000 columns, a line of 300 MB")
def too_much(house, seen):
    root = house.scratch / "acme"
    with open(root / "sparse.csv", "wb") as file:
        file.write(b"Id,Name,LastModifiedDate\n")
        file.truncate(100 << 30)
    with gzip.open(root / "bomb.csv.gz", "wb", compresslevel=9) as file:
        file.write(b"Id,Name,LastModifiedDate\n1,")
        for _ in range(400):
            file.write(b"x" * (1 << 20))
    with zipfile.ZipFile(root / "bomb.xlsx", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        file.writestr("[Content_Types].xml", "<Types/>")
        file.writestr("xl/workbook.xml", " " * (600 << 20))
    (root / "columns.csv").write_text(",".join(f"c{n}" for n in range(200_000)) + "\n1\n")
    (root / "line.ndjson").write_bytes(b'{"Id":"' + b"x" * (300 << 20) + b'"}\n')
    before, peak = house.server.rss_mb(), 0
    for name, file in (("sparse", "sparse.csv"), ("gzipbomb", "bomb.csv.gz"), ("zipbomb", "bomb.xlsx"), ("wide", "columns.csv"),
                       ("long", "line.ndjson")):
        seen.status(connection(house, name, [file]), 201, what=file)
        health, took = timed(lambda name=name: house.ask("GET", f"/aam/connections/{name}/health", house.admin()))
        seen.status(health, 200, 408, what=f"health of {file}")
        seen.that(took < house.within(20), f"the health of {file} took {took:.1f} s")
        if name != "sparse":
            told = synced(house, name)
            taken = (told.get("counts") or {}).get("accepted", 0)
            seen.that(not taken, f"{file} became rows: {told}")
        peak = max(peak, house.server.rss_mb())
        # Somebody else is served all the while.
        seen.status(house.query("select 1", house.admin(house.zeta)), 200, what=f"another tenant beside {file}")
    house.ask("POST", "/aam/connections/sparse/sync", house.admin())
    seen.status(house.ask("POST", "/aam/connections/sparse/pause", house.admin()), 200, what="pausing what reads 100 GB of holes")
    seen.status(house.ask("DELETE", "/aam/connections/sparse", house.admin()), 200, what="deleting it")
    peak = max(peak, house.server.rss_mb())
    seen.that(peak - before < 700, f"memory grew by {peak - before:.0f} MB")
    seen.note(f"RSS +{peak - before:.0f} MB")
    for file in ("sparse.csv", "bomb.csv.gz", "bomb.xlsx", "columns.csv", "line.ndjson"):
        (root / file).unlink()


@case("E5c", "=cmd() and the like, in what a spreadsheet will open")
def formulas(house, seen):
    names = ["=cmd|' /C calc'!A0", "+1+1", "-1+cmd", "@SUM(1)", "\t=1", "\r=1", "=HYPERLINK(\"http://x\")"]
    rows = [{"Id": f"f{n}", "Name": name, "LastModifiedDate": "2026-01-01T00:00:00Z"} for n, name in enumerate(names)]
    position = house.push(rows, connection="formulas").json()["position"]
    columns = "columns=name&filter=_connection:eq:formulas"
    for answer in (house.ask("GET", f"/dcl/views/opportunities/rows?{columns}&min_position={position}", house.admin(),
                             headers={"accept": "text/csv"}),
                   house.query("select name from opportunities where _connection = 'formulas'", headers={"accept": "text/csv"})):
        seen.status(answer, 200)
        for row in list(csv.reader(io.StringIO(answer.body.decode(), newline="")))[1:]:
            seen.that(row and row[0][:1] not in "=+-@\t\r", f"a cell would run: {row}")


@case("E7", "__proto__, fields twice, NaN, 2^63, lone surrogates, NUL, names of 5,000 characters, 10,000 deep: none dropped")
def odd_values(house, seen):
    changed = b'"LastModifiedDate":"2026-01-01T00:00:00Z"'
    stamp = b'"Name":"odd",' + changed
    bodies = {
        "__proto__": b'{"Id":"o1","__proto__":{"admin":true},"constructor":1,' + stamp + b"}",
        "twice": b'{"Id":"o2","Id":"o3","Name":"a","Name":"b",' + changed + b"}",
        "NaN": b'{"Id":"o4","Amount":NaN,' + stamp + b"}",
        "infinity": b'{"Id":"o5","Amount":1e999,' + stamp + b"}",
        "2^63": b'{"Id":"o6","Amount":9223372036854775808,"Big":123456789012345678901234567890,' + stamp + b"}",
        "lone surrogate": b'{"Id":"o7","Name":"\\ud800",' + changed + b"}",
        "NUL": b'{"Id":"o8","Name":"a\\u0000b",' + changed + b"}",
        "raw NUL": b'{"Id":"o9","Name":"a\x00b",' + changed + b"}",
        "long name": b'{"Id":"o10","' + b"x" * 5000 + b'":1,' + stamp + b"}",
        "deep": b'{"Id":"o11","Deep":' + b"[" * 10_000 + b"]" * 10_000 + b"," + stamp + b"}",
        "deep objects": b'{"Id":"o12","Deep":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"," + stamp + b"}",
        "no UTF-8": b'{"Id":"o13","Name":"\xff\xfe",' + changed + b"}",
        "a number": b"7", "a list": b"[]", "nothing": b"null", "half": b'{"Id":"o14"', "byte order": b'\xef\xbb\xbf{"Id":"o15",' + stamp + b"}",
        "empty key": b'{"":1,"Id":"o16",' + stamp + b"}", "minus zero": b'{"Id":"o17","Amount":-0.0,' + stamp + b"}",
    }
    answer = house.push(b"\n".join(bodies.values()), connection="odd")
    seen.status(answer, 200)
    position = answer.json()["position"]
    waited = house.ask("GET", f"/dcl/views/opportunities/rows?limit=1&min_position={position}", house.admin())
    seen.status(waited, 200, what="a read that waits for them")
    rows = house.ask("GET", "/dcl/views/opportunities/rows?limit=1000&filter=_connection:eq:odd", house.admin()).json()["rows"]
    aside = house.ask("GET", "/quarantine?connection=odd&stream=opportunity", house.admin()).json()["records"]
    held = sum(c["held"] for c in house.ask("GET", "/aam/cases?connection=odd&stream=opportunity", house.admin()).json()["cases"])
    seen.that(len(rows) + len(aside) + held == len(bodies), f"{len(bodies)} records: {len(rows)} rows, {len(aside)} set aside, "
                                                            f"{held} held: {[r['reason'] for r in aside]}")
    for record in aside:
        shown = house.ask("GET", f"/quarantine/{record['position']}", house.admin())
        seen.status(shown, 200, what=record["reason"])
    seen.note(f"{len(rows)} rows, {len(aside)} set aside, {held} held")
    for body, what in ((b"[" * 100_000, "half an array"), (b"", "nothing"), (b"[]", "no record"), (b"{}", "no array"),
                       (b"[1,", "a broken array"), (b"\xff\xfe[\x00]\x00", "UTF-16")):
        path = "/records?connection=odd&stream=opportunity&system=salesforce"
        seen.status(house.ask("POST", path, house.admin(), body), 400, 422, what=what)
    many = b"[" + b"1," * (4 << 20) + b"1]"
    seen.status(house.ask("POST", "/records?connection=odd&stream=opportunity&system=salesforce", house.admin(), many), 413,
                what="4 million records in 8 MB")
    seen.status(house.push(b"1\n" * (4 << 20), connection="odd"), 413, what="4 million lines in 8 MB")


@case("F3", "a stale decision, the same twice, one that is not proposed, one of a case that is not there")
def decisions(house, seen):
    proposed = house.acme.proposed()
    decide = lambda case_, verdict, **body: house.ask("POST", f"/aam/cases/{case_}/{verdict}", house.acme.tokens["editor"],
                                                      {"why": "abuse", **body})
    version = house.ask("GET", f"/aam/cases/{proposed}", house.admin()).json()["mapping_version"]
    for stale in (version + 1, version - 1, 0, 4_294_967_295):
        seen.status(decide(proposed, "approve", mapping_version=stale), 409, what=f"mapping version {stale}, not {version}")
    seen.status(decide(proposed, "approve", only=["Nothing"]), 409, what="a path that is not lost")
    seen.status(decide(proposed, "approve", mapping_version=version), 200, what="the right one")
    for verdict in ("approve", "reject", "accept-removed"):
        seen.status(decide(proposed, verdict), 409, what=f"{verdict} once more")
    doubtful = house.acme.lacking()
    seen.status(decide(doubtful, "approve"), 409, what="nothing is proposed")
    seen.status(decide(doubtful, "revert"), 409, what="nothing to take back")
    seen.status(decide(doubtful, "edit", moves=[{"from": "Nothing", "to": ["Bla"]}]), 409, what="a path that is not lost")
    seen.status(decide(doubtful, "snooze", until="2001-01-01T00:00:00Z"), 400, 409, what="a time that is past")
    seen.status(decide("1:0:999999999", "approve"), 404, what="no such case")
    for bad in ("x", "0", "1:2", "-1:0:0", "1:0:18446744073709551616", "..%2f..", "1:0:1%00"):
        seen.status(decide(bad, "approve"), 404, what=bad)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: decide(doubtful, "accept-removed"), range(2)))
    seen.that(sorted(answer.status for answer in both) == [200, 409], f"two at once: {[a.status for a in both]}")
    for answer in both:
        seen.status(answer, 200, 409, what="two at once")


@case("F3b", "where two people decide: the same one twice, a program, what the first did not approve")
def two_persons(house, seen):
    policy = lambda two: house.ask("PUT", "/aam/policy", house.admin(), {"two_persons": two}, {"if-match": "*"})
    seen.status(policy(["all"]), 200, what="a policy")
    doubtful = house.acme.doubtful()
    decide = lambda role, verdict, **body: house.ask("POST", f"/aam/cases/{doubtful}/{verdict}", house.acme.tokens[role],
                                                     {"why": "abuse", **body})
    edit = {"moves": [{"from": "Amount", "to": ["Bla"]}]}
    # A proposal that comes in between would take both approvals anew.
    line.until("something is proposed", lambda: house.ask("GET", f"/aam/cases/{doubtful}", house.admin()).json().get("waits"))
    seen.status(decide("editor", "edit", **edit), 200, what="the first")
    status = lambda: house.ask("GET", f"/aam/cases/{doubtful}", house.admin()).json()["status"]
    seen.that(status() == "open", f"one was enough: it is {status()}")
    seen.status(decide("editor", "edit", **edit), 403, what="the first once more")
    seen.status(decide("program", "edit", **edit), 409, what="a program")
    seen.that(status() == "open", f"one and a program were enough: it is {status()}")
    # Another decision takes two again: it does not ride on the approval of the first.
    seen.status(decide("admin", "accept-removed"), 200, what="another decision")
    seen.that(status() == "open", f"two halves made a whole: it is {status()}")
    seen.status(decide("editor", "accept-removed"), 200, what="the second for it")
    seen.that(status() == "removed", f"two were not enough: it is {status()}")
    seen.status(policy([]), 200, what="the policy of before")


for number, title in (("F6", "MCP without, with a wrong token, with another's session"), ("F7", "instructions in what MCP returns")):
    not_built(number, title, "there is no MCP")
