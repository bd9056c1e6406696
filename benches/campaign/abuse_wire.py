"""Abuse of keys, of the wire and of browsers: rows G6 to G9 of the table."""

import contextlib
import os
import pathlib
import resource
import socket
import subprocess
import time

import line
from cases import by_cargo, case, timed
from wire import status_of, take_all

JSON = "content-type: application/json\r\n"


@case("G6", "a start with a key that is short, uniform, readable by others, gone: refused")
def keys(house, seen):
    folder = house.scratch / "keys"
    # A tenant has a key of its own, sealed with the folder's.
    line.Server(folder, more=["--files-root", f"acme={house.scratch / 'acme'}"]).stop()
    key = folder / "master.key"
    good = key.read_bytes()
    seen.that(key.stat().st_mode & 0o777 == 0o600, f"the key's mode is {key.stat().st_mode & 0o777:o}")

    def start(what):
        done = subprocess.run([line.program(), "serve", "--data-dir", str(folder), "--listen", "127.0.0.1:0"], timeout=300,
                              capture_output=True, text=True, env=line.environment())
        seen.that(done.returncode == 1, f"{what}: ended with {done.returncode}")
        seen.that("master.key" in done.stderr, f"{what}: {done.stderr[-300:]}")
        seen.that(good.hex() not in done.stderr, f"{what}: the key is told")
    for what, content in (("short", b"short"), ("empty", b""), ("uniform", b"\0" * 32), ("long", good + b"x")):
        key.write_bytes(content)
        start(what)
    key.write_bytes(good)
    for mode in (0o644, 0o640, 0o604, 0o666):
        os.chmod(key, mode)
        start(f"mode {mode:o}")
    key.unlink()
    start("gone")
    seen.note("9 starts refused")
    for bad in (["--listen", "0.0.0.0:0"], ["--listen", "[::]:0"]):
        done = subprocess.run([line.program(), "serve", "--data-dir", str(house.scratch / "none"), *bad], timeout=300,
                              capture_output=True, text=True, env=line.environment())
        seen.that(done.returncode != 0 and "TLS" in done.stderr, f"{bad} without TLS: {done.returncode}")


by_cargo("G7", "a panic in a handler: 500 that tells nothing, counted, others go on",
         "a_panic_leaves_as_a_problem_that_tells_nothing_and_is_counted")


