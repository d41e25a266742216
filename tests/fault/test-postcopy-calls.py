#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""godwit receive and a source that switches to post-copy, with each call to the kernel that changes a file or tells the source something
failing once, and with a death in front of each; and godwit convert. Whatever happens, --resume ends the image or --abandon gives the guest back, and what was
there before is there until the new image is. No QEMU; strace makes calls fail.
"""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
import images
from pcsource import *

CHANGES = "openat,flock,fallocate,mmap,msync,pwrite64,pwritev,fdatasync,fsync,ftruncate,renameat,renameat2,linkat,unlinkat,fchmod,fchown," \
          "sync_file_range,getrandom".split(",")
TELLS = ["sendto", "sendmsg", "write"]
ERRORS = ("EIO", "ENOSPC")
OLD = b"what was there before"
ENV = {**os.environ, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}     # LeakSanitizer does not work under strace


class Place:
    """A folder with an old image, and godwit receive in it, in the hands of strace or not."""

    def __init__(self, folder):
        self.dir = tempfile.mkdtemp(dir=folder)
        self.image = os.path.join(self.dir, "image")
        self.runs = 0
        with open(self.image, "wb") as f:
            f.write(OLD)

    def start(self, *options, strace=()):
        self.runs += 1
        self.path = os.path.join(self.dir, f"s{self.runs}")
        prefix = ("strace", "-D", "-f", "-qq", *strace) if strace else ()     # with --seccomp-bpf strace 6.1 does not kill where it is told to
        return godwit.Run("receive", f"unix:{self.path}", self.image, "--json", "-q", "--idle-timeout=10", *options, prefix=prefix, env=ENV)

    def copy(self):
        other = Place.__new__(Place)
        other.dir, other.runs = tempfile.mkdtemp(dir=os.path.dirname(self.dir)), 100
        other.image = os.path.join(other.dir, "image")
        for name in self.left():
            shutil.copy2(os.path.join(self.dir, name), other.dir)
        return other

    def left(self):
        return sorted(n for n in os.listdir(self.dir) if not re.fullmatch(r"s\d+", n))

    def is_old(self):
        with open(self.image, "rb") as f:
            return f.read(len(OLD) + 1) == OLD

    def has_it(self):
        """The whole guest."""
        godwit.run("verify", self.image).ok()
        for block in PAGES:
            images.same_bytes(block, images.raw_ram(self.image, self.image + ".raw", block), ram(block))
            os.unlink(self.image + ".raw")


class Begun(Place):
    """What a receiver left that was killed behind the switch."""

    def __init__(self, folder, template):
        super().__init__(folder)
        for name in template.left():
            shutil.copy2(os.path.join(template.dir, name), self.dir)


class Source:
    """What a real one makes of it: `state` is runs (it never stopped, or was told to run on), waits (postcopy-paused) or done."""

    def __init__(self):
        self.state = "runs"

    def migrate(self, path):
        """All of it, as far as the other side goes along."""
        pages = {BLOCK: set(), ROM: set()}
        try:
            with Link(path) as s:
                s.send(head(), start())
                self.hear(s, (PONG, 1))
                s.send(part(*[record(p, salt=9 if p >= 50 else 0) for p in range(100)]), ping(7))
                self.hear(s, (PONG, 7))
                self.state = "waits"
                s.send(discard((50 * PAGE, 250 * PAGE)), discard((0, 5 * PAGE), block=ROM), ping(2))
                self.hear(s, (PONG, 2))
                s.send(package(), ping(4))
                pages[BLOCK] = set(range(50))
                self.hear(s, (PONG, 3), (PONG, 0x42), (PONG, 4))
                s.pages(pages, limit=100)
                s.send(ping(8))
                self.hear(s, (PONG, 8))
                s.pages(pages)
                s.send(end())
                self.hear(s, (SHUT, 0))
        except (Closed, OSError):
            pass

    def hear(self, s, *wanted):
        for want in wanted:
            got = s.read_message()
            if got[0] == SHUT:
                self.state = "runs" if got[1] else "done"
            assert got == want or got == (SHUT, 1), f"{got}, {want} expected"
            if got == (SHUT, 1):
                raise Closed

    def come_back_late(self, path):
        self.state = "waits"
        self.come_back(path)

    def come_back(self, path):
        """It sends what it is told is missing."""
        try:
            with Link(path) as s:
                s.send(*[question(b) for b in PAGES])
                have = {}
                for _ in PAGES:
                    kind, name, bits = s.read_message()
                    assert kind == BITMAP
                    have[name] = bits
                s.send(command(RESUME))
                self.hear(s, (ACK, 1))
                s.pages(have)
                s.send(end())
                self.hear(s, (SHUT, 0))
        except Closed:
            pass


def ended(run):
    """It ends by itself, or waits for the source to come back and is told to end. Returns its status."""
    deadline = time.monotonic() + 30 * godwit.PATIENCE
    told = False
    while run.process.poll() is None:
        assert time.monotonic() < deadline, f"it does not end: {run.stderr}"
        if not told and '"paused"' in run.stdout:
            run.process.send_signal(signal.SIGINT)
            told = True
        time.sleep(0.005)
    status = run.process.returncode
    assert status >= 0 or status == -signal.SIGKILL, f"ended by signal {-status}: {run.stderr}"
    assert not godwit.SANITIZER.search(run.stderr), run.stderr
    return status


def listens(run):
    """False: it ended instead."""
    deadline = time.monotonic() + 30 * godwit.PATIENCE
    while '"listening"' not in run.stdout:
        if run.process.poll() is not None:
            return False
        assert time.monotonic() < deadline, run.stderr
        time.sleep(0.002)
    return True


def abandon(place):
    """Does the source have its guest again?"""
    source = Source()
    with place.start("--abandon") as g:
        if listens(g):
            source.come_back_late(place.path)
        status = ended(g)
        if status == 0:
            assert source.state == "runs" and place.left() == ["image"], (source.state, place.left())
        return status == 0, g.stderr


def resume(place):
    """Is the image whole and the source told, or nothing to be told?"""
    source = Source()
    with place.start("--resume") as g:
        if listens(g):
            source.come_back(place.path)
            assert source.state == "done", (source.state, g.stderr)
        return ended(g) == 0, g.stderr


def settle(place, source, what):
    """The operator's turn."""
    if source.state == "runs":      # nothing depends on what is left; whatever that is, the next one gets by, or says so
        with place.start() as g:
            if listens(g):
                source.migrate(place.path)
            assert ended(g) in (0, godwit.REFUSED, godwit.FAILED), g.stderr
        return "runs"
    if source.state == "done":
        place.has_it()
        if len(place.left()) > 1:
            assert resume(place)[0]
            assert place.left() == ["image"], place.left()
        return "done"
    if not place.is_old():          # it is whole, and its source was not told
        place.has_it()
    copy = place.copy()
    given_back, not_given_back = abandon(copy)
    whole, not_whole = resume(place)
    if whole:
        place.has_it()
        assert place.left() == ["image"], place.left()
    else:
        assert "nothing to go on with" in not_whole and given_back, (what, not_whole, not_given_back, place.left())
        assert place.is_old()
    assert given_back or "is a whole guest" in not_given_back, (what, not_given_back)
    return "resumed" if whole else "given back"


