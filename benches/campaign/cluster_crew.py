"""Three `process`, three `project`, one `repair` and two `api` processes on one Kafka, one Cassandra and one place of views. While
records are pushed through both `api` nodes, `process` and `project` are killed at random and started again, and so is the broker.

Views lie in S3Proxy's bucket: a process that is killed does not come back, so each table has one writer at a time by its lease, and
one put after the other is what S3Proxy can tell apart. (Who stops a writer and lets it go on has two at once: that is
`cluster_paused.py`, which needs a place whose conditional put is one step, and takes a folder.)"""

import collections
import json
import pathlib
import random
import statistics
import subprocess
import time

import feed
import line
import oracle
import workload
from nodes import DEAD, LOST, Crew
from servers import Cluster
from wire import Wire

ROLES = {"process": 3, "project": 3, "repair": 1, "api": 2}
TENANTS = 6
# Positions of the log, and what follows from them; every other column has to be the same wherever a line runs.
OF_THE_LOG = ("_origin", "_position", "_partition", "_logged_at")
# One kill in so many does not wait until its victim has work.
AT_ONCE = 4
# Everything that was pushed is in every table so soon behind the last fault: an idle table is written after a minute.
PATIENCE_S = 1800


class Faults:
    """Kills that are to come, in random order, and what they met."""

    def __init__(self, campaign, rng, cluster, crew, feeder, lag, kills, broker_kills):
        self.campaign, self.rng, self.cluster, self.crew = campaign, rng, cluster, crew
        self.feeder, self.lag = feeder, lag
        self.left = ["node"] * kills + ["broker"] * broker_kills
        rng.shuffle(self.left)
        self.count, self.fired = len(self.left), []

    def run(self):
        """Fires all of them. With each the feeder may go a step further, so that none meets a line that has nothing to do."""
        self.feeder.allow(1 / (self.count + 1))
        while self.left:
            self.crew.mend()
            self.there_is_work()
            if self.left[-1] == "broker":
                self.kill_broker()
            else:
                self.kill_node()
            self.left.pop()
            done = self.count - len(self.left)
            self.feeder.allow((done + 1) / (self.count + 1))
            self.campaign.cycle(every=10, total=self.count)

    def there_is_work(self):
        """Waits until something is not done yet, or is on its way."""
        def is_some():
            self.crew.mend()
            self.feeder.is_done()
            return self.feeder.is_behind() or not self.lag.is_none("processor", "projector")

        line.until("there is work to disturb", is_some, PATIENCE_S)

    def kill_node(self):
        """Kills one of those that process or project, mostly while it works."""
        role = self.rng.choice(("process", "project"))
        at_once = self.rng.randrange(AT_ONCE) == 0
        nodes = self.crew.of(role)

        def found():
            self.crew.mend()
            able = [node for node in nodes if node.is_running() and (at_once or node.holds())]
            return able

        victim = self.rng.choice(line.until(f"a {role} works", found, PATIENCE_S))
        time.sleep(self.rng.uniform(0, 2))
        held, lags = victim.holds(), self.lag.look()
        alive = victim.is_running()
        at = time.time()
        victim.kill()
        if alive:
            phase = "before it has a partition" if not held else "behind" if lags is None or lags[READS[role]] else "at rest"
            self.campaign.fired(f"{role} killed {phase}")
            self.fired.append((at, role, held))
        else:
            self.campaign.fired("ended before the kill")
            self.left.insert(0, "node")
            self.count += 1
        victim.start()

    def kill_broker(self):
        """Kills the broker; it comes back at once, or after a while."""
        kafka = self.cluster.kafka
        kafka.kill()
        self.campaign.fired("broker killed")
        time.sleep(self.rng.choice((0, self.rng.uniform(0, 20))))
        kafka.start()
        kafka.wait()

    def takeovers(self):
        """Seconds from each kill until others, or the same once more, had what was the victim's; and how many are not known."""
        found, lost = collections.defaultdict(list), 0
        for at, role, held in self.fired:
            taken = self.crew.takeovers(at, held)
            found[role] += taken.values()
            lost += len(held) - len(taken)
        return found, lost


# Who of those in /api/v1/lag does what a role's processes do.
READS = {"process": "processor", "project": "tables"}


