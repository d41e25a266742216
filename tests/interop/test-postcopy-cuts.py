#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The link from a real QEMU source that switches to post-copy, to godwit receive, is cut behind every message and inside of some, in
both directions: before the switch, in it, in the package, between pages, at the end; and in recoveries, in the questions, the bitmaps
and RESUME, again and again. What godwit says of the guest is so each time, and what the source can still bring makes the image whole.

test-postcopy-cuts.py 7.2|10.0|11.1. Some places are chosen by GODWIT_SEED; GODWIT_CUTS=all walks over all: each message, each page,
each byte of a bitmap. GODWIT_ONLY: names of tests.
"""
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
import images
from cuts import ALL, PAGES, SEED, end, messages, places, proxy, recovery_places, some
from capture_guests import KINDS, KindVm
from lost_pages import unless_lost
from qmp import QmpError
from postcopy_source_vm import come_back, status, wait_status
from vm import Unavailable, skip

KIND = replace(KINDS["plain"], backend="memfd", runs=True, filled=True)
PAGE = 4096
PRECOPY_BANDWIDTH = 100 << 10       # never done with a guest that writes on
PRECOPY_BYTES = 30000
BANDWIDTH = 1 << 20
AHEAD = 200 << 10                   # at most: what it writes between two rests, and what is under way
FIRST_BYTES = 300 << 10             # with which a source is done with the switch itself
UNPROVED_MAX = 8    # breaks in a row that a sink reports though nothing showed that it was its source who came
HEAD_BYTES = 9      # magic, version, and the first item
RECOVERY_BYTES = 9000               # how far the recovery may come that is cut again and again
RECOVERY_BANDWIDTH = 100 << 10
PAGE_BY_PAGE = 100                  # one, and then a rest of 0.1 s
UNDER_WAY = 350 << 10               # what fits between source and proxy: of a recovery, 10.0 and 11.1 send as fast as they can
OLD = ("7.2",)                      # what it makes of a break: postcopy.md 1.4, 3.3, 6.4
AT_THE_END = ["--cut-at=forward:eof"] * 2 + ["--cut-at=forward:end"]    # its offset is not always the same
STUCK_S = 0.5
PARTS = ["image.partial", "image.partial.state"]


class Source(KindVm):
    def __init__(self, version):
        super().__init__(version, KIND)
        self.n = 0

    def __enter__(self):
        super().__enter__()
        self.fill_ram()
        return self

    def ram(self):
        return self.main_ram()

    def uri(self):
        self.n += 1
        return f"unix:{self.dir}/s{self.n}"

    def set_up(self):
        self.qmp.command("migrate-set-capabilities", capabilities=[{"capability": "postcopy-ram", "state": True}])
        self.qmp.command("migrate-set-parameters", max_bandwidth=PRECOPY_BANDWIDTH, max_postcopy_bandwidth=BANDWIDTH)

    def migrate(self, uri):
        self.set_up()
        self.qmp.migrate(uri)

    def switch_at_once(self, uri):
        """Hardly a page goes the pre-copy way."""
        self.set_up()
        self.qmp.migrate_and_switch(uri)

    def runs_on(self):
        """Nobody else has its guest, and it knows. A 7.2 that had stopped it for the switch waits for a word."""
        if self.version in OLD and not self.is_running():
            self.qmp.cont()
        deadline = time.monotonic() + 30 * godwit.PATIENCE
        while not self.is_running():
            assert time.monotonic() < deadline, status(self)
            time.sleep(0.01)


def is_in_head(cut):
    """Whoever has sent no more than that may be anybody: the sink waits on for its source, and says nothing."""
    direction, _, place = (cut or "").partition(":")
    return direction == "forward" and int(place) < HEAD_BYTES


class Sink:
    """godwit receive, as often as it takes, and the links to it."""

    def __init__(self, vm, tcp=False):
        self.vm, self.tcp, self.folder = vm, tcp, tempfile.mkdtemp(dir=vm.dir)
        self.image = os.path.join(self.folder, "image")
        self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.g.__exit__()

    def start(self, *options):
        self.g = godwit.Run("receive", "tcp:127.0.0.1:0" if self.tcp else self.vm.uri(), self.image, "--json", "-q", *options)
        self.uri = self.g.wait_stdout('"listening".*"uri": ?"([^"]*)"')[1]
        self.said = len(options)    # one that resumes says at once that it waits
        self.waits = True

    def link(self, begin, cut=None):
        """What passed; begin(uri) makes the source connect."""
        uri = self.vm.uri()
        with proxy(uri, self.uri, cut) as p:
            begin(uri)
            passed = messages(p)
        if not is_in_head(cut):
            self.settle()
        return passed

    def settle(self):
        """Until it waits for its source again, or has ended."""
        deadline = time.monotonic() + 30 * godwit.PATIENCE
        while self.g.process.poll() is None and self.g.stdout.count('"paused"') <= self.said:
            assert time.monotonic() < deadline, self.g.stderr
            time.sleep(0.005)
        self.said = self.g.stdout.count('"paused"')
        self.waits = self.g.process.poll() is None

    def recover(self, cut=None):
        """The source comes back; to another process, if this one waits no more."""
        if not self.waits:
            self.stands_still(self.g.wait())
            self.g.__exit__()
            self.start("--resume")
        return self.link(lambda uri: come_back(self.vm, uri), cut)

    def interrupted(self):
        self.g.kill(signal.SIGINT)
        return self.stands_still(self.g.wait())

    def stands_still(self, result):
        assert result.status == godwit.RECOVERABLE, result
        assert self.left() == PARTS, self.left()
        return result

    def left(self):
        return sorted(os.listdir(self.folder))

    def has_it(self):
        """The source stands and knows; the image has its memory to the byte, and nothing else is left."""
        done = self.g.wait().ok().event("done")
        assert done["source_notified"] and done["postcopy"], done
        wait_status(self.vm, "completed")
        self.is_whole()

    def is_whole(self):
        assert not self.vm.is_running()
        assert self.left() == ["image"], self.left()
        images.check_image(self.vm, self.image, self.vm.path("raw"))


# --- before the switch ---

def precopy(version):
    """A switch is possible, and was not asked for: the guest is the source's, whatever is cut."""
    with Source(version) as vm:
        def broken(cut):
            with Sink(vm) as sink:
                passed = sink.link(lambda uri: vm.migrate(uri), cut)
                said = sink.g.wait().fails(godwit.FAILED, "still runs its guest" if passed else "no image")
                assert sink.left() == [], sink.left()
            assert wait_status(vm, "failed", "completed") == "failed", f"{cut}: {said}"
            assert vm.is_running(), cut
            return passed
        passed = broken(f"forward:{PRECOPY_BYTES}")
        cuts = some([f"{d}:{n}" for d in ("forward", "return") for n in places(passed, d) if n <= PRECOPY_BYTES], 4)
        for cut in cuts:
            broken(cut)
    print(f"  before a switch: {len(cuts)} cuts, the source ran its guest on", flush=True)
    assert len(cuts) >= 4