@case("G8", "heads: 100,000 headers, 1 MB in one, 1 MB of path, no host, rubbish, smuggling")
def heads(house, seen):
    send = lambda data: status_of(house.wire.send(data.encode("latin-1"), timeout=20))
    get = "GET /healthz HTTP/1.1\r\nhost: x\r\n"
    for what, data, allowed in (
            ("100,000 headers", get + "".join(f"h{n}: 1\r\n" for n in range(100_000)) + "\r\n", (431,)),
            ("200 headers", get + "".join(f"h{n}: 1\r\n" for n in range(200)) + "\r\n", (431,)),
            ("a header of 1 MB", get + f"h: {'x' * (1 << 20)}\r\n\r\n", (431,)),
            ("a path of 1 MB", f"GET /{'x' * (1 << 20)} HTTP/1.1\r\nhost: x\r\n\r\n", (400, 414, 431)),
            ("rubbish", "\x00\x01\x02\r\n\r\n", (400,)), ("an unknown method", "BREW / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", (401, 404, 405)),
            ("HTTP/9", "GET / HTTP/9.9\r\n\r\n", (400, 505)), ("a folded header", get + "a: b\r\n c\r\n\r\n", (400,)),
            ("a blank before the colon", get + "a : b\r\n\r\n", (400,)), ("a bare line feed in a value", get + "a: b\x0bc\r\n\r\n", (400,)),
            ("two lengths", "POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx", (400,)),
            ("a negative length", "POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", (400,)),
            ("a length of 2^64", "POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-length: 18446744073709551616\r\n\r\n", (400,)),
            ("chunks that are none", f"POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\n{JSON}transfer-encoding: chunked\r\nconnection: close\r\n\r\nzz\r\n", (400,)),
            ("an odd encoding", "POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n", (400, 501))):
        seen.status(send(data), *allowed, what=what)
    # Length and chunks at once: whoever stands between must not see another request in it than we do.
    smuggled = ("POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n"
                "0\r\n\r\nGET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    said = house.wire.send(smuggled.encode(), timeout=20)
    seen.that(said.count(b"HTTP/1.1 ") == 1 or status_of(said) == 400, f"a smuggled request was answered: {said[:300]!r}")
    seen.that(house.is_prompt(), "the health check takes longer than 1 s")


@case("G8b", "bodies: 1 GB told, 1 GB in chunks, too large everywhere, deep JSON, odd types")
def bodies(house, seen):
    before, peak = house.server.rss_mb(), 0
    token = house.admin()
    paths = {"/api/v1/auth/login": None, "/api/v1/auth/keys": token, "/api/v1/records?connection=c&stream=opportunity&system=salesforce": token,
             "/api/v1/query": token, "/api/v1/auth/register": None}
    for path, credential in paths.items():
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\n{JSON}" + (f"authorization: Bearer {credential}\r\n" if credential else "")
        told = f"{head}content-length: {1 << 30}\r\n\r\n".encode()
        answer, took = timed(lambda told=told: status_of(send_and_stream(house, told, 12 << 20, chunked=False)))
        seen.status(answer, 413, what=f"1 GB told to {path}")
        seen.that(took < house.within(10), f"1 GB told to {path} took {took:.1f} s to refuse")
        chunked = f"{head}transfer-encoding: chunked\r\n\r\n".encode()
        answer = status_of(send_and_stream(house, chunked, 1 << 30, chunked=True))
        # Who is still sending may be hung up on before he reads why.
        seen.status(answer, 413, 0, what=f"1 GB in chunks to {path}")
        peak = max(peak, house.server.rss_mb())
    stranger = f"POST /api/v1/records?connection=c HTTP/1.1\r\nhost: x\r\n{JSON}transfer-encoding: chunked\r\n\r\n".encode()
    seen.status(status_of(send_and_stream(house, stranger, 64 << 20, chunked=True)), 401, 0, what="64 MB of nobody's")
    for body, allowed in (("[" * 200_000, (400,)), ('{"a":' * 100_000, (400,)), ('{"sql": "' + "\\u0000" * 1000 + '"}', (400,)),
                          ("\ufeff{}", (400,)), ("{\"sql\": \"select 1\", \"sql\": \"select 2\"}", (200, 400)), ("null", (400,)), ("", (400,))):
        seen.status(house.ask("POST", "/query", token, body), *allowed, what=body[:20])
    for media in ("text/plain", "application/xml", "multipart/form-data; boundary=x", "application/json; charset=utf-16", ""):
        seen.status(house.ask("POST", "/query", token, '{"sql":"select 1"}', {"content-type": media}), 200, 400, 415, what=media)
    peak = max(peak, house.server.rss_mb())
    seen.that(peak - before < 250, f"memory grew by {peak - before:.0f} MB")
    seen.that(house.is_prompt(), "the health check takes longer than 1 s")
    seen.note(f"RSS +{peak - before:.0f} MB")


def send_and_stream(house, head, most, chunked):
    """Sends a head and a body until it is all sent or the other end has had enough; gives what it said."""
    part = b"x" * (1 << 20)
    part = b"100000\r\n" + part + b"\r\n" if chunked else part
    with house.wire.connect(timeout=20) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(head)
            for _ in range(most >> 20):
                connection.sendall(part)
        return take_all(connection)


@case("G8c", "many large bodies at once, sent slowly and never finished: bounded, and others are served")
def slow_bodies(house, seen):
    before, connections = house.server.rss_mb(), []
    head = (f"POST /api/v1/records?connection=c&stream=opportunity&system=salesforce HTTP/1.1\r\nhost: x\r\n{JSON}"
            f"authorization: Bearer {house.admin()}\r\ncontent-length: {31 << 20}\r\n\r\n").encode()
    peak = 0
    try:
        for _ in range(40):
            connection = house.wire.connect(timeout=1)
            connections.append(connection)
            with contextlib.suppress(OSError):
                connection.sendall(head + b"x" * (16 << 20))
            peak = max(peak, house.server.rss_mb())
        # 640 MB were offered.
        seen.that(peak - before < 400, f"memory grew by {peak - before:.0f} MB")
        seen.status(house.push([{"Id": "beside", "LastModifiedDate": "2026-01-01T00:00:00Z"}], house.zeta), 200,
                    what="another tenant's push meanwhile")
        seen.that(house.is_prompt(), "the health check takes longer than 1 s")
    finally:
        for connection in connections:
            connection.close()
    seen.note(f"RSS +{peak - before:.0f} MB of 640 offered")


@case("G8d", "slowloris: heads that never end are let go within 15 s, and the health check takes less than 1 s")
def slowloris(house, seen):
    connections = [house.wire.connect(timeout=house.within(30)) for _ in range(500)]
    starts = [b"", b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nhost: x\r\n", b"PRI * HTTP/2.0\r\n"]
    started = time.monotonic()
    for n, connection in enumerate(connections):
        connection.sendall(starts[n % len(starts)])
    left, slowest = connections, 0.0
    while left and time.monotonic() - started < house.within(30):
        time.sleep(0.5)
        left = [connection for connection in left if drips(connection)]
        healthy, took = timed(house.is_prompt)
        slowest = max(slowest, took)
        seen.that(healthy, f"the health check took {took:.1f} s")
    took = time.monotonic() - started
    seen.that(not left and took < house.within(15), f"{len(left)} of 500 are still open after {took:.0f} s")
    for connection in connections:
        connection.close()
    seen.note(f"500 let go after {took:.0f} s, health check {slowest * 1000:.0f} ms at most")


def drips(connection):
    """Sends a little more of a head; whether the other end still takes it."""
    try:
        connection.setblocking(False)
        try:
            if connection.recv(100) == b"":
                return False
        except BlockingIOError:
            pass
        connection.send(b"x")
        return True
    except OSError:
        return False


@case("G8e", "10,000 idle connections: whoever comes is served in less than 1 s")
def idle(house, seen):
    most = min(10_000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 500)
    connections, before = [], house.server.rss_mb()
    try:
        for n in range(most):
            # From several addresses, for one has not so many ports.
            connections.append(socket.create_connection((house.wire.host, house.wire.port), 20, (f"127.9.{n // 5000}.1", 0)))
            if n % 1000 == 999:
                healthy, took = timed(house.is_prompt)
                seen.that(healthy, f"the health check took {took:.1f} s beside {n + 1} connections")
        grown = house.server.rss_mb() - before
        seen.that(grown < 300, f"memory grew by {grown:.0f} MB")
        seen.status(house.me(house.admin()), 200, what="a call beside them")
        seen.note(f"{len(connections)} connections, RSS +{grown:.0f} MB")
    finally:
        for connection in connections:
            connection.close()


@case("G8f", "HTTP/2: 10,000 requests that are taken back at once, frames without end, a header block of 10 MB")
def resets(house, seen):
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
    # :method GET, :scheme http, :path /, all of them from the static table.
    request = b"\x82\x86\x84"
    floods = {
        "resets": b"".join(frame(1, 5, n, request) + frame(3, 0, n, b"\0\0\0\x08") for n in range(1, 20_001, 2)),
        "continuations": frame(1, 0, 1, request) + frame(9, 0, 1, b"\x40\x01a\x7f\xff\xff\x7f" + b"b" * 100) * 10_000,
        "settings": frame(4, 0, 0, b"") * 100_000,
        "pings": frame(6, 0, 0, b"12345678") * 100_000,
        "a large header": frame(1, 0, 1, request) + frame(9, 0, 1, b"\x00\x01a\x7f\x81\x7f" + b"b" * 16_000) * 700,
        "empty data": frame(1, 4, 1, b"\x83\x86\x84") + frame(0, 0, 1, b"") * 100_000,
    }
    before = house.server.rss_mb()
    for what, flood in floods.items():
        cpu = house.cpu_seconds()
        with house.wire.connect(timeout=5) as connection:
            with contextlib.suppress(OSError):
                connection.sendall(preface + flood)
            take_some(connection)
        seen.that(house.cpu_seconds() - cpu < house.within(3), f"{what} cost {house.cpu_seconds() - cpu:.1f} CPU-s")
        seen.that(house.is_prompt(), f"the health check takes longer than 1 s after {what}")
    grown = house.server.rss_mb() - before
    seen.that(grown < 150, f"memory grew by {grown:.0f} MB")
    seen.note(f"RSS +{grown:.0f} MB")


def take_some(connection, seconds=3):
    """Reads for a while, or until the other end closes."""
    until = time.monotonic() + seconds
    connection.settimeout(0.5)
    with contextlib.suppress(OSError):
        while time.monotonic() < until and connection.recv(1 << 16):
            pass


def frame(kind, flags, stream, payload):
    """A frame of HTTP/2."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


@case("G8g", "a client that reads nothing of a large answer: it is let go, its place is free")
def takes_nothing(house, seen):
    rows = [{"Id": f"g8{n}", "Name": "a" * 200, "LastModifiedDate": "2026-01-01T00:00:00Z"} for n in range(3000)]
    house.push(rows)
    request = (f"GET /api/v1/tenant/export HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {house.admin()}\r\n\r\n").encode()
    before = house.server.rss_mb()
    connections = []
    for _ in range(20):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((house.wire.host, house.wire.port))
        connection.sendall(request)
        connections.append(connection)
    time.sleep(2)
    grown = house.server.rss_mb() - before
    seen.that(grown < 150, f"memory grew by {grown:.0f} MB")
    seen.that(house.is_prompt(), "the health check takes longer than 1 s")
    open_ = lambda: len(list(pathlib.Path(f"/proc/{house.server.process.pid}/fd").iterdir()))
    held = open_()
    line.until("they are let go", lambda: open_() <= held - 20, patience=house.within(90))
    for connection in connections:
        connection.close()
    seen.note(f"RSS +{grown:.0f} MB")


@case("G9", "CORS: a preflight and a request from evil.example get no Access-Control-Allow-Origin")
def cors(house, seen):
    origin = {"origin": "https://evil.example"}
    preflight = {**origin, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    for path in ("/auth/login", "/query", "/auth/me", "/events/stream?seconds=0"):
        for answer in (house.ask("OPTIONS", path, headers=preflight), house.ask("GET", path, house.admin(), headers=origin),
                       house.ask("OPTIONS", path, house.admin(), headers=preflight)):
            seen.status(answer, 200, 400, 401, 405, what=path)
            for name in answer.headers:
                seen.that(not name.startswith("access-control-allow"), f"{path} answers {name}: {answer.headers[name]}")
