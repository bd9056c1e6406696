"""Makes the workload's files by `bench-data`, which every bench and campaign shares."""

import json
import subprocess

from line import program


def write(folder, records, keys, tenants=1, seed=1):
    """Writes the files and gives what they hold, one entry for each tenant."""
    done = subprocess.run(
        [program("bench-data"), "--out", str(folder), "--records", str(records), "--keys", str(keys),
         "--tenants", str(tenants), "--seed", str(seed)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["files"]
