# SPDX-License-Identifier: MIT
"""
The works that are timed. Each is a value: equal works are one and the same in a run. run(bench) does it once and gives
a sample; what comes before and after the work itself is not timed.

A sample is a dict: seconds, bytes (of the guest), cpu (processor seconds of all who take part), peak (bytes, of
Godwit), others (share of the processors somebody else had), or rate where the work tells its rate itself.
"""
import json
import os
from dataclasses import dataclass

import qemus
from bench import NotRun, output_of, remove
from meter import Program, Stopwatch, cpu_used

GIB = 1 << 30

# What a row looks at: unit, and how it comes out of a sample.
FIGURES = {
    "seconds": ("s", lambda s: s["seconds"]),
    "cpu_per_gib": ("CPU s/GiB", lambda s: s["cpu"] / (s["bytes"] / GIB)),
    "peak_mib": ("MiB", lambda s: s["peak"] / (1 << 20)),
    "gb_per_s": ("GB/s", lambda s: s.get("rate", s["bytes"] / s["seconds"] if s.get("seconds") else 0) / 1e9),
}


def sample(watch, size, cpu, **more):
    return {"seconds": watch.seconds, "bytes": size, "cpu": cpu, "others": watch.others(cpu), **more}


@dataclass(frozen=True)
class Receive:
    """A paused QEMU sends, godwit receive keeps it in an image: from migrate to the source's "completed"."""
    kind: str = "random"
    scale: float = 1
    huge: bool = False      # into a tmpfs with huge pages

    def title(self):
        more = (f" x {self.scale:g}" if self.scale != 1 else "") + (", huge pages" if self.huge else "")
        return f"QEMU to godwit receive, {self.kind} guest{more}"

    def run(self, bench):
        size = int(bench.size * self.scale)
        image = os.path.join(bench.huge_tmpfs() if self.huge else bench.tmpfs, "received")
        try:
            return receive(bench, self.kind, size, image, self.huge)
        finally:
            remove(image)


def receive(bench, kind, size, image, huge=False):
    uri = "unix:" + qemus.socket_path(bench)
    with qemus.source(bench, kind, size) as source:
        qemus.prepare(source, ["return-path"], max_bandwidth=qemus.UNLIMITED)
        bench.warm(size, huge)
        with Program(bench, [bench.godwit, "receive", uri, image, "--quiet", "--json"]) as godwit:
            while json.loads(godwit.line())["event"] != "listening":
                pass
            with Stopwatch([qemus.pid(source)]) as watch:
                source.qmp.command("migrate", uri=uri)
                qemus.await_end(source)
                used = godwit.finish()
    return sample(watch, size, watch.cpu + cpu_used(used), peak=used["peak_bytes"])


@dataclass(frozen=True)
class QemuToQemu:
    """The same source into the memory of a QEMU, over the same kind of socket: until both say "completed"."""
    kind: str = "random"
    memory: str = "default"     # of the destination: see qemus.MEMORY

    def title(self):
        return f"QEMU to QEMU, {self.kind} guest, {self.memory} memory"

    def run(self, bench):
        try:
            return self._run(bench, bench.size, "unix:" + qemus.socket_path(bench))
        finally:
            remove(os.path.join(bench.tmpfs, "ram"))

    def _run(self, bench, size, uri):
        with qemus.source(bench, self.kind, size) as source, qemus.destination(bench, size, self.memory) as target:
            qemus.prepare(source, ["return-path"], max_bandwidth=qemus.UNLIMITED)
            qemus.prepare(target, ["return-path"])
            target.qmp.command("migrate-incoming", uri=uri)
            if self.memory != "prealloc":
                bench.warm(size, huge=self.memory == "default")
            with Stopwatch([qemus.pid(source), qemus.pid(target)]) as watch:
                source.qmp.command("migrate", uri=uri)
                qemus.await_end(source)
                qemus.await_end(target)
        return sample(watch, size, watch.cpu)


@dataclass(frozen=True)
class Save:
    """godwit save of a paused QEMU over a socket pair, until the command is back."""
    kind: str = "random"

    def title(self):
        return f"godwit save, {self.kind} guest"

    def run(self, bench):
        image = os.path.join(bench.tmpfs, "saved")
        try:
            with qemus.source(bench, self.kind, bench.size) as source:
                bench.warm(bench.size)
                command = [bench.godwit, "save", source.path("monitor2"), image, "--quiet"]
                with Stopwatch([qemus.pid(source)]) as watch, Program(bench, command) as godwit:
                    used = godwit.finish()
        finally:
            remove(image)
        return sample(watch, bench.size, watch.cpu + cpu_used(used), peak=used["peak_bytes"])