# --- the switch, and the end ---

class Sources:
    """One after the other, each as long as it is of use."""

    def __init__(self, version):
        self.version, self.vm = version, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.vm:
            self.vm.__exit__()
        self.vm = None

    def next(self):
        if not self.vm:
            self.vm = Source(self.version)
            self.vm.__enter__()
        return self.vm


def settled(vm):
    """What the source makes of a link that is gone. A 7.2 that has sent its last page makes nothing of it."""
    deadline = time.monotonic() + 30 * godwit.PATIENCE
    since = None
    while (now := status(vm)) not in ("postcopy-paused", "failed", "completed"):
        sent_all = now == "postcopy-active" and not vm.qmp.command("query-migrate")["ram"]["remaining"]
        since = (since or time.monotonic()) if sent_all else None
        if since and vm.version in OLD and time.monotonic() > since + 0.5 * godwit.PATIENCE:
            return "hangs"
        assert time.monotonic() < deadline, now
        time.sleep(0.01)
    return now


def forward(passed, *names):
    return [m for m in passed if m["direction"] == "forward" and m["message"] in names]


class Cut:
    """One link of a source that switches at once, and what became of it."""

    def __init__(self, sources, place):
        self.vm, self.place = sources.next(), place
        with Sink(self.vm, tcp=self.tcp()) as self.sink:
            self.passed = self.sink.link(self.vm.switch_at_once, place)
            self.source = settled(self.vm)
            self.kind = self.what_came()
            try:
                self.kind()
            except AssertionError as e:
                raise AssertionError(f"cut {place}, {self.kind.__name__}, source {self.source}: {self.sink.g.stderr}: {e}") from e
        if self.source != "completed" and (self.source != "failed" or self.vm.version in OLD):    # postcopy.md 6.4
            sources.__exit__()

    count = 0

    @classmethod
    def tcp(cls):
        """Who writes to a unix socket sees that the other end is gone; with TCP he may not."""
        cls.count += 1
        return cls.count % 2 == 1

    def what_came(self):
        if forward(self.passed, "EOF"):
            return self.at_the_end
        if forward(self.passed, "POSTCOPY_RUN"):
            return self.between_pages
        return self.in_the_switch if forward(self.passed, "POSTCOPY_RAM_DISCARD") else self.before_the_switch

    def lost(self, status, left=()):
        """The source may have said far more than came; godwit cannot know, and says so."""
        words = "check its query-migrate" if forward(self.passed, "POSTCOPY_ADVISE") else "no image"
        self.sink.g.wait().fails(status, words)
        assert self.sink.left() == list(left), self.sink.left()
        assert self.source in ("failed", "postcopy-paused"), self.source
        self.is_the_sources()

    def is_the_sources(self):
        if self.source == "failed":
            self.vm.runs_on()
        else:
            assert not self.vm.is_running()

    def before_the_switch(self):
        self.lost(godwit.FAILED)

    def in_the_switch(self):
        """Nothing to go on with; a source that waits all the same gets its guest back."""
        self.lost(godwit.IN_DOUBT, ["image.partial.state"])
        if self.source == "postcopy-paused":
            self.sink.g.__exit__()
            self.sink.start("--abandon")
            come_back(self.vm, self.sink.uri)
            self.sink.g.wait().ok()
            assert self.sink.left() == [], self.sink.left()
            self.source = wait_status(self.vm, "failed")
            self.vm.runs_on()

    def between_pages(self):
        """What came is kept. The source comes back, unless it has nothing more to send, or, in a moment behind the switch, cannot."""
        assert self.sink.waits, self.sink.g.stderr
        if self.is_known():
            assert self.source == "postcopy-paused"
        if self.source == "postcopy-paused":
            assert not self.vm.is_running()
            self.sink.recover()
            self.sink.has_it()
            self.source = status(self.vm)
            self.vm.qmp.cont()
            return
        self.is_the_sources()
        said = self.sink.interrupted()
        if self.source == "hangs" and "has every page" in said.stderr:
            godwit.run("receive", self.sink.uri, self.sink.image, "--resume", "--without-source", "-q").ok()
            self.sink.is_whole()

    def is_known(self):
        """A source in the middle of its pages."""
        pages = forward(self.passed, *PAGES)
        return pages and end(pages[-1]) > FIRST_BYTES and end(pages[-1]) + AHEAD < Cut.all_bytes

    def at_the_end(self):
        """All came. The source is done when it hears so, and that it did not is noticed, where the link shows it."""
        said = self.sink.g.wait()
        heard = any(m["message"] == "SHUT" for m in self.passed)
        assert self.source == ("completed" if heard else "hangs" if self.vm.version in OLD else "failed")
        if heard:
            self.sink.has_it()
            self.vm.qmp.cont()
            return
        self.is_the_sources()
        assert self.sink.left() == ["image"]
        lost_under_way = self.place.startswith("return")    # half of our word was taken: nothing shows that the rest was not
        if lost_under_way or said.status == godwit.DONE:    # nor if the proxy had taken it from the wire when it cut the link
            said.ok()
        else:
            said.fails(godwit.IN_DOUBT, "could not be told", "kept in")


