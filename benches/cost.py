"""What processes cost, seen from outside."""

import os
import subprocess
import tempfile
import time


class Failed(Exception):
    """A runner ended with an error, or with a wrong result."""


class Cost:
    """Seconds of CPU and of the clock over some processes, and the greatest resident set of any in megabytes.

    CPU is user + system of a process and of every child that it waited for. A new process starts with the resident set
    of the one that made it, and Linux counts that into its peak: whoever measures must stay small.
    """

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
                raise Failed(f"{' '.join(command[:4])} … ended with {process.returncode}: {errors.read()[-1000:]}")
        self.wall += time.perf_counter() - started
        self.cpu += usage.ru_utime + usage.ru_stime
        self.rss = max(self.rss, usage.ru_maxrss * 1024 / 1e6)
        return self