def leave_half(folder):
    place = Place(folder)
    with place.start() as g:
        assert listens(g)
        with Link(place.path) as s:
            s.pages(s.switch(), limit=20)
            s.send(ping(8))
            s.expect((PONG, 8))
            g.kill()
            g.process.wait()
    return place


def count_calls(place, log, option, drive, files):
    """Each from the first byte to the answer: its name, and how many of this name came up to it, which is how strace counts."""
    with place.start(*option, strace=("-o", log, "-e", f"trace=accept4,accept,{','.join(CHANGES + TELLS)}")) as g:
        assert listens(g)
        drive(place.path)
        assert ended(g) == 0, g.stderr
        main = str(g.process.pid)
    assert place.left() == ["image"], place.left()
    deadline = time.monotonic() + 30 * godwit.PATIENCE
    while True:
        with open(log) as f:
            lines = [line.split(None, 1)[1] for line in f if line.split(None, 1)[0] == main]
        if any("exited with" in line or 'state", 0' in line for line in lines):
            break
        assert time.monotonic() < deadline, lines
        time.sleep(0.01)
    counts, found, begun = {}, [], False
    for line in lines:
        name = re.match(r"\w*", line)[0]
        begun = begun or name.startswith("accept")
        if name in CHANGES + TELLS:
            counts[name] = counts.get(name, 0) + 1
            if begun:
                found.append((name, counts[name]))
    names = [name for name, _ in found]
    assert files <= set(names), lines
    # of many in a row, which are pages, the first and the last
    return [found[i] for i in range(len(found)) if not i or names[i - 1] != names[i] or names[i + 1:i + 2] != names[i:i + 1]]


