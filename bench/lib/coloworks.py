# SPDX-License-Identifier: MIT
"""
Works about checkpoints: how long a Linux guest that is protected stands still for each, and what memory its standby takes, with godwit standby and with
a QEMU as the secondary; and how soon it runs again when its primary has died. As in works.py.
"""
import os
import shutil
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass

import colo
from bench import NotRun
from linuxguest import LinuxGuest, Restored
from vm import Unavailable

EPOCHS, SKIPPED, DELAY_MS, LONGEST_S = 40, 3, 200, 120
RAM_MIB, STAMP_MIB = 128, 32
NAME = ["-name", "vm"]


@dataclass(frozen=True)
class Checkpoints:
    """From STOP to RESUME, by the time stamps of the primary's own events."""
    by: str         # "godwit" or "qemu"
    channels: int = 0
    rate: int = 64      # pages its writer changes ten times a second
    sweep: int = 0      # MiB of which every page changes ten times a second

    def title(self):
        return f"checkpoints of a Linux guest every {DELAY_MS} ms, kept by {self.by}, {self.channels} channels, {10 * self.rate} pages/s" \
            + (f", {self.sweep} MiB swept" if self.sweep else "")

    def run(self, bench):
        try:
            with LinuxGuest("11.1", stamp=STAMP_MIB, stamp_rate=self.rate, backend="ram", ram_bytes=(RAM_MIB + self.sweep) << 20,
                            words=f"sweep={self.sweep}") as vm:
                vm.booted()
                # The first copy has to end, however much changes meanwhile; a checkpoint is not held back by either.
                vm.qmp.command("migrate-set-parameters", max_bandwidth=0, downtime_limit=60000)
                pauses, memory = (kept_by_godwit if self.by == "godwit" else kept_by_qemu)(bench, vm, self.channels)
        except Unavailable as e:
            raise NotRun(str(e)) from None
        return {"seconds": sum(pauses) / 1e6, "bytes": vm.ram_bytes, "cpu": 0.0, "others": None, "peak": memory,
                "p50_us": pauses[len(pauses) // 2], "p99_us": pauses[len(pauses) * 99 // 100]}


def kept_by_godwit(bench, vm, channels):
    folder = os.path.join(bench.tmpfs, "standby")
    with colo.Standby(folder, "-q") as standby:
        colo.protect(vm, f"unix:{standby.socket}", DELAY_MS, channels)
        pauses = measure(vm)
        return pauses, memory_of(standby.process.pid)


def kept_by_qemu(_, vm, channels):
    with LinuxGuest("11.1", stamp=STAMP_MIB, backend="ram", ram_bytes=vm.ram_bytes, incoming="defer") as secondary:
        on = ["x-colo", "return-path", *(["multifd"] if channels else [])]
        secondary.qmp.command("migrate-set-capabilities", capabilities=[{"capability": c, "state": True} for c in on])
        secondary.qmp.command("migrate-set-parameters", multifd_channels=channels or 2)
        uri = f"unix:{secondary.path('in')}"
        secondary.qmp.command("migrate-incoming", uri=uri)
        colo.protect(vm, uri, DELAY_MS, channels)
        pauses = measure(vm)
        return pauses, memory_of(secondary.process.pid)


def measure(vm):
    """Microseconds, in order of size; the first epochs hold what the initial migration left."""
    pauses, stopped, deadline = [], None, time.monotonic() + LONGEST_S
    while len(pauses) < EPOCHS + SKIPPED:
        if time.monotonic() > deadline:
            raise NotRun(f"only {len(pauses)} checkpoints in {LONGEST_S} s")
        vm.qmp.command("query-name")
        for event in vm.qmp.events:
            at = event["timestamp"]["seconds"] * 1000000 + event["timestamp"]["microseconds"]
            if event["event"] == "STOP":
                stopped = at
            if event["event"] == "RESUME" and stopped is not None:
                pauses.append(float(at - stopped))
                stopped = None
        vm.qmp.events.clear()
        time.sleep(DELAY_MS / 2000)
    return sorted(pauses[SKIPPED:])


@dataclass(frozen=True)
class FailOver:
    """From kill -9 of the primary until the guest puts out a byte in the QEMU that godwit failover starts, which is said so the moment the primary is dead."""

    def title(self):
        return "kill -9 of a protected QEMU, then godwit failover until its guest is heard of"

    def run(self, bench):
        folder = os.path.join(bench.tmpfs, "failover")
        os.makedirs(folder, exist_ok=True)
        try:
            with LinuxGuest("11.1", args=NAME) as vm, colo.Standby(folder, "-q") as standby, \
                    colo.Protect(vm, f"unix:{standby.socket}", f"--dir={standby.dir}", "--memory-only", f"--interval={DELAY_MS}") as protect:
                vm.booted()
                protect.wait_protected(SKIPPED)
                successor = Restored(standby.folder, [], "11.1", command="failover", backend="memfd", args=NAME)
                began = time.monotonic()
                os.kill(vm.pid, signal.SIGKILL)
                with heard_of(successor.path("console")) as heard, successor:
                    seconds = heard() - began
                return {"seconds": seconds, "bytes": vm.ram_bytes, "cpu": 0.0, "others": None}
        except Unavailable as e:
            raise NotRun(str(e)) from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class LinuxStart:
    """The same QEMU alone, with nothing to load, until its monitor answers that it is paused."""

    def title(self):
        return "QEMU's own start to a paused prompt, of a Linux guest"

    def run(self, _):
        try:
            vm = LinuxGuest("11.1", backend="memfd", args=[*NAME, "-S"])
        except Unavailable as e:
            raise NotRun(str(e)) from None
        began = time.monotonic()
        with vm:
            vm.qmp.command("query-status")
            return {"seconds": time.monotonic() - began, "bytes": vm.ram_bytes, "cpu": 0.0, "others": None}


@contextmanager
def heard_of(console):
    """A function that waits until something is in this file, and returns when that was; it is looked at from now on."""
    found = []

    def look():
        deadline = time.monotonic() + LONGEST_S
        while not found and time.monotonic() < deadline:
            if os.path.exists(console) and os.path.getsize(console):
                found.append(time.monotonic())
            time.sleep(0.001)
    thread = threading.Thread(target=look)
    thread.start()

    def wait():
        thread.join()
        if not found:
            raise NotRun("the guest was not heard of")
        return found[0]
    try:
        yield wait
    finally:
        found.append(0.0)
        thread.join()


def memory_of(pid):
    """Bytes: its own, and of the files without a name that it has open."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        own = next(int(line.split()[1]) for line in f if line.startswith("VmRSS:")) << 10
    fds = f"/proc/{pid}/fd"
    unnamed = [os.stat(os.path.join(fds, fd)).st_blocks * 512 for fd in os.listdir(fds)
               if "/guests/" in os.readlink(os.path.join(fds, fd)) and os.path.isfile(os.path.join(fds, fd))]
    return own + sum(unnamed)
