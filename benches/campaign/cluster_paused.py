"""Projectors and processors that are stopped past their leases (SIGSTOP), and go on (SIGCONT) when others have long done their work.

There is no session at Kafka that they could outlive: nobody joins a group there, and who reads what is a matter of leases alone.
A process trusts its own for 10 s and is taken for dead after 15. Views lie in a folder: whoever goes on may commit at the same moment
as its successor, and only a place whose conditional put is one step can say who was first (S3Proxy looks and puts in two)."""

import json
import pathlib
import random
import time

import cluster_crew
import feed
import line
import workload
from nodes import LOST, Crew
from servers import Cluster

TENANTS = 4
PARTITIONS = 4
# Taken for dead after 15 s, and the others look every 3; much runs on few cores.
TAKEN_WITHIN_S = 120
# An idle table is written after a minute.
COMMITTED_WITHIN_S = 300
OVERTAKEN = "a role starts again if its lease is still there"


class Pauses:
    """Stops processes and has them go on."""

    def __init__(self, campaign, rng, crew, feeder, views):
        self.campaign, self.rng, self.crew, self.feeder, self.views = campaign, rng, crew, feeder, views
        self.figures = []

    def one(self, role, share, until_committed):
        """One pause of a process that works, with records on their way before, meanwhile and behind."""
        victim = self.rng.choice(line.until(f"a {role} has partitions", lambda: [n for n in self.crew.of(role) if n.holds()],
                                            TAKEN_WITHIN_S))
        self.feeder.allow(share(1 / 3))
        time.sleep(self.rng.uniform(0, 3))
        held, commits, lost = victim.holds(), len(self.commits()), self.count(victim)
        at = time.time()
        victim.pause()
        self.feeder.allow(share(2 / 3))
        taken = line.until(f"{victim.name}'s partitions are taken over",
                           lambda: self.all_taken(at, held, victim), TAKEN_WITHIN_S)
        self.tokens_have_risen(held, victim)
        if until_committed:
            line.until("a successor has committed", lambda: len(self.commits()) > commits, COMMITTED_WITHIN_S)
        woken = time.time()
        victim.resume()
        self.feeder.allow(share(1))
        ended = line.until(f"{victim.name} knows that its leases are lost", lambda: self.knows(victim, lost), TAKEN_WITHIN_S)
        self.campaign.fired(f"{role} paused{', its successor has committed' if until_committed else ''}")
        self.campaign.fired(ended)
        self.figures.append({"role": role, "partitions": len(held), "taken_after_s": round(max(taken.values()), 1),
                             "paused_s": round(woken - at, 1), "knows_after_s": round(time.time() - woken, 1)})
        if not victim.is_running():
            self.crew.mend()

    def all_taken(self, at, held, victim):
        """When each partition was taken by another; nothing before all of them are."""
        found = self.crew.takeovers(at, held, but=[victim])
        return found if len(found) == len(held) else None

    def tokens_have_risen(self, held, victim):
        """Every taking has a greater token than the one before."""
        for node in self.crew.nodes:
            for share, token in node.holds().items() if node is not victim else []:
                if share in held and token <= held[share]:
                    self.campaign.anomaly(f"{node.name} has {share} with the token {token}, {victim.name} had {held[share]}")

    def count(self, victim):
        """How often a process has said that it lost what it had."""
        victim.look()
        return sum(told["message"] == LOST for told in victim.told)

    def knows(self, victim, before):
        """What a process does that has lost its leases: it says so, or it ends."""
        if self.count(victim) > before:
            return "it said that its leases were lost"
        return None if victim.is_running() else "it ended"

    def commits(self):
        """All commits of all tables."""
        return [file for file in self.views.rglob("_delta_log/*.json") if file.stem.isdigit()]

    def commits_only_go_on(self):
        """No commit of a table goes back behind the one before it: nobody wrote over what another had."""
        for log in {file.parent for file in self.commits()}:
            before = {}
            for file in sorted(log.glob("*.json")):
                for action in line.json_lines(file.read_text()):
                    mark = action.get("txn")
                    # An ordinal counts within its input.
                    if not mark or "/ordinals/" in mark["appId"]:
                        continue
                    if mark["version"] < before.get(mark["appId"], 0):
                        self.campaign.anomaly(f"{file} goes back: {mark['appId']} from {before[mark['appId']]} to {mark['version']}")
                    before[mark["appId"]] = mark["version"]
        self.campaign.fired("commits read in their order")


def run(campaign, scratch, options):
    """Asks the question."""
    rng = random.Random(options.seed)
    records = min(options.records, options.paused_records)
    files = workload.write(scratch / "w", records, min(options.keys, records // 2), TENANTS, options.seed)
    with Cluster(scratch / "servers", is_s3=False) as cluster:
        config = cluster.config("paused", partitions=PARTITIONS, rates=feed.RATES)
        with Crew(campaign, scratch / "crew", config) as crew:
            [api] = crew.add("api")
            for role in ("process", "project"):
                crew.add(role, count=2)
            crew.add("repair")
            tenants = [feed.Tenant(f"tenant{n}", api.listen, file) for n, file in enumerate(files)]
            feeder, lag = feed.Feeder(tenants, [api.listen]), feed.Lag(tenants[0], api.listen)
            pauses = Pauses(campaign, rng, crew, feeder, pathlib.Path(config["views"]["location"]))
            # A projector that is stopped until its successor has committed has something that is due when it goes on.
            kinds = [(("project", True), ("project", False), ("process", False))[n % 3] for n in range(options.pauses)]
            feeder.start()
            try:
                for number, (role, until_committed) in enumerate(kinds):
                    pauses.one(role, lambda part: (number + part) / len(kinds), until_committed)
                    campaign.cycle(every=1, total=len(kinds))
                cluster_crew.settle(crew, feeder, lag)
            finally:
                feeder.stop()
            print(json.dumps({"pauses": pauses.figures, "started_again_by_a_stale_write": crew.count(OVERTAKEN)}), flush=True)
            pauses.commits_only_go_on()
            cluster_crew.line_is_whole(campaign, cluster, crew, tenants)
            crew.stop()
