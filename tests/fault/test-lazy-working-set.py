#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The working set of the page server, against destinations made by hand: what was asked for once comes first the next time, whatever
happened to the page server or to its file in between.

test-lazy-working-set.py SERVE-TOOL [SEED]
"""
import os
import random
import shutil
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
from lazypeer import (PAGE, PATIENCE_S, Bench, Second, answer, bitmap, check_failed, play, pong, request, resume_ack, resumes, until,
                      write_image)

LARGE = 64 * PAGE
HEAD, CHUNK, ENTRY = 64, 24, 8
WANTED = [("rom", 70), ("rom", 3), ("ram0", 400), ("ram0", 398), ("ram0", 399), ("rom", 4)]
FIRST = [("ram0", 398), ("ram0", 399), ("ram0", 400), ("rom", 3), ("rom", 4), ("rom", 70)]     # of one chunk: in runs


def make_blocks(rnd):
    def block(pages):
        return b"".join(rnd.randbytes(PAGE) if rnd.random() < 0.7 else bytes(PAGE) for _ in range(pages))
    return {"ram0": block(512), "rom": block(100)}


def ask(link, pages, second=None):
    """They come. Nothing was read of the push, which stands still therefore, far from what is asked for."""
    link.send(pong(3) + pong(0x42) + b"".join(request(p * PAGE, PAGE, name) for name, p in pages))
    link.wait_taken()
    due = {(name, p) for name, p in pages if p not in link.guest.pages[name]}
    while due:
        due.discard((second or link).next()[1:])


def finish(server, link):
    assert play(link)
    ended = server.wait()
    link.close()
    assert ended[0] == 0, ended
    return ended[1], ended[2]


def record(bench, ws, pages=None, *options):
    guest = bench.guest()
    with bench.server(f"ws={ws}", *options) as server:
        link = server.link(guest)
        until(link, "package")
        ask(link, pages or WANTED)
        return finish(server, link)


def pages_first(bench, ws, n, *options, guest=None):
    """The first pages that come when nothing is asked for, and how it ended."""
    guest = guest or bench.guest()
    with bench.server(f"ws={ws}", *options) as server:
        link = server.link(guest)
        first = [until(link, "page")[1:] for _ in range(n)]
        values, said = finish(server, link)
    return first, values, said


def size(path):
    return os.path.getsize(path)


def they_come_first(bench, ws):
    values, said = record(bench, ws)
    assert values["working_set_pages"] == "0" and values["requests"] == "6" and not said, (values, said)
    assert size(ws) == HEAD + CHUNK + 5 * ENTRY, size(ws)      # 398 and 399 were asked for in a row
    around = {(name, p + i) for name, p in FIRST for i in range(-16, 17) if 0 <= p + i < len(bench.blocks[name]) // PAGE}
    assert set(pages_first(bench, ws, len(around))[0]) == around
    for options in ((), ("rate=3000000",)):
        first, values, said = pages_first(bench, ws, 6, *options)
        assert first == FIRST and values["working_set_pages"] == "6" and values["requests"] == "0" and not said, (first, values, said)
    assert size(ws) == HEAD + CHUNK + 5 * ENTRY
    record(bench, ws, [("ram0", 500), *WANTED])     # what is asked for although it comes is not recorded twice, what is new is
    assert size(ws) == HEAD + CHUNK + 5 * ENTRY + CHUNK + ENTRY, size(ws)
    assert pages_first(bench, ws, 7)[0] == FIRST + [("ram0", 500)]
    first, values, _ = pages_first(bench, os.path.join(bench.folder, "none"), 6)    # without requests none is made
    assert first != FIRST and values["working_set_pages"] == "0" and not os.path.exists(os.path.join(bench.folder, "none"))


def before_it_runs(bench, ws):
    """As far as it takes no time they come before the guest runs, and are not discarded (which Guest looks at)."""
    record(bench, ws)
    for options, early in (((), 6), (("rate=410000",), 2), (("rate=200000",), 0), (("rom=8192",), 3)):
        for _ in range(5):      # on a machine that is busy there may be no time for them
            guest = bench.guest(host_pages={"rom": 8192} if "rom=8192" in options else None)
            with bench.server(f"ws={ws}", *options) as server:
                link = server.link(guest)
                until(link, "package")
                came = {(name, p) for name in guest.pages for p in guest.pages[name]}
                server.process.kill()
                link.close()
            near = {(name, p + i) for name, p in FIRST for i in range(-16, 17)} if not options else set(FIRST[:early])
            assert came <= near, (options, came)
            if came >= set(FIRST[:early]):
                break
        assert came >= set(FIRST[:early]), (options, came)


def all_but_one_page(bench, ws):
    """A working set of all there is: something is left to be discarded, or QEMU would not trap what is missing."""
    record(bench, ws, [(name, p) for name in bench.blocks for p in range(len(bench.blocks[name]) // PAGE)])
    first, values, _ = pages_first(bench, ws, 612)
    assert len(set(first)) == 612 and values["requests"] == "0" and int(values["working_set_pages"]) > 306, values


def killed(bench, ws):
    """What was asked for a moment ago is there; and the page server that resumes sends it first, and records on."""
    guest = bench.guest()
    with bench.server(f"ws={ws}") as server:
        link = server.link(guest)
        until(link, "package")
        ask(link, WANTED)
        deadline = time.monotonic() + PATIENCE_S
        while size(ws) < HEAD + CHUNK + 5 * ENTRY:
            assert time.monotonic() < deadline, size(ws)
            time.sleep(0.02)
        server.process.kill()
        server.process.wait()
        link.close()
    other = bench.guest()
    with bench.server(f"ws={ws}", "rate=1") as server:      # another guest of the same image: stopped behind its first page
        link = server.link(other)
        answer(link, until(link, "package"))
        assert until(link, "page")[1:] == FIRST[0]
        link.close()
        check_failed(server.wait(), True)
    with bench.server(f"ws={ws}", "resume") as server:
        link = server.link(other)
        until(link, "command", 9)
        missing = [p for p in FIRST if p[1] not in other.pages[p[0]]]
        assert missing
        link.send(resume_ack())
        assert [until(link, "page")[1:] for _ in missing] == missing
        link.send(request(99 * PAGE, PAGE, "rom"))
        values, _ = finish(server, link)
    assert values["working_set_pages"] == str(len(missing)), values
    assert size(ws) == HEAD + CHUNK + 5 * ENTRY + CHUNK + ENTRY
    resumes(bench, guest)


def damaged(bench, ws, rnd):
    """Torn anywhere, garbled anywhere, or something else: it is served as before, and what is nobody's stays as it is."""
    record(bench, ws)
    with open(ws, "rb") as f:
        good = f.read()
    cases = [(good[:n], n >= HEAD) for n in (0, 5, HEAD - 1, HEAD, HEAD + 9, len(good) - 1)]
    for at in rnd.sample(range(len(good)), 6):
        cases.append((good[:at] + bytes([good[at] ^ 0x40]) + good[at + 1:], at >= HEAD))
    cases += [(b"something else", False), (rnd.randbytes(5000), False), (good + rnd.randbytes(3000), True)]
    for data, is_one in cases:
        with open(ws, "wb") as f:
            f.write(data)
        first, values, said = pages_first(bench, ws, 6)
        assert (not said) == is_one and is_one or f"{os.path.basename(ws)} is " in said, (data[:80], said)
        assert (first == FIRST) == (values["working_set_pages"] == "6") == (data[:len(good)] == good), (first, values)
        with open(ws, "rb") as f:
            left = f.read()
        assert left == (data if not is_one else good if data[:len(good)] == good else good[:HEAD]), (len(data), len(left))


