# SPDX-License-Identifier: MIT
"""
The works that are timed. Each is a value: equal works are one and the same in a run. run(bench) does it once and gives
a sample; what comes before and after the work itself is not timed.

A sample is a dict: seconds, bytes (of the guest), cpu (processor seconds of all who take part), peak (bytes, of
Godwit), others (share of the processors somebody else had), or rate where the work tells its rate itself.
"""
import json
import os
from contextlib import contextmanager
from dataclasses import dataclass

import qemus
from bench import NotRun, output_of, remove
from link import PLAIN, Link
from meter import Program, Stopwatch, cpu_used

GIB = 1 << 30

# What a row looks at: unit, and how it comes out of a sample.
FIGURES = {
    "seconds": ("s", lambda s: s["seconds"]),
    "ms": ("ms", lambda s: s["seconds"] * 1000),
    "p50_us": ("us", lambda s: s["p50_us"]),
    "p99_us": ("us", lambda s: s["p99_us"]),
    "trip_p50_ms": ("ms", lambda s: s["trips"][len(s["trips"]) // 2] * 1000),
    "trip_p99_ms": ("ms", lambda s: s["trips"][len(s["trips"]) * 99 // 100] * 1000),
    "epochs_per_gib": ("epochs", lambda s: GIB / s["epoch_bytes"]),
    "cpu_per_gib": ("CPU s/GiB", lambda s: s["cpu"] / (s["bytes"] / GIB)),
    "peak_mib": ("MiB", lambda s: s["peak"] / (1 << 20)),
    "gb_per_s": ("GB/s", lambda s: s.get("rate", s["bytes"] / s["seconds"] if s.get("seconds") else 0) / 1e9),
}


def sample(watch, size, cpu, **more):
    return {"seconds": watch.seconds, "bytes": size, "cpu": cpu, "others": watch.others(cpu), **more}


def with_godwit(watch, size, used):
    """Sample of a work that Godwit did together with the processes of the watch."""
    own = cpu_used(used)
    return sample(watch, size, watch.cpu + own, godwit_cpu=own, peak=used["peak_bytes"])


# Where images go: a tmpfs as the system has it, one with huge pages, or the disk, past the page cache.
PLACES = ("tmpfs", "huge", "disk")


@contextmanager
def new_file(bench, place, size):
    """A path for an image that is gone afterwards; the memory it will be made of is warm."""
    folder = {"tmpfs": lambda: bench.tmpfs, "huge": bench.huge_tmpfs, "disk": lambda: bench.disk}[place]()
    path = os.path.join(folder, "new")
    try:
        yield path, lambda: place == "disk" or bench.warm(size, huge=place == "huge")
    finally:
        remove(path)


# --- QEMU to Godwit -------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Receive:
    """A paused QEMU sends, godwit receive keeps it in an image: from migrate to the end of both."""
    kind: str = "random"
    link: Link = PLAIN
    scale: float = 1
    place: str = "tmpfs"

    def title(self):
        scale = f" x {self.scale:g}" if self.scale != 1 else ""
        return f"QEMU to godwit receive in {self.place}, {self.kind} guest{scale}{self.link.title()}"

    def run(self, bench):
        size = int(bench.size * self.scale)
        with new_file(bench, self.place, size) as (path, warm):
            options = self.link.receive_options() + (["--direct-io"] if self.place == "disk" else [])
            return receive(bench, self.kind, size, path, self.link, options, warm)


def receive(bench, kind, size, image, link, options, warm):
    uri = "unix:" + qemus.socket_path(bench)
    with qemus.source(bench, kind, size) as source:
        qemus.prepare(source, link, ["return-path"], max_bandwidth=qemus.UNLIMITED)
        warm()
        with Program(bench, [bench.godwit, "receive", uri, image, "--quiet", "--json", *options]) as godwit:
            while json.loads(godwit.line())["event"] != "listening":
                pass
            with Stopwatch([qemus.pid(source)]) as watch:
                source.qmp.migrate(uri)
                qemus.await_end(source)
                used = godwit.finish()
    return with_godwit(watch, size, used)


@dataclass(frozen=True)
class Save:
    """godwit save of a paused QEMU over socket pairs, or written by that QEMU, until the command is back."""
    kind: str = "random"
    link: Link = PLAIN
    way: str = "stream"
    place: str = "tmpfs"

    def title(self):
        return f"godwit save --way {self.way} in {self.place}, {self.kind} guest{self.link.title()}"

    def run(self, bench):
        with new_file(bench, self.place, bench.size) as (path, warm), qemus.source(bench, self.kind, bench.size) as source:
            warm()
            options = ["--way", self.way, *(["--stop"] if self.way == "direct" else []), *(["--direct-io"] if self.place == "disk" else [])]
            command = [bench.godwit, "save", source.path("monitor2"), path, "--quiet", *options, *self.link.send_options()]
            with Stopwatch([qemus.pid(source)]) as watch, Program(bench, command) as godwit:
                used = godwit.finish()
        return with_godwit(watch, bench.size, used)


@dataclass(frozen=True)
class QemuSaves:
    """Stock QEMU writes its own mapped-ram file."""
    kind: str = "random"
    link: Link = PLAIN
    place: str = "tmpfs"

    def title(self):
        return f"QEMU writes its own mapped-ram file in {self.place}, {self.kind} guest{self.link.title()}"

    def run(self, bench):
        with new_file(bench, self.place, bench.size) as (path, warm), \
                qemus.source(bench, self.kind, bench.size) as source:
            qemus.prepare(source, self.link, ["mapped-ram"], max_bandwidth=qemus.UNLIMITED, direct_io=self.place == "disk")
            warm()
            with Stopwatch([qemus.pid(source)]) as watch:
                source.qmp.migrate(f"file:{path}")
                qemus.await_end(source)
                if self.place == "disk":
                    output_of(["sync", path], 300)      # Godwit's image is on the disk when it has its name
        return sample(watch, bench.size, watch.cpu)


@dataclass(frozen=True)
class Dd:
    """dd oflag=direct bs=4M of the same bytes to the disk, and what a disk needs to have them for good."""
    kind: str = "random"

    def title(self):
        return "dd to disk"

    def run(self, bench):
        guest = bench.guest(self.kind, bench.size)
        with new_file(bench, "disk", bench.size) as (path, _):
            command = ["dd", f"if={guest}", f"of={path}", "bs=4M", "oflag=direct", "conv=fsync", "status=none"]
            with Stopwatch() as watch, Program(bench, command) as dd:
                used = dd.finish()
        return sample(watch, bench.size, cpu_used(used))


# --- QEMU to QEMU ---------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class QemuToQemu:
    """The same source into the memory of a QEMU, over the same kind of socket: until both say "completed"."""
    kind: str = "random"
    link: Link = PLAIN
    memory: str = "default"     # of the destination: see qemus.MEMORY

    def title(self):
        return f"QEMU to QEMU, {self.kind} guest, {self.memory} memory{self.link.title()}"

    def run(self, bench):
        try:
            return self._run(bench, bench.size, "unix:" + qemus.socket_path(bench))
        finally:
            remove(os.path.join(bench.tmpfs, "ram"))

    def _run(self, bench, size, uri):
        with qemus.source(bench, self.kind, size) as source, qemus.destination(bench, size, self.memory) as target:
            qemus.prepare(source, self.link, ["return-path"], max_bandwidth=qemus.UNLIMITED)
            qemus.prepare(target, self.link, ["return-path"])
            target.qmp.command("migrate-incoming", uri=uri)
            if self.memory != "prealloc":
                bench.warm(size, huge=self.memory == "default")
            with Stopwatch([qemus.pid(source), qemus.pid(target)]) as watch:
                source.qmp.migrate(uri)
                qemus.await_end(source)
                qemus.await_end(target)
        return sample(watch, size, watch.cpu)


# --- Godwit to QEMU -------------------------------------------------------------------------------------------------

def image_file(bench, kind, size=None):
    size = size or bench.size

    def make(path):
        receive(bench, kind, size, path, PLAIN, [], lambda: None)
    return bench.keep(("image", kind, size), make)


@dataclass(frozen=True)
class Send:
    """godwit send of an image into a QEMU that listens, until both are done."""
    kind: str = "random"
    link: Link = PLAIN

    def title(self):
        return f"godwit send to QEMU, {self.kind} guest{self.link.title()}"

    def run(self, bench):
        image, uri = image_file(bench, self.kind), "unix:" + qemus.socket_path(bench)
        with qemus.destination(bench, bench.size) as target:
            qemus.prepare(target, self.link, ["return-path"])
            target.qmp.command("migrate-incoming", uri=uri)
            bench.warm(bench.size, huge=True)
            command = [bench.godwit, "send", image, uri, "--quiet", *self.link.send_options()]
            with Stopwatch([qemus.pid(target)]) as watch, Program(bench, command) as godwit:
                used = godwit.finish()
                qemus.await_end(target)
        return with_godwit(watch, bench.size, used)


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
        return with_godwit(watch, bench.size, used)


@dataclass(frozen=True)
class LoadImage:
    """Stock QEMU alone loads the image that Godwit made."""
    kind: str = "random"

    def title(self):
        return f"QEMU loads the image, {self.kind} guest"

    def run(self, bench):
        image = image_file(bench, self.kind)
        with qemus.destination(bench, bench.size) as target:
            qemus.prepare(target, PLAIN, ["mapped-ram"])
            bench.warm(bench.size, huge=True)
            with Stopwatch([qemus.pid(target)]) as watch:
                target.qmp.command("migrate-incoming", uri=f"file:{image}")
                qemus.await_end(target)
        return sample(watch, bench.size, watch.cpu)


# --- Files and memory -----------------------------------------------------------------------------------------------

def stream_file(bench, kind):
    """A plain stream, written by QEMU itself."""
    def make(path):
        with qemus.source(bench, kind, bench.size) as source:
            qemus.prepare(source, PLAIN, max_bandwidth=qemus.UNLIMITED)
            source.qmp.migrate(f"file:{path}")
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
