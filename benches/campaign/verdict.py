"""What every campaign prints: its parameters first, a line for each anomaly, and one JSON line at the end."""

import json
import sys
import time

import line


class Campaign:
    """Counts the faults that fired and the anomalies they brought to light."""

    def __init__(self, name, seed, **parameters):
        self.name, self.seed, self.started = name, seed, time.monotonic()
        self.faults, self.anomalies, self.cycles = {}, [], 0
        print(json.dumps({"campaign": name, "seed": seed, "commit": line.git_hash(), **parameters}), flush=True)

    def fired(self, fault):
        """Notes that a fault happened."""
        self.faults[fault] = self.faults.get(fault, 0) + 1

    def anomaly(self, what):
        """Notes that something is wrong and says so at once."""
        self.anomalies.append(what)
        print(f"ANOMALY cycle {self.cycles}: {what}", flush=True)

    def cycle(self, every=10, total=None):
        """Ends a cycle; every so many it says how far it is."""
        self.cycles += 1
        if self.cycles % every == 0:
            of = f" of {total}" if total else ""
            print(f"{self.name}: {self.cycles}{of} cycles, faults {self.faults}, anomalies {len(self.anomalies)}",
                  flush=True)

    def end(self):
        """Prints the verdict and ends the program: 0 without anomalies, else 1."""
        print(json.dumps({
            "campaign": self.name, "seed": self.seed, "commit": line.git_hash(), "cycles": self.cycles,
            "faults": self.faults, "anomalies": len(self.anomalies),
            "seconds": round(time.monotonic() - self.started, 1)}), flush=True)
        sys.exit(1 if self.anomalies else 0)


def skip(name, reason):
    """Ends a campaign that cannot run here, saying why. With CAMPAIGN_REQUIRED set that is a failure."""
    import os
    print(json.dumps({"campaign": name, "skipped": reason}), flush=True)
    sys.exit(1 if os.environ.get("CAMPAIGN_REQUIRED") else 0)
