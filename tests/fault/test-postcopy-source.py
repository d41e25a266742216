#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Post-copy sources made by hand, against godwit receive: what a robust one may send, what a hostile one does, and links that break
at every place of the way back. No QEMU.
"""
import os
import re
import resource
import signal
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
from mfdsource import BLOCK, FLUSH, be, part, str8, zero_record
from pcreceiver import *

def good(folder):
    good_in(Receiver(folder))


def good_in(r):
    with r.start() as g, Link(r.path) as s:
        have = s.switch()
        s.pages(have)
        s.finish()
        s.__exit__()
        done = g.wait().ok().event("done")
    assert done["postcopy"] and done["source_notified"] and done["devices"] == 2 and not done["host_crashed"], done
    r.has_it()


def odd_but_right(folder):
    """No discard, no PINGs, a page again, the block not named again, empty parts."""
    r = Receiver(folder)
    with r.start() as g, Link(r.path) as s:
        s.send(head(), start(), part(*[record(p) for p in range(40)]), part())
        s.expect((PONG, 1))
        s.send(package(blob(pings=())), part(), part(be(40 * PAGE | 8 | 0x20, size=8), page_bytes(40)), command(1))
        have = {BLOCK: set(range(41)), ROM: set()}
        s.send(part(record(3, salt=5), zero(4)))      # were received, and are not taken again
        s.pages(have)
        s.finish()
        s.__exit__()
        g.wait().ok()
    r.has_it()


# --- what gives the guest back: nothing was taken yet ---

BEFORE = {
    "no advise": (head(advise=False) + start() + discard((0, PAGE)), "RAM_DISCARD"),
    "discard before the list": (head() + discard((0, PAGE)), "RAM_DISCARD|not in the block list"),
    "discard of an unknown block": (head() + start() + discard((0, PAGE), block="nope"), '"nope"'),
    "discard not aligned": (head() + start() + discard((12, PAGE)), "whole pages"),
    "discard of half a page": (head() + start() + discard((0, 2048)), "whole pages"),
    "discard of nothing": (head() + start() + discard((0, 0)), "whole pages"),
    "discard past the end": (head() + start() + discard((299 * PAGE, 2 * PAGE)), "inside its"),
    "discard that overflows": (head() + start() + discard((2**64 - PAGE, 2 * PAGE)), "inside its"),
    "discard of another version": (head() + start() + discard((0, PAGE), version=1), "version 1"),
    "discard without nil": (head() + start() + discard((0, PAGE), nil=b"x"), "00"),
    "discard without ranges": (head() + start() + discard(), "whole ranges"),
    "discard cut": (head() + start() + command(6, b"\0" + str8(BLOCK) + b"\0" + bytes(15)), "whole ranges"),
    "listen outside": (head() + start() + command(LISTEN), "LISTEN"),
    "run outside": (head() + start() + command(RUN), "RUN"),
    "resume in pre-copy": (head() + start() + command(RESUME), "RESUME"),
    "bitmap in pre-copy": (head() + start() + question(BLOCK), "RECV_BITMAP"),
    "advised twice": (head() + command(ADVISE, be(PAGE, PAGE, size=8)), "second time"),
    "colo": (head() + start() + command(8), "COLO"),
    "early devices too large together": (
        head() + start() + device(7, bytes(LIMIT // 2)) + device(8, bytes(LIMIT // 2)) + part(), f"more than {LIMIT} bytes of device state"),
    "package before the list": (head() + package(), "PACKAGED before the block list"),
    "discard behind the end of RAM": (head() + start() + part(kind=3) + discard((0, PAGE)), "RAM_DISCARD after the end"),
    "package behind the end of RAM": (head() + start() + part(kind=3) + package(), "PACKAGED after the end"),
}

# --- what cannot: the source may have gone too far, and hears nothing ---

PACKAGES = {
    "empty": (package(b""), "empty"),
    "without listen": (package(DEVICES + command(RUN)), "DEVICE|LISTEN|RUN"),
    "run first": (package(command(RUN) + command(LISTEN)), "RUN"),
    "without run": (package(command(LISTEN) + DEVICES), "ends inside section"),
    "more behind run": (package(blob() + ping(5)), "RUN"),
    "in a package": (package(command(LISTEN) + package() + command(RUN)), "PACKAGED"),
    "with pages": (package(command(LISTEN) + part(zero_record(1)) + command(RUN)), "package"),
    "with a discard": (package(command(LISTEN) + discard((0, PAGE)) + command(RUN)), "RAM_DISCARD"),
    "with a device cut": (package(command(LISTEN) + DEVICES[:-3] + command(RUN)), "footer|package|device"),
    "larger than it is": (package(size=len(blob()) + 4), "RUN|package"),
    "smaller than it is": (package(size=len(blob()) - 4), "package|RUN"),
    "too large": (package(blob(device(7, bytes(LIMIT)))), "at most 65536"),
    "huge": (package(b"", size=0xFFFFFFFF), "at most 65536"),
    "end of RAM first": (part(kind=3) + package(), "section type 03 after RAM_DISCARD"),
    "end of RAM instead": (end(), "section type 03 after RAM_DISCARD"),
    "devices outside": (DEVICES, "section type 04 after RAM_DISCARD"),
    "twice": (discard((0, PAGE)) + command(LISTEN), "LISTEN"),
}

# Of these nothing counts as a package that came.
NOT_COME = ("twice", "empty", "end of RAM first", "end of RAM instead", "devices outside")


def refused_before(folder):
    for name, (data, words) in BEFORE.items():
        broken_off(folder, name, data, words, told=True)
    for name, (data, words) in PACKAGES.items():
        broken_off(folder, "package " + name, head() + start() + discard((0, PAGE)) + data, words, told=name in NOT_COME)
    early = device(9, bytes(LIMIT // 2))
    broken_off(folder, "package beside early devices", head() + start() + early + part() + package(blob(device(7, bytes(LIMIT // 2)))),
               f"at most {LIMIT - len(early)} are taken", told=False)


def broken_off(folder, name, data, words, told):
    r = Receiver(folder)
    with r.start() as g, Link(r.path) as s:
        s.send(data)
        result = g.wait()
        heard = []
        try:
            while True:
                heard.append(s.read_message())
        except Closed:
            pass
    try:
        # Behind the first discard nobody here can know whose guest it is: the source does.
        switched = name.startswith("package ") and name not in BEFORE
        result.fails(godwit.IN_DOUBT if switched else godwit.FAILED, words, "source still runs|no image")
        assert r.left() == (["image.partial.state"] if switched else []), r.left()      # for --abandon
        assert heard[-1:] == ([(SHUT, 1)] if told else heard[-1:]) and (told or (SHUT, 1) not in heard), heard
    except AssertionError as e:
        raise AssertionError(f"{name}: {e}") from None


# --- after the switch: the guest stands, and can be gone on with ---

AFTER = {
    "page outside": (part(record(300)), "outside"),
    "page far outside": (part(record(1 << 31)), "outside"),
    "unknown flag": (part(record(200, off=0x400)), "record"),
    "page of an unknown block": (part(zero(0, "nope")), '"nope"'),
    "zero that is none": (part(zero(200)[:-1] + b"\1"), "fill byte"),
    "delta": (part(be(200 * PAGE | 0x40, size=8) + str8(BLOCK) + b"\1" + bytes(4)), "post-copy"),
    "flush": (part(be(FLUSH, size=8)), "post-copy"),
    "list again": (b"\2" + be(1) + be(305 * PAGE | 4, size=8), "post-copy"),
    "wrong footer": (b"\2" + be(1) + be(0x10, size=8) + b"\x7e" + be(2), "footer"),
    "start": (start(), "section type 01"),
    "device": (device(9), "section type 04"),
    "strange section": (part(kind=2).replace(be(1), be(9)), "section 9"),
    "discard": (discard((0, PAGE)), "RAM_DISCARD"),
    "second package": (package(), "PACKAGED"),
    "listen": (command(LISTEN), "LISTEN"),
    "resume": (command(RESUME), "RESUME"),
    "bitmap": (question(BLOCK), "RECV_BITMAP"),
    "unknown command": (command(12), "command 12"),
    "noise": (b"\xff" * 64, "type ff"),
    "end inside a page": (part(record(200))[:2000], "cut short|closed|ends"),
}



def refused_after(folder):
    for name, (data, words) in AFTER.items():
        r = Receiver(folder)
        with r.start(NEVER) as g, Link(r.path) as s:
            have = s.switch()
            s.send(data)
            s.sock.shutdown(1) if "inside" in name else None
            s.is_closed()
            result = g.wait()
        try:
            assert result.status == godwit.RECOVERABLE, result
            assert re.search(words, result.stderr) and "is paused" in result.sentences[-1], result
            assert r.left() == ["image.partial", "image.partial.state"], r.left()
            finish_later(r, have)
        except AssertionError as e:
            raise AssertionError(f"{name}: {e}") from None


def early_devices(folder):
    """Devices before the end of RAM, and another process goes on."""
    r = Receiver(folder)
    with r.start(NEVER) as g:
        with Link(r.path) as s:
            s.send(head(), start(), device(9), device(5, b"\x7e" + be(5) * 2), part(record(1)), package())
            s.expect((PONG, 1), (PONG, 3), (PONG, 0x42))
        assert g.wait().status == godwit.RECOVERABLE, g.stderr
    finish_later(r, {BLOCK: {1}, ROM: set()}, early=["device9", "device5"])


def gone_unheard(folder):
    """A source that is gone before its PINGs are answered: all it had said counts, for it waits in postcopy-paused."""
    r = Receiver(folder)
    with r.start(NEVER) as g:
        with Link(r.path) as s:
            s.send(head(), start(), discard((0, PAGE)), ping(2), package(), ping(4), part(record(4), record(5)))
        assert g.wait().status == godwit.RECOVERABLE, g.stderr
    assert r.left() == ["image.partial", "image.partial.state"], r.left()
    finish_later(r, {BLOCK: {4, 5}, ROM: set()})


def crashed(folder):
    """The host, as another boot id says; the first who goes on gets nowhere, and the one who ends the image still says so."""
    r = Receiver(folder)
    with r.start() as g:
        with Link(r.path) as s:
            s.switch()
            g.kill()
            g.wait()
    with open(r.image + ".partial.state", "r+b") as f:
        f.seek(4096)
        f.write(b"0" * 36)
    with r.start(NEVER, "--resume") as g:
        assert g.wait().status == godwit.RECOVERABLE, g.stderr
    have = {BLOCK: set(), ROM: set()}
    with r.start("--resume") as g, Link(r.path) as s:
        s.recover(have)
        s.pages(have)
        s.finish()
        s.__exit__()
        result = g.wait().ok()
    assert result.event("done")["host_crashed"] is True and "release-ram" in result.stderr, result
    r.has_it()


def end_too_early(folder):
    """The source says that it is done, and is not; so says anybody else who finds the address. The true one can come back all the same."""
    r = Receiver(folder)
    with r.start() as g:
        with Link(r.path) as s:
            have = s.switch()
            s.pages(have, limit=100)
            s.send(end())
            s.is_closed()
        g.wait_stderr(r"\d+ pages never came.*waiting for")
        with Link(r.path) as stranger:
            stranger.recover(have)
            stranger.send(end())
            stranger.is_closed()
        with Link(r.path) as s:
            s.recover(have)
            s.pages(have)
            s.finish()
            s.__exit__()
            assert g.wait().ok().event("done")["breaks"] == 2
    r.has_it()


def not_made_safe(folder):
    """All came, and the image cannot be ended. What was said of that may not have been heard: all that came is kept."""
    r = Receiver(folder)
    with r.start() as g, Link(r.path) as s:
        have = s.switch()
        s.pages(have)
        os.mkdir(r.image)               # the image does not get its name
        s.send(end())
        s.expect((SHUT, 1))
        s.__exit__()
        g.wait().fails(godwit.RECOVERABLE, "has every page", "check query-migrate", "--resume --without-source")
    os.rmdir(r.image)
    assert r.left() == ["image.partial", "image.partial.state"], r.left()
    godwit.run("receive", f"unix:{r.path}", r.image, "--resume", "--without-source").ok()
    r.has_it()


def not_made_safe_before(folder):
    """The same before a switch: the source has its guest, and nothing is left."""
    r = Receiver(folder)
    with r.start() as g, Link(r.path) as s:
        s.send(head(), start(), part(*[record(p, b) for b in PAGES for p in range(PAGES[b])]))
        s.expect((PONG, 1))
        os.mkdir(r.image)
        s.send(part(kind=3), DEVICES, b"\0")
        s.expect((SHUT, 1))
        s.__exit__()
        assert g.wait().status not in (godwit.DONE, godwit.RECOVERABLE), g.stderr
    os.rmdir(r.image)
    assert r.left() == [], r.left()


def end_in_the_switch(folder):
    """The pages it made void never come: that is no whole guest."""
    pages = part(*[record(p, b) for b in PAGES for p in range(PAGES[b])])
    for name, tail in (("end", part(kind=3) + DEVICES), ("no end", DEVICES)):
        r = Receiver(folder)
        with r.start() as g, Link(r.path) as s:
            s.send(head(), start(), pages)
            s.expect((PONG, 1))
            s.send(discard((0, 100 * PAGE)), tail, b"\0")
            s.expect((SHUT, 1))
            assert g.wait().status not in (godwit.DONE, godwit.RECOVERABLE), (name, g.stderr)
        assert r.left() == ["image.partial.state"], r.left()


def left_in_the_switch(folder):
    """A receiver that is killed or fails between the first discard and the package: nothing came that could be gone on with, but a source that
    waits in postcopy-paused gets its guest back. Who only receives there again is not kept from it."""
    for killed in (True, False):
        r = Receiver(folder)
        with r.start() as g, Link(r.path) as s:
            s.send(head(), start(), part(record(3)), discard((0, PAGE)), ping(2))
            s.expect((PONG, 1), (PONG, 2))
            if killed:
                g.kill()
                g.wait()
            else:
                s.send(package(blob(device(7, bytes(LIMIT)))))
                g.wait().fails(godwit.IN_DOUBT, f"--abandon unix:{r.path} {r.image}")
        assert r.left() == ["image.partial"] * killed + ["image.partial.state"], r.left()
        godwit.run("receive", f"unix:{r.path}", r.image, "--resume").fails(godwit.FAILED, "nothing to go on with", "--abandon")
        with r.start("--abandon") as g, Link(r.path) as s:
            s.recover({b: set(range(PAGES[b])) for b in PAGES})
            s.send(end())
            s.expect((SHUT, 1))
            s.__exit__()
            g.wait().ok()
        assert r.left() == [], r.left()
        with r.start() as g, Link(r.path) as s:
            s.send(head(), start(), discard((0, PAGE)), ping(2))
            s.expect((PONG, 1), (PONG, 2))
            g.kill()
            g.wait()
        good_in(r)


# --- who is not the source ---

def all_came(folder):
    """Nothing is missing, and the end was not said."""
    r = Receiver(folder)
    with r.start() as g, Link(r.path) as s:
        have = s.switch()
        s.pages(have)
        s.send(ping(8))
        s.expect((PONG, 8))
        g.kill()
        g.wait()
    return r, have


def only_a_list(folder):
    r = Receiver(folder)
    with r.start() as g, Link(r.path) as s:
        s.send(head(), start(), part(record(3)), discard((0, PAGE)), ping(2))
        s.expect((PONG, 1), (PONG, 2))
        g.kill()
        g.wait()
    return r, {b: set(range(PAGES[b])) for b in PAGES}


HTAB = b"\x01" + be(99) + b"\x0aspapr/htab" + be(0) + be(1) + bytes(16) + b"\x7e" + be(99)     # an iterable that has nothing to do with its memory
BLIND = command(RESUME) + part(kind=3).replace(be(1), be(77)) + b"\0"
STRANGERS = {
    "blind": BLIND,
    "blind, with the right section": command(RESUME) + end(),
    "one name": question(BLOCK) + command(RESUME) + end(),
    "another name": question(ROM) + question(ROM) + command(RESUME) + end(),
    "names by chance": question("pc.ram") + question("pc.bios") + command(RESUME) + end(),
    "the names, and another section": question(BLOCK) + question(ROM) + BLIND,
    "the names, and an iterable of another section": question(BLOCK) + question(ROM) + command(RESUME) + HTAB,
}


def strangers(folder):
    """Whoever knows less than the source is not told that all is well, ends nothing, and nothing goes away for it. The source comes after it."""
    for begin, option in ((paused_with, "--abandon"), (all_came, "--abandon"), (only_a_list, "--abandon"), (all_came, "--resume")):
        for name, data in STRANGERS.items():
            r, have = begin(folder)
            left = r.left()
            with r.start(option) as g:
                with Link(r.path) as s:
                    s.send(data)
                    heard = all_heard(s)
                    assert SHUT not in heard and (ACK not in heard or "another section" in name), (begin, name, heard)
                g.wait_stdout("paused(?s:.*)paused")
                assert r.left() == left, (name, r.left())
                with Link(r.path) as s:
                    if option == "--resume":
                        s.recover(have)
                        s.finish()
                    else:
                        given_back(s)
                    s.__exit__()
                    g.wait().ok()
            r.has_it() if option == "--resume" else None
            assert r.left() == ["image"] * (option == "--resume"), r.left()


def all_heard(s):
    heard = []
    try:
        while True:
            heard.append(s.read_message()[0])
    except Closed:
        return heard


def given_back(s, salt=0):
    """It has its guest again, and was asked for some of its memory before, which nobody else knows."""
    have = s.recover_what_is_told()
    asked = [(b, p) for b in PAGES for p in range(PAGES[b]) if p not in have[b]]
    s.send(part(*[record(p, b, salt=salt) for b, p in asked]), end())
    s.expect((SHUT, 1))
    return asked


def other_memory(folder):
    """It knows the names, and not the memory: it hears what it wants to, and nothing goes away. Other pages are asked for each time."""
    r, _ = paused_with(folder)
    left, asked = r.left(), []
    for n in range(3):
        with r.start("--abandon") as g, Link(r.path) as s:
            s.recover_what_is_told()
            s.send(end())       # none of the pages
            assert SHUT not in all_heard(s)
            s.__exit__()
            g.wait_stderr("pages never came")
            with Link(r.path) as other:
                asked.append(given_back(other, salt=5))
                other.__exit__()
                result = g.wait()
                assert result.status == godwit.RECOVERABLE and re.search("other memory.*kept", result.sentences[-1]), result
        assert r.left() == left, r.left()
    assert all(len(a) == 16 for a in asked) and asked[0] != asked[1] != asked[2], asked
    with r.start("--abandon") as g, Link(r.path) as s:
        given_back(s)
        s.__exit__()
        g.wait().ok()
    assert r.left() == [], r.left()


def unusable(folder):
    """No guest can be given back with it, so nothing is changed."""
    r, _ = paused_with(folder)
    state = r.image + ".partial.state"
    godwit.run("receive", f"unix:{r.dir}/no/folder", r.image, "--abandon").fails(godwit.REFUSED, "no/folder", "nothing was changed")
    whole = open(state, "rb").read()
    for wrong, words in ((b"", "cannot be used"), (bytes(40000), "cannot be used"), (whole[:100] + whole[101:], "cannot be used")):
        with open(state, "wb") as f:
            f.write(wrong)
        godwit.run("receive", f"unix:{r.path}", r.image, "--abandon").fails(godwit.REFUSED, words, "nothing was changed")
    with open(state, "wb") as f:
        f.write(whole)
    os.chmod(state, 0o666)
    godwit.run("receive", f"unix:{r.path}", r.image, "--abandon").fails(godwit.REFUSED, "may be written by others", "nothing was changed")


# --- the way back ---

def nobody_came(folder):
    """Whoever goes on and meets no source says what is missing as he found it."""
    r = Receiver(folder)
    with r.start(NEVER) as g, Link(r.path) as s:
        have = s.switch()
        s.__exit__()
        assert g.wait().status == godwit.RECOVERABLE
    missing = sum(PAGES.values()) - sum(len(h) for h in have.values())

    def lacks(result, why):
        assert result.status == godwit.RECOVERABLE and re.search(f"{why}.*{missing} (of its )?pages are missing", result.sentences[-1]), result

    with r.start("--resume", NEVER) as g:
        lacks(g.wait(), "nobody connected")
    with r.start("--resume") as g:
        g.process.send_signal(signal.SIGINT)
        lacks(g.wait(), "SIGINT")
    with r.start("--resume", NEVER) as g:
        for _ in range(5):
            with Link(r.path) as s:
                s.send(b"\xff")
        lacks(g.wait(), "nobody connected")
    lacks(godwit.run("receive", f"unix:{r.dir}/no/folder", r.image, "--resume"), "no/folder")
    lacks(godwit.run("receive", f"unix:{r.path}", r.image, "--resume", "--without-source"), "")
    finish_later(r, have)


RECOVERIES = {
    "a block nobody has": (question("nope"), "nope"),
    "a name of nothing": (command(RECV_BITMAP, b"\0"), "RECV_BITMAP"),
    "a name too long": (command(RECV_BITMAP, b"\xff" + b"x" * 10), "RECV_BITMAP"),
    "pages before resume": (question(BLOCK) + part(zero(200)), "before POSTCOPY_RESUME"),
    "end before resume": (question(BLOCK) + end(), "before POSTCOPY_RESUME"),
    "resume without a question": (command(RESUME), "without asking"),
    "resume with half of the questions": (question(ROM) + command(RESUME), "without asking"),
    "a package": (package(), "PACKAGED"),
}


def recovered(folder):
    """One process, many breaks; nothing that is said wrongly harms what came."""
    r = Receiver(folder)
    with r.start() as g:
        with Link(r.path) as s:
            have = s.switch()
            s.pages(have, limit=20)
        for n, (name, (data, words)) in enumerate(RECOVERIES.items()):
            with Link(r.path) as s:
                s.send(data)
                try:
                    while s.read_message()[0] == BITMAP:
                        pass
                    raise AssertionError(f"{name}: went on")
                except Closed:
                    pass
            g.wait_stderr(words)
            with Link(r.path) as s:
                s.recover(have)
                s.pages(have, limit=3)
        with Link(r.path) as s:
            s.recover(have)
            s.send(question(BLOCK))     # not any more
            s.is_closed()
        with Link(r.path) as s:
            s.recover(have)
            s.pages(have)
            s.finish()
            s.__exit__()
            done = g.wait().ok().event("done")
    assert done["breaks"] == 2 * len(RECOVERIES) + 2, done
    # What came over all connections: each page, and those once more that the switch made void.
    assert done["pages"] + done["zero_pages"] >= sum(PAGES.values()) + 50 and done["stream_bytes"] > done["pages"] * PAGE, done
    r.has_it()


def cut_anywhere(folder):
    """A link that breaks behind each byte of the questions, the answers and RESUME; who comes in vain too often is not waited for any
    longer, but by the next process."""
    r = Receiver(folder)
    with r.start(NEVER) as g, Link(r.path) as s:
        have = s.switch()
        s.pages(have, limit=10)
        s.__exit__()
        assert g.wait().status == godwit.RECOVERABLE
    whole = question(BLOCK) + question(ROM) + command(RESUME)
    cuts = list(range(1, len(whole) + 1))
    while cuts:
        with r.start("--resume") as g:
            for _ in range(5):
                with Link(r.path) as s:
                    s.send(whole[:cuts.pop()] if cuts else whole[:1])
            g.process.send_signal(signal.SIGINT)
            assert g.wait().status == godwit.RECOVERABLE
    answers = sum(8 + len(b) - 3 + 8 + bitmap_bytes(b) + 8 for b in PAGES) + 8
    reads = list(range(0, answers, 3))
    while reads:
        with r.start("--resume") as g:
            for _ in range(5):
                with Link(r.path) as s:
                    s.send(whole)
                    try:
                        s.take(reads.pop() if reads else 1)
                    except Closed:
                        pass
            g.process.send_signal(signal.SIGINT)
            assert g.wait().status == godwit.RECOVERABLE
    finish_later(r, have)


MIB = 1 << 20
LARGE = 1 << 40       # bytes of a guest that is only announced
NAMES = 4096


def large_start(blocks):
    total = sum(n for _, n in blocks)
    return b"\1" + be(1) + str8("ram") + be(0, 4) + be(total | 4, size=8) + b"".join(str8(n) + be(used, size=8) for n, used in blocks) + \
        be(0x10, size=8) + b"\x7e" + be(1)


def used_by(run):
    """Seconds of processor time so far, and the most memory in MiB."""
    with open(f"/proc/{run.process.pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    with open(f"/proc/{run.process.pid}/status") as f:
        peak = int(re.search(r"VmHWM:\s+(\d+)", f.read())[1])
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), peak / 1024


def cost_of(result_of):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = result_of()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return result, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def many_discards(folder):
    """40 KB that name a large guest again and again: refused before they cost what a guest of that size costs a few times."""
    r = Receiver(folder)
    with r.start() as g, Link(r.path) as s:
        s.send(head() + large_start([(BLOCK, LARGE)]) + discard((0, LARGE)) * 1400)
        result, seconds = cost_of(g.wait)
    result.fails(godwit.IN_DOUBT, "RAM_DISCARDs of", "in all")
    assert seconds < 5, f"{seconds:.1f} s of processor time for 40 KB"


def many_names(folder):
    """A page costs the same whether a guest has ten blocks or 4,096, the last of which is named."""
    cost = []
    for n in (10, NAMES):
        r = Receiver(folder)
        names = [f"b{i}" for i in range(n)]
        with r.start() as g, Link(r.path) as s:
            s.send(head() + large_start([(name, PAGE) for name in names]))
            s.send(part(*[zero(0, names[n - 2 + i % 2]) for i in range(100000)]) * 2)
            s.sock.shutdown(1)
            result, seconds = cost_of(g.wait)
        result.fails(godwit.FAILED, "ends")
        cost.append(seconds)
    assert cost[1] < 3 * cost[0] + 0.5, f"{cost} s of processor time"


def large_package(folder):
    """Of a package there is one copy here, and one on its way to the disk."""
    r = Receiver(folder)
    size = 31 * MIB
    with r.start(f"--memory-limit={32 * MIB}") as g, Link(r.path) as s:
        s.send(head(), start(), part(record(0)), discard((PAGE, PAGE)))
        s.send(package(blob(devices=device(7, b"\5" * size))))
        s.expect((PONG, 1), (PONG, 3), (PONG, 0x42))
        _, peak = used_by(g)
        # a sanitizer keeps what was freed
        assert godwit.SANITIZED or peak < 2.5 * size / MIB, f"{peak:.0f} MiB for a package of {size // MIB}"


def asks_twice(folder):
    """A question of ten bytes is answered with a bitmap as long as the guest is large: once on each connection."""
    r = Receiver(folder)
    with r.start(NEVER) as g, Link(r.path) as s:
        have = s.switch()
        s.__exit__()
        g.wait()
    with r.start("--resume", NEVER) as g, Link(r.path) as s:
        s.send(question(BLOCK) * 2)
        result = g.wait()
        assert result.status == godwit.RECOVERABLE and "a second time" in result.stderr, result
    finish_later(r, have)


def main():
    wanted = os.environ.get("GODWIT_ONLY", "").split(",")
    with tempfile.TemporaryDirectory(prefix="godwit-pc.") as folder:
        for test in (good, odd_but_right, refused_before, refused_after, early_devices, gone_unheard, crashed, end_too_early,
            not_made_safe, not_made_safe_before, end_in_the_switch, left_in_the_switch, strangers, other_memory, unusable, nobody_came,
            recovered, cut_anywhere, many_discards, many_names, large_package, asks_twice):
            if wanted == [""] or test.__name__ in wanted:
                print(f"  {test.__name__}", flush=True)
                test(folder)


if __name__ == "__main__":
    main()