def first_connection(version):
    found = Counter()
    with Sources(version) as sources:
        whole = Cut(sources, None)
        assert whole.kind == whole.at_the_end and whole.source == "completed", whole.source
        said = forward(whole.passed, *{m["message"] for m in whole.passed})
        bounds = [forward(said, name)[0]["offset"] for name in ("CONFIGURATION", "POSTCOPY_RAM_DISCARD", "POSTCOPY_RUN", "EOF")]
        Cut.all_bytes = bounds[-1]
        ends = places(whole.passed, "forward")
        cuts = [f"return:{n}" for n in some(places(whole.passed, "return"), 1)]
        for first, last in zip(bounds, bounds[1:]):
            cuts += [f"forward:{n}" for n in some([n for n in ends if first < n <= last], 1)]
        cuts += AT_THE_END
        for place in cuts:
            c = Cut(sources, place)
            found[f"{c.kind.__name__.replace('_', ' ')}: {c.source}"] += 1
    print(f"  first connection: {len(cuts)} cuts, {dict(sorted(found.items()))}", flush=True)
    assert len(cuts) >= 5


# --- recoveries ---

def begun(vm):
    """Its guest stands, and pages came behind the switch."""
    sink = Sink(vm)
    try:
        sink.link(vm.switch_at_once, f"forward:{FIRST_BYTES}")
        wait_status(vm, "postcopy-paused")
        assert sink.waits, sink.g.stderr
        vm.qmp.command("migrate-set-parameters", max_postcopy_bandwidth=RECOVERY_BANDWIDTH)
    except BaseException:
        sink.__exit__()
        raise
    return sink


def ends_well(vm, sink):
    vm.qmp.command("migrate-set-parameters", max_postcopy_bandwidth=0)
    passed = sink.recover()
    sink.has_it()
    return passed


