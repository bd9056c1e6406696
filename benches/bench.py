"""One table: what the line costs beside its peers, on the same files, in the same run.

Runners take turns, and a ratio is the median of ratios within one turn, so that a machine that grows slow in between
does not decide. README.md beside this file says what each number means.

    bench.py                        everything, some ten minutes
    bench.py --only line --turns 5  some questions: line, keys, drift, small, parts, query, arrival
    bench.py --quick                whether every program works, without bars

Ends with 1 if a runner failed or gave a wrong result. A bar that is missed is shown and is no failure: machines are
noisy.
"""

import argparse
import functools
import os
import pathlib
import shutil
import statistics
import sys
import tempfile
from decimal import Decimal

from cost import Cost, Failed
from table import Bar, Row, text

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "campaign"))

import line  # noqa: E402  The campaigns' folder must be on the path before.
import workload  # noqa: E402

# Whatever needs memory, the oracle too, runs in a process of its own: see `Cost`.

PEERS = {"duckdb": "duckdb_last_by_key.py", "duckdb arg_max": "duckdb_arg_max.py",
         "datafusion": "datafusion_last_by_key.py", "dlt merge": "dlt_merge.py"}
BASE = "duckdb"
CPU_MOST, RSS_MOST, FRESH_MOST, QUERY_MOST, DETECTION_MOST = 2.0, 400, 100, 1.3, 1.15
# A rate that was not reached measures another question.
RATE_LEAST = 0.95


class Load:
    """Files of the workload, and what the oracle makes of them."""

    def __init__(self, scratch, name, records, keys, arguments):
        self.folder = scratch / name
        files = workload.write(self.folder, records, keys, arguments.tenants, arguments.seed)
        self.paths, self.records = [file["path"] for file in files], records
        keys = sum(file["keys"] for file in files)
        self.title = f"line, {short(records)}/{short(keys)} keys"
        rows, total = 0, Decimal(0)
        for path in self.paths:
            found = line.last_json(Cost().add([sys.executable, str(HERE / "campaign" / "oracle.py"), path]).output)
            rows, total = rows + found["rows"], total + Decimal(found["sum"])
        self.result = {"rows": rows, "sum": str(total)}
        size = sum(file["bytes"] for file in files) / 1e6
        print(f"bench: {self.title}: {size:.0f} MB, the oracle says {self.result}", flush=True)


def short(number):
    """1000000 as 1M."""
    return f"{number / 1e6:g}M" if number >= 1_000_000 else f"{number / 1e3:g}k"


