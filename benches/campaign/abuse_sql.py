"""Abuse of tenants' SQL: row D of the table."""

import errno
import json
import os
import time

import line
from cases import case, timed
from members import ENDLESS

# What a query may be refused with: 400 for what it says, 408 for how long it takes, 422 for what its values do.
REFUSED = (400, 408, 422, 429, 503)


@case("D1", "statements that change something, several statements, EXPLAIN ANALYZE of them")
def statements(house, seen):
    for sql in ("create external table x stored as csv location '/etc/passwd'", "create table x as select 1",
                "copy opportunities to '/tmp/x.csv'", "copy (select 1) to '/tmp/x.parquet'", "insert into opportunities select 1",
                "update opportunities set name = 'x'", "delete from opportunities", "drop table opportunities",
                "create view v as select 1", "create function f() returns int return 1", "create schema s", "create database d",
                "set datafusion.execution.batch_size = 1", "reset datafusion.execution.batch_size", "prepare p as select 1",
                "execute p", "deallocate p", "explain analyze copy (select 1) to '/tmp/x.csv'",
                "explain analyze insert into opportunities select 1", "select 1; drop table opportunities", "select 1; select 2",
                "begin", "commit", "truncate table opportunities", "alter table opportunities add column x int", "use acme",
                "call f()", "load 'x'", "grant all on opportunities to zeta", "analyze opportunities", "vacuum"):
        answer = seen.status(house.query(sql), 400, what=sql)
        seen.that(answer.code in ("sql_forbidden", "sql_invalid", "query_invalid", "invalid_sql"), f"{sql}: code {answer.code}")
    seen.that(house.query("select count(*) as n from opportunities").status == 200, "the view is gone")


@case("D2", "files and addresses as tables: none is opened")
def files(house, seen):
    pipe = house.scratch / "pipe.csv"
    os.mkfifo(pipe)
    for name in ("file:///etc/passwd", "/etc/passwd", "/etc/passwd.csv", "s3://bucket/x.parquet", "http://127.0.0.1:1/x.csv",
                 "x.parquet", str(pipe), f"file://{pipe}", str(house.data / "master.key")):
        for sql in (f"select * from '{name}'", f'select * from "{name}"', f"select * from read_csv('{name}')",
                    f"select * from read_parquet('{name}')"):
            answer, took = timed(lambda sql=sql: house.query(sql))
            seen.status(answer, 400, what=sql)
            seen.that(took < house.within(1), f"{sql} took {took:.1f} s")
    try:
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        seen.that(False, "a pipe named as a table is open for reading")
    except OSError as error:
        seen.that(error.errno == errno.ENXIO, f"the pipe: {error}")


@case("D3", "information_schema, SHOW, settings, another tenant's catalog")
def catalogs(house, seen):
    tenant = house.me(house.admin(house.zeta)).json()["tenant_id"]
    for sql in ("select * from information_schema.tables", "select * from information_schema.columns",
                "select * from information_schema.df_settings", "select * from information_schema.views",
                "select * from information_schema.routines", "select * from information_schema.schemata",
                "show tables", "show all", "show functions", "show columns from opportunities", "describe opportunities",
                "select * from df_settings", "select * from zeta.public.opportunities", f'select * from "{tenant}".opportunities',
                f'select * from "{tenant}"."public"."opportunities"', "select * from datafusion.public.opportunities limit 1",
                "select * from public.opportunities limit 1", "select * from opportunities__deleted",
                "select version()", "select current_user", "select current_database()"):
        answer = seen.status(house.query(sql), 200, 400, what=sql)
        # An error repeats what the statement names.
        seen.that(house.zeta.word.encode() not in answer.body and (tenant in sql or tenant.encode() not in answer.body),
                  f"{sql} tells of another tenant")
        seen.that("datafusion" in sql or b"datafusion" not in answer.body, f"{sql} tells of the engine")
        seen.that(b"datafusion.execution" not in answer.body, f"{sql} shows settings")


def chains():
    """Statements that are long or deep."""
    for n in (200, 2_000, 20_000, 100_000):
        yield f"{n} terms", "select " + "+".join("1" * n)
        yield f"{n} ORs", "select 1 from opportunities where " + " or ".join(["amount = 1"] * n)
        yield f"{n} minus signs", "select " + "- " * n + "1"
        yield f"{n} NOTs", "select " + "not " * n + "true"
        yield f"{n} parentheses", "select " + "(" * n + "1" + ")" * n
        yield f"{n} CASEs", "select " + "case when true then " * n + "1" + " end" * n
        yield f"{n} arms", "select case amount " + "when 1 then 1 " * n + "end from opportunities"
        yield f"{n} subqueries", "select * from (" * n + "select 1" + ") t" * n
        yield f"{n} UNIONs", " union all ".join(["select 1"] * n)
        yield f"{n} CTEs", "with " + ", ".join(f"c{i} as (select 1)" for i in range(n)) + " select 1"
        yield f"{n} joins", "select 1 from opportunities t0 " + " ".join(f"cross join opportunities t{i}" for i in range(1, n))
        yield f"{n} columns", "select " + ", ".join(["amount"] * n) + " from opportunities"
        yield f"{n} concatenations", "select " + "||".join(["name"] * n) + " from opportunities"
    yield "a million values", "select 1 from opportunities where amount in (" + ",".join(map(str, range(150_000))) + ")"
    yield "10 MB of text", "select '" + "x" * (10 << 20) + "'"
    yield "10 MB of blanks", " " * (10 << 20) + "select 1"