def each_call(folder, new, option, drive, files):
    """`drive`: of a source, towards the address; returns nothing. Returns where it came to, by what was done to it."""
    came_to = {}
    # AddressSanitizer maps memory too, and ends the process where that fails.
    calls = count_calls(new(), os.path.join(folder, "log"), option, lambda path: drive(Source(), path), files)
    for index, (name, n) in enumerate(calls):
        hows = ["signal=SIGKILL"] + ([f"error={ERRORS[index % 2]}"] if name in CHANGES and not (name == "mmap" and godwit.SANITIZED) else [])
        for how in hows:
            place, source, what = new(), Source(), f"{' '.join(option)}{name} {n} {how}"
            try:
                with place.start(*option, strace=("-o", "/dev/null", "-e", f"trace={name}", "-e", f"inject={name}:{how}:when={n}")) as g:
                    if listens(g):
                        drive(source, place.path)
                    ended(g)
                    end = settle(place, source, what)
            except AssertionError as e:
                raise AssertionError(f"{what}: {e}: {g.args}") from None
            came_to.setdefault(f"{how.split('=')[0]}: {end}", []).append(f"{name}/{n}")
            shutil.rmtree(place.dir)
    for key, where in sorted(came_to.items()):
        print(f"    {key}: {' '.join(where)}", flush=True)
    return came_to


def first(folder):
    came_to = each_call(folder, lambda: Place(folder), (), Source.migrate, {"fdatasync", "renameat", "linkat", "unlinkat", "sendmsg"})
    assert {"signal: resumed", "signal: given back", "error: resumed", "error: given back"} <= set(came_to), came_to


def resumed(folder):
    """The same of who goes on."""
    half = leave_half(folder)
    came_to = each_call(folder, lambda: Begun(folder, half), ("--resume",), Source.come_back_late, {"fdatasync", "renameat", "unlinkat", "sendmsg"})
    assert {"signal: resumed", "error: resumed"} <= set(came_to), came_to


def abandoned(folder):
    """And of who gives the guest back."""
    half = leave_half(folder)
    came_to = each_call(folder, lambda: Begun(folder, half), ("--abandon",), Source.come_back_late, {"unlinkat", "sendmsg"})
    assert {"signal: resumed", "signal: runs"} <= set(came_to), came_to


def full_disk(folder):
    """What came before the disk was full is not asked for again, and nobody is told that the host crashed."""
    place, had = Place(folder), set(range(50))
    with place.start(strace=("-o", "/dev/null", "-e", "trace=pwritev", "-e", "inject=pwritev:error=ENOSPC:when=40")) as g:
        assert listens(g)
        Source().migrate(place.path)
        assert ended(g) == godwit.RECOVERABLE and "No space left" in g.stderr, g.stderr
    with place.start("--resume") as g:
        assert listens(g)
        with Link(place.path) as s:
            have = s.recover_what_is_told()
            assert len(have[BLOCK]) > len(had) and have[BLOCK] >= had, have
            s.pages(have)
            s.finish()
        assert ended(g) == 0 and "crash" not in g.stderr and '"host_crashed":false' in g.stdout.replace(" ", ""), (g.stderr, g.stdout)
    place.has_it()


def converted(folder):
    """What godwit convert says of each failure is so: TO is what it was, or whole, and nothing lies beside it."""
    place = Place(folder)
    with place.start() as g:
        assert listens(g)
        Source().migrate(place.path)
        assert ended(g) == 0
    os.rename(place.image, os.path.join(folder, "from"))
    log = os.path.join(folder, "log")

    def convert(options, place):
        with godwit.Run("convert", os.path.join(folder, "from"), place.image, prefix=("strace", "-f", "-qq", *options), env=ENV) as g:
            return ended(g), g.stderr

    assert convert(("-o", log, "-e", f"trace={','.join(CHANGES)}"), place)[0] == 0
    with open(log) as f:
        names = [re.match(r"\d+ +(\w*)", line)[1] for line in f]
    statuses = {}
    for name in sorted(set(names) - {"mmap", "openat"}):
        last = names.count(name)
        for n in {1, 2, last // 2, last - 1, last} & set(range(1, last + 1)):
            place = Place(folder)
            status, stderr = convert(("-o", "/dev/null", "-e", f"trace={name}", "-e", f"inject={name}:error=EIO:when={n}"), place)
            assert place.left() == ["image"], (name, n, place.left())
            assert (status, "nothing was written" in stderr) in ((0, False), (1, True), (4, False)), (name, n, status, stderr)
            if status == 1:
                assert place.is_old(), (name, n, stderr)
            else:
                place.has_it()
            statuses.setdefault(status, []).append(f"{name}/{n}")
    print(f"    {statuses}", flush=True)
    assert set(statuses) == {0, 1, 4}, statuses


def main():
    if not shutil.which("strace") or subprocess.run(["strace", "-D", "-qq", "-o", "/dev/null", "true"]).returncode:
        print("SKIPPED: no strace here, or it may not look at processes", file=sys.stderr)
        sys.exit(77)
    wanted = os.environ.get("GODWIT_ONLY", "").split(",")
    with tempfile.TemporaryDirectory(prefix="godwit-calls.") as folder:
        for test in (first, resumed, abandoned, full_disk, converted):
            if wanted == [""] or test.__name__ in wanted:
                print(f"  {test.__name__}", flush=True)
                test(folder)


if __name__ == "__main__":
    main()