def foreign(bench, ws):
    """Of another image: not used, and replaced by what is recorded now."""
    record(bench, ws)
    folder = os.path.join(bench.folder, "other")
    os.mkdir(folder)
    blocks = {"ram0": bench.blocks["ram0"][:256 * PAGE], "rom": bench.blocks["rom"]}
    other = Bench(bench.tool, write_image(godwit, folder, blocks), folder, blocks)
    trial = os.path.join(folder, "ws")
    for _ in range(5):      # on a machine that is busy it may have been pushed before it is asked for
        shutil.copy(ws, trial)
        values, said = record(other, trial, [("ram0", 200)])
        assert not said and values["working_set_pages"] == "0", (values, said)  # after every new save: a warning, for -v
        if values["requested_pages"] == "1":
            break
    assert pages_first(other, trial, 1)[0] == [("ram0", 200)], values
    first, _, said = pages_first(bench, trial, 6)
    assert not said and first != FIRST, (first, said)


def looked_at(bench, _):
    """godwit inspect shows what is beside the image; verify does not mind it, whatever it is."""
    ws = bench.image + ".ws"
    assert not any(o["event"] == "working_set" for o in godwit.run("inspect", bench.image, "--json").ok().events)
    record(bench, ws)
    shown = godwit.run("inspect", bench.image, "--json").ok()
    w = shown.event("working_set")
    assert (w["pages"], w["runs"], w["unused"], w["torn_bytes"]) == (6, 3, None, 0) and w["begun"] <= w["added"] <= time.time(), w
    assert {o["name"]: o.get("working_set_pages") for o in shown.events if o["event"] == "block"} == {"ram0": 3, "rom": 3}, shown
    shown = godwit.run("inspect", bench.image).ok()
    assert "6 pages (24 KiB) in 3 runs" in shown.stdout and "3 in the working set" in shown.stdout, shown
    godwit.run("verify", bench.image).ok()
    for data in (b"something else", b""):
        with open(ws, "wb") as f:
            f.write(data)
        assert "no working set" in godwit.run("inspect", bench.image, "--json").ok().event("working_set")["unused"]
        assert "no working set" in godwit.run("inspect", bench.image).ok().stdout
        godwit.run("verify", bench.image).ok()
    os.unlink(ws)


