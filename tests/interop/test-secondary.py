#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Our COLO primary and real QEMU secondaries: two images of one VM are replayed, and after a failover the guest goes on from the one that it had
last, whatever the secondary's own guest did meanwhile.

test-secondary.py COLO-TOOL 10.0|11.1. 10.0 has the old dialect, and no multifd in COLO.
"""
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
from linuxguest import LinuxGuest, check_ticks, machine_name, ticks_of
from vm import Unavailable, skip

TICK = re.compile(r"tick (\d+) uptime ([\d.]+)\n")


class Primary:
    def __init__(self, tool, uri, image, *options):
        self.process = subprocess.Popen([tool, uri, image, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True)
        self.says("ready")

    def says(self, word):
        line = self.process.stdout.readline()
        assert line == word + "\n", f"{line!r}, {word!r} expected: {self.process.stderr.read() if not line else ''}"

    def checkpoint(self, image):
        self.process.stdin.write(image + "\n")
        self.process.stdin.flush()
        self.says("loaded")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(60 * godwit.PATIENCE)
        for f in (self.process.stdout, self.process.stderr):
            f.close()


class Secondary(LinuxGuest):
    def __init__(self, version, channels=0, method="none"):
        super().__init__(version, machine=machine_name("10.0"), incoming="defer")
        self.channels, self.method = channels, method

    def __enter__(self):
        super().__enter__()
        on = ["x-colo", *(["return-path"] if self.version != "10.0" else []), *(["multifd"] if self.channels else [])]
        self.qmp.command("migrate-set-capabilities", capabilities=[{"capability": c, "state": True} for c in on])
        if self.channels:
            self.qmp.command("migrate-set-parameters", multifd_channels=self.channels, multifd_compression=self.method)
        self.uri = f"unix:{self.path('in')}"
        self.qmp.command("migrate-incoming", uri=self.uri)
        return self

    def whole_ticks(self):
        """Of one that fell back in the middle of a line the next begins there."""
        return [(int(n), float(up)) for n, up in TICK.findall(self.console())]

    def runs(self, more=2):
        before = len(self.whole_ticks())
        self.wait_console(lambda t: len(TICK.findall(t)) >= before + more)

    def fail_over(self):
        """Ticks printed until then, and those of the guest that goes on."""
        self.qmp.command("x-colo-lost-heartbeat")
        self.runs(3)
        self.stamped_again()
        assert self.qmp.command("query-status")["status"] == "running"
        return [n for n, _ in self.whole_ticks()]


def last_tick(console):
    return ticks_of(console[:console.rfind("\n") + 1])[-1][0]


def replay(tool, version, images, ticks, options=(), **keywords):
    """A, then the difference to B: it goes on from B."""
    with Secondary(version, **keywords) as vm, Primary(tool, vm.uri, images[0], *options) as p:
        vm.runs()
        p.checkpoint(images[1])
        said = vm.fail_over()
        assert ticks[1] + 1 in said, f"{said}, {ticks[1] + 1} expected"
        at = said.index(ticks[1] + 1)
        check_ticks(vm.whole_ticks()[at:])


def fall_back(tool, version, images, ticks, options=(), **keywords):
    """A, and again and again no page and the devices of A: what the secondary's own guest did is undone each time."""
    with Secondary(version, **keywords) as vm, Primary(tool, vm.uri, images[0], *options) as p:
        for _ in range(2):
            vm.runs()
            p.checkpoint(images[0])
        said = vm.fail_over()
        first = ticks[0] + 1
        assert said.count(first) == 3 and said.count(first + 1) >= 3, f"{said}, {first} expected three times"


def main():
    tool, version = sys.argv[1:]
    old = ("old",) if version == "10.0" else ()
    with tempfile.TemporaryDirectory(prefix="godwit-secondary.") as folder:
        images, ticks = [os.path.join(folder, n) for n in "AB"], []
        with LinuxGuest("10.0") as vm:
            vm.booted()
            for n, image in enumerate(images):
                vm.stamped_again()
                vm.qmp.command("stop")
                ticks.append(last_tick(vm.console()))
                godwit.run("save", vm.monitor, image).ok()
                vm.qmp.cont()
        print("--- replay", flush=True)
        replay(tool, version, images, ticks, old)
        print("--- fall back", flush=True)
        fall_back(tool, version, images, ticks, old)
        if not old:
            print("--- channels", flush=True)
            replay(tool, version, images, ticks, ("channels=2", "zstd"), channels=2, method="zstd")
            fall_back(tool, version, images, ticks, ("channels=2",), channels=2)


if __name__ == "__main__":
    try:
        main()
    except Unavailable as e:
        skip(str(e))