class Bench:
    """The rows so far, and what failed."""

    def __init__(self, arguments, scratch):
        self.arguments, self.scratch = arguments, scratch
        self.rows, self.failures = [], []

    def attempt(self, what, work):
        """Does some work; what goes wrong is noted, and the others go on."""
        print(f"bench: {what} …", file=sys.stderr, flush=True)
        try:
            return work()
        except (Failed, line.Failed, OSError, ValueError, KeyError) as error:
            self.failures.append(f"{what}: {type(error).__name__}: {error}")
            print(f"bench: FAILED {self.failures[-1]}", file=sys.stderr, flush=True)
            return None

    def bars(self, *bars):
        """The bars that hold for this run."""
        return [] if self.arguments.quick else list(bars)

    # -- the whole line and its peers ----------------------------------------------------------------------------------

    def ours(self, load, program=None):
        """The product: a process for each tenant, into an empty folder, until visible and flushed. The result is exact."""
        program = program or line.program()
        data_dir = self.scratch / "data"
        shutil.rmtree(data_dir, ignore_errors=True)
        cost, rows, total = Cost(), 0, Decimal(0)
        for tenant, path in enumerate(load.paths):
            cost.add([program, *line.ingest_arguments(data_dir, f"tenant{tenant}", [path])])
            line.reconcile(line.last_json(cost.output))
        for tenant in range(len(load.paths)):
            sql = "select count(*), coalesce(sum(amount), 0) from opportunities"
            count, amount = line.query(data_dir, f"tenant{tenant}", sql).strip().splitlines()[-1].split(",")
            rows, total = rows + int(count), total + Decimal(amount)
        if rows != load.result["rows"] or total != Decimal(load.result["sum"]):
            raise Failed(f"a wrong result: {rows} rows, sum {total}; the oracle says {load.result}")
        return cost, {"rows": rows, "sum": str(total)}

    def peer(self, script, load):
        """A peer: one process for all files, which spares it three starts."""
        cost = Cost().add([sys.executable, str(HERE / "peers" / script), *load.paths])
        return cost, line.last_json(cost.output)

    def line(self, load, names, turns, is_barred=True):
        """The product and some peers in turns."""
        taken = []
        for _ in range(turns):
            results = {"autonomos": self.attempt(f"{load.title}, autonomos", lambda: self.ours(load))}
            for name in names:
                results[name] = self.attempt(f"{load.title}, {name}", lambda name=name: self.peer(PEERS[name], load))
            taken.append({name: result for name, result in results.items() if result})
        for name in ("autonomos", *names):
            costs = [results[name][0] for results in taken if name in results]
            if not costs:
                continue
            ratios = [results[name][0].cpu / results[BASE][0].cpu for results in taken if {name, BASE} <= set(results)]
            row = Row(load.title, name, statistics.median(c.cpu for c in costs) / load.records * 1e6,
                      load.records / statistics.median(c.wall for c in costs), max(c.rss for c in costs),
                      ratio=statistics.median(ratios) if ratios else None, base=BASE)
            found = next(results[name][1] for results in taken if name in results)
            is_exact = found["rows"] == load.result["rows"] and Decimal(found["sum"]) == Decimal(load.result["sum"])
            row.note = "exact" if is_exact else f"not exact: {found['rows']} rows, sum {found['sum']}"
            if name == "autonomos" and is_barred:
                row.bars = self.bars(Bar("CPU", row.ratio or float("inf"), CPU_MOST), Bar("RSS", row.rss, RSS_MOST))
            self.rows.append(row)

    def detection(self, load, turns):
        """What looking for drift costs: the product beside a build of it that looks for none, in turns."""
        question, programs = load.title.replace("line", "drift"), {"autonomos": None, "null profiler": None}
        programs["null profiler"] = line.program("autonomos-null-profiler")
        taken = []
        for turn in range(turns):
            # Who goes first changes, so that a machine that grows slow favours nobody.
            names = list(programs) if turn % 2 else list(reversed(programs))
            results = {name: self.attempt(f"{question}, {name}", lambda name=name: self.ours(load, programs[name]))
                       for name in names}
            if all(results.values()):
                taken.append({name: cost for name, (cost, _) in results.items()})
        if not taken:
            return
        ratio = statistics.median(costs["autonomos"].cpu / costs["null profiler"].cpu for costs in taken)
        for name in programs:
            costs = [costs[name] for costs in taken]
            is_ours = name == "autonomos"
            self.rows.append(Row(question, name, statistics.median(c.cpu for c in costs) / load.records * 1e6,
                                 load.records / statistics.median(c.wall for c in costs), max(c.rss for c in costs),
                                 ratio=ratio if is_ours else 1.0, base="null profiler",
                                 bars=self.bars(Bar("CPU", ratio, DETECTION_MOST)) if is_ours else []))

    # -- our own programs ----------------------------------------------------------------------------------------------

    def inside(self, name, *arguments):
        """The row that one of our own programs prints."""
        work = lambda: line.last_json(Cost().add([line.program(name), *map(str, arguments)]).output)  # noqa: E731
        return self.attempt(" ".join([name, *(a for a in map(str, arguments) if "/" not in a)]), work)

    def cost_row(self, found, question, base=None, load=None, note=""):
        """Adds a program's row, its CPU beside that of another row; its rows must be those of the oracle."""
        if not found:
            return None
        row = Row(question, found["name"], found["cpu_s_per_m"], found["rows_s"], found["rss_mb"], note=note)
        if base is not None and base.cpu:
            row.ratio, row.base = row.cpu / base.cpu, base.who if base.question == question else base.question
        self.rows.append(row)
        if load and "rows" in found and found["rows"] != load.result["rows"]:
            self.failures.append(f"{question}, {row.who}: {found['rows']} rows, the oracle says {load.result['rows']}")
        return row

    def nulls(self, load):
        """The whole line in one process, its log and its views replaced by ones that do nothing."""
        base = None
        for log, view in (("embedded", "delta"), ("null", "delta"), ("embedded", "null"), ("null", "null")):
            found = self.inside("line", "--log", log, "--view", view, "--dir", self.scratch, *load.paths)
            row = self.cost_row(found, load.title, base, load)
            base = base or row

    def views(self, load):
        """Upsert and rebuild."""
        label = load.title.removeprefix("line, ")
        base = self.cost_row(self.inside("upsert", "--view", "null", *load.paths), f"upsert, {label}")
        if found := self.inside("upsert", "--dir", self.scratch, *load.paths):
            note = f"{found['flushes']} flushes of {found['rows_written']:,} rows, open {found['open_ms']:.0f} ms"
            self.cost_row(found, f"upsert, {label}", base, load, note)
        self.cost_row(self.inside("rebuild", "--dir", self.scratch, *load.paths), f"rebuild, {label}", load=load)

    def parts(self, load):
        """Append, fingerprint and step."""
        base = None
        for engine in ("null", "segments", "embedded"):
            found = self.inside("append", "--engine", engine, "--records", load.records, "--dir", self.scratch)
            note = found and f"read back {found['read_cpu_s_per_m']:.2f} CPU-s/M, {found['disk_mb']:.0f} MB on disk"
            row = self.cost_row(found, "append", base, note=note)
            base = base or row
        parsed = self.cost_row(self.inside("fingerprint", "--by", "serde-json", *load.paths), "fingerprint")
        walked = self.cost_row(self.inside("fingerprint", *load.paths), "fingerprint", parsed)
        self.cost_row(self.inside("step", *load.paths), "step", walked)

    def queries(self):
        """A query over a table with a tail, beside plain DataFusion and DuckDB on the table's files."""
        for name in ("filtered", "grouped"):
            folder, question = self.scratch / f"query-{name}", f"query {name}"
            found = self.inside("query", name, "--keys", self.arguments.query_keys, "--folder", folder)
            if not found:
                continue
            bars = self.bars(Bar("ratio", found["ratio"], QUERY_MOST))
            self.rows.append(Row(question, "autonomos", p50=found["p50_ms"], p99=found["p99_ms"], ratio=found["ratio"],
                                 base="datafusion", bars=bars, note=f"{found['tail_rows']:,} of {found['keys']:,} rows "
                                 f"in the tail, {found['runs']} runs"))
            self.rows.append(Row(question, "datafusion", p50=found["datafusion_p50_ms"], ratio=1.0, base="datafusion",
                                 note="the table's files without the tail"))
            for view in folder.glob(f"data/views/*/{line.TABLE}"):
                script = [sys.executable, str(HERE / "peers" / "duckdb_query.py"), str(view), name]
                peer = self.attempt(f"duckdb {name}", lambda script=script: line.last_json(Cost().add(script).output))
                if peer:
                    ratio = peer["p50_ms"] / found["datafusion_p50_ms"]
                    self.rows.append(Row(question, "duckdb", p50=peer["p50_ms"], ratio=ratio, base="datafusion",
                                         note="the files with the tail flushed"))
            shutil.rmtree(folder, ignore_errors=True)

    def arrival(self):
        """What queries see, and how fast they are, while records arrive."""
        rate, seconds = self.arguments.rate, self.arguments.seconds
        flow = ["--rate", rate, "--seconds", seconds, "--dir", self.scratch]
        for name in ("filtered", "grouped"):
            found = self.inside("query-under-ingest", name, "--keys", self.arguments.ingest_keys, *flow)
            if found:
                self.rows.append(Row("query under ingest", name, found["cpu_s_per_m"], found["rows_s"], found["rss_mb"],
                                     found["p50_ms"], found["p99_ms"], found["ratio"], "at rest",
                                     note=f"{found['queries']} queries, {rate_note(found)}"))
        if found := self.inside("freshness", *flow):
            fresh = found["p99_ms"] if found["rate"] >= RATE_LEAST * rate else float("inf")
            self.rows.append(Row("freshness", "autonomos", found["cpu_s_per_m"], found["rows_s"], found["rss_mb"],
                                 found["p50_ms"], found["p99_ms"], bars=self.bars(Bar("p99 ms", fresh, FRESH_MOST)),
                                 note=f"fsync p99 {found['fsync_p99_ms']:.2f} ms, append p99 {found['append_p99_ms']:.2f} "
                                 f"ms, {found['marks']} marks, {found['dropped_marks']} left out, {rate_note(found)}"))

    def verdict(self):
        """Prints the table and what is wrong; gives the exit status."""
        print(f"\n{text(self.rows)}\n")
        bars = [(row, bar) for row in self.rows for bar in row.bars]
        missed = [f"{row.question}, {row.who}: {bar}" for row, bar in bars if not bar.is_met]
        print(f"bars: {len(bars) - len(missed)} met, {len(missed)} missed" + "".join(f"\n  {text}" for text in missed))
        print(f"runners: {len(self.failures)} failures" + "".join(f"\n  {text}" for text in self.failures))
        return 1 if self.failures else 0