def from_the_disk(bench, ws):
    """An image that is not in memory, or as little of it as the system allows: everything comes as before."""
    record(bench, ws)
    for turn, options in enumerate(((), (f"ws={ws}",), (f"ws={ws}", "preempt"))):
        with open(bench.image, "rb") as f:
            os.fsync(f.fileno())
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        guest = bench.guest()
        with bench.server(*options) as server:
            link = server.link(guest)
            answer(link, until(link, "command", 2))
            second = server.second(guest) if "preempt" in options else None
            until(link, "package")
            ask(link, [("ram0", 300 + turn), ("rom", 60 + turn)], second)
            finish(server, link)
            if second:
                second.close()


def nowhere_to_write(bench, _):
    values, said = record(bench, os.path.join(bench.folder, "no", "such", "folder"))
    assert values["requests"] == "6" and not said, said


def large_pages(bench, ws):
    """A page of it brings the larger page it lies in, whole; larger pages are recorded as such."""
    record(bench, ws)
    option = f"ram0={LARGE}"
    first, values, _ = pages_first(bench, ws, 64 + 3, option, guest=bench.guest(host_pages={"ram0": LARGE}))
    assert first == [("ram0", p) for p in range(384, 448)] + FIRST[3:], first
    assert values["working_set_pages"] == "67", values
    guest = bench.guest(host_pages={"ram0": LARGE})
    with bench.server(f"ws={ws}", option) as server:
        link = server.link(guest)
        until(link, "package")
        link.send(pong(3) + pong(0x42) + request(LARGE, LARGE, "ram0"))
        finish(server, link)
    assert pages_first(bench, ws, 6 + 64)[0] == FIRST + [("ram0", p) for p in range(64, 128)]


def with_a_preempt_channel(bench, ws):
    """It goes with the push; what is asked for meanwhile overtakes it, and is sent once."""
    recorded = int(record(bench, ws, [("ram0", p) for p in range(511, 100, -3)])[0]["requested_pages"])    # but for what was pushed before
    guest = bench.guest()
    with bench.server(f"ws={ws}", "preempt", "rate=1000000") as server:
        link = server.link(guest)
        answer(link, until(link, "command", 2))
        second = server.second(guest)
        assert isinstance(second, Second)
        until(link, "package")
        ask(link, [("rom", 5), ("ram0", 511)], second)
        values, _ = finish(server, link)
        second.close()
    assert recorded > 50 and int(values["working_set_pages"]) in (recorded, recorded - 1), (recorded, values)


def two_at_once(bench, ws):
    """The second page server of an image uses what is there, and only the first records."""
    one, folder = bench.guest(), os.path.join(bench.folder, "second")
    os.mkdir(folder)
    with bench.server(f"ws={ws}") as first:
        link = first.link(one)
        until(link, "package")
        ask(link, WANTED[:2])
        record(Bench(bench.tool, bench.image, folder, bench.blocks), ws, WANTED[2:])
        values, _ = finish(first, link)
    assert values["requests"] == "2", values
    assert size(ws) == HEAD + CHUNK + 2 * ENTRY, size(ws)


def main(argv):
    seed = int(argv[2]) if len(argv) > 2 else 4
    rnd = random.Random(seed)
    blocks = make_blocks(rnd)
    with tempfile.TemporaryDirectory(prefix="godwit-lazy.") as folder:
        bench = Bench(argv[1], write_image(godwit, folder, blocks), folder, blocks)
        for test in (they_come_first, before_it_runs, all_but_one_page, killed, damaged, foreign, looked_at, from_the_disk, nowhere_to_write, large_pages, with_a_preempt_channel,
                     two_at_once):
            print(test.__name__, f"seed {seed}", flush=True)
            ws = os.path.join(folder, test.__name__ + ".ws")
            test(bench, ws, *([rnd] if test is damaged else []))


if __name__ == "__main__":
    main(sys.argv)
