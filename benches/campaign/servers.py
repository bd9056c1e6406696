"""Real servers for campaigns and for the demo: Kafka 4 in KRaft mode, Cassandra 5, and S3Proxy for the bucket of views, each in a
folder and on ports of its own, with the settings of the suites (`pipeline/tests/conformance/services`,
`projections/tests/view/s3proxy.rs`). Their jars come by `pipeline/tests/services/fetch.sh`, once. `run.sh` holds each: it ends
its server when whoever started it is gone, however that went.

    servers.py COMMAND...     starts all three, runs COMMAND --config FILE, and ends them with it
"""

import contextlib
import itertools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

import line

SERVICES = line.ROOT / "pipeline" / "tests" / "services"
# Java starts slowly where much else runs.
PATIENCE_S = 600
LOGIN = ("views", "views-secret")
BUCKET = "views-test"
LOGBACK = """<configuration>
  <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender"><encoder><pattern>%-5level %msg%n</pattern></encoder></appender>
  <root level="WARN"><appender-ref ref="OUT"/></root>
</configuration>
"""
# What the JDK keeps closed and Cassandra needs.
EXPORTS = ("java.base/jdk.internal.misc", "java.base/java.lang.ref", "java.management.rmi/com.sun.jmx.remote.internal.rmi",
           "java.sql/java.sql", "java.rmi/sun.rmi.registry", "java.rmi/sun.rmi.server", "jdk.unsupported/sun.misc")
OPENS = ("java.base/java.lang.module", "java.base/jdk.internal.loader", "java.base/jdk.internal.ref",
         "java.base/jdk.internal.reflect", "java.base/jdk.internal.math", "java.base/jdk.internal.module",
         "java.base/jdk.internal.util.jar", "jdk.management/com.sun.management.internal", "java.base/sun.nio.ch",
         "java.base/java.io", "java.base/java.nio", "java.base/java.util", "java.base/java.util.concurrent",
         "java.base/java.util.concurrent.atomic", "java.base/java.lang")


class Missing(Exception):
    """Servers cannot be started here, and why."""


def jars(server):
    """The folder of a server's jars."""
    if not shutil.which("java"):
        raise Missing("java is not installed (apt-get install openjdk-17-jre-headless)")
    fetched = subprocess.run([SERVICES / "fetch.sh", server], capture_output=True, text=True)
    if fetched.returncode:
        raise Missing(fetched.stderr.strip())
    return fetched.stdout.strip()


# Ports below those that the system gives out by itself, so that nobody is given one before its server listens.
PORTS = range(20_000, 32_000)
GIVEN = itertools.count(os.getpid() * 97)


def free_port():
    """A port that nobody listens on, and that is given to nobody else here."""
    for number in itertools.islice(GIVEN, len(PORTS)):
        port = PORTS[number % len(PORTS)]
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise line.Failed("no port is free")


