"""Drives the `autonomos` program from outside, as a user would. The campaigns know it by its commands alone."""

import json
import os
import pathlib
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
TABLE = "opportunities"


def target():
    """The folder that cargo builds into."""
    cache = pathlib.Path.home() / ".cache" / "autonomos" / "target"
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", cache))


def program(name="autonomos"):
    """The path of one of our programs: AUTONOMOS_BIN, else where cargo puts it."""
    if name == "autonomos" and "AUTONOMOS_BIN" in os.environ:
        return os.environ["AUTONOMOS_BIN"]
    return str(target() / os.environ.get("AUTONOMOS_PROFILE", "debug") / name)


def git_hash():
    """The commit that is tested, with a + if files differ from it."""
    try:
        head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
        dirty = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        return "unknown"
    return (head.stdout.strip() or "none") + ("+" if dirty.stdout.strip() else "")


class Failed(Exception):
    """A command ended with an error."""


# What comes at all comes sooner than this, however slow the machine is and whatever else it does.
PATIENCE_S = 300


def until(what, condition, patience=PATIENCE_S):
    """What a condition gives once it gives something."""
    deadline = time.monotonic() + patience
    while not (given := condition()):
        if time.monotonic() > deadline:
            raise Failed(f"waited {patience} s in vain: {what}")
        time.sleep(0.02)
    return given


def environment(more=None):
    """The environment of a program of ours. A fault is planted only by who asks for it."""
    return {name: value for name, value in os.environ.items() if name != "AUTONOMOS_PLANT"} | (more or {})


