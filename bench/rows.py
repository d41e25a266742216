# SPDX-License-Identifier: MIT
"""What is compared with what. A row is two works, what of them is looked at, and a goal; adding one is adding an entry.

A work that several rows look at is run once. The rows of a group are run together, in turn, and share guests and files.
"""
from dataclasses import dataclass

from cloneworks import FirstOutput, Memory, QemuStart
from coloworks import Checkpoints, FailOver, LinuxStart
from guardedworks import Guarded
from jobworks import Job, JobAlone, Many
from lazyworks import Lazily, LazyStart, LoadStart
from link import Link
from waitworks import Asked, LazyWait
from works import Dd, Inspect, LoadImage, QemuSaves, QemuToQemu, ReadFile, Receive, Restore, Save, Send, ZeroScan

TWO = Link(channels=2)
ZSTD = Link(channels=2, compress="zstd")


@dataclass(frozen=True)
class Goal:
    """A limit for the ratio, for Godwit's own figure, or for what it is more than the reference's."""
    of: str             # "ratio", "godwit" or "more"
    most: float = None
    least: float = None

    def met(self, ratio, value):
        x = ratio if self.of == "ratio" else value
        if self.of == "more":
            x = value - value / ratio if ratio else None
        return x is not None and (self.most is None or x <= self.most) and (self.least is None or x >= self.least)


def ratio_at_most(x):
    return Goal("ratio", most=x)


def ratio_at_least(x):
    return Goal("ratio", least=x)


def at_most(x):
    return Goal("godwit", most=x)


def at_most_more(x):
    return Goal("more", most=x)


def at_least(x):
    return Goal("godwit", least=x)


@dataclass(frozen=True)
class Row:
    name: str
    group: str
    what: str           # a sentence for --list and the report
    godwit: object      # a work
    reference: object = None
    figure: str = "seconds"     # of a sample: see works.FIGURES
    goal: Goal = None   # without one the row is for information


def both_ways(name, group, what, godwit, reference, goal=None, cpu_goal=None):
    """The time, and the processor time that went into it."""
    return [Row(name, group, what, godwit, reference, "seconds", goal),
            Row(f"{name}-cpu", group, f"{what}: processor time of both ends", godwit, reference, "cpu_per_gib", cpu_goal)]


RECEIVE = [
    *both_ways("receive", "receive", "QEMU -> Godwit image in tmpfs, against QEMU -> QEMU's memory",
               Receive(), QemuToQemu(), ratio_at_most(1.0)),
    *both_ways("receive-huge", "receive", "the same into a tmpfs that has huge pages, as QEMU's memory does",
               Receive(place="huge"), QemuToQemu(), ratio_at_most(1.0)),
    Row("receive-shared", "receive", "as receive, against a QEMU whose memory is a file in the same tmpfs (share=on)",
        Receive(), QemuToQemu(memory="shared")),
    Row("receive-prealloc", "receive", "as receive, against a QEMU whose memory was there before (prealloc=on)",
        Receive(), QemuToQemu(memory="prealloc")),
    Row("receive-peak", "receive", "peak memory of godwit receive, against a guest of an eighth of the size",
        Receive(), Receive(scale=0.125), "peak_mib", at_most(64)),
]

SAVE = [
    *both_ways("save", "save", "godwit save of a paused guest into tmpfs, against QEMU writing mapped-ram by itself",
               Save(), QemuSaves()),
    *both_ways("save-direct", "save", "godwit save --way direct into tmpfs, against the same", Save(way="direct"), QemuSaves(), ratio_at_most(1.03),
               ratio_at_most(1.03)),
    *both_ways("save-direct-disk", "save", "the same onto the disk, 2 channels, --direct-io", Save(link=TWO, way="direct", place="disk"),
               QemuSaves(link=TWO, place="disk"), ratio_at_most(1.03), ratio_at_most(1.03)),
]

SCAN = [
    Row("zero-scan", "scan", "looking for zero pages, against only reading the memory",
        ZeroScan("scan"), ZeroScan("read"), "gb_per_s", ratio_at_least(0.8)),
]

INSPECT = [
    Row("inspect", "inspect", "godwit inspect of a stream in tmpfs, against only reading the file",
        Inspect(), ReadFile(), "gb_per_s", at_least(2.0)),
]

RESTORE = [
    *both_ways("restore-direct", "restore", "godwit restore --way direct, against QEMU loading the image by itself",
               Restore("direct"), LoadImage()),
    *both_ways("restore-stream", "restore", "godwit restore --way stream, against QEMU -> QEMU",
               Restore("stream"), QemuToQemu()),
]

# With several channels.

CHANNELS = [
    *both_ways("channels", "channels", "QEMU -> Godwit image in tmpfs, 2 channels, against QEMU writing mapped-ram with 2",
               Receive(link=TWO), QemuSaves(link=TWO), ratio_at_most(1.0), ratio_at_most(1.0)),
    Row("channels-peak", "channels", "peak memory of that, against a guest of an eighth of the size",
        Receive(link=TWO), Receive(link=TWO, scale=0.125), "peak_mib", at_most(64)),
]