def listens(port):
    """Whether somebody does."""
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Server:
    """A server that runs until it is killed, or stopped at the end of a `with`; then its folder goes."""

    def __init__(self, folder):
        self.folder, self.port, self.guard = pathlib.Path(folder), free_port(), None
        self.lib = jars(self.name)
        self.folder.mkdir(parents=True)

    def write(self, name, text):
        """Writes one of its files."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def start(self):
        """Starts it, with what its folder has; returns without waiting."""
        # A session of its own: Ctrl-C is for whoever works with the server, who ends before it.
        (self.folder / "server.pid").unlink(missing_ok=True)
        self.guard = subprocess.Popen([SERVICES / "run.sh", self.folder, *self.command()], stdin=subprocess.PIPE,
                                      stdout=subprocess.DEVNULL, start_new_session=True)

    def wait(self):
        """Returns once it listens."""
        def is_there():
            if self.guard.poll() is not None or self.has_ended():
                raise line.Failed(f"{self.name} ended: {self.said()}")
            return listens(self.port)

        try:
            line.until(f"{self.name} listens", is_there, PATIENCE_S)
        except line.Failed as failed:
            raise line.Failed(f"{failed}: {self.said()}") from failed
        return self

    def has_ended(self):
        """Whether it has ended by itself, by what run.sh says."""
        pid = self.folder / "server.pid"
        if not (pid.exists() and (text := pid.read_text()).endswith("\n")):
            return False
        try:
            return pathlib.Path(f"/proc/{text.strip()}/stat").read_text().rsplit(") ", 1)[1].startswith("Z")
        except OSError:
            return True

    def kill(self):
        """SIGKILL; its folder stays."""
        self.end(b"keep")

    def stop(self):
        """SIGKILL, and nothing stays."""
        if self.guard:
            self.end(b"")
        shutil.rmtree(self.folder, ignore_errors=True)

    def end(self, said):
        """Has run.sh end it."""
        with contextlib.suppress(BrokenPipeError):
            self.guard.stdin.write(said)
        with contextlib.suppress(BrokenPipeError):
            self.guard.stdin.close()
        self.guard.wait()
        self.guard = None

    def said(self):
        """The end of what it said."""
        log = self.folder / "server.log"
        return log.read_text(errors="replace")[-2000:] if log.exists() else ""

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()


class Kafka(Server):
    """A broker, which is its own controller."""

    name = "kafka"

    def __init__(self, folder):
        super().__init__(folder)
        controller = free_port()
        self.write("server.properties", "\n".join([
            "process.roles=broker,controller", "node.id=1",
            f"controller.quorum.bootstrap.servers=127.0.0.1:{controller}", "controller.listener.names=CONTROLLER",
            f"listeners=PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}",
            f"advertised.listeners=PLAINTEXT://127.0.0.1:{self.port}",
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT", f"log.dirs={self.folder}/data",
            "offsets.topic.replication.factor=1", "offsets.topic.num.partitions=1",
            "transaction.state.log.replication.factor=1", "transaction.state.log.min.isr=1",
            "transaction.state.log.num.partitions=1", "share.coordinator.state.topic.replication.factor=1",
            "share.coordinator.state.topic.min.isr=1", "share.coordinator.state.topic.num.partitions=1",
            "group.initial.rebalance.delay.ms=0", "auto.create.topics.enable=false", ""]))
        identity = self.tool("random-uuid")
        self.tool("format", "--standalone", "-t", identity, "-c", f"{self.folder}/server.properties")

    def java(self, *words):
        """A program of its jars."""
        return ["java", "-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{self.lib}/*", *words]

    def tool(self, *words):
        """What its storage tool answers."""
        done = subprocess.run(self.java("kafka.tools.StorageTool", *words), capture_output=True, text=True)
        if done.returncode:
            raise line.Failed(f"kafka's storage tool failed: {done.stderr[-800:]}")
        return done.stdout.strip()

    def command(self):
        return self.java("kafka.Kafka", f"{self.folder}/server.properties")


class Cassandra(Server):
    """A cluster of one node, whose commit log is synced before it answers."""

    name = "cassandra"

    def __init__(self, folder):
        super().__init__(folder)
        storage = free_port()
        self.write("conf/logback.xml", LOGBACK)
        # JSON is YAML.
        self.write("conf/cassandra.yaml", json.dumps({
            "cluster_name": "test", "num_tokens": 1, "partitioner": "org.apache.cassandra.dht.Murmur3Partitioner",
            "endpoint_snitch": "SimpleSnitch",
            "seed_provider": [{"class_name": "org.apache.cassandra.locator.SimpleSeedProvider",
                               "parameters": [{"seeds": f"127.0.0.1:{storage}"}]}],
            "listen_address": "127.0.0.1", "rpc_address": "127.0.0.1", "storage_port": storage,
            "native_transport_port": self.port, "start_native_transport": True, "commitlog_sync": "group",
            "commitlog_sync_group_window": "2ms", "commitlog_directory": f"{self.folder}/commitlog",
            "data_file_directories": [f"{self.folder}/data"], "saved_caches_directory": f"{self.folder}/caches",
            "hints_directory": f"{self.folder}/hints", "cdc_raw_directory": f"{self.folder}/cdc",
            "memtable_heap_space": "128MiB", "memtable_offheap_space": "128MiB", "key_cache_size": "8MiB",
            "auto_snapshot": False, "read_request_timeout": "60s", "range_request_timeout": "60s", "write_request_timeout": "60s",
            "native_transport_timeout": "60s", "authenticator": "AllowAllAuthenticator", "authorizer": "AllowAllAuthorizer"}))

    def command(self):
        open_to_all = [word for option, modules in (("--add-exports", EXPORTS), ("--add-opens", OPENS))
                       for module in modules for word in (option, f"{module}=ALL-UNNAMED")]
        return ["java", "-Xms256m", "-Xmx1g", "-XX:+UseSerialGC", "-Djdk.attach.allowAttachSelf=true", *open_to_all,
                f"-Dcassandra.config=file://{self.folder}/conf/cassandra.yaml", f"-Dcassandra.storagedir={self.folder}",
                "-Dcassandra-foreground=yes", f"-Dcassandra.jmx.local.port={free_port()}", "-Dcassandra.ring_delay_ms=1",
                "-Dcassandra.skip_wait_for_gossip_to_settle=0", "-Dcassandra.superuser_setup_delay_ms=0",
                "-cp", f"{self.folder}/conf:{self.lib}/*", "org.apache.cassandra.service.CassandraDaemon"]


class S3Proxy(Server):
    """A server of S3 over a folder, with one bucket. Of several puts of one object at the same moment it may take more than one
    under `If-None-Match: *`; one after the other it does as S3 does."""

    name = "s3proxy"

    def __init__(self, folder):
        super().__init__(folder)
        (self.folder / "data" / BUCKET).mkdir(parents=True)
        self.write("logback.xml", LOGBACK)
        name, secret = LOGIN
        self.write("s3proxy.properties", "\n".join([
            f"s3proxy.endpoint=http://127.0.0.1:{self.port}", "s3proxy.authorization=aws-v2-or-v4",
            # Checksums beside the bodies, which S3 takes and S3Proxy refuses unless it is told not to heed them.
            "s3proxy.ignore-unknown-headers=true",
            f"s3proxy.identity={name}", f"s3proxy.credential={secret}", "jclouds.provider=filesystem-nio2",
            f"jclouds.filesystem.basedir={self.folder}/data"]))

    def command(self):
        return ["java", "-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                f"-Dlogback.configurationFile={self.folder}/logback.xml", "-cp", f"{self.lib}/*", "org.gaul.s3proxy.Main",
                "--properties", f"{self.folder}/s3proxy.properties"]

    def views(self, prefix):
        """Where views lie, in words of `autonomos.yaml`."""
        name, secret = LOGIN
        return {"location": f"s3://{BUCKET}/{prefix}", "endpoint": f"http://127.0.0.1:{self.port}", "allow_http": True,
                "access_key": name, "secret_key": secret}

    def on_disk(self, url):
        """The folder that an address in the bucket is kept in: for readers that know nothing of S3."""
        return self.folder / "data" / url.removeprefix("s3:").lstrip("/")


class Cluster:
    """The servers that the processes of the line share, ready when a `with` begins."""

    def __init__(self, folder, is_s3=True):
        folder = pathlib.Path(folder)
        self.folder, self.kafka, self.cassandra = folder, Kafka(folder / "kafka"), Cassandra(folder / "cassandra")
        self.s3 = S3Proxy(folder / "s3proxy") if is_s3 else None

    def servers(self):
        """All of them."""
        return [server for server in (self.kafka, self.cassandra, self.s3) if server]

    def config(self, name, partitions=6, **more):
        """A configuration, with topics, a keyspace and a place of views that no other name has."""
        counts = {topic: partitions for topic in ("inputs", "events", "decisions")}
        return {
            "log": {"kafka": {"brokers": f"127.0.0.1:{self.kafka.port}", "topic_prefix": f"{name}.", "partitions": counts}},
            "store": {"scylla": {"nodes": [f"127.0.0.1:{self.cassandra.port}"], "keyspace": name, "replication": 1}},
            "views": self.s3.views(name) if self.s3 else {"location": str(self.folder / "views" / name)}, **more}

    def __enter__(self):
        try:
            for server in self.servers():
                server.start()
            for server in self.servers():
                server.wait()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self):
        """Ends all of them."""
        for server in self.servers():
            server.stop()

    def __exit__(self, *_):
        self.stop()


def run(command):
    """Runs a command beside servers, and gives its status."""
    with tempfile.TemporaryDirectory(prefix="cluster-") as scratch, Cluster(scratch) as cluster:
        config = pathlib.Path(scratch) / "cluster.yaml"
        config.write_text(json.dumps(cluster.config("demo", partitions=4), indent=1))
        print(f"Kafka at 127.0.0.1:{cluster.kafka.port}, Cassandra at 127.0.0.1:{cluster.cassandra.port}, views in a bucket at "
              f"127.0.0.1:{cluster.s3.port}; told to the program by {config}", file=sys.stderr, flush=True)
        # Whoever presses Ctrl-C means the program, which is told itself; whoever sends SIGTERM tells us alone.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        process = subprocess.Popen([*command, "--config", str(config)], preexec_fn=heeding_ctrl_c)
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        return process.wait()


def heeding_ctrl_c():
    """What is ignored stays ignored in a program that is started."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(run(sys.argv[1:]))
    except (Missing, line.Failed) as failed:
        sys.exit(f"the servers cannot be started: {failed}")