def run(arguments, timeout=1800):
    """Runs a command to its end and gives its output; an error carries what it said."""
    said = f"autonomos {' '.join(arguments)}"
    try:
        done = subprocess.run([program(), *arguments], capture_output=True, text=True, timeout=timeout, env=environment())
    except subprocess.TimeoutExpired as expired:
        raise Failed(f"{said} did not end within {timeout} s") from expired
    if done.returncode != 0:
        raise Failed(f"{said} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def ingest_arguments(data_dir, tenant, files, *more):
    """The arguments that put workload files on the line."""
    return ["ingest", "--data-dir", str(data_dir), "--tenant", tenant, "--connection", "crm", "--system", "salesforce",
            "--stream", "opportunity", "--key", "Id", "--version", "LastModifiedDate", "--deleted", "IsDeleted=true",
            "--json", *more, *map(str, files)]


def last_json(text):
    """The last line that is a JSON object, which is a command's result."""
    for line in reversed(text.strip().splitlines()):
        if line.startswith("{"):
            return json.loads(line)
    raise Failed(f"no JSON in the output: {text[-500:]!r}")


def ingest(data_dir, tenant, files, *more):
    """Ingests to the end and gives the final counts, which reconcile."""
    counts = last_json(run(ingest_arguments(data_dir, tenant, files, *more)))
    reconcile(counts)
    return counts


def reconcile(counts):
    """Every record that was read has exactly one fate."""
    fates = sum(counts.get(fate, 0) for fate in ("visible", "superseded", "quarantined", "held", "duplicate"))
    if fates != counts["in"] + counts.get("released", 0):
        raise Failed(f"the counts do not reconcile: {counts}")


def query(data_dir, tenant, sql, form="csv", timeout=1800):
    """Asks the tenant's views."""
    return run(["query", "--data-dir", str(data_dir), "--tenant", tenant, "--format", form, sql], timeout)


def views(data_dir, tenant, action, *more):
    """Lists, flushes or rebuilds views."""
    return run(["views", action, "--data-dir", str(data_dir), "--tenant", tenant, *more])


def json_lines(text):
    """The objects of an answer that has one on each line."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def taken(data_dir, tenant):
    """How many records of the tenant's stream are on the log, and how many of them are there twice. What opens a stream
    does not count; everything that is on the log is processed first, so that the stream's counters know it."""
    if not pathlib.Path(data_dir).exists():
        return 0, 0
    try:
        run(["views", "flush", "--data-dir", str(data_dir)])
    except Failed as failed:
        # Killed before the folder was one: then nothing is there, and nothing can have been acknowledged.
        if "is no data folder" in str(failed):
            return 0, 0
        raise
    stat = json_lines(run(["log", "stat", "--data-dir", str(data_dir), "--json"]))
    streams = [row for row in stat if row.get("tenant") == tenant]
    return sum(row["in"] for row in streams), sum(row["duplicate"] for row in streams)


def refold(data_dir, batch, threads):
    """Folds all inputs anew in a process of its own; fails unless every stream's events hash as the stored ones."""
    said = run(["log", "refold", "--data-dir", str(data_dir), "--batch", str(batch), "--threads", str(threads), "--json"])
    return {(row["tenant"], row["stream"]): row["hash"] for row in json_lines(said) if "hash" in row}


def view_folder(data_dir, tenant, table=TABLE):
    """The Delta folder of a tenant's table."""
    listed = json_lines(views(data_dir, tenant, "list", "--json"))
    return pathlib.Path(next(row["folder"] for row in listed if row["table"] == table))


class Ingest:
    """An ingest that runs beside us and can be killed; it notes how many records of this run were acknowledged."""

    def __init__(self, data_dir, tenant, files, *more, env=None):
        self.acknowledged = 0
        # Set once something is acknowledged, or nothing will be.
        self.begun = threading.Event()
        self.lines = []
        self.process = subprocess.Popen(
            [program(), *ingest_arguments(data_dir, tenant, files, *more)], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env=environment(env))
        self.errors = []
        self.readers = [threading.Thread(target=self._read, daemon=True),
                        threading.Thread(target=lambda: self.errors.extend(self.process.stderr), daemon=True)]
        for reader in self.readers:
            reader.start()

    def _read(self):
        for line in self.process.stdout:
            try:
                found = json.loads(line)
            except ValueError:
                continue  # A line that the kill cut short acknowledges nothing.
            self.lines.append(found)
            self.acknowledged = max(self.acknowledged, found.get("acknowledged", 0))
            self.begun.set()
        self.begun.set()

    def wait(self, timeout=None):
        """Waits for the end, reads what is left, gives the exit status."""
        status = self.process.wait(timeout)
        for reader in self.readers:
            reader.join()
        return status

    def wait_at_most(self, seconds):
        """Its exit status, or None if it still runs after so long."""
        try:
            return self.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def said(self):
        """The end of what it said on standard error."""
        return "".join(self.errors)[-800:]

    def kill(self):
        """SIGKILL, then everything that was printed before it."""
        self.process.kill()
        return self.wait()


# A proxy of the environment knows nothing of this machine's loopback.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Server:
    """A server on a folder, ready when this returns; stops at the end of a `with`."""

    def __init__(self, data_dir, patience=PATIENCE_S, more=(), host="127.0.0.1", port=0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            self.listen = f"{host}:{probe.getsockname()[1]}"
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([program(), "serve", "--data-dir", str(data_dir), "--listen", self.listen,
                                         *more],
                                        stderr=self.errors, env=environment())
        deadline = time.monotonic() + patience
        # The process first: once it has ended, another may answer at its address.
        while self.is_running() and not self.is_ready():
            if time.monotonic() > deadline:
                self.stop()
                raise Failed(f"the server was not ready within {patience} s: {self.said()}")
            time.sleep(0.02)
        if not self.is_running():
            raise Failed(f"the server ended with {self.process.returncode}: {self.said()}")

    def is_running(self):
        """Whether the process lives."""
        return self.process.poll() is None

    def is_ready(self):
        """Whether it says so itself."""
        try:
            return DIRECT.open(f"http://{self.listen}/readyz", timeout=10).status == 200
        except OSError:
            return False

    def rss_mb(self):
        """Its resident megabytes."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(row for row in status.splitlines() if row.startswith("VmRSS")).split()[1]) / 1024

    def said(self, most=800):
        """The end of what it said on standard error."""
        self.errors.seek(0)
        return self.errors.read()[-most:]

    def kill(self):
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        """Has it drain and end; kills it if it does not."""
        self.process.terminate()
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failed(f"the server did not stop within {PATIENCE_S} s") from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
