# SPDX-License-Identifier: MIT
"""
Works about waiting for pages: how soon the page server answers a request, and how long a Linux guest that runs waits for its
memory with and without a recorded working set. As in works.py.
"""
import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass

from bench import NotRun, remove
from linuxguest import LinuxGuest
from meter import Program
from vm import Unavailable
from works import image_file

ASK_EVERY_US = 1000
ASKER_S = 300
LINK = "100M"       # bytes/s: a guest of 128 MiB waits for its memory for more than a second
RUNS_ON_S = 0.5
WHOLE_S = 90


@dataclass(frozen=True)
class Asked:
    """A destination that asks for a page at random each millisecond, and takes what is pushed as fast as it can."""
    preempt: bool = False
    kind: str = "random"

    def title(self):
        return f"godwit serve, a request each {ASK_EVERY_US} us{', preempt channel' if self.preempt else ''}"

    def run(self, bench):
        image, path = image_file(bench, self.kind), os.path.join(bench.tmpfs, "asker")
        more = ["preempt"] if self.preempt else []
        with subprocess.Popen([bench.program("bench/asker"), path, str(ASK_EVERY_US), *more], stdout=subprocess.PIPE, text=True) as asker:
            try:
                while not os.path.exists(path) and asker.poll() is None:
                    time.sleep(0.01)
                served = subprocess.run([bench.program("tests/support/serve-tool"), image, f"unix:{path}", *more], capture_output=True,
                                        text=True, timeout=ASKER_S, check=False)
                said = asker.communicate(timeout=ASKER_S)[0]
            finally:
                asker.kill()
                remove(path)
        if served.returncode or asker.returncode:
            raise NotRun(f"the page server failed: {served.stderr.strip()}")
        values = dict(line.split("=", 1) for line in served.stdout.splitlines())
        return {"seconds": json.loads(said)["seconds"], "bytes": bench.size, "cpu": 0.0, "others": None,
                "p50_us": float(values["latency_p50_us"]), "p99_us": float(values["latency_p99_us"]), "requests": int(values["requests"])}


def linux_image(bench):
    """The image of a Linux guest that was saved while it ran."""
    def make(path):
        with LinuxGuest("11.1", backend="memfd") as vm:
            vm.booted()
            with Program(bench, [bench.godwit, "save", vm.monitor, path, "--stop", "--quiet"]) as godwit:
                godwit.finish()
    return bench.keep(("linux-image",), make)


def working_set(bench):
    """What the guest of linux_image() asked for when it was first restored."""
    def make(path):
        served(bench, "--working-set=on")
        shutil.move(linux_image(bench) + ".ws", path)
    return bench.keep(("linux-working-set",), make)


def served(bench, *options):
    """A guest that runs until its QEMU has every page: milliseconds its processor waited, by QEMU's own account."""
    with LinuxGuest("11.1", backend="memfd", incoming="defer") as vm:
        vm.qmp.command("migrate-set-capabilities", capabilities=[{"capability": "postcopy-blocktime", "state": True}])
        command = [bench.godwit, "serve", linux_image(bench), f"--qmp={vm.monitor}", f"--max-bandwidth={LINK}", "--quiet", *options]
        with Program(bench, command) as godwit:
            godwit.finish()
        time.sleep(RUNS_ON_S)
        state = vm.qmp.command("query-migrate")
        if state["status"] != "completed":
            raise NotRun("godwit serve ended well, but QEMU does not have the guest")
        return sum(state["postcopy-vcpu-blocktime"])


@dataclass(frozen=True)
class LazyWait:
    """How long the processor of a Linux guest waits for pages after it was restored lazily over a link of 100 MB/s."""
    with_working_set: bool

    def title(self):
        return f"a Linux guest restored lazily, with{'' if self.with_working_set else 'out'} a working set: its waits"

    def run(self, bench):
        try:
            image = linux_image(bench)
            if self.with_working_set:
                shutil.copy(working_set(bench), image + ".ws")
            waited_ms = served(bench, f"--working-set={'on' if self.with_working_set else 'off'}")
        except Unavailable as e:
            raise NotRun(str(e)) from None
        remove(image + ".ws")
        return {"seconds": waited_ms / 1000, "bytes": os.path.getsize(image), "cpu": 0.0, "others": None}
