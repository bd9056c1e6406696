"""Drives the `autonomos` program from outside, as a user would. The campaigns know it by its commands alone."""

import json
import os
import pathlib
import subprocess
import threading

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


def run(arguments, timeout=600, env=None):
    """Runs a command to its end and gives its output; an error carries what it said."""
    done = subprocess.run(
        [program(), *arguments], capture_output=True, text=True, timeout=timeout, env={**os.environ, **(env or {})})
    if done.returncode != 0:
        raise Failed(f"autonomos {' '.join(arguments)} ended with {done.returncode}: {done.stderr[-2000:]}")
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


def ingest(data_dir, tenant, files, *more, **options):
    """Ingests to the end and gives the final counts."""
    return last_json(run(ingest_arguments(data_dir, tenant, files, *more), **options))


def reconcile(counts):
    """Every record that was read has exactly one fate."""
    fates = sum(counts.get(fate, 0) for fate in ("visible", "superseded", "quarantined", "duplicate"))
    if fates != counts["in"]:
        raise Failed(f"the counts do not reconcile: {counts}")


def query(data_dir, tenant, sql, form="csv"):
    """Asks the tenant's views."""
    return run(["query", "--data-dir", str(data_dir), "--tenant", tenant, "--format", form, sql])


def views(data_dir, tenant, action, *more):
    """Lists, flushes or rebuilds views."""
    return run(["views", action, "--data-dir", str(data_dir), "--tenant", tenant, *more])


def json_lines(text):
    """The objects of an answer that has one on each line."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def input_end(data_dir):
    """How many items the log of inputs holds: records, and the few that open a stream."""
    if not pathlib.Path(data_dir).exists():
        return 0
    stat = json_lines(run(["log", "stat", "--data-dir", str(data_dir), "--json"]))
    return sum(row["end"] for row in stat if row.get("topic") == "inputs")


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
        self.lines = []
        self.process = subprocess.Popen(
            [program(), *ingest_arguments(data_dir, tenant, files, *more)], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
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

    def kill(self):
        """SIGKILL, then everything that was printed before it."""
        self.process.kill()
        return self.wait()