def run(campaign, scratch, options):
    """Asks the question."""
    rng = random.Random(options.seed)
    files = workload.write(scratch / "w", options.records, options.keys, TENANTS, options.seed)
    with Cluster(scratch / "servers", is_s3=options.views == "s3") as cluster:
        config = cluster.config("crew", rates=feed.RATES)
        with Crew(campaign, scratch / "crew", config) as crew:
            apis = crew.add("api", count=ROLES["api"])
            for role in ("process", "project", "repair"):
                crew.add(role, count=ROLES[role])
            tenants = [feed.Tenant(f"tenant{n}", apis[n % 2].listen, file) for n, file in enumerate(files)]
            feeder = feed.Feeder(tenants, [node.listen for node in apis])
            lags = [feed.Lag(tenants[0].token, node.listen) for node in apis]
            faults = Faults(campaign, rng, cluster, crew, feeder, lags[0], options.kills, options.broker_kills)
            started = time.monotonic()
            feeder.start()
            try:
                faults.run()
                settle(crew, feeder, lags)
                # Also a partition that has nothing to do.
                line.until("others have what the killed had", lambda: not faults.takeovers()[1], PATIENCE_S)
            finally:
                feeder.stop()
            figures(faults, feeder, lags[0], crew, time.monotonic() - started)
            if feeder.refusals[500]:
                campaign.anomaly(f"{feeder.refusals[500]} pushes were answered 500")
            line_is_whole(campaign, cluster, crew, tenants)
            embedded_is_equal(campaign, scratch, crew, files, tenants)
            crew.stop()


def settle(crew, feeder, lags):
    """Lets everything come to its end: all is pushed, processed, folded and in tables, by the word of every node."""
    def is_done():
        crew.mend()
        return feeder.is_done() and all(lag.is_none() for lag in lags)

    feeder.allow(1)
    line.until("everything is pushed and in tables", is_done, PATIENCE_S)
    for node in crew.apis():
        node.wait()


def figures(faults, feeder, lag, crew, seconds):
    """Prints what was seen."""
    taken, lost = faults.takeovers()
    spread = lambda found: {"p50_s": round(statistics.median(found), 1), "max_s": round(max(found), 1)} if found else None
    campaign = faults.campaign
    if lost:
        campaign.anomaly(f"{lost} partitions of processes that were killed were taken by nobody")
    print(json.dumps({
        "records": feeder.acknowledged, "seconds": round(seconds, 1), "pushed_again": feeder.again,
        "refusals": dict(feeder.refusals), "takeover": {role: spread(found) for role, found in taken.items()},
        "most_behind_ms": lag.behind_ms, "taken_for_dead": crew.count(DEAD), "lost_what_they_had": crew.count(LOST)}), flush=True)


def counters_are_whole(campaign, data, tenant, records):
    """Every record came in once, whatever was sent again, and is a row or a delete."""
    rows = line.json_lines(line.run(["log", "stat", "--tenant", tenant, "--data-dir", str(data), "--json"]))
    rows = [row for row in rows if row.get("stream", "").startswith("crm/")]
    came = sum(row["in"] - row["duplicate"] for row in rows)
    campaign.hold(records, came)
    kept = sum(row["accepted"] + row["deleted"] for row in rows)
    if came != records or kept != records:
        campaign.anomaly(f"{tenant}: {records} records acknowledged, {came} taken once, {kept} rows and deletes: {rows}")


def line_is_whole(campaign, cluster, crew, tenants):
    """Counters, rows and deletes are the oracle's at every node that answers, and for other readers of the tables."""
    first = crew.apis()[0].folder
    holds_its_folder(campaign, crew.apis()[0])
    for tenant in tenants:
        try:
            counters_are_whole(campaign, first, tenant.name, tenant.records)
            con = oracle.connect()
            oracle.expected(con, [tenant.path])
            for node in crew.apis():
                oracle.compare_by_sql(con, ask(node.listen, tenant.token, oracle.SELECT))
                campaign.fired("equal at a node")
            for reader in oracle.compare_by_readers(con, table(cluster, first, tenant.name)):
                campaign.fired(f"equal by {reader}")
        except (line.Failed, oracle.Mismatch) as error:
            campaign.anomaly(f"{tenant.name}: {error}")
    line.refold(first, 777, 2)
    campaign.fired("equal by another fold")
    healthy(first)


