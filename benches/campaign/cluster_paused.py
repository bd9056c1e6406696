"""Projectors and processors that are stopped past their leases (SIGSTOP), and go on (SIGCONT) when others have long done their work.
Some projectors are stopped between writing the files of a flush and committing them: they go on with the commit itself.

There is no session at Kafka that they could outlive: nobody joins a group there, and who reads what is a matter of leases alone.
A process trusts its own for 10 s and is taken for dead after 15. Views lie in a folder: whoever goes on may commit at the same moment
as its successor, and only a place whose conditional put is one step can say who was first (S3Proxy looks and puts in two)."""

import json
import os
import pathlib
import random
import time

import cluster_crew
import feed
import line
import workload
from nodes import LOST, Crew
from servers import Cluster

# So many that hardly any partition is without a view.
TENANTS = 12
PARTITIONS = 4
# Taken for dead after 15 s, and the others look every 3; much runs on few cores.
TAKEN_WITHIN_S = 120
# An idle table is written after a minute.
COMMITTED_WITHIN_S = 300
OVERTAKEN = "a role starts again if its lease is still there"
CONFLICT = "another writer committed to the table"
# What is stopped, whether between files and commit, and whether its successor has committed before it goes on.
KINDS = (("project", True, True), ("process", False, False), ("project", True, False), ("project", False, True))


class Pauses:
    """Stops processes and has them go on."""

    def __init__(self, campaign, rng, crew, feeder, lag):
        self.campaign, self.rng, self.crew, self.feeder, self.lag = campaign, rng, crew, feeder, lag
        self.figures, self.partitions = [], {}

    def find_views(self, api, tenants):
        """Has a little come in, until every tenant has a table; notes which partition each is of."""
        def found():
            listed = line.json_lines(line.views(api.folder, tenant.name, "list", "--json"))
            return [row for row in listed if pathlib.Path(row["folder"]).exists()]

        self.feeder.allow(len(tenants) / len(self.feeder.batches))
        for tenant in tenants:
            [row] = line.until(f"{tenant.name} has a table", found, COMMITTED_WITHIN_S)
            self.partitions[pathlib.Path(row["folder"])] = int(row["position"].split(":")[1])

    def of(self, held):
        """The tables of the partitions that a process has."""
        return [folder for folder, partition in self.partitions.items() if ("project", partition) in held]

    def one(self, kind, share):
        """One pause of a process that works, with records on their way before, meanwhile and behind."""
        role, in_flush, until_committed = kind
        able = lambda: [node for node in self.crew.of(role) if node.holds() and (role != "project" or self.of(node.holds()))]
        victim = self.rng.choice(line.until(f"a {role} has something to do", able, TAKEN_WITHIN_S))
        lost = self.count(victim)
        self.feeder.allow(share(1 / 3))
        tables = self.of(victim.holds())
        if in_flush:
            tables = [line.until(f"{victim.name} flushes", lambda: self.stop_in_flush(victim), COMMITTED_WITHIN_S)]
        else:
            line.until("records are on their way", lambda: not self.lag.is_none("processor") or not self.feeder.is_behind())
            time.sleep(self.rng.uniform(0, 0.3))
            victim.pause()
        at, held = time.time(), victim.holds()
        self.feeder.allow(share(2 / 3))
        taken = line.until(f"{victim.name}'s partitions are taken over",
                           lambda: self.all_taken(at, held, victim), TAKEN_WITHIN_S)
        self.tokens_have_risen(held, victim)
        if until_committed:
            line.until("a successor has committed", lambda: self.is_committed(tables, at), COMMITTED_WITHIN_S)
        woken = time.time()
        victim.resume()
        self.feeder.allow(share(1))
        ended = line.until(f"{victim.name} knows that its leases are lost", lambda: self.knows(victim, lost), TAKEN_WITHIN_S)
        self.campaign.fired(f"{role} paused{' before a commit' if in_flush else ''}"
                            f"{' until its successor had committed' if until_committed else ''}")
        self.campaign.fired(ended)
        self.figures.append({"role": role, "partitions": len(held), "taken_after_s": round(max(taken.values()), 1),
                             "paused_s": round(woken - at, 1), "knows_after_s": round(time.time() - woken, 1)})
        self.crew.mend()

    def stop_in_flush(self, victim):
        """Stops a projector once it has written a file that no commit names yet, and gives the table; lets it go on where that
        was too late."""
        folders = self.of(victim.holds())
        known = {folder: files(folder) for folder in folders}
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            for folder in folders:
                new = files(folder) - known[folder]
                if not new:
                    continue
                victim.pause()
                if not any(name in commit.read_text() for commit in commits(folder) for name in new):
                    return folder
                victim.resume()
                return None
        return None

    def is_committed(self, tables, since):
        """Whether anybody has committed rows to one of these tables since."""
        changed = [commit for folder in tables for commit in commits(folder) if commit.stat().st_mtime > since]
        return any('"add"' in commit.read_text() for commit in changed)

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

    def commits_only_go_on(self):
        """No commit of a table goes back behind the one before it: nobody wrote over what another had."""
        for folder in self.partitions:
            before = {}
            for file in commits(folder):
                for action in line.json_lines(file.read_text()):
                    mark = action.get("txn")
                    # An ordinal counts within its input.
                    if not mark or "/ordinals/" in mark["appId"]:
                        continue
                    if mark["version"] < before.get(mark["appId"], 0):
                        self.campaign.anomaly(f"{file} goes back: {mark['appId']} from {before[mark['appId']]} to {mark['version']}")
                    before[mark["appId"]] = mark["version"]
        self.campaign.fired("commits read in their order")


def files(folder):
    """The names of a table's files."""
    return {entry.name for entry in os.scandir(folder) if entry.name.endswith(".parquet")}


def commits(folder):
    """A table's commits in their order."""
    return sorted(file for file in (folder / "_delta_log").glob("*.json") if file.stem.isdigit())


def run(campaign, scratch, options):
    """Asks the question."""
    rng = random.Random(options.seed)
    records = min(options.records, options.paused_records)
    sources = workload.write(scratch / "w", records, min(options.keys, records // 2), TENANTS, options.seed)
    with Cluster(scratch / "servers", is_s3=False) as cluster:
        config = cluster.config("paused", partitions=PARTITIONS, rates=feed.RATES)
        with Crew(campaign, scratch / "crew", config) as crew:
            [api] = crew.add("api")
            for role in ("process", "project"):
                crew.add(role, count=2)
            crew.add("repair")
            tenants = [feed.Tenant(f"tenant{n}", api.listen, file) for n, file in enumerate(sources)]
            feeder, lag = feed.Feeder(tenants, [api.listen]), feed.Lag(tenants[0].token, api.listen)
            pauses = Pauses(campaign, rng, crew, feeder, lag)
            kinds = [KINDS[n % len(KINDS)] for n in range(options.pauses)]
            feeder.start()
            try:
                pauses.find_views(api, tenants)
                for number, kind in enumerate(kinds):
                    pauses.one(kind, lambda part: (number + part) / len(kinds))
                    campaign.cycle(every=1, total=len(kinds))
                cluster_crew.settle(crew, feeder, [lag])
            finally:
                feeder.stop()
            print(json.dumps({"pauses": pauses.figures, "fenced_or_overtaken": crew.count(OVERTAKEN),
                              "commits_refused": crew.count_errors(CONFLICT)}), flush=True)
            pauses.commits_only_go_on()
            cluster_crew.line_is_whole(campaign, cluster, crew, tenants)
            crew.stop()
