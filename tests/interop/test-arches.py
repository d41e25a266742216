#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""test-arches.py TARGET: guests of other architectures are saved and restored, with QEMU 10.0 and their own firmware.

s390x and pseries have an iterable section besides RAM, which goes on between pages and which a background snapshot leaves
open; the streams of arm (1 KiB), sparc64 (8 KiB) and tricore (16 KiB) do not state their page size. A guest that never ran is saved, restored and saved again,
and both images must hold the same guest: QEMU itself has read what Godwit wrote.
"""
import os
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from godwit import PATIENCE, Run
from vm import Unavailable, Vm, get_qemu, skip

QEMU = "10.0"
TARGETS = {  # arguments, page size, iterable section, what a load and a save by stock QEMU alone change too
    "aarch64": (["-M", "virt", "-cpu", "cortex-a57", "-m", "32"], 4096, None, ("pl031",)),  # a clock: another second, another state
    "arm": (["-M", "versatilepb", "-audio", "none", "-m", "32"], 1024, None, ("pl031", "pl110")),
    "or1k": (["-M", "or1k-sim", "-m", "32"], 8192, None, ()),
    "alpha": (["-m", "32"], 8192, None, ()),
    "tricore": (["-M", "tricore_testboard"], 16384, None, ()),
    "ppc64": (["-M", "pseries", "-m", "256"], 4096, "spapr/htab", ("cpu_common", "cpu", "spapr", "spapr/htab")),
    "riscv64": (["-M", "virt", "-m", "32"], 4096, None, ("goldfish_rtc",)),
    "s390x": (["-M", "s390-ccw-virtio", "-m", "32", "-no-shutdown"], 4096, "s390-storage_attributes", ("s390-skeys", "s390-storage_attributes")),    # a record of 18 bytes for each round of its save
    "sparc64": (["-M", "sun4u", "-m", "32"], 8192, None, ()),
}
failures = 0


def check(what, ok, detail=""):
    global failures
    print(f"{'ok' if ok else 'FAILED'}: {what}" + ("" if ok else f": {detail}"))
    failures += not ok
    return ok


def godwit(what, *args, status=0):
    with Run(*args) as run:
        done = run.wait()
        check(what, done.status == status, f"exit status {done.status}: {done.stderr}")
        return done


class Guests:
    def __init__(self, target, folder):
        self.qemu = get_qemu(QEMU, target)
        self.args, self.page_bytes, self.iterable, self.changing = TARGETS[target]
        self.folder = folder

    def vm(self, *more):
        return Vm(self.qemu, [*self.args, "-qmp", "unix:{dir}/ours,server=on,wait=off", *more], console=False)

    def path(self, name):
        return os.path.join(self.folder, name)

    def save(self, vm, name, *options):
        godwit(f"save {name} {' '.join(options)}", "save", vm.path("ours"), self.path(name), *options)

    def restore(self, vm, name, state, *options):
        godwit(f"restore {name} {' '.join(options)}", "restore", self.path(name), "--qmp", vm.path("ours"), *options)
        deadline, now = time.monotonic() + 30 * PATIENCE, None
        while now not in state and time.monotonic() < deadline:
            now = vm.qmp.command("query-status")["status"]
        check(f"{name} is {state[0]}", now in state, now)

    def compare(self, name):
        with Run("verify", self.path("first"), self.path(name)) as run:
            done = run.wait()
        differ = [line for line in done.stdout.splitlines() if " differ" in line and not line.startswith("/")]
        other = [line for line in differ if not any(f'"{d}"' in line for d in self.changing)]
        check(f"the same guest after {name}", done.status == (6 if differ else 0) and not other, f"{done}")

    def twice(self):
        """A guest that never ran: what QEMU makes of our image is what it was."""
        with self.vm("-S") as vm:
            self.save(vm, "first")
        seen = godwit("inspect", "inspect", self.path("first"), "--json")
        events = seen.events
        pages = [e["page_bytes"] for e in events if "page_bytes" in e]
        check("the page size", pages == [self.page_bytes], pages)
        names = [e["name"] for e in events if e.get("event") == "device"]
        check("the iterable section is listed once", names.count(self.iterable) == (self.iterable is not None), names)
        for way in ("direct", "stream"):
            with self.vm("-S", "-incoming", "defer") as vm:
                self.restore(vm, "first", ("prelaunch", "paused"), f"--way={way}")
                self.save(vm, way)
            self.compare(way)
        godwit("to a stream", "convert", self.path("first"), self.path("stream.of"), "--to=stream")
        godwit("the stream holds it too", "verify", self.path("stream.of"), self.path("first"))

    def proxied(self):
        """Between two QEMUs, where nothing states the page size before it is too late. Without a word the pages cannot be told apart."""
        for option, understood in (([f"--page-size={self.page_bytes}"], True), ([], False)):
            with self.vm("-S") as vm, self.vm("-S", "-incoming", "defer") as there:
                at, to = f"unix:{self.path('proxy')}", f"unix:{self.path('there')}"
                there.qmp.command("migrate-incoming", uri=to)
                with Run("proxy", at, to, "--json", *option) as proxy:
                    proxy.wait_stderr("listening")
                    vm.qmp.command("migrate", uri=at)
                    done = proxy.wait(90)
                check("passed on all the same", there.qmp.command("query-migrate")["status"] == "completed", done)
                said = [e.get("message") for e in done.events]
                check(f"explained {option}", ("DESCRIPTION" in said and "UNINTERPRETED" not in said) == understood, done)

    def running(self):
        state = ("running", "guest-panicked")  # an s390x without a disk gives up
        with self.vm() as vm:
            self.save(vm, "at-start", "--at=start")
        with self.vm("-incoming", "defer") as vm:
            self.restore(vm, "at-start", state)
        with self.vm() as vm:
            self.save(vm, "postcopy", "--postcopy")
        with self.vm("-incoming", "defer") as vm:
            lazy = self.page_bytes <= 4096  # else QEMU refuses: "Target page size bigger than host page size"
            self.restore(vm, "postcopy", state, *["--lazy"] * lazy)


def main():
    with tempfile.TemporaryDirectory(prefix="godwit-arches.") as folder:
        try:
            guests = Guests(sys.argv[1], folder)
        except Unavailable as e:
            skip(e)
        guests.twice()
        if guests.page_bytes != 4096:
            guests.proxied()
        guests.running()
    sys.exit(failures > 0)


main()
