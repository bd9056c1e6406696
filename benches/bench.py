"""One table: what the line costs beside its peers, on the same files, in the same run.

Each runner is a process (or four, one after the other, for the four tenants); its CPU is user + system of the process
and of every child it waited for, its memory the greatest resident set of any of them. Runners take turns, and a ratio
is the median of ratios within one turn, so that a machine that grows slow in between does not decide.

    bench.py --records 1000000 --keys 100000 --turns 3
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "campaign"))

import line  # noqa: E402  The campaigns' folder must be on the path before.
import workload  # noqa: E402

# A new process starts with the resident set of the one that made it, and Linux counts that into its peak. So this
# program stays small: whatever needs memory, the oracle too, runs in a process of its own.

PEERS = {
    "duckdb": ["duckdb_last_by_key.py"],
    "duckdb arg_max": ["duckdb_arg_max.py"],
    "datafusion": ["datafusion_last_by_key.py"],
    "dlt": ["dlt_merge.py"],
}
BASE = "duckdb"


class Cost:
    """What processes cost: seconds of CPU and of the clock, and the greatest resident set in megabytes."""

    def __init__(self):
        self.cpu, self.wall, self.rss, self.output = 0.0, 0.0, 0.0, ""

    def add(self, command):
        """Runs a command to its end and adds what it cost."""
        started = time.perf_counter()
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(command, stdout=out, stderr=errors)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            errors.seek(0)
            self.output = out.read()
            if process.returncode != 0:
                raise RuntimeError(f"{command[0]} ended with {process.returncode}: {errors.read()[-1000:]}")
        self.wall += time.perf_counter() - started
        self.cpu += usage.ru_utime + usage.ru_stime
        self.rss = max(self.rss, usage.ru_maxrss / 1024)
        return self


def run_line(files, scratch):
    """Ours: a tenant for each file, into an empty folder, until visible and flushed."""
    data_dir = scratch / "data"
    shutil.rmtree(data_dir, ignore_errors=True)
    cost = Cost()
    for tenant, file in enumerate(files):
        cost.add([line.program(), *line.ingest_arguments(data_dir, f"tenant{tenant}", [file["path"]])])
        line.reconcile(line.last_json(cost.output))
    return cost, check_line(data_dir, files)


def check_line(data_dir, files):
    """The sum over all tenants' views, to hold beside the peers'."""
    rows, total = 0, 0
    from decimal import Decimal
    for tenant in range(len(files)):
        answer = line.query(data_dir, f"tenant{tenant}", "select count(*), coalesce(sum(amount), 0) from opportunities")
        count, amount = answer.strip().splitlines()[-1].split(",")
        rows, total = rows + int(count), total + Decimal(amount)
    return {"rows": rows, "sum": str(total)}


def run_peer(script, files, scratch):
    """A peer: one process for all files, which spares it three starts."""
    cost = Cost().add([sys.executable, str(HERE / "peers" / script), *(file["path"] for file in files)])
    return cost, line.last_json(cost.output)


def turn(runners, files, scratch):
    """Every runner once."""
    results = {}
    for name, runner in runners.items():
        print(f"bench: {name} …", file=sys.stderr, flush=True)
        try:
            results[name] = runner(files, scratch)
        except (RuntimeError, line.Failed) as error:
            print(f"bench: {name} failed: {error}", file=sys.stderr, flush=True)
    return results


def table(turns, records):
    """The table's lines: medians over the turns, ratios to the base within each turn."""
    lines = [f"{'':<16}{'CPU-s/M':>9}{'rows/s':>12}{'RSS MB':>9}{'CPU ÷ ' + BASE:>15}{'wall ÷ ' + BASE:>15}  result"]
    for name in dict.fromkeys(name for results in turns for name in results):
        costs = [results[name][0] for results in turns if name in results]
        pairs = [(results[name][0], results[BASE][0]) for results in turns if name in results and BASE in results]
        median = lambda values: statistics.median(values) if values else float("nan")  # noqa: E731
        found = next(results[name][1] for results in turns if name in results)
        lines.append(
            f"{name:<16}{median([c.cpu for c in costs]) / records * 1e6:>9.2f}"
            f"{records / median([c.wall for c in costs]):>12,.0f}{max(c.rss for c in costs):>9.0f}"
            f"{median([ours.cpu / base.cpu for ours, base in pairs]):>15.2f}"
            f"{median([ours.wall / base.wall for ours, base in pairs]):>15.2f}  {found['rows']} rows, sum {found['sum']}")
    return lines


def inside(name, *arguments):
    """What one of our own bench programs says."""
    try:
        return Cost().add([line.program(name), *arguments]).output.strip()
    except RuntimeError as error:
        return f"failed: {error}"


def exact(files):
    """What the oracle says."""
    from decimal import Decimal
    rows, total = 0, Decimal(0)
    for file in files:
        found = line.last_json(Cost().add([sys.executable, str(HERE / "campaign" / "oracle.py"), file["path"]]).output)
        rows, total = rows + found["rows"], total + Decimal(found["sum"])
    return {"rows": rows, "sum": str(total)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--tenants", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--slow-records", type=int, default=100_000, help="records for peers that take minutes")
    parser.add_argument("--rate", type=int, default=20_000, help="events a second for the freshness")
    parser.add_argument("--seconds", type=int, default=60, help="how long the freshness is measured")
    parser.add_argument("--only", help="runners, divided by commas")
    arguments = parser.parse_args()
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        files = workload.write(scratch / "w", arguments.records, arguments.keys, arguments.tenants, arguments.seed)
        size = sum(file["bytes"] for file in files)
        print(f"{arguments.records:,} records, {sum(f['keys'] for f in files):,} keys, {arguments.tenants} tenants, "
              f"{size / 1e6:.0f} MB, seed {arguments.seed}, {os.cpu_count()} cores, commit {line.git_hash()}")
        runners = {"autonomos": run_line}
        runners |= {name: (lambda f, s, script=scripts[0]: run_peer(script, f, s))
                    for name, scripts in PEERS.items() if name != "dlt"}
        if arguments.only:
            chosen = arguments.only.split(",")
            runners = {name: runner for name, runner in runners.items() if name in chosen}
        turns = [turn(runners, files, scratch) for _ in range(arguments.turns)]
        print("\n".join(table(turns, arguments.records)))
        print(f"oracle: {json.dumps(exact(files))}")
        if not arguments.only or "dlt" in arguments.only:
            few = workload.write(scratch / "few", arguments.slow_records, arguments.slow_records // 10,
                                 arguments.tenants, arguments.seed)
            slow = {name: runners[name] for name in ("autonomos", BASE) if name in runners}
            slow["dlt"] = lambda f, s: run_peer(PEERS["dlt"][0], f, s)
            print(f"\n{arguments.slow_records:,} records of the same kind, because dlt takes minutes for more")
            print("\n".join(table([turn(slow, few, scratch)], arguments.slow_records)))
        if not arguments.only:
            print("\nfreshness: from an append's acknowledgement to the first query that shows the row")
            print(inside("freshness", str(arguments.rate), str(arguments.seconds)))
            print("\nquery: 1M keys with a tenth of the rows in the tail, beside plain DataFusion on the same files")
            print(inside("query", "1000000", "15", str(scratch / "query")))
            for folder in (scratch / "query").glob(f"data/views/*/{line.TABLE}"):
                peer = Cost().add([sys.executable, str(HERE / "peers" / "duckdb_query.py"), str(folder)])
                print(f"duckdb on the flushed files: {peer.output.strip()}")
            print("\nstep: its parts without log, disk and views, in seconds per million records")
            print(inside("step"))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
