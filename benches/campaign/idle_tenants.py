"""How much memory do tenants cost that do nothing? Serves a folder with many of them and reads the server's RSS.

    idle_tenants.py --count 1000
"""

import argparse
import json
import pathlib
import subprocess
import tempfile
import time
import urllib.request

import line
import workload
from verdict import Campaign

LISTEN = "127.0.0.1:7411"


# A proxy of the environment knows nothing of this machine's loopback.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ready():
    """Whether the server says so."""
    try:
        return DIRECT.open(f"http://{LISTEN}/readyz", timeout=1).status == 200
    except OSError:
        return False


def rss_mb(pid):
    """Resident megabytes of a process."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(next(row for row in status.splitlines() if row.startswith("VmRSS")).split()[1]) // 1024


def serve(data_dir):
    """Starts a server and waits until it is ready."""
    process = subprocess.Popen([line.program(), "serve", "--data-dir", str(data_dir), "--listen", LISTEN],
                               stderr=subprocess.DEVNULL)
    while not ready():
        if process.poll() is not None:
            raise line.Failed("the server has ended")
        time.sleep(0.02)
    return process


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    arguments = parser.parse_args()
    campaign = Campaign("idle tenants", 1, count=arguments.count)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        file = workload.write(scratch / "files", records=10, keys=10)[0]["path"]
        server = serve(scratch / "data")
        empty = rss_mb(server.pid)
        for number in range(arguments.count):
            line.ingest(scratch / "data", f"tenant-{number}", [file])
            campaign.cycle(every=250, total=arguments.count)
        filled = rss_mb(server.pid)
        server.terminate()
        server.wait()
        server = serve(scratch / "data")
        idle = rss_mb(server.pid)
        for number in (0, arguments.count - 1):
            found = line.query(scratch / "data", f"tenant-{number}", "select count(*) from opportunities").split()[-1]
            if int(found) == 0:
                campaign.anomaly(f"tenant-{number} has no rows after the restart")
        server.terminate()
        server.wait()
        print(json.dumps({"tenants": arguments.count, "rss_mb_empty": empty, "rss_mb_after_ingest": filled,
                          "rss_mb_idle_after_restart": idle}))
    campaign.end()


if __name__ == "__main__":
    main()
