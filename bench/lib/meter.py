# SPDX-License-Identifier: MIT
"""Measuring: a stopwatch over the processors' own counters, and programs started under an account of what they use."""
import json
import os
import subprocess
import tempfile
import time

from bench import NotRun

TICK = os.sysconf("SC_CLK_TCK")
CPUS = os.cpu_count()


def cpu_of(pid):
    """
    Processor seconds a running process has used, all threads: by its clock (CPUCLOCK_SCHED), because /proc counts in
    hundredths of a second, which is a tenth of what a guest of zeros takes.
    """
    return time.clock_gettime(~pid << 3 | 2)


def busy_of_machine():
    """Processor seconds anybody has used, this machine's host included."""
    with open("/proc/stat") as f:
        user, nice, system, _idle, _wait, irq, soft, steal = (int(x) for x in f.readline().split()[1:9])
    return (user + nice + system + irq + soft + steal) / TICK


class Stopwatch:
    """
    with Stopwatch([pids]) as w: the processes must live to the end of the block. Then w.seconds, w.cpu (of the
    processes), and w.others(cpu) (share of the processors that somebody else had).
    """

    def __init__(self, pids=()):
        self.pids = list(pids)

    def __enter__(self):
        self.cpu = -sum(cpu_of(pid) for pid in self.pids)
        self.own = -time.process_time()
        self.busy = -busy_of_machine()
        self.seconds = -time.monotonic()
        return self

    def __exit__(self, kind, *_):
        self.seconds += time.monotonic()
        self.busy += busy_of_machine()
        self.own += time.process_time()
        if kind is None:
            self.cpu += sum(cpu_of(pid) for pid in self.pids)

    def others(self, cpu):
        """Counters are coarse: less than a tenth of a second tells nothing."""
        if self.seconds < 0.1:
            return None
        return max(0.0, (self.busy - self.own - cpu) / (CPUS * self.seconds))


class Program:
    """A program under bench/account. Its output lines are read with line(); finish() waits for a good end."""

    def __init__(self, bench, command, timeout=300):
        self.timeout = timeout
        self.name = os.path.basename(command[0])
        self.used = tempfile.NamedTemporaryFile(dir=bench.tmpfs)
        self.errors = tempfile.TemporaryFile(dir=bench.tmpfs)
        self.process = subprocess.Popen([bench.account, self.used.name, *command], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=self.errors, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()
        self.used.close()

    def line(self):
        text = self.process.stdout.readline()
        if not text:
            self.finish()
            raise NotRun(f"{self.name} said nothing")
        return text

    def finish(self):
        """What it used: {"user", "system", "peak_bytes"}."""
        try:
            self.process.wait(self.timeout)
        except subprocess.TimeoutExpired:
            raise NotRun(f"{self.name} did not end within {self.timeout} s") from None
        if self.process.returncode:
            self.errors.seek(0)
            said = self.errors.read().decode("utf-8", "replace").strip().splitlines()
            raise NotRun(f"{self.name} ended with {self.process.returncode}: {said[-1] if said else 'no word'}")
        return json.load(self.used)


def cpu_used(account):
    return account["user"] + account["system"]