def holds_its_folder(campaign, node):
    """A second process on the folder of one that runs is refused."""
    words = ["serve", "--data-dir", str(node.folder), "--roles", "api", "--listen", "127.0.0.1:0"]
    try:
        second = subprocess.run([line.program(), *words], capture_output=True, text=True, timeout=line.PATIENCE_S, env=line.environment())
        if second.returncode != 1 or "process" not in second.stderr:
            campaign.anomaly(f"a second process on a folder ends with {second.returncode}: {second.stderr[-400:]}")
    except subprocess.TimeoutExpired:
        campaign.anomaly(f"a second process takes {node.name}'s folder")
    campaign.fired("a folder asked for twice")


def healthy(data):
    """Fails with what doctor finds, but that one broker keeps one copy of everything."""
    done = subprocess.run([line.program(), "doctor", "--json", "--data-dir", str(data)], capture_output=True, text=True,
                          timeout=1800, env=line.environment())
    rows = line.json_lines(done.stdout)
    found = [row for row in rows if row.get("state") == "failed"]
    wrong = [row for row in found if "1 replicas" not in row["finding"]]
    if wrong or done.returncode and not found:
        raise line.Failed(f"doctor ended with {done.returncode}: {wrong} {done.stderr[-800:]}")
    if not any(row.get("check") == "roles" for row in rows):
        raise line.Failed(f"doctor ended before the checks of the line: {done.stderr[-800:]}")


def table(cluster, data, tenant):
    """Where a tenant's table lies on this machine's disk."""
    folder = str(line.view_folder(data, tenant))
    return cluster.s3.on_disk(folder) if cluster.s3 else pathlib.Path(folder)


def ask(listen, token, sql):
    """What a node itself answers over HTTP, as CSV."""
    answered = Wire(listen).ask("POST", "/api/v1/query", token, {"sql": sql}, {"accept": "text/csv"}, timeout=1800)
    if answered.status != 200:
        raise line.Failed(f"{listen} answers {answered.status} to {sql}: {answered.body[:300]!r}")
    return answered.body.decode()


def rows_at(listen, token, but=OF_THE_LOG):
    """All rows of a view in the order of their keys, as a node answers them, with all columns but some."""
    header = ask(listen, token, f"select * from {line.TABLE} limit 1").splitlines()[0]
    columns = ", ".join(f'"{name}"' for name in header.split(",") if name not in but)
    return ask(listen, token, f"select {columns} from {line.TABLE} order by _connection, _stream, _key")


def answer(data, tenant, table=line.TABLE, but=OF_THE_LOG):
    """All rows of a view in the order of their keys, with all columns but some."""
    told = line.json_lines(line.views(data, tenant, "describe", table, "--json"))
    columns = ", ".join(f'"{row["column"]}"' for row in told if row["column"] not in but)
    return line.query(data, tenant, f"select {columns} from {table} order by _connection, _stream, _key")


def embedded_is_equal(campaign, scratch, crew, files, tenants):
    """The nodes answer the same in every column; and so does one process on a folder, but for positions, to which the same
    was pushed."""
    first, second = (node.listen for node in crew.apis())
    with Crew(campaign, scratch / "embedded", {"rates": feed.RATES}) as alone:
        [node] = alone.add("api", "process", "project", "repair")
        own = [feed.Tenant(tenant.name, node.listen, file) for tenant, file in zip(tenants, files)]
        feed.feed(own, [node.listen])
        for tenant, same in zip(tenants, own):
            line.run(["views", "flush", "--tenant", tenant.name, "--data-dir", str(node.folder)])
            if different := first_difference(rows_at(first, tenant.token, but=()), rows_at(second, tenant.token, but=())):
                campaign.anomaly(f"{tenant.name}: the two nodes do not answer the same: {different}")
            if different := first_difference(rows_at(first, tenant.token), rows_at(node.listen, same.token)):
                campaign.anomaly(f"{tenant.name}: the cluster and a process alone do not answer the same: {different}")
            campaign.fired("equal to a process alone")
        alone.stop()


def first_difference(one, other):
    """The first line in which two texts differ, as both have it."""
    ones, others = one.splitlines(), other.splitlines()
    if ones == others:
        return None
    at = next((at for at, (mine, theirs) in enumerate(zip(ones, others)) if mine != theirs), min(len(ones), len(others)))
    return f"{len(ones)} and {len(others)} lines, line {at}: {ones[at:at + 1]} and {others[at:at + 1]}"