DISK = [
    Row("disk", "disk", "QEMU -> Godwit image on disk, 2 channels, --direct-io, against dd oflag=direct bs=4M",
        Receive(link=TWO, place="disk"), Dd(), "gb_per_s", ratio_at_least(0.8)),
    *both_ways("disk-qemu", "disk", "the same against QEMU writing mapped-ram with 2 channels and direct-io",
               Receive(link=TWO, place="disk"), QemuSaves(link=TWO, place="disk"), None, ratio_at_most(1.0)),
]

SEND = [
    *both_ways("send", "send", "Godwit image -> QEMU, 2 channels, against QEMU -> QEMU, 2 channels",
               Send(link=TWO), QemuToQemu(link=TWO), ratio_at_most(0.8), ratio_at_most(1.0)),
    *both_ways("send-zstd", "send", "the same with zstd level 1 and pages that shrink to a half",
               Send("half", ZSTD), QemuToQemu("half", ZSTD), ratio_at_most(1.0), ratio_at_most(1.0)),
]

ZEROS = [
    row for kind in ("zero", "mostly-zero") for row in (
        *both_ways(f"receive-{kind}", "zeros", f"QEMU -> Godwit image in tmpfs, {kind} guest, 2 channels, against QEMU's own",
                   Receive(kind, TWO), QemuSaves(kind, TWO), ratio_at_most(0.8), ratio_at_most(1.0)),
        *both_ways(f"send-{kind}", "zeros", f"Godwit image -> QEMU, {kind} guest, 2 channels, against QEMU -> QEMU, 2 channels",
                   Send(kind, TWO), QemuToQemu(kind, TWO), ratio_at_most(0.8), ratio_at_most(1.0)),
    )
]

# Post-copy from an image.

LAZY_START = [
    Row("lazy-start", "lazy-start", "godwit serve until the guest runs, against QEMU loading the image by itself, 2 channels",
        LazyStart(), LoadStart(), "ms", at_most(50)),
    Row("lazy-start-flat", "lazy-start", "the same, against a guest of an eighth of the size",
        LazyStart(), LazyStart(scale=0.125), "ms", ratio_at_most(1.3)),
]

LAZY = [
    *both_ways("lazy", "lazy", "godwit serve until every page is there, against godwit restore --way stream",
               Lazily(), Restore("stream"), ratio_at_most(1.5)),
    Row("lazy-direct", "lazy", "the same against godwit restore --way direct", Lazily(), Restore("direct")),
    *both_ways("lazy-mostly-zero", "lazy", "as lazy, with a mostly-zero guest",
               Lazily("mostly-zero"), Restore("stream", "mostly-zero"), ratio_at_most(1.5)),
]

LAZY_WAIT = [
    Row("lazy-request", "lazy-wait", "godwit serve: from a request to its page on the socket while the push goes on, median",
        Asked(), Asked(preempt=True), "p50_us", at_most(50)),
    Row("lazy-request-p99", "lazy-wait", "the same, 99 of 100; against the same with a preempt channel",
        Asked(), Asked(preempt=True), "p99_us", at_most(300)),
    Row("working-set", "lazy-wait", "how long a Linux guest waits for pages over 100 MB/s, with a working set against without",
        LazyWait(True), LazyWait(False), "ms", ratio_at_most(1 / 3)),
]

# Guests out of one image, from the command to their first output.

CLONE = [
    Row("clone", "clones", "godwit restore --clone from the command to the guest's first output, against QEMU's own start to a paused prompt",
        FirstOutput("clone"), QemuStart(), "ms"),
    Row("clone-flat", "clones", "the same, against a guest of an eighth of the size", FirstOutput("clone"), FirstOutput("clone", scale=0.125), "ms",
        ratio_at_most(1.3)),
    Row("clone-eager", "clones", "the same against godwit restore", FirstOutput("clone"), FirstOutput("eager"), "ms"),
    Row("clone-lazy", "clones", "the same against godwit restore --lazy", FirstOutput("clone"), FirstOutput("lazy"), "ms"),
    Row("clone-8", "clones", "eight clones until the last one's first output, against eight times godwit restore", FirstOutput("clone", 8),
        FirstOutput("eager", 8), "ms"),
]

CLONE_MEMORY = [
    Row("clone-memory", "clone-memory", "memory of eight Linux guests of 512 MiB together, cloned, against restored", Memory("clone"), Memory("eager"),
        "peak_mib", ratio_at_most(0.4)),
    Row("clone-linux", "clone-memory", "eight Linux clones until the last one's first output, against eight times godwit restore", Memory("clone"),
        Memory("eager"), "ms"),
]

# A guest with a job, and one image for many.

