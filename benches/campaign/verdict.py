"""What every campaign prints: its parameters first, a line for each anomaly, and one JSON line at the end."""

import json
import os
import signal
import sys
import time

import line


class Campaign:
    """Counts the faults that fired and the anomalies they brought to light."""

    def __init__(self, name, seed, **parameters):
        self.name, self.seed, self.started = name, seed, time.monotonic()
        self.faults, self.anomalies, self.losses, self.cycles = {}, [], 0, 0
        # What was mounted, started and written is cleaned up when we are told to stop, too.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        print(json.dumps({"campaign": name, "seed": seed, "commit": line.git_hash(), **parameters}), flush=True)

    def fired(self, fault):
        """Notes that a fault happened."""
        self.faults[fault] = self.faults.get(fault, 0) + 1

    def anomaly(self, what):
        """Notes that something is wrong and says so at once."""
        self.anomalies.append(what)
        print(f"ANOMALY cycle {self.cycles}: {what}", flush=True)

    def hold(self, acknowledged, present):
        """Holds what was acknowledged against what is on the log, before anything is ingested again."""
        if present < acknowledged:
            self.losses += 1
            self.anomaly(f"{acknowledged} records acknowledged, {present} on the log")

    def cycle(self, every=10, total=None):
        """Ends a cycle; every so many it says how far it is."""
        self.cycles += 1
        if self.cycles % every == 0:
            of = f" of {total}" if total else ""
            print(f"{self.name}: {self.cycles}{of} cycles, faults {self.faults}, anomalies {len(self.anomalies)}",
                  flush=True)

    def end(self):
        """Prints the verdict and ends the program: 0 without anomalies, else 1."""
        self.report()
        sys.exit(1 if self.anomalies else 0)

    def report(self):
        """Prints the verdict."""
        print(json.dumps({
            "campaign": self.name, "seed": self.seed, "commit": line.git_hash(), "cycles": self.cycles,
            "faults": self.faults, "anomalies": len(self.anomalies), "losses": self.losses,
            "seconds": round(time.monotonic() - self.started, 1)}), flush=True)


def skip(name, reason):
    """Ends a campaign that cannot run here, saying why. With CAMPAIGN_REQUIRED set that is a failure."""
    print(json.dumps({"campaign": name, "skipped": reason}), flush=True)
    sys.exit(1 if os.environ.get("CAMPAIGN_REQUIRED") else 0)
