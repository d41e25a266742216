# SPDX-License-Identifier: MIT
"""
Works of restoring lazily: how soon a guest runs, and how long it takes until its QEMU has every page. As in works.py.

The guests that are to run are a few bytes of machine code in a memory of any size (tests/lib/tinyguest.py).
"""
import time
from dataclasses import dataclass

import qemus
import tinyguest
from bench import NotRun
from link import Link
from meter import Program, Stopwatch
from works import image_file, with_godwit

TWO = Link(channels=2)


def running_image(bench, kind, size):
    """The image of a guest that ran when it was saved, written by QEMU itself. Its source's memory is given back at once."""
    def make(path):
        with qemus.source(bench, kind, size, bios=bios(bench)) as source:
            qemus.prepare(source, TWO, ["mapped-ram"], max_bandwidth=qemus.UNLIMITED)
            source.qmp.migrate(f"file:{path}")
            qemus.await_end(source)
        bench.drop(("guest", kind, size))
    return bench.keep(("running-image", kind, size), make)


def bios(bench):
    def make(path):
        with open(path, "wb") as f:
            f.write(tinyguest.bios())
    return bench.keep(("bios",), make)


def seconds_until_it_runs(target, began):
    """By the clock of the QEMU's own event."""
    said = target.qmp.wait_event("RESUME", qemus.LONGEST)["timestamp"]
    return said["seconds"] + said["microseconds"] / 1e6 - began


def started(seconds, size):
    return {"seconds": seconds, "bytes": size, "cpu": 0.0, "others": None}


@dataclass(frozen=True)
class LazyStart:
    """From the start of godwit serve, before it asks QEMU for anything, until the guest runs. The rest is not waited for."""
    kind: str = "random"
    scale: float = 1
    copies = 2      # of the guest's memory, at a time: it and its image, its image and the destination

    def title(self):
        scale = f" x {self.scale:g}" if self.scale != 1 else ""
        return f"godwit serve until the guest runs, {self.kind} guest{scale}"

    def run(self, bench):
        size = int(bench.size * self.scale)
        image = running_image(bench, self.kind, size)
        with qemus.destination(bench, size, bios=bios(bench)) as target:
            began = time.time()
            with Program(bench, [bench.godwit, "serve", image, "--qmp", target.path("monitor2"), "--quiet"]):
                return started(seconds_until_it_runs(target, began), size)


@dataclass(frozen=True)
class LoadStart:
    """Stock QEMU loads the same image with mapped-ram and multifd: from migrate-incoming until the guest runs."""
    kind: str = "random"
    copies = 2

    def title(self):
        return f"QEMU loads the image over 2 channels until the guest runs, {self.kind} guest"

    def run(self, bench):
        image = running_image(bench, self.kind, bench.size)
        with qemus.destination(bench, bench.size, bios=bios(bench)) as target:
            qemus.prepare(target, TWO, ["mapped-ram"])
            bench.warm(bench.size, huge=True)
            began = time.time()
            target.qmp.command("migrate-incoming", uri=f"file:{image}")
            return started(seconds_until_it_runs(target, began), bench.size)


@dataclass(frozen=True)
class Lazily:
    """godwit serve into a QEMU that does not run the guest, until it has every page."""
    kind: str = "random"

    def title(self):
        return f"godwit serve until every page is there, {self.kind} guest"

    def run(self, bench):
        image = image_file(bench, self.kind)
        with qemus.destination(bench, bench.size) as target:
            bench.warm(bench.size, huge=True)
            command = [bench.godwit, "serve", image, "--qmp", target.path("monitor2"), "--quiet"]
            with Stopwatch([qemus.pid(target)]) as watch, Program(bench, command) as godwit:
                used = godwit.finish()
            if target.qmp.command("query-migrate").get("status") != "completed":
                raise NotRun("godwit serve ended well, but QEMU does not have the guest")
        return with_godwit(watch, bench.size, used)