def rate_note(found):
    """The rate that was reached."""
    return f"{found['rate']:,.0f} records/s of {found['wanted_rate']:,} wanted, {found['late_batches']} batches late"


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--tenants", type=int, default=4)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--second-records", type=int, default=1_200_000, help="of the workload with many keys")
    parser.add_argument("--second-keys", type=int, default=1_000_000)
    parser.add_argument("--small-records", type=int, default=100_000, help="for peers that take minutes")
    parser.add_argument("--query-keys", type=int, default=1_000_000)
    parser.add_argument("--ingest-keys", type=int, default=100_000, help="rows of the view that is asked while it grows")
    parser.add_argument("--rate", type=int, default=20_000, help="records a second that arrive")
    parser.add_argument("--seconds", type=int, default=60, help="how long they arrive")
    parser.add_argument("--only", help="questions, divided by commas")
    parser.add_argument("--quick", action="store_true", help="small counts, no bars: does everything work?")
    arguments = parser.parse_args()
    if arguments.quick:
        few = {"turns": 1, "records": 40_000, "keys": 4_000, "second_records": 48_000, "second_keys": 40_000,
               "small_records": 4_000, "query_keys": 50_000, "ingest_keys": 10_000, "seconds": 2}
        vars(arguments).update(few)
    return arguments


