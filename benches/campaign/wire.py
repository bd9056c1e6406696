"""Speaks HTTP as it is: what goes out and comes back byte for byte, from any address of this machine; streams of events,
sockets, and requests that no client library would send."""

import base64
import contextlib
import http.client
import json
import os
import socket
import threading
import time

import line


class Answer:
    """What came back: status, headers in lower case, body, and all of it as bytes for who looks for bytes."""

    def __init__(self, status, headers, body):
        self.status, self.body = status, body
        self.headers = {name.lower(): value for name, value in headers}
        self.bytes = "\n".join(f"{name}: {value}" for name, value in headers).encode() + b"\n\n" + body

    def json(self):
        """The body, read as JSON; nothing when it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return {}

    @property
    def code(self):
        """A problem's code."""
        body = self.json()
        return body.get("code", "") if isinstance(body, dict) else ""

    def told(self):
        """What a client can tell this answer from others by: not the trace, the clock or the rations."""
        body = self.json()
        body = {name: value for name, value in body.items() if name != "trace_id"} if isinstance(body, dict) and body \
            else self.body
        apart = ("date", "traceparent", "ratelimit-remaining", "content-length", "etag")
        return self.status, body, sorted(pair for pair in self.headers.items() if pair[0] not in apart)


class Wire:
    """Calls a server, each time on a connection of its own."""

    def __init__(self, listen):
        self.listen = listen
        self.host, port = listen.rsplit(":", 1)
        self.port = int(port)

    def ask(self, method, path, token=None, body=None, headers=None, source=None, timeout=180):
        """One call. A body that is no bytes and no text goes as JSON."""
        headers = dict(headers or {})
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        if body is not None:
            headers.setdefault("content-type", "application/json")
        if token:
            headers["authorization"] = f"Bearer {token}"
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout,
                                                source_address=source and (source, 0))
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # It may have answered before it took all.
                connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.getheaders(), answer.read())
        finally:
            connection.close()

    def connect(self, timeout=60, source=None):
        """A bare socket."""
        return socket.create_connection((self.host, self.port), timeout, source_address=source and (source, 0))

    def send(self, data, timeout=60):
        """Sends bytes as they are; gives what comes back until the server closes, or nothing came for so long."""
        with self.connect(timeout) as connection:
            try:
                connection.sendall(data)
            except OSError:
                pass  # Refused in the middle: what it says still comes.
            return take_all(connection)

    def answers_within(self, seconds):
        """Whether the server still answers the simplest of all questions so soon."""
        started = time.monotonic()
        try:
            return self.ask("GET", "/healthz", timeout=seconds).status == 200 and time.monotonic() - started < seconds
        except OSError:
            return False


def take_all(connection):
    """Everything until the other end closes or is silent for too long."""
    parts = []
    try:
        while part := connection.recv(1 << 16):
            parts.append(part)
    except OSError:
        pass
    return b"".join(parts)


def status_of(data):
    """The status of an answer in bytes; 0 when there is none."""
    first = data.split(b"\r\n", 1)[0].split(b" ")
    return int(first[1]) if len(first) > 1 and first[0].startswith(b"HTTP/") and first[1].isdigit() else 0


class Events:
    """A stream of server-sent events that is read beside us, until it ends. `id` is where to go on from."""

    def __init__(self, wire, token, query="", after=None, source=None):
        self.all, self.bytes, self.id, self.status = [], bytearray(), after, 0
        self.connection = wire.connect(source=source)
        resume = f"last-event-id: {after}\r\n" if after else ""
        # HTTP/1.0: the events stand in the body as they are, not in chunks.
        self.connection.sendall(f"GET /api/v1/events/stream{query} HTTP/1.0\r\nhost: {wire.listen}\r\n"
                                f"authorization: Bearer {token}\r\n{resume}\r\n".encode())
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        try:
            with self.connection.makefile("rb") as file:
                first = file.readline()
                self.bytes += first
                self.status = status_of(first)
                event = {}
                for text in file:
                    self.bytes += text
                    name, _, value = text.decode().rstrip("\r\n").partition(":")
                    if name in ("id", "event", "data"):
                        event[name] = value.removeprefix(" ")
                    elif not name and not value and "data" in event:
                        # Only a whole event counts, and only then does its id.
                        self.all.append((event.get("event"), event.get("id"), json.loads(event["data"])))
                        self.id = event.get("id", self.id)
                        event = {}
        except (OSError, ValueError):
            pass  # Cut off in the middle of an event: it will come again.

    def wait_for(self, what, condition, patience=line.PATIENCE_S):
        """Waits until a condition holds for the events so far."""
        line.until(what, lambda: condition(self.all) or not self.thread.is_alive(), patience)

    def close(self):
        """Hangs up."""
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.connection.close()
        self.thread.join(10)


class Socket:
    """A WebSocket that is read beside us: its handshake's status, and the bytes of every frame."""

    def __init__(self, wire, token=None, query="", headers=None):
        self.bytes, self.connection = bytearray(), wire.connect()
        key = base64.b64encode(os.urandom(16)).decode()
        lines = {"host": wire.listen, "upgrade": "websocket", "connection": "Upgrade", "sec-websocket-version": "13",
                 "sec-websocket-key": key, **({"authorization": f"Bearer {token}"} if token else {}), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.connection.sendall(f"GET /api/v1/events/ws{query} HTTP/1.1\r\n{head}\r\n".encode())
        self.connection.settimeout(60)
        said = b""
        while b"\r\n\r\n" not in said and (part := self.connection.recv(1 << 14)):
            said += part
        self.status = status_of(said)
        self.bytes += said
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        try:
            while part := self.connection.recv(1 << 16):
                self.bytes += part
        except OSError:
            pass

    def is_closed(self):
        """Whether the other end has closed."""
        return not self.thread.is_alive()

    close = Events.close