def recoveries(version):
    """One source bears them all: each cut is one in the recovery from the cut before."""
    with Source(version) as vm, begun(vm) as sink:
        found, resume = recovery_places(sink.recover(f"forward:{RECOVERY_BYTES}"), RECOVERY_BYTES)
        cuts = some([f"{d}:{n}" for d, n in found if version not in OLD or d == "forward" and n > resume], 20)
        for n, cut in enumerate(cuts):
            if version not in OLD and n % (UNPROVED_MAX // 2) == 0:
                sink.recover(f"forward:{resume + 8}")       # after RESUME_ACK: it was its source, who knows the guest
            sink.recover(cut)
        ends_well(vm, sink)
    print(f"  recoveries: {len(cuts)} cuts{', none before RESUME_ACK' if version in OLD else ''}", flush=True)


def is_stuck(vm):
    deadline = time.monotonic() + STUCK_S * godwit.PATIENCE
    while (now := status(vm)) != "postcopy-paused" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert now in ("postcopy-paused", "postcopy-recover"), now
    return now == "postcopy-recover"


def stuck(version):
    """A 7.2 before it has heard RESUME_ACK: it stays in postcopy-recover and takes no word any more, or is paused and comes back. There is
    nothing between, and what came is kept here in either case."""
    if version not in OLD:
        return
    with Source(version) as vm, begun(vm) as sink:
        found, resume = recovery_places(sink.recover(f"forward:{RECOVERY_BYTES}"), RECOVERY_BYTES)
    cuts = some([f"{d}:{n}" for d, n in found if d == "return" or n <= resume], 2)
    lost = 0
    for cut in cuts:
        with Source(version) as vm, begun(vm) as sink:
            sink.recover(cut)
            assert sink.waits, cut
            if not is_stuck(vm):
                ends_well(vm, sink)
                continue
            lost += 1
            for command, arguments in (("migrate", {"uri": sink.uri, "resume": True}), ("migrate-pause", {})):
                try:
                    vm.qmp.command(command, **arguments)
                    raise AssertionError(f"{cut}: {command} is taken")
                except QmpError:
                    pass
            assert not vm.is_running() and status(vm) == "postcopy-recover", cut
            assert "pages are missing here" in sink.interrupted().stderr
    print(f"  before RESUME_ACK: {len(cuts)} cuts, of {lost} QEMU {version} stays in postcopy-recover", flush=True)


def each_page(version):
    """The link is cut behind each page, in the recovery from the cut behind the one before. Which page is next was seen in a recovery of
    the same guest from the same place. The place is not the same to the page if the source sent one more on its way there; then the first
    of these cuts comes a few pages late, and from there on it is known where the source is."""
    with Source(version) as vm:
        with begun(vm) as sink:
            order = [m for m in ends_well(vm, sink) if m["message"] in PAGES]
        vm.qmp.cont()
        with begun(vm) as sink:
            ram = vm.ram()      # it ran meanwhile
            kinds = [m["message"] if m["block"] != "m0" else "PAGE" if any(ram[m["start"]:m["start"] + PAGE]) else "ZERO" for m in order]
            behind = [PAGE * kinds[n + 1:].count("PAGE") for n in range(len(kinds))]
            at = {(m["block"], m["start"]): n for n, m in enumerate(order)}
            n, came, alone = 0, [], 0
            while n < len(order) - 1 and (version in OLD or behind[n] > UNDER_WAY) and (ALL or len(came) < 10):
                if behind[n] < 4 * RECOVERY_BYTES:
                    vm.qmp.command("migrate-set-parameters", max_postcopy_bandwidth=PAGE_BY_PAGE)
                passed = [m for m in sink.recover(f"--cut-at=forward:{kinds[n].lower()}") if m["message"] in PAGES]
                pages = [(p["block"], p["start"]) for p in passed]
                assert pages and passed[-1]["message"] == kinds[n], (kinds[n], passed)
                assert not set(pages) & set(came), (pages, came)     # what came is not sent again
                came += pages
                alone += len(pages) == 1
                n = at.get(pages[-1], n) + 1
            ends_well(vm, sink)
    print(f"  pages: {alone} of {len(came)} with a cut of their own, of {len(order)}", flush=True)
    assert alone > len(came) / 2, came


def main():
    version, = sys.argv[1:]
    wanted = os.environ.get("GODWIT_ONLY", "").split(",")
    try:
        print(f"  seed {SEED}{', all' if ALL else ''}", flush=True)
        for test in (precopy, first_connection, recoveries, stuck, each_page):
            if wanted == [""] or test.__name__ in wanted:
                begin = time.monotonic()
                unless_lost(version, test, version)
                print(f"    {time.monotonic() - begin:.1f} s", flush=True)
    except Unavailable as e:
        skip(str(e))


if __name__ == "__main__":
    main()