LAZY_WORK = [
    Row("lazy-work", "lazy-work", "a guest that touches 200 MiB at random, then computes: godwit restore --clone until it is done, against godwit restore",
        Job("clone"), Job("eager"), "seconds", ratio_at_most(0.4)),
    Row("lazy-work-lazy", "lazy-work", "the same with --lazy, without a working set", Job("lazy"), Job("eager")),
    Row("lazy-work-known", "lazy-work", "the same with --lazy and the working set of an earlier one", Job("lazy-known"), Job("eager")),
    Row("lazy-work-alone", "lazy-work", "godwit restore --clone, against QEMU that loads the image over 2 channels", Job("clone"), JobAlone()),
]

SERVE = [
    *both_ways("serve-8", "serve", "eight godwit serve of one image at a time until every QEMU has every page, against eight godwit restore --way stream",
               Many("serve"), Many("stream")),
    Row("serve-8-direct", "serve", "the same against eight godwit restore --way direct", Many("serve"), Many("direct")),
    Row("serve-8-one", "serve", "the same against one", Many("serve"), Many("serve", 1)),
]

# Checkpoints of a guest that is protected.

def checkpoint_rows(name, guest, **load):
    """Median and 99 of 100, plain and with 2 channels."""
    for channels in 0, 2:
        ours, theirs = Checkpoints("godwit", channels, **load), Checkpoints("qemu", channels, **load)
        row, how = f"colo-pause-{name}" + ("-channels" if channels else ""), ", 2 channels" if channels else ""
        yield Row(row, "colo", f"as colo-pause, with {guest}{how}", ours, theirs, "p50_us", ratio_at_most(0.8))
        yield Row(f"{row}-p99", "colo", "the same, 99 of 100", ours, theirs, "p99_us")


COLO = [
    Row("colo-pause", "colo", "how long a checkpoint stops a guest that godwit standby keeps, against a QEMU as secondary, median",
        Checkpoints("godwit"), Checkpoints("qemu"), "p50_us", ratio_at_most(0.8)),
    Row("colo-pause-p99", "colo", "the same, 99 of 100", Checkpoints("godwit"), Checkpoints("qemu"), "p99_us"),
    Row("colo-memory", "colo", "memory of the standby, against the secondary's", Checkpoints("godwit"), Checkpoints("qemu"), "peak_mib",
        ratio_at_most(0.6)),
    Row("colo-pause-channels", "colo", "as colo-pause, with 2 channels", Checkpoints("godwit", 2), Checkpoints("qemu", 2), "p50_us",
        ratio_at_most(0.8)),
    Row("colo-pause-channels-p99", "colo", "the same, 99 of 100", Checkpoints("godwit", 2), Checkpoints("qemu", 2), "p99_us"),
    *checkpoint_rows("busy", "a guest that changes several times as many pages", rate=1200),
    *checkpoint_rows("sweep", "a guest that changes 23,000 pages between two checkpoints", sweep=90),
]

FAILOVER = [
    Row("failover", "failover", "from kill -9 of a protected QEMU until its Linux guest is heard of in another one, by godwit failover, against that QEMU's own start",
        FailOver(), LinuxStart(), "ms", at_most_more(1000)),
]

def guarded_rows(name, what, **more):
    """Median and 99 of 100, against memory alone."""
    for suffix, figure in ("", "p50_us"), ("-p99", "p99_us"):
        yield Row(f"guarded-{name}{suffix}", "guarded", f"how long a checkpoint of godwit protect pauses a guest with {what}, against memory alone" + (
            ", 99 of 100" if suffix else ", median"), Guarded(**more), Guarded(), figure)


GUARDED = [
    *guarded_rows("network", "a network that is held back", network=True),
    *guarded_rows("disks", "two disks", disks=2),
    *guarded_rows("durable", "epochs that survive the standby", durable=True),
    *guarded_rows("lease", "a network that is held back, and a lease", network=True, lease=True),
    *guarded_rows("all", "all of these", network=True, disks=2, durable=True, lease=True),
    Row("guarded-trip", "guarded", "from a client's frame to its guest's answer, held back until the checkpoint is safe, against --no-output-commit",
        Guarded(network=True), Guarded(network=True, commit=False), "trip_p50_ms"),
    Row("guarded-trip-p99", "guarded", "the same, 99 of 100", Guarded(network=True), Guarded(network=True, commit=False), "trip_p99_ms"),
    Row("guarded-trip-all", "guarded", "the same with disks, durable epochs and a lease", Guarded(network=True, disks=2, durable=True, lease=True),
        Guarded(network=True, commit=False), "trip_p50_ms"),
    Row("guarded-epochs", "guarded", "how many older epochs fit into a GiB", Guarded(history=16), figure="epochs_per_gib"),
]

GROUPS = [SCAN, RECEIVE, SAVE, INSPECT, RESTORE, CHANNELS, DISK, SEND, ZEROS, LAZY_START, LAZY, LAZY_WAIT, CLONE, CLONE_MEMORY, LAZY_WORK, SERVE, COLO, FAILOVER, GUARDED]
