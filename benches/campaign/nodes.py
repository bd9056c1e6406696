"""Processes of the line that share the work: each with roles and a data folder of its own, on the servers that one
configuration names. What a process says of its work it says in JSON on standard error, and that is what is read here: who has
which partition, who was taken for dead, who lost what it had."""

import datetime
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

import line
import servers
from wire import Wire

# A start makes connections and topics; after that others are waited for.
READY_S = 600
TAKES, LEAVES = "works on a partition", "works on a partition no more"
LOST = "all work on partitions is dropped; the process joins again"
DEAD = "a process was silent for too long; others take over what it had"
# How a process says that log or store failed for it, and whatever starts processes starts it again.
BEGINS_ANEW = "start it again"


def check_build(scratch):
    """Ends the program, with what to do, unless the binary knows the servers."""
    config = pathlib.Path(scratch) / "check.yaml"
    bucket = {"location": "s3://views-test/check", "endpoint": "http://127.0.0.1:1", "allow_http": True, "access_key": "a",
              "secret_key": "b", "retry_for_ms": 1}
    # Nobody answers there; a build without the features says so before it asks.
    config.write_text(json.dumps({"log": {"kafka": {"brokers": "127.0.0.1:1", "request_timeout_ms": 1000}},
                                  "store": {"scylla": {"nodes": ["127.0.0.1:1"], "retry_for_ms": 1}}}))
    said = [tried(["migrate", "--to", str(config)])]
    config.write_text(json.dumps({"views": bucket}))
    said.append(tried(["serve", "--data-dir", str(config.parent / "check"), "--listen", "127.0.0.1:0", "--config", str(config)]))
    if any("build it with" in text for text in said):
        raise SystemExit(f"{line.program()} was built without the features kafka,scylla,s3: build it with them, or name another "
                         "by AUTONOMOS_BIN")


def tried(words):
    """What a command says that fails."""
    done = subprocess.run([line.program(), *words], capture_output=True, text=True, timeout=600, env=line.environment())
    return done.stderr


class Node:
    """A process with some of the roles, that can be killed, stopped for a while and started again."""

    def __init__(self, folder, roles, config, master=None):
        self.folder, self.name, self.roles = pathlib.Path(folder), pathlib.Path(folder).name, roles
        self.folder.mkdir(parents=True)
        (self.folder / "autonomos.yaml").write_text(json.dumps(config))
        if master:
            shutil.copy(master / "master.key", self.folder)
        self.listen = f"127.0.0.1:{servers.free_port()}"
        self.log = self.folder.with_suffix(".log")
        self.process, self.starts, self.read, self.told = None, [], 0, []

    def start(self):
        """Starts it; returns without waiting."""
        self.look()
        self.starts.append(len(self.told))
        # It ends with us, however we end.
        words = ["setpriv", "--pdeathsig", "KILL", line.program(), "serve", "--json", "--data-dir", str(self.folder),
                 "--roles", ",".join(self.roles)]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(words + (["--listen", self.listen] if "api" in self.roles else []), stderr=log,
                                            stdout=log, env=line.environment())
        return self

    def wait(self):
        """Returns once it answers and is ready; of one that answers nobody, once it works."""
        def is_ready():
            if not self.is_running():
                raise line.Failed(f"{self.name} ended with {self.process.returncode}: {self.said()}")
            return self.has_begun() and ("api" not in self.roles
                                         or Wire(self.listen).ask("GET", "/readyz", timeout=30).status == 200)

        line.until(f"{self.name} is ready", lambda: quietly(is_ready), READY_S)
        return self

    def is_running(self):
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def has_begun(self):
        """Whether it has come so far as to say so."""
        return any(found["message"] in ("working", "serving") for found in self.since_start())

    def look(self):
        """Reads what it has said since the last look."""
        if not self.log.exists():
            return
        with self.log.open("rb") as log:
            log.seek(self.read)
            for text in log:
                if not text.endswith(b"\n"):
                    break
                self.read += len(text)
                if found := said(text):
                    self.told.append(found)

    def since_start(self):
        """What it has said since it was started last."""
        self.look()
        return self.told[self.starts[-1]:]

    def holds(self):
        """The partitions that it works on, by its own words: the token of each (role, partition)."""
        held = {}
        for found in self.since_start():
            share = (found.get("role"), found.get("partition"))
            if found["message"] == TAKES:
                held[share] = found["token"]
            elif found["message"] == LEAVES:
                held.pop(share, None)
            elif found["message"] == LOST:
                held.clear()
        return held

    def kill(self):
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def pause(self):
        """SIGSTOP: it is there, and does nothing."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self):
        """SIGCONT."""
        os.kill(self.process.pid, signal.SIGCONT)

    def stop(self):
        """SIGTERM: it drains and gives up what it has. Gives its status."""
        if self.is_running():
            self.resume()
            self.process.terminate()
            try:
                self.process.wait(line.PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.kill()
                raise line.Failed(f"{self.name} did not end within {line.PATIENCE_S} s of SIGTERM: {self.said()}") from None
        return self.process.returncode

    def said(self):
        """The end of what it said."""
        return self.log.read_text(errors="replace")[-1200:]


def said(text):
    """A line of the log as one flat object, or the error that a program ends with; nothing when it is neither."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    if "error" in found and "fields" not in found:
        return {"message": "ended", "error": found["error"], "at": time.time()}
    if "fields" not in found:
        return None
    at = datetime.datetime.fromisoformat(found["timestamp"].replace("Z", "+00:00")).timestamp()
    return {"message": "", **found["fields"], "at": at, "level": found["level"]}


