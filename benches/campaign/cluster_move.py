"""A data folder that has lived a little moves to servers: `autonomos migrate --from FOLDER --to FILE`. Both sides are read back by
the command itself, and once more on the way to another folder; then the servers answer as the folder did, column by column, with
the same ids and places. A move that is cut off by SIGKILL goes on where it was, and ends with the same hashes."""

import json
import random
import shutil
import subprocess
import time

import feed
import line
import steady
import workload
from cluster_crew import answer, first_difference, rows_at
from nodes import Crew
from servers import Cluster
from wire import Wire

# A tenant with large files, one whose amount is renamed, and one that a person does not decide for.
LARGE, DECIDED, WAITING = "large", "decided", "waiting"
DRIFTING = 2_000
PATIENCE_S = 1800
# All there is, in the order in which a command prints it.
ALL = "1000000"


class Life:
    """A data folder, and what it has lived through."""

    def __init__(self, scratch, options):
        self.data, self.scratch = scratch / "data", scratch
        records = min(options.records, options.moved_records)
        self.files = [workload.write(scratch / f"w{n}", records // 2, min(options.keys, records // 4), seed=options.seed + n)[0]["path"]
                      for n in range(2)]
        self.bad = scratch / "bad.ndjson"
        self.bad.write_text("".join(spoilt(self.files[0])))
        for file in (*self.files, self.bad):
            line.ingest(self.data, LARGE, [file])
        line.ingest(self.data, LARGE, self.files)
        self.drifted(DECIDED, options.seed)
        self.drifted(WAITING, options.seed + 1)
        decide(self.data, DECIDED)
        with line.Server(self.data) as server:
            person = steady.Person(server, self.data, LARGE)
            self.email = person.email
            self.key = person.call("/auth/keys", {"name": "a program", "role": "editor"})["secret"]

    def drifted(self, tenant, seed):
        """A tenant whose amount has another name half way, which nobody could guess."""
        members = list(steady.records(2 * DRIFTING, seed))
        for number, (part, name) in enumerate(((members[:DRIFTING], "Amount"), (members[DRIFTING:], steady.NEW_NAME))):
            file = self.scratch / f"{tenant}-{number}.ndjson"
            steady.write(file, part, name)
            line.ingest(self.data, tenant, [file])


def spoilt(path):
    """Three records of a file that can be no rows: one that is cut off, one without a time that counts, one with no date."""
    first, second, third = (json.loads(row) for row in open(path, encoding="utf-8").readlines()[:3])
    yield json.dumps({**second, "LastModifiedDate": "yesterday"}) + "\n"
    yield json.dumps({**third, "CloseDate": "soon"}) + "\n"
    yield json.dumps(first)[:-20] + "\n"


def decide(data, tenant):
    """Decides the one case of a tenant that waits."""
    waiting = [case["case"] for case in steady.settled(data, tenant) if case["status"] == "open"]
    if len(waiting) != 1:
        raise line.Failed(f"{tenant} should have one case that waits, and has {waiting}")
    line.run(["cases", "edit", "--tenant", tenant, "--data-dir", str(data), waiting[0], "--move", f"Amount={steady.NEW_NAME}",
              "--why", "the vendor told us"])


def told(data):
    """What a folder, or a process on it, answers of everything that moved: texts by what was asked."""
    answers = {}

    def ask(tenant, *words):
        answers[" ".join((tenant, *words))] = line.run([*words, "--tenant", tenant, "--data-dir", str(data), "--json"], PATIENCE_S)

    for tenant in (LARGE, DECIDED, WAITING):
        answers[f"{tenant} rows"] = answer(data, tenant, but=())
        ask(tenant, "cases", "list", "--all")
        ask(tenant, "quarantine", "list")
        rows = line.json_lines(line.run(["log", "stat", "--tenant", tenant, "--data-dir", str(data), "--json"]))
        answers[f"{tenant} streams"] = "\n".join(json.dumps(row) for row in rows if "accepted" in row)
        ask(tenant, "mappings", "list")
        ask(tenant, "policy", "show")
        ask(tenant, "drift", "list")
        for topic in ("events", "decisions", "inputs") if tenant != LARGE else ("decisions",):
            ask(tenant, "log", "cat", "--topic", topic, "--limit", ALL)
    return answers


def moved(campaign, source, target):
    """Moves, and gives counts and hashes of each part."""
    started = time.monotonic()
    rows = line.json_lines(line.run(["migrate", "--json", "--from", str(source), "--to", str(target)], PATIENCE_S))
    parts = {row["part"]: (row["count"], row["sha256"]) for row in rows if "part" in row}
    if not parts:
        campaign.anomaly(f"the move to {target} told no counts: {rows}")
    return parts, time.monotonic() - started


def cut_off(campaign, rng, source, target, seconds, kills):
    """Moves, and is killed a few times before it is done."""
    killed = 0
    for _ in range(kills):
        process = subprocess.Popen([line.program(), "migrate", "--json", "--from", str(source), "--to", str(target)],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=line.environment())
        try:
            process.communicate(timeout=rng.uniform(0.1, 0.7) * seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        killed += process.returncode < 0
        campaign.fired("move killed" if process.returncode < 0 else "move ended before the kill")
        if process.returncode > 0:
            campaign.anomaly(f"a move that was cut off before ends with {process.returncode}")
    if kills and not killed:
        campaign.anomaly("no move was killed")


def run(campaign, scratch, options):
    """Asks the question."""
    rng = random.Random(options.seed)
    life = Life(scratch, options)
    before = told(life.data)
    with Cluster(scratch / "servers", is_s3=options.views == "s3") as cluster:
        ready(campaign, scratch, cluster)
        target, config = written(scratch, cluster, "moved")
        parts, seconds = moved(campaign, life.data, target)
        print(json.dumps({"parts": {name: {"count": count, "sha256": sha} for name, (count, sha) in parts.items()},
                          "seconds": round(seconds, 1)}), flush=True)
        back, _ = moved(campaign, target, scratch / "back")
        if back != parts:
            campaign.anomaly(f"from the folder went {parts}, and from the servers {back}")
        campaign.fired("moved back")
        shutil.copy(life.data / "master.key", scratch / "back")
        hold(campaign, "the folder that it moved back to", before, told(scratch / "back"))
        cut, _ = written(scratch, cluster, "cut")
        cut_off(campaign, rng, life.data, cut, seconds, options.move_kills)
        again, _ = moved(campaign, life.data, cut)
        if again != parts:
            campaign.anomaly(f"a move that was cut off ends with {again}, not {parts}")
        lives_on(campaign, scratch, life, config, before)


def ready(campaign, scratch, cluster):
    """Servers are made ready before anything is there."""
    target, _ = written(scratch, cluster, "ready")
    topics = line.json_lines(line.run(["migrate", "--json", "--to", str(target)]))
    if len([row for row in topics if row.get("partitions") == 4]) != 3:
        campaign.anomaly(f"three topics of 4 partitions should be there, and there are {topics}")
    campaign.fired("made ready")


def written(scratch, cluster, name):
    """A configuration and the file that it stands in."""
    config = cluster.config(name, partitions=4, rates=feed.RATES)
    path = scratch / f"{name}.yaml"
    path.write_text(json.dumps(config))
    return path, config


def hold(campaign, who, before, after):
    """Every answer is the one of before."""
    for asked, text in before.items():
        if different := first_difference(text, after[asked]):
            campaign.anomaly(f"{who} answers otherwise to {asked}: {different}")
    campaign.fired("answers compared")


def signed_in(listen, life):
    """The token of who signed in before."""
    answer = Wire(listen).ask("POST", "/api/v1/auth/login", None,
                              {"tenant": LARGE, "email": life.email, "password": steady.PASSWORD})
    if answer.status != 200:
        raise line.Failed(f"who was known before is not known any more: {answer.status} {answer.body[:300]!r}")
    return answer.json()["access_token"]


def lives_on(campaign, scratch, life, config, before):
    """The servers answer as the folder did, know the same people, and go on: what was read is not taken again, and the case that
    waited can be decided."""
    with Crew(campaign, scratch / "crew", config, master=life.data) as crew:
        [node] = crew.add("api", "process", "project", "repair")
        token = signed_in(node.listen, life)
        line.until("views come back from the log", feed.Lag(token, node.listen).is_none, PATIENCE_S)
        hold(campaign, "the cluster", before, told(node.folder))
        if rows_at(node.listen, token) != rows_at(node.listen, life.key):
            campaign.anomaly("a person and a program of before do not see the same")
        campaign.fired("signed in with a password and a key of before")
        counts = line.ingest(node.folder, LARGE, life.files)
        if counts["in"]:
            campaign.anomaly(f"files that were read before the move are read again: {counts}")
        campaign.fired("read again, and nothing came")
        decide(node.folder, WAITING)
        row = line.query(node.folder, WAITING, steady.COUNT).splitlines()[-1]
        if row != f"{2 * DRIFTING},{2 * DRIFTING}":
            campaign.anomaly(f"the case that waited is decided, and rows and amounts are {row}")
        campaign.fired("the case that waited was decided")
        line.refold(node.folder, 777, 2)
        crew.stop()
