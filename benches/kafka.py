"""The log on Kafka beside Kafka's own tools, and the line over Kafka beside the embedded one, on servers that it starts itself.

    kafka.py                 some fifteen minutes, and then the table
    kafka.py --only log      a part of it: log, line
    kafka.py --quick         whether it works, without bars

Both sides of a pair do the same on one broker, one after the other, and who goes first changes from round to round. Of the log
a ratio is of records a second, ours by theirs; of the line it is of CPU, like in the table of `bench.py`. README.md beside this
file says what each number means.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from decimal import Decimal

import bench
from cost import Cost, Failed
from table import AtLeast, Row, text

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "campaign"))

import line  # noqa: E402  The campaigns' folder must be on the path before.
import servers  # noqa: E402

RATIO_LEAST = 0.7
# Records of a message of ours, as `kafka-log` makes them.
MESSAGE_RECORDS = 1000
TOOL = "Kafka's"
# What `pipeline/src/log/kafka/settings.rs` tells librdkafka, in the words of Kafka's own clients; `kafka-log` has as much under
# way as their memory takes.
PRODUCER = {"acks": "all", "enable.idempotence": "true", "compression.type": "lz4", "linger.ms": 1, "batch.size": 1 << 20,
            "buffer.memory": 32 << 20, "max.request.size": 80 << 20}
CONSUMER = {"max.partition.fetch.bytes": 4 << 20, "fetch.max.bytes": (80 << 20) + 65_536}
# As `pipeline/src/log/kafka/topics.rs` makes ours.
TOPIC = {"cleanup.policy": "delete", "retention.ms": -1, "retention.bytes": -1, "message.timestamp.type": "LogAppendTime",
         "max.message.bytes": 80 << 20}
SENT = re.compile(r"(\d+) records sent, ([\d.]+) records/sec \(([\d.]+) MB/sec\).* 50th")


class Broker(servers.Kafka):
    """A broker that is to be fast, and not soon there as those of the campaigns."""

    def command(self):
        return [word for word in super().command() if word != "-XX:TieredStopAtLevel=1"]

    @property
    def address(self):
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def run(self, program, *words):
        """What one of its tools prints."""
        command = ["java", "-Xmx1g", "-Duser.language=en", "-cp", f"{self.lib}/*", f"org.apache.kafka.tools.{program}", *words]
        return Cost().add(list(map(str, command))).output

    def topics(self, *words):
        """Makes or removes topics."""
        self.run("TopicCommand", "--bootstrap-server", self.address, *words)


def cpu_seconds(server):
    """What a server has cost so far: of the processes that its guard holds."""
    guard = server.guard.pid
    ticks = 0
    for child in pathlib.Path(f"/proc/{guard}/task/{guard}/children").read_text().split():
        stat = pathlib.Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(stat[11]) + int(stat[12])
    return ticks / os.sysconf("SC_CLK_TCK")


# -- the log -----------------------------------------------------------------------------------------------------------


@dataclass
class Sample:
    """What one side of a pair did: records a second, megabytes of messages a second, and what ours cost."""
    rate: float
    mb_s: float
    cpu: float | None = None
    rss: float | None = None


class Pair:
    """Two that do the same, and the samples of each round."""

    def __init__(self, question, tool, is_barred):
        self.question, self.tool, self.is_barred, self.samples = question, tool, is_barred, []

    def rows(self, is_quick):
        """Medians, and the median of the ratios within one round."""
        ours, theirs = zip(*self.samples)
        ratios = [a.rate / b.rate for a, b in self.samples]
        median = lambda samples, name: statistics.median(getattr(sample, name) for sample in samples)  # noqa: E731
        ratio = statistics.median(ratios)
        bars = [AtLeast("rate", ratio, RATIO_LEAST)] if self.is_barred and not is_quick else []
        spread = f"{median(ours, 'mb_s'):.0f} MB/s; {min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} rounds"
        return [Row(self.question, "autonomos", median(ours, "cpu"), median(ours, "rate"), median(ours, "rss"), ratio=ratio,
                    base=TOOL, bars=bars, note=spread),
                Row(self.question, self.tool, rows_s=median(theirs, "rate"), ratio=1.0, base=TOOL,
                    note=f"{median(theirs, 'mb_s'):.0f} MB/s")]


class LogBench:
    """The log and Kafka's tools on one broker."""

    def __init__(self, broker, options, scratch):
        self.broker, self.options = broker, options
        self.messages, self.records = scratch / "messages", scratch / "records"
        Cost().add([line.program("kafka-log"), "payloads", str(self.messages)])
        Cost().add([line.program("kafka-log"), "payloads", str(self.records), "--records"])
        self.consumer = scratch / "consumer.properties"
        self.consumer.write_text("".join(f"{name}={value}\n" for name, value in CONSUMER.items()))
        self.pairs = {
            "append": Pair("append, packed before", "ProducerPerformance", True),
            "read": Pair("read, left packed", "ConsumerPerformance", True),
            "pack": Pair("append and pack", "… a message a record", False),
            "unpack": Pair("read and unpack", "… a message a record", False)}

    def ours(self, work, prefix, records, *more):
        """Appends or reads."""
        found = line.last_json(Cost().add([line.program("kafka-log"), work, "--brokers", self.broker.address, "--prefix",
                                           prefix, "--records", str(records), *more]).output)
        return Sample(found["rows_s"], found["mb"] * found["rows_s"] / found["records"], found["cpu_s_per_m"], found["rss_mb"])

    def produce(self, topic, payloads, messages, records_each):
        """ProducerPerformance, into a topic as ours are."""
        config = [word for name, value in TOPIC.items() for word in ("--config", f"{name}={value}")]
        self.broker.topics("--create", "--topic", topic, "--partitions", 1, "--replication-factor", 1, *config)
        props = [f"{name}={value}" for name, value in {"bootstrap.servers": self.broker.address, **PRODUCER}.items()]
        said = self.broker.run("ProducerPerformance", "--topic", topic, "--num-records", messages, "--throughput", -1,
                               "--payload-file", payloads, "--producer-props", *props)
        found = SENT.search(said)
        if not found or int(found[1]) != messages:
            raise Failed(f"ProducerPerformance did not send {messages} messages: {said[-500:]}")
        return Sample(float(found[2]) * records_each, float(found[3]) * (1 << 20) / 1e6)

    def consume(self, topic, messages, records_each):
        """ConsumerPerformance, without the time that its group took to form."""
        said = self.broker.run("ConsumerPerformance", "--bootstrap-server", self.broker.address, "--topic", topic, "--messages",
                               messages, "--fetch-size", CONSUMER["max.partition.fetch.bytes"], "--consumer.config",
                               self.consumer, "--hide-header", "--timeout", 60_000)
        cells = said.strip().splitlines()[-1].split(",") if said.strip() else []
        if len(cells) != 10 or int(cells[4]) < messages:
            raise Failed(f"ConsumerPerformance did not read {messages} messages: {said[-500:]}")
        return Sample(float(cells[9]) * records_each, float(cells[8]) * (1 << 20) / 1e6)

    def take(self, pair, is_ours_first, ours, theirs):
        """Has both sides do it."""
        print(f"kafka: {self.pairs[pair].question} …", file=sys.stderr, flush=True)
        a, b = (ours, theirs) if is_ours_first else (theirs, ours)
        first, second = a(), b()
        return (first, second) if is_ours_first else (second, first)

    def round(self, name, number, records):
        """Every pair once, on topics of its own."""
        messages, single = records // MESSAGE_RECORDS, records // 4
        packed, plain, is_ours_first = f"{name}.packed.", f"{name}.plain.", number % 2 == 0
        samples = {
            "append": self.take("append", is_ours_first, lambda: self.ours("append", packed, records),
                                lambda: self.produce(f"{name}.peer", self.messages, messages, MESSAGE_RECORDS)),
            # Both read the very messages that ours appended.
            "read": self.take("read", is_ours_first, lambda: self.ours("read", packed, records),
                              lambda: self.consume(f"{packed}inputs", messages, MESSAGE_RECORDS)),
            "pack": self.take("pack", is_ours_first, lambda: self.ours("append", plain, records, "--pack"),
                              lambda: self.produce(f"{name}.single", self.records, single, 1)),
            "unpack": self.take("unpack", is_ours_first, lambda: self.ours("read", plain, records, "--pack"),
                                lambda: self.consume(f"{name}.single", single, 1))}
        self.broker.topics("--delete", "--topic", rf"{name}\..*")
        return samples

    def rows(self):
        """Some rounds behind one that warms the broker up, and their rows."""
        self.round("warm", 0, max(self.options.records // 2 // MESSAGE_RECORDS, 1) * MESSAGE_RECORDS)
        for number in range(self.options.rounds):
            for pair, sample in self.round(f"round{number}", number, self.options.records).items():
                self.pairs[pair].samples.append(sample)
        return [row for pair in self.pairs.values() for row in pair.rows(self.options.quick)]


# -- the line ----------------------------------------------------------------------------------------------------------


@dataclass
class Ran:
    """What a run of the line cost its server and those who brought files, and the servers beside it."""
    cpu: float
    rss: float
    visible_s: float
    stop_s: float
    beside: dict


class LineBench:
    """A server that keeps its log, and its store, here or there, and is brought the workload."""

    def __init__(self, load, scratch, kafka, cassandra):
        self.load, self.scratch, self.kafka, self.cassandra = load, scratch, kafka, cassandra

    def config(self, name, run):
        """What `autonomos.yaml` says for it, with topics and a keyspace of its own."""
        log = {"kafka": {"brokers": self.kafka.address, "topic_prefix": f"{run}."}}
        store = {"scylla": {"nodes": [f"127.0.0.1:{self.cassandra.port}"], "keyspace": run, "replication": 1}}
        return {"embedded": {}, "Kafka": {"log": log}, "Kafka and Cassandra": {"log": log, "store": store}}[name]

    def bring(self, data, tenant):
        """Brings a tenant's file in, until all of it is visible; gives what that cost besides the server."""
        cost = Cost().add([line.program(), *line.ingest_arguments(data, f"tenant{tenant}", [self.load.paths[tenant]])])
        line.reconcile(line.last_json(cost.output))
        return cost.cpu

    def hold(self, data):
        """The views are the oracle's."""
        rows, total = 0, Decimal(0)
        for tenant in range(len(self.load.paths)):
            sql = "select count(*), coalesce(sum(amount), 0) from opportunities"
            count, amount = line.query(data, f"tenant{tenant}", sql).strip().splitlines()[-1].split(",")
            rows, total = rows + int(count), total + Decimal(amount)
        if rows != self.load.result["rows"] or total != Decimal(self.load.result["sum"]):
            raise Failed(f"a wrong result: {rows} rows, sum {total}; the oracle says {self.load.result}")

    def run(self, name, run):
        """All files at once into a new server, a tenant each; then it drains and ends."""
        print(f"kafka: {self.load.title}, {name} …", file=sys.stderr, flush=True)
        data, config = self.scratch / run, self.scratch / f"{run}.yaml"
        config.write_text(json.dumps(self.config(name, run)))
        beside = {server.name.capitalize(): server for server in (self.kafka, self.cassandra)}
        before = {who: cpu_seconds(server) for who, server in beside.items()}
        server = line.Server(data, patience=servers.PATIENCE_S, more=("--config", str(config)))
        try:
            started = time.perf_counter()
            with concurrent.futures.ThreadPoolExecutor(len(self.load.paths)) as pool:
                cpu = sum(pool.map(lambda tenant: self.bring(data, tenant), range(len(self.load.paths))))
            visible = time.perf_counter() - started
            # Before it is asked anything more.
            rss = peak_mb(server)
            during = {who: cpu_seconds(server) - before[who] for who, server in beside.items()}
            served = own_cpu_seconds(server)
            self.hold(data)
            asked = own_cpu_seconds(server)
        finally:
            others = resource.getrusage(resource.RUSAGE_CHILDREN)
            started = time.perf_counter()
            server.stop()
            stopped = time.perf_counter() - started
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        total = usage.ru_utime + usage.ru_stime - others.ru_utime - others.ru_stime
        shutil.rmtree(data, ignore_errors=True)
        return Ran(cpu + total - (asked - served), rss, visible, stopped, during)

    def rows(self, turns):
        """Turns of all three, and a row for each."""
        names, taken = ["embedded", "Kafka", "Kafka and Cassandra"], []
        for turn in range(turns):
            order = names if turn % 2 == 0 else names[::-1]
            taken.append({name: self.run(name, f"line{turn}{names.index(name)}") for name in order})
        rows = []
        for name in names:
            runs = [turn[name] for turn in taken]
            median = lambda of: statistics.median(map(of, runs))  # noqa: E731
            visible = median(lambda run: run.visible_s)
            slower = statistics.median(turn[name].visible_s / turn["embedded"].visible_s for turn in taken)
            beside = [f"{who} {median(lambda run, who=who: run.beside[who]):.1f}" for who in runs[0].beside if who in name]
            note = f"exact, visible after {visible:.1f} s ({slower:.2f} ×), ended {median(lambda run: run.stop_s):.1f} s later"
            note += f"; beside it {', '.join(beside)} CPU-s" if beside else ""
            rows.append(Row(self.load.title, name, median(lambda run: run.cpu) / self.load.records * 1e6,
                            self.load.records / visible, max(run.rss for run in runs),
                            ratio=statistics.median(turn[name].cpu / turn["embedded"].cpu for turn in taken),
                            base="embedded", note=note))
        return rows


def own_cpu_seconds(server):
    """What a running server of ours has cost so far."""
    stat = pathlib.Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def peak_mb(server):
    """The greatest resident set of a running server of ours."""
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return int(next(row for row in status.splitlines() if row.startswith("VmHWM")).split()[1]) * 1024 / 1e6


# -- all of it ---------------------------------------------------------------------------------------------------------


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5, help="of the log")
    parser.add_argument("--records", type=int, default=8_000_000, help="that go through the log in a round")
    parser.add_argument("--turns", type=int, default=3, help="of the line")
    parser.add_argument("--line-records", type=int, default=1_000_000, help="that go through the line in a turn")
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--tenants", type=int, default=4)
    parser.add_argument("--only", choices=["log", "line"])
    parser.add_argument("--quick", action="store_true", help="small counts, no bars: does everything work?")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.records, options.turns = 1, 40_000, 1
        options.line_records, options.keys = 40_000, 4_000
    return options


def measure(options, scratch):
    """The rows of the table."""
    rows = []
    with Broker(scratch / "kafka") as broker:
        broker.wait()
        if options.only != "line":
            rows += LogBench(broker, options, scratch).rows()
    if options.only != "log":
        with Broker(scratch / "line") as broker, servers.Cassandra(scratch / "cassandra") as cassandra:
            broker.wait()
            cassandra.wait()
            load = bench.Load(scratch, "load", options.line_records, options.keys, options)
            rows += LineBench(load, scratch, broker, cassandra).rows(options.turns)
    return rows


def main():
    options = parse()
    print(f"kafka: seed {options.seed}, {os.cpu_count()} cores, commit {line.git_hash()}", flush=True)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="kafka-"))
    try:
        rows = measure(options, scratch)
    except servers.Missing as missing:
        print(json.dumps({"bench": "kafka", "skipped": str(missing)}), flush=True)
        sys.exit(1 if os.environ.get("CAMPAIGN_REQUIRED") else 0)
    except (Failed, line.Failed, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
        sys.exit(f"kafka: {type(error).__name__}: {error}")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"\n{text(rows)}\n")
    bars = [(row, bar) for row in rows for bar in row.bars]
    missed = [f"{row.question}: {bar}" for row, bar in bars if not bar.is_met]
    print(f"bars: {len(bars) - len(missed)} met, {len(missed)} missed" + "".join(f"\n  {said}" for said in missed))


if __name__ == "__main__":
    main()