def quietly(ask):
    """What something gives, nothing while nobody answers."""
    try:
        return ask()
    except OSError:
        return None


class Crew:
    """All processes on one configuration. Those that end by themselves and say that they must be started again are."""

    def __init__(self, campaign, scratch, config, master=None):
        self.campaign, self.scratch, self.config, self.nodes = campaign, pathlib.Path(scratch), config, []
        # The data folder whose master key all have: the first one's, unless there was one before.
        self.master = master

    def add(self, *roles, count=1):
        """Starts processes with these roles, and gives them. The first of all makes the master key of all."""
        added = []
        for _ in range(count):
            number = sum(node.roles == roles for node in self.nodes)
            node = Node(self.scratch / f"{'-'.join(roles)}-{number}", roles, self.config, self.master)
            self.nodes.append(node.start())
            if not self.master:
                node.wait()
                self.master = node.folder
            added.append(node)
        for node in added:
            node.wait()
        return added

    def of(self, role):
        """Those that take a role."""
        return [node for node in self.nodes if role in node.roles]

    def apis(self):
        """Those that answer."""
        return self.of("api")

    def mend(self):
        """Starts what has ended by itself. Only log and store that have failed for a process are a reason, or that it came
        up while they were away."""
        for node in self.nodes:
            if node.process is None or node.is_running():
                continue
            ended = [found["error"] for found in node.since_start() if found["message"] == "ended"]
            if any(BEGINS_ANEW in error for error in ended):
                self.campaign.fired(f"{node.roles[0]} ended to begin anew")
            elif not node.has_begun() and is_servers_fault(ended):
                self.campaign.fired(f"{node.roles[0]} did not come up while a server was away")
            else:
                self.campaign.anomaly(f"{node.name} ended with {node.process.returncode} by itself: {node.said()}")
            node.start()

    def takeovers(self, since, held, but=()):
        """How many seconds behind a time each of these shares was taken anew, by share; whoever takes one has a greater token
        than who had it."""
        found = {}
        for node in self.nodes:
            node.look()
            for told in node.told if node not in but else []:
                share = (told.get("role"), told.get("partition"))
                if told["message"] == TAKES and share in held and told["token"] > held[share]:
                    found[share] = min(found.get(share, 1e9), max(0.0, told["at"] - since))
        return found

    def count(self, message):
        """How often processes have said something."""
        for node in self.nodes:
            node.look()
        return sum(told["message"] == message for node in self.nodes for told in node.told)

    def count_errors(self, words):
        """How often processes have told an error with these words."""
        for node in self.nodes:
            node.look()
        return sum(words in str(told.get("error", "")) for node in self.nodes for told in node.told)

    def stop(self):
        """Has all of them drain and end, those that answer last."""
        for node in sorted(self.nodes, key=lambda node: "api" in node.roles):
            if status := node.stop():
                self.campaign.anomaly(f"{node.name} ended with {status} at SIGTERM: {node.said()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for node in self.nodes:
            if node.is_running():
                node.kill()


def is_servers_fault(errors):
    """Whether a process ended for a server that did not answer."""
    words = ("no broker answers", "no node answers", "cannot be reached", "is not ready", "opening the log on Kafka failed")
    return any(word in error for error in errors for word in words)