@dataclass(frozen=True)
class QemuSaves:
    """Stock QEMU writes its own mapped-ram file into tmpfs."""
    kind: str = "random"

    def title(self):
        return f"QEMU writes its own mapped-ram file, {self.kind} guest"

    def run(self, bench):
        image = os.path.join(bench.tmpfs, "saved")
        try:
            with qemus.source(bench, self.kind, bench.size) as source:
                qemus.prepare(source, ["mapped-ram"], max_bandwidth=qemus.UNLIMITED)
                bench.warm(bench.size)
                with Stopwatch([qemus.pid(source)]) as watch:
                    source.qmp.command("migrate", uri=f"file:{image}")
                    qemus.await_end(source)
        finally:
            remove(image)
        return sample(watch, bench.size, watch.cpu)


@dataclass(frozen=True)
class ZeroScan:
    """bench/zero-scan measures both of its rates in one go, in turn; each of the two works takes one of them."""
    rate: str   # "scan" or "read"

    def title(self):
        return "zero scan" if self.rate == "scan" else "memory read"

    def run(self, bench):
        if self.rate == "scan" or not bench.scanned:
            mib = str(min(bench.size, GIB) >> 20)
            bench.warm(int(mib) << 20)
            bench.scanned = json.loads(output_of([bench.program("bench/zero-scan"), mib, "3"], 300))
        return {"rate": bench.scanned[self.rate], "bytes": bench.size, "variant": bench.scanned["variant"]}


def stream_file(bench, kind):
    """A plain stream, written by QEMU itself."""
    def make(path):
        with qemus.source(bench, kind, bench.size) as source:
            qemus.prepare(source, max_bandwidth=qemus.UNLIMITED)
            source.qmp.command("migrate", uri=f"file:{path}")
            qemus.await_end(source)
    return bench.keep(("stream", kind, bench.size), make)


@dataclass(frozen=True)
class Inspect:
    """godwit inspect of a whole stream file."""
    kind: str = "random"

    def title(self):
        return f"godwit inspect, stream of a {self.kind} guest"

    def run(self, bench):
        path = stream_file(bench, self.kind)
        with Program(bench, [bench.godwit, "inspect", path, "--quiet", "--json"]) as godwit, Stopwatch() as watch:
            godwit.process.stdout.read()
            used = godwit.finish()
        return sample(watch, os.path.getsize(path), cpu_used(used), peak=used["peak_bytes"])


@dataclass(frozen=True)
class ReadFile:
    """Only reading the same file, in steps that stay in the cache."""
    kind: str = "random"

    def title(self):
        return "reading the stream file"

    def run(self, bench):
        path = stream_file(bench, self.kind)
        step = bytearray(512 << 10)
        with open(path, "rb", buffering=0) as f, Stopwatch() as watch:
            while f.readinto(step):
                pass
        return {**sample(watch, os.path.getsize(path), 0), "cpu": watch.own}


def image_file(bench, kind):
    return bench.keep(("image", kind, bench.size), lambda path: receive(bench, kind, bench.size, path))


@dataclass(frozen=True)
class Restore:
    """godwit restore into a QEMU that waits, until the command is back: looking, comparing and loading."""
    way: str
    kind: str = "random"

    def title(self):
        return f"godwit restore --way {self.way}, {self.kind} guest"

    def run(self, bench):
        image = image_file(bench, self.kind)
        with qemus.destination(bench, bench.size) as target:
            bench.warm(bench.size, huge=True)
            command = [bench.godwit, "restore", image, "--qmp", target.path("monitor2"), "--way", self.way, "--quiet"]
            with Stopwatch([qemus.pid(target)]) as watch, Program(bench, command) as godwit:
                used = godwit.finish()
            if target.qmp.command("query-migrate").get("status") != "completed":
                raise NotRun("godwit restore ended well, but QEMU does not have the guest")
        return sample(watch, bench.size, watch.cpu + cpu_used(used), peak=used["peak_bytes"])


@dataclass(frozen=True)
class LoadImage:
    """Stock QEMU alone loads the image that Godwit made."""
    kind: str = "random"

    def title(self):
        return f"QEMU loads the image, {self.kind} guest"

    def run(self, bench):
        image = image_file(bench, self.kind)
        with qemus.destination(bench, bench.size) as target:
            qemus.prepare(target, ["mapped-ram"])
            bench.warm(bench.size, huge=True)
            with Stopwatch([qemus.pid(target)]) as watch:
                target.qmp.command("migrate-incoming", uri=f"file:{image}")
                qemus.await_end(target)
        return sample(watch, bench.size, watch.cpu)