def main():
    arguments = parse()
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="bench-"))
    bench = Bench(arguments, scratch)
    try:
        print(f"bench: seed {arguments.seed}, {os.cpu_count()} cores, commit {line.git_hash()}", flush=True)
        load = lambda name, records, keys: Load(scratch, name, records, keys, arguments)  # noqa: E731
        first = functools.cache(lambda: load("first", arguments.records, arguments.keys))
        second = functools.cache(lambda: load("second", arguments.second_records, arguments.second_keys))
        small = functools.cache(lambda: load("small", arguments.small_records, arguments.small_records // 10))
        quick_peers = [name for name in PEERS if name != "dlt merge"]
        questions = {
            "line": lambda: (bench.line(first(), quick_peers, arguments.turns), bench.nulls(first())),
            "keys": lambda: (bench.line(second(), quick_peers, arguments.turns), bench.nulls(second())),
            "drift": lambda: bench.detection(first(), 2 * arguments.turns),
            "small": lambda: bench.line(small(), [BASE, "dlt merge"], 1, is_barred=False),
            "parts": lambda: (bench.parts(first()), bench.views(first()), bench.views(second())),
            "query": bench.queries,
            "arrival": bench.arrival,
        }
        if arguments.quick:
            # It wants a build of its own.
            questions.pop("drift")
        chosen = arguments.only.split(",") if arguments.only else list(questions)
        if unknown := set(chosen) - set(questions):
            sys.exit(f"bench: there is no question {', '.join(unknown)}: choose from {', '.join(questions)}")
        for name in chosen:
            questions[name]()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    sys.exit(bench.verdict())


if __name__ == "__main__":
    main()