@case("D4", "200 to 100,000 terms, ORs, parentheses, CASEs, subqueries, UNIONs, joins; a million values; 10 MB of text")
def long_statements(house, seen):
    slowest, which = 0.0, ""
    for what, sql in chains():
        answer, took = timed(lambda sql=sql: house.query(sql))
        seen.status(answer, 200, 413, *REFUSED, what=what)
        seen.that(answer.status == 200 or answer.code != "internal", f"{what}: {answer.code}")
        if took > slowest:
            slowest, which = took, what
        # What is taken may be worked on; what is refused is refused at once.
        seen.that(took < house.within(1) or answer.status == 200 and took < house.within(10), f"{what} took {took:.2f} s for {answer.status}")
        if not house.server.is_running():
            seen.that(False, f"{what} ended the server: {house.server.said()}")
            return
    seen.note(f"slowest {slowest:.2f} s ({which})")


@case("D5", "series, repeat, lpad, cross joins, endless recursion, regular expressions, windows: memory and time hold")
def hungry(house, seen):
    before, peak = house.server.rss_mb(), 0
    rows = [{"Id": f"d5{n}", "Name": "a" * 60, "Amount": n, "LastModifiedDate": "2026-01-01T00:00:00Z"} for n in range(5000)]
    house.push(rows)
    for sql in ("select * from generate_series(1, 9876543210)", "select generate_series(1, 987654321)", "select range(0, 100000000)",
                "select repeat('x', 1000000000)", "select lpad('x', 1000000000)", "select rpad('x', 1000000000, 'yz')",
                "select array_repeat(1, 100000000)", "select array_repeat(array_repeat(1, 10000), 10000)", ENDLESS,
                "select count(*) from opportunities a join opportunities b on a.amount < b.amount join opportunities c on b.amount < c.amount",
                "with recursive r as (select 1 as n union all select n + 1 from r) select count(*) from r",
                "select regexp_match(name, '(a+)+$') from opportunities", "select regexp_match(name, '(a{1,500}){1,500}') from opportunities",
                "select regexp_replace(name, '" + "(a|aa)+" * 200 + "', 'x') from opportunities",
                "select a.name, row_number() over (partition by a.stage order by b.name) from opportunities a, opportunities b",
                "select array_agg(a.name || b.name) from opportunities a, opportunities b",
                "select string_agg(a.name || b.name, ',') from opportunities a, opportunities b",
                "select distinct a.name || b.opportunity_id || c.opportunity_id from opportunities a, opportunities b, opportunities c",
                "select a.name || b.opportunity_id as x from opportunities a, opportunities b order by x",
                "select power(10, 400), 2 ^ 4000, factorial(1000)", "select concat(" + ", ".join(["name"] * 5000) + ") from opportunities"):
        answer, took = timed(lambda sql=sql: house.query(sql, timeout=house.within(90)))
        seen.status(answer, 200, *REFUSED, what=sql[:60])
        seen.that(took < house.within(36), f"{sql[:60]} took {took:.1f} s")
        peak = max(peak, house.server.rss_mb())
    seen.that(peak - before < 600, f"memory grew by {peak - before:.0f} MB")
    seen.note(f"RSS +{peak - before:.0f} MB")


@case("D6", "a client that hangs up in the middle of a query: its place is free, the processor idle within 2 s")
def hang_up(house, seen):
    body = json.dumps({"sql": ENDLESS, "id": "hung"})
    for _ in range(6):
        connection = house.wire.connect()
        connection.sendall(f"POST /api/v1/query HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {house.admin()}\r\n"
                           f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
        running = lambda: house.ask("GET", "/query", house.admin()).json()["queries"]
        line.until("the query runs", running)
        connection.close()
        started = time.monotonic()
        line.until("it runs no more", lambda: not running())
        seen.that(time.monotonic() - started < house.within(2), "its place was not free within 2 s")
    before = house.cpu_seconds()
    started = time.monotonic()
    line.until("the processor is idle", lambda: is_idle(house), patience=house.within(10))
    seen.note(f"idle after {time.monotonic() - started:.1f} s, {house.cpu_seconds() - before:.2f} CPU-s later")
    seen.that(time.monotonic() - started < house.within(3), "the processor works on")


def is_idle(house):
    """Whether the server uses little of a processor for half a second."""
    before = house.cpu_seconds()
    time.sleep(0.5)
    return house.cpu_seconds() - before < 0.15


@case("D7", "errors that tell values, filters as a side channel; a bound key has no SQL")
def side_channels(house, seen):
    for sql in ("select 1 / (amount - amount) from opportunities", "select cast(name as int) from opportunities",
                "select cast(name as timestamp) from opportunities", "select cast(amount as int) / 0 from opportunities",
                "select arrow_cast(name, 'Int8') from opportunities"):
        answer = seen.status(house.query(sql), 200, *REFUSED, what=sql)
        seen.that(house.zeta.word.encode() not in answer.body, f"{sql} tells another tenant's value")
    bound = house.ask("POST", "/auth/keys", house.admin(), {"name": "bound", "role": "viewer", "connections": ["erp"]}).json()
    seen.status(house.query("select * from opportunities", bound["secret"]), 403, what="SQL with a bound key")
    rows = "/dcl/views/opportunities/rows"
    for query in ("", "?filter=_connection:eq:crm", "?filter=_connection:in:crm,erp", "?filter=name:contains:a&filter=_connection:ne:erp",
                  "?order_by=amount", "?columns=name,_connection"):
        answer = seen.status(house.ask("GET", rows + query, bound["secret"]), 200, 400, what=query)
        seen.that(answer.status == 400 or answer.json()["rows"] == [], f"{query} shows a bound key another connection's rows")


@case("D8", "OR true, aliases, UNION, CTEs named as the table, quoted identifiers, filters made by hand: own rows only")
def own_rows(house, seen):
    for sql in ("select * from opportunities where _tenant = 'zeta' or true", "select * from opportunities where 1=1 or name like '%'",
                "select o.* from opportunities as o union all select * from opportunities",
                "with opportunities as (select * from opportunities) select * from opportunities", 'select * from "opportunities"',
                'select * from "OPPORTUNITIES"', "select * from OPPORTUNITIES", "select * from (table opportunities) t",
                "select * from opportunities full join (select * from opportunities) b on true limit 1000",
                "select * from opportunities where exists (select 1 from zeta.opportunities)", "select * from \uff4fpportunities"):
        answer = seen.status(house.query(sql), 200, *REFUSED, what=sql)
        seen.that(house.zeta.word.encode() not in answer.body, f"{sql} shows another tenant's rows")
    for query in ("filter=name:eq:x%27%20or%201=1--", "filter=name:eq", "filter=:::", "filter=name:or:1", "filter=1=1:eq:1",
                  "filter=amount:gte:1%20or%201", "order_by=name;drop", "order_by=(select%201)", "columns=*,(select%201)", "limit=-1",
                  "limit=0", "limit=1e9", "limit=99999999999999999999", "direction=up", "filter=name:in:" + "x," * 20_000):
        answer = house.ask("GET", f"/dcl/views/opportunities/rows?{query}", house.admin())
        allowed = (200,) if query.startswith("filter=name:eq") else (400, 414, 431)
        seen.status(answer, *allowed, what=query[:40])
        seen.that(answer.status != 200 or answer.json()["rows"] == [], f"{query} was taken for SQL")


@case("D9", "a result of many millions of rows to a client that takes hardly any: memory holds, and it ends")
def slow_reader(house, seen):
    rows = [{"Id": f"d9{n}", "Name": "a" * 60, "Amount": n, "LastModifiedDate": "2026-01-01T00:00:00Z"} for n in range(3200)]
    position = house.push(rows).json()["position"]
    body = json.dumps({"sql": "select a.name, b.opportunity_id from opportunities a, opportunities b", "min_position": position})
    before, peak = house.server.rss_mb(), 0
    connection = house.wire.connect(timeout=60)
    connection.sendall(f"POST /api/v1/query HTTP/1.1\r\nhost: x\r\naccept: text/csv\r\nauthorization: Bearer {house.admin()}\r\n"
                       f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
    started, taken = time.monotonic(), 0
    while (took := time.monotonic() - started) < house.within(60):
        taken += len(connection.recv(4096))
        peak = max(peak, house.server.rss_mb())
        if not house.ask("GET", "/query", house.admin()).json()["queries"]:
            break
        time.sleep(0.2)
    connection.close()
    seen.that(took < house.within(45), f"the query still has its place after {took:.0f} s")
    seen.that(peak - before < 400, f"memory grew by {peak - before:.0f} MB")
    seen.note(f"ended after {took:.0f} s and {taken} bytes, RSS +{peak - before:.0f} MB")
