#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The page server against destinations made by hand that lie, stand still or go away: every field of the return path out of
range, messages out of place, false bitmaps, floods, and a cut at every place. Always a sentence and a named state, never a
page twice; and where it says that it can be resumed, it is, until every page has come.

test-lazy-peer.py SERVE-TOOL [SEED]
"""
import contextlib
import os
import random
import socket
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
from lazypeer import (DISCARD, PAGE, PING, RECV_BITMAP, RESUME, Bench, Ended, answer, be, bitmap, check_failed, completes, drain, message,
                      play, pong, request, resume_ack, resumes, shut, str8, until, write_image)

LARGE = 64 * PAGE
PIECE = 8       # pages with content that are written at once, at most
MEMORY_KIB = 64 << 10
FLOOD = 1000000


def make_blocks(rnd):
    """Half of the pages are zeros; "rom" ends inside a word of its bitmap."""
    def block(pages):
        return b"".join(rnd.randbytes(PAGE) if rnd.random() < 0.5 else bytes(PAGE) for _ in range(pages))
    return {"ram0": block(256), "rom": block(100)}


# --- an honest destination ---

def the_whole_way(bench):
    values = completes(bench, bench.guest())
    assert values["requests"] == "0" and int(values["pushed_pages"]) == 356, values


def the_start(bench):
    """The pieces of the start, in their order."""
    guest = bench.guest()
    with bench.server() as server:
        link = server.link(guest)
        kinds = []
        while (piece := link.next())[0] != "package":
            answer(link, piece)
            kinds.append(piece[1] if piece[0] == "command" else piece[0])
            if piece[0] == "command" and piece[1] == DISCARD:
                name = list(guest.blocks)[kinds.count(DISCARD) - 1]
                assert piece[2] == b"\0" + str8(name) + b"\0" + be(0, len(guest.blocks[name]), size=8), piece[2].hex()
        assert kinds == ["header", 1, PING, 3, "list", DISCARD, DISCARD, PING], kinds
        answer(link, piece)
        assert link.next() == ("command", PING, be(4))
        assert play(link)
        assert server.wait()[0] == 0
        link.close()


def requests_come_first(bench):
    """What is asked for before anything is pushed comes in the order of the requests, and the push goes on behind the last."""
    guest, wanted = bench.guest(), [("rom", 70), ("rom", 3), ("ram0", 200), ("ram0", 199)]
    with bench.server("rate=2000000") as server:
        link = server.link(guest)
        piece = until(link, "package")
        answer(link, piece)
        block = None
        for name, page in wanted:
            link.send(request(page * PAGE, PAGE, name if name != block else None))
            block = name
        link.send(request(250 * PAGE, 6 * PAGE))
        order = []
        while not answer(link, piece := link.next()):
            if piece[0] == "page":
                order.append(piece[1:])
        _, values, _, _ = server.wait()
        link.close()
    places = [order.index(w) for w in [*wanted, *(("ram0", p) for p in range(250, 256))]]
    assert places == sorted(places) and places[-1] - places[0] <= 2 * 64 + len(places), places
    assert values["requests"] == "5" and int(values["requested_pages"]) + int(values["pushed_pages"]) == guest.total(), values


def requests_interrupt_the_push(bench):
    """What the push owes to the rate limit, here for hours after its first piece, does not keep a page that is asked for."""
    guest = bench.guest()
    with bench.server("rate=1") as server:
        link = server.link(guest)
        answer(link, until(link, "package"))
        until(link, "page")
        for page in range(99, 50, -5):
            link.send(request(page * PAGE, PAGE, "rom"))
            while page not in guest.pages["rom"]:
                until(link, "page")
        assert sum(any(guest.blocks[n][p * PAGE:(p + 1) * PAGE]) for n in guest.pages for p in guest.pages[n]) <= PIECE + 10
        link.close()
        ended = server.wait()
        check_failed(ended, True)
    values = ended[1]
    assert values["requests"] == values["requested_pages"] == "10", values
    assert 0 < int(values["latency_p50_us"]) <= int(values["latency_p99_us"]) <= int(values["latency_max_us"]) < 60e6, values
    resumes(bench, guest)


def takes_nothing(bench):
    """A destination that stops reading is given up, and resumed."""
    guest = bench.guest()
    with bench.server("idle-ms=1000") as server:
        link = server.link(guest)
        answer(link, until(link, "package"))
        ended = server.wait()
        check_failed(ended, True, "took nothing")
        drain(link)
    resumes(bench, guest)


def with_large_pages(bench):
    """A larger page is asked for, sent and counted as a whole, also over a cut inside of one."""
    def large():
        return bench.guest(host_pages={"ram0": LARGE})
    option = f"ram0={LARGE}"
    completes(bench, large(), option)
    for pieces in (20, 40, 90, 200):
        guest = large()
        with bench.server(option) as server:
            link = server.link(guest)
            answer(link, until(link, "package"))
            link.send(request(2 * LARGE, LARGE, "ram0") + request(LARGE, LARGE))
            try:
                play(link, link.pieces + pieces)
            except Ended:
                pass
            link.close()
            check_failed(server.wait(), True)
        resumes(bench, guest, option)
    guest = large()
    with bench.server(option, "resume") as server:
        link = server.link(guest)
        until(link, "command", RECV_BITMAP)
        link.send(bitmap("ram0", b"\x01" + bytes(31)))
        drain(link)
        check_failed(server.wait(), True, "ram0", "splits", str(LARGE))
    resumes(bench, guest, option)


def with_odd_pages(bench):
    """Who says that pages are of a size that none can have: it is not even tried, whether it divides the block or not."""
    for size, words in ((3 * PAGE, ["power of two", str(3 * PAGE)]), (5 * PAGE, ["power of two"]), (LARGE + 1, ["power of two"]),
                        (512 * PAGE, ["whole number"])):
        for block in bench.blocks:
            with bench.server(f"{block}={size}") as server:
                link = server.link(bench.guest())
                check_failed(server.wait(), False, f'"{block}"', *words)
                link.close()


def devices_need_pages(bench):
    """Loading devices touches memory: pages asked for come before any word that the package was loaded, or both wait for ever."""
    guest, wanted = bench.guest(), [("ram0", 192), ("rom", 3)]
    with bench.server("rate=1000000") as server:
        link = server.link(guest)
        until(link, "package")
        for name, page in wanted:
            link.send(request(page * PAGE, PAGE, name))
            while until(link, "page")[1:] != (name, page):
                pass
            assert not guest.whole(), "it came with all the others only"
        link.send(pong(4) + pong(3) + pong(0x42))   # two readers: 4 may come first
        assert play(link)
        assert server.wait()[0] == 0
        link.close()


def no_end_before_it_runs(bench):
    """Every page is there, but the guest does not run yet: no END, which would be followed by a SHUT nobody may send."""
    guest = bench.guest()
    with bench.server() as server:
        link = server.link(guest)
        until(link, "package")
        while not guest.whole():
            link.next()
        time.sleep(0.5)
        assert not link.waiting(), "something comes before PONG 0x42"
        assert server.process.poll() is None
        link.send(pong(0x42))
        assert play(link)
        assert server.wait()[0] == 0
        link.close()


def last_word(bench):
    """SHUT is the last word, once: behind a good one nothing counts, and requests may still come in front of it."""
    for behind in (b"", shut(), shut(1), message(0), resume_ack(), request(1, 1, "nix"), bytes(3)):
        guest = bench.guest()
        with bench.server() as server:
            link = server.link(guest)
            until(link, "eof")
            link.send(request(3 * PAGE, PAGE, "rom") + pong(5) + shut() + behind)
            status, values, said, _ = server.wait()
            link.close()
        assert status == 0 and values["state"] == "completed" and guest.whole(), (behind, status, values, said)


# --- a hostile one ---

HUGE = (1 << 64) - PAGE
# What is sent behind the package, whether PONG 0x42 was before it, and what the sentence names.
LIES = [
    ("type 0", message(0, be(0)), []),
    ("type 8", message(8), []),
    ("type 0xffff", message(0xFFFF, be(0)), []),
    ("SHUT of 3 bytes", message(1, bytes(3)), []),
    ("SHUT of no bytes", message(1), []),
    ("RESUME_ACK of 5 bytes", message(6, bytes(5)), []),
    ("RECV_BITMAP without a name", message(5, b"\0"), []),
    ("RECV_BITMAP of no bytes", message(5), []),
    ("RECV_BITMAP with a name that does not end", message(5, b"\xffrom"), []),
    ("REQ_PAGES_ID with a zero byte in its name", request(0, PAGE, "ro\0"), ["control character"]),
    ("REQ_PAGES_ID with a name in capitals", request(0, PAGE, "ROM"), ["ROM"]),
    ("PONG of 8 bytes", message(2, bytes(8)), []),
    ("REQ_PAGES of 11 bytes", message(4, bytes(11)), []),
    ("REQ_PAGES of 13 bytes", message(4, bytes(13)), []),
    ("REQ_PAGES_ID of 12 bytes", message(3, bytes(12)), []),
    ("REQ_PAGES_ID with a name that is too long for it", message(3, be(0, size=8) + be(PAGE) + b"\x09rom"), []),
    ("REQ_PAGES_ID with a name that is too short for it", message(3, be(0, size=8) + be(PAGE) + b"\x02rom"), []),
    ("REQ_PAGES_ID without a name", message(3, be(0, size=8) + be(PAGE) + b"\0"), []),
    ("a message of 513 bytes", message(5, bytes(513)), []),
    ("a message of 65535 bytes", message(3, b"", length=0xFFFF), []),
    ("SWITCHOVER_ACK with a payload", message(7, bytes(1)), []),
    ("REQ_PAGES first of all", request(0, PAGE), ["none named"]),
    ("REQ_PAGES of nothing first of all", request(0, 0), []),
    ("an unknown block", request(0, PAGE, "ram1"), ["ram1"]),
    ("half a name", request(0, PAGE, "ra"), ['"ra"']),
    ("REQ_PAGES behind an unknown block", request(0, PAGE, "nix") + request(0, PAGE), ["nix"]),
    ("an unaligned start", request(1, PAGE, "rom"), ["rom", "0x1"]),
    ("an unaligned length", request(0, PAGE + 1, "rom"), ["rom", "4097"]),
    ("no length", request(0, 0, "rom"), ["0 bytes", "rom"]),
    ("one page too far", request(100 * PAGE, PAGE, "rom"), ["rom"]),
    ("an end one page too far", request(99 * PAGE, 2 * PAGE, "rom"), ["rom", "8192"]),
    ("a huge length", request(0, 0xFFFFF000, "rom"), ["rom"]),
    ("a huge start", request(HUGE, PAGE, "rom"), ["rom", "0xfffffffffffff000"]),
    ("a sum that overflows", request(HUGE, 2 * PAGE, "rom"), ["rom"]),
    ("a bitmap nobody asked for", bitmap("rom", bytes(16)), ["RECV_BITMAP", "unexpected"]),
    ("RESUME_ACK", resume_ack(), ["RESUME_ACK", "unexpected"]),
    ("RESUME_ACK 0", resume_ack(0), ["RESUME_ACK"]),
    ("SHUT 0", shut(), ["SHUT", "unexpected"]),
]


def lies(bench):
    """Each in both states in which pages flow; a good request before it does not help."""
    for what, data, words in LIES:
        for before in (b"", pong(3) + pong(0x42)):
            guest = bench.guest()
            with bench.server() as server:
                link = server.link(guest)
                until(link, "package")
                link.send(before + data)
                drain(link)
                check_failed_saying(what, server.wait(), True, words)
            resumes(bench, guest)
    for what, data, words in LIES[-16:]:
        if "first of all" in what:
            continue
        guest = bench.guest()
        with bench.server() as server:
            link = server.link(guest)
            answer(link, until(link, "package"))
            link.send(request(0, PAGE, "rom") + data)
            drain(link)
            check_failed_saying(what, server.wait(), True, words)
        resumes(bench, guest)


def check_failed_saying(what, ended, recoverable, words):
    try:
        check_failed(ended, recoverable, *words)
    except AssertionError as e:
        raise AssertionError(f"{what}: {e}") from None


def errors_reported(bench):
    """SHUT with an error: before the guest ran it is the end, after that the guest is not ours to take back."""
    for before, code, recoverable in ((b"", 1, False), (pong(0x42), 1, True), (pong(0x42), 0xFFFFFFFF, True)):
        guest = bench.guest()
        with bench.server() as server:
            link = server.link(guest)
            until(link, "package")
            link.send(before + shut(code))
            drain(link)
            check_failed(server.wait(), recoverable, f"error {code}")
        if recoverable:
            resumes(bench, guest)


def harmless(bench):
    """What is only noise: tokens nobody knows, the same PONG twice, SWITCHOVER_ACK, requests for what was sent."""
    guest = bench.guest()
    with bench.server() as server:
        link = server.link(guest)
        until(link, "package")
        link.send(pong(77) + message(7) + pong(0x42) + pong(0x42) + request(0, 100 * PAGE, "rom") * 3 + request(0, 256 * PAGE, "ram0") * 2)
        assert play(link)
        status, values, said, _ = server.wait()
        link.close()
    assert status == 0 and values["requests"] == "5", (values, said)


def flood(bench):
    """A million requests for one page, in pieces that are cut anywhere: it comes once, nothing piles up, all is sent."""
    guest = bench.guest()
    data = request(5 * PAGE, PAGE) * 65536
    with bench.server("rate=3000000") as server:
        link = server.link(guest)
        answer(link, until(link, "package"))

        def pour():
            link.send(request(5 * PAGE, PAGE, "rom"))
            for _ in range(FLOOD // 65536):
                link.send(data)
        thread = threading.Thread(target=pour, daemon=True)
        thread.start()
        while (piece := link.next())[0] != "eof":
            pass
        thread.join(60)
        assert not thread.is_alive()
        answer(link, piece)
        status, values, said, kib = server.wait()
        link.close()
    assert status == 0 and int(values["requests"]) > FLOOD * 9 // 10, (values, said)
    assert godwit.SANITIZED or kib < MEMORY_KIB, f"{kib} KiB"


def flood_of_all(bench):
    """Every page asked for again and again, in blocks by turns, while the push goes on: each comes once."""
    guest = bench.guest()
    data = b"".join(request(p * PAGE, PAGE, n) for p in range(100) for n in ("rom", "ram0")) + request(0, 256 * PAGE, "ram0")
    with bench.server("rate=3000000") as server:
        link = server.link(guest)
        answer(link, until(link, "package"))
        thread = threading.Thread(target=lambda: [link.send(data) for _ in range(500)], daemon=True)
        thread.start()
        while (piece := link.next())[0] != "eof":
            pass
        thread.join(60)
        assert not thread.is_alive() and guest.whole()
        answer(link, piece)
        status, values, said, kib = server.wait()
        link.close()
    assert status == 0 and int(values["requested_pages"]) + int(values["pushed_pages"]) == guest.total(), (values, said)
    assert godwit.SANITIZED or kib < MEMORY_KIB, f"{kib} KiB"


# --- a recovery that goes wrong ---

def bitmaps(guest, **changed):
    """The answers to both questions; changed: a block's own bytes."""
    return b"".join(changed.get(n, bitmap(n, guest.bits(n))) for n in guest.blocks)


def half_done(bench, pages=150):
    """A guest whose first connection was cut."""
    guest = bench.guest()
    with bench.server() as server:
        link = server.link(guest)
        play(link, 12 + pages)
        link.close()
        check_failed(server.wait(), True)
    assert 0 < guest.count() < guest.total()
    return guest


def false_recoveries(bench):
    """What a destination says instead of its bitmaps and RESUME_ACK."""
    guest = half_done(bench)
    have = guest.bits("ram0")
    answers = [
        ("a size too small", bitmaps(guest, ram0=bitmap("ram0", have, size=24)), ["ram0", "24"]),
        ("a size too large", bitmaps(guest, ram0=bitmap("ram0", have, size=40)), ["ram0", "40"]),
        ("a huge size", bitmaps(guest, ram0=bitmap("ram0", have, size=(1 << 64) - 1)), ["ram0", "18446744073709551615"]),
        ("no size", bitmaps(guest, ram0=bitmap("ram0", b"")), ["ram0", "0 bytes"]),
        ("one byte too many", bitmaps(guest, rom=bitmap("rom", guest.bits("rom") + b"\0", size=16)), ["rom", "end mark"]),
        ("a wrong end mark", bitmaps(guest, rom=bitmap("rom", guest.bits("rom"), mark=0xEFCDAB8967452301)), ["rom", "end mark"]),
        ("an unknown block", bitmaps(guest, ram0=bitmap("ram9", have)), ["ram9"]),
        ("a name that does not end", message(5, b"\x05ram0"), []),
        ("the wrong order", bitmap("rom", guest.bits("rom")) + bitmap("ram0", have), ["rom", "not asked for now"]),
        ("a block twice", bitmap("ram0", have) * 2, ["ram0", "not asked for now"]),
        ("a third one", bitmaps(guest) + bitmap("rom", guest.bits("rom")), ["rom", "not asked for now"]),
        ("RESUME_ACK instead", resume_ack(), ["RESUME_ACK", "unexpected"]),
        ("RESUME_ACK before RESUME", bitmap("ram0", have) + resume_ack(), ["RESUME_ACK", "unexpected"]),
        ("requests in between", bitmap("ram0", have) + request(0, PAGE, "rom"), ["REQ_PAGES", "unexpected"]),
        ("SHUT 0", shut(), ["SHUT", "unexpected"]),
        ("SHUT 7", shut(7), ["error 7"]),
        ("SHUT 7 behind one bitmap", bitmap("ram0", have) + shut(7), ["error 7"]),
        ("type 0", message(0), []),
    ]
    for what, data, words in answers:
        with bench.server("resume") as server:
            link = server.link(guest)
            until(link, "command", RECV_BITMAP)
            link.send(data)
            drain(link)
            check_failed_saying(what, server.wait(), True, words)
        assert guest.links > 1
    for what, data, words in (("RESUME_ACK 0", resume_ack(0), ["RESUME_ACK"]), ("RESUME_ACK 2", resume_ack(2), ["RESUME_ACK"]),
                              ("SHUT 1", shut(1), ["error 1"]), ("a request first", request(0, PAGE, "rom"), ["unexpected"]),
                              ("a bitmap again", bitmap("rom", guest.bits("rom")), ["rom"]),
                              ("RESUME_ACK twice", resume_ack() * 2, ["RESUME_ACK"])):
        with bench.server("resume", "rate=1000000") as server:
            link = server.link(guest)
            until(link, "command", RESUME)
            link.send(data)
            drain(link)
            check_failed_saying(what, server.wait(), True, words)
    if not guest.whole():
        resumes(bench, guest)


def bits_behind_the_end(bench):
    """They mean nothing: ignored, on both sides of what matters."""
    guest = half_done(bench)
    rom = int.from_bytes(guest.bits("rom"), "little") | ~((1 << 100) - 1) & ((1 << 128) - 1)
    with bench.server("resume") as server:
        link = server.link(guest)
        while len(link.asked) < 2:
            link.next()
        link.send(bitmap("ram0", guest.bits("ram0")) + bitmap("rom", rom.to_bytes(16, "little")))
        assert play(link)
        assert server.wait()[0] == 0
        link.close()
    assert guest.whole()


def outstanding_requests(bench):
    """What waited before the cut is asked for right behind RESUME_ACK, and comes first."""
    guest = half_done(bench)
    missing = [p for p in range(100) if p not in guest.pages["rom"]][-3:]
    with bench.server("resume", "rate=1000000") as server:
        link = server.link(guest)
        until(link, "command", RESUME)
        link.send(resume_ack() + b"".join(request(p * PAGE, PAGE, "rom") for p in missing))
        first = [until(link, "page")[1:] for _ in missing]
        assert play(link)
        assert server.wait()[0] == 0
        link.close()
    assert first == [("rom", p) for p in missing], first


def ends(bench):
    """The sentence tells an end between messages, the common break, from one inside of a message."""
    for last, inside in ((b"", False), (pong(5), False), (pong(5)[:-1], True), (request(0, PAGE, "rom")[:3], True)):
        guest = bench.guest()
        with bench.server("rate=1") as server:
            link = server.link(guest)
            answer(link, until(link, "package"))
            link.send(last)
            link.sock.shutdown(socket.SHUT_WR)
            ended = server.wait()
            drain(link)
        check_failed(ended, True, "the destination closed the connection")
        assert ("inside a message" in ended[2]) == inside, (last, ended)


def silence(bench):
    """No word where one is due: the limit ends it, and it can be resumed."""
    guest = half_done(bench)
    words = [("command", RECV_BITMAP, b"", "received bitmaps"), ("command", RECV_BITMAP, bitmap("ram0", guest.bits("ram0")), "received bitmaps"),
             ("command", RESUME, b"", "RESUME_ACK")]
    for kind, number, said, due in words:
        with bench.server("resume", "answer-ms=1000") as server:
            link = server.link(guest)
            until(link, kind, number)
            link.send(said)
            check_failed(server.wait(), True, due)
            link.close()
    for bytes_of_it in (20, 45):
        with bench.server("resume", "answer-ms=1000", "idle-ms=1500") as server:
            link = server.link(guest)
            until(link, "command", RECV_BITMAP)
            link.send(bitmaps(guest)[:bytes_of_it])
            check_failed(server.wait(), True)
            link.close()
    for kind, number, said, due in ((*words[1][:2], bitmaps(guest), "received bitmaps"), (*words[2][:2], resume_ack(), "RESUME_ACK")):
        with bench.server("resume", "answer-ms=1000") as server:
            link = server.link(guest)
            until(link, kind, number)
            drip(link, said)
            check_failed(server.wait(), True, due, "within")
            link.close()
    with bench.server("resume", "answer-ms=1000") as server:     # it chatters instead
        link = server.link(guest)
        until(link, "command", RECV_BITMAP)
        over = threading.Event()
        thread = threading.Thread(target=chatter, args=(link, over), daemon=True)
        thread.start()
        _, _, _, kib = ended = server.wait()
        over.set()
        thread.join()
        check_failed(ended, True, "received bitmaps", "within")
        assert godwit.SANITIZED or kib < MEMORY_KIB, f"{kib} KiB"
        link.close()
    other = bench.guest()
    with bench.server("answer-ms=1000") as server:              # every page is there, and the devices are never loaded
        link = server.link(other)
        until(link, "package")
        while not other.whole():
            link.next()
        check_failed(server.wait(), True, "PONG 0x42", "within")
        link.close()
    with bench.server("resume", "answer-ms=1000") as server:     # every page is there, its last word does not come
        link = server.link(guest)
        until(link, "eof")
        check_failed(server.wait(), True, "SHUT")
        link.close()
    resumes(bench, guest)


def drip(link, data):
    """A byte now and then, in the background: never silent, and never done."""

    def run():
        for i in range(len(data)):
            link.send(data[i:i + 1])
            time.sleep(0.3)
    threading.Thread(target=run, daemon=True).start()


def chatter(link, over):
    """PONGs without end."""
    with contextlib.suppress(OSError):
        while not over.is_set():
            link.sock.sendall(pong(9) * 4096)


# --- cuts ---

def cut_everywhere(bench, rnd):
    """The first connection ends behind each of its pieces; the next ones bring the rest, and only that."""
    guest = bench.guest()
    with bench.server() as server:
        link = server.link(guest)
        assert play(link)
        assert server.wait()[0] == 0
        pieces = link.pieces
        link.close()
    start = 11      # up to the PING behind the package
    for cut in [*range(0, start + 5), *sorted(rnd.sample(range(start + 5, pieces - 3), 25)), *range(pieces - 3, pieces)]:
        guest = bench.guest()
        with bench.server() as server:
            link = server.link(guest)
            packaged = False
            while link.pieces < cut:
                piece = link.next()
                packaged = packaged or piece[0] == "package"
                answer(link, piece)
            link.close()
            ended = server.wait()
        if packaged or ended[1]["recoverable"] == "1":
            check_failed(ended, True)
            resumes(bench, guest)
        else:
            check_failed(ended, False)


def cut_recoveries(bench, rnd):
    """The recovery itself is cut: inside the answers at any byte, and between any two of its pieces, again and again."""
    guest = half_done(bench, 60)
    said = bitmaps(guest)
    first = len(bitmap("ram0", guest.bits("ram0")))
    cuts = {0, 1, 3, 4, 9, 16, 17, 18, first - 9, first - 8, first - 1, first, first + 1, first + 10, len(said) - 8, len(said) - 1, *rnd.sample(range(len(said)), 12)}
    for cut in sorted(cuts):
        with bench.server("resume") as server:
            link = server.link(guest)
            until(link, "command", RECV_BITMAP)
            link.send(said[:cut])
            drain_half(link)
            check_failed(server.wait(), True)
    for pieces in (0, 1, 2, 3):     # both questions, RESUME, and the first PART
        with bench.server("resume") as server:
            link = server.link(guest)
            play(link, pieces)
            link.close()
            check_failed(server.wait(), True)
    for cut in range(1, 8):         # inside RESUME_ACK
        with bench.server("resume") as server:
            link = server.link(guest)
            until(link, "command", RESUME)
            link.send(resume_ack()[:cut])
            drain_half(link)
            check_failed(server.wait(), True)
    rounds = 0
    while guest.total() - guest.count() > 20:   # and it is resumed, each time for some pages only
        with bench.server("resume") as server:
            link = server.link(guest)
            play(link, rnd.randrange(3, 40))
            link.close()
            check_failed(server.wait(), True)
        rounds += 1
    resumes(bench, guest)
    assert rounds > 2


def drain_half(link):
    """Nothing more is said, and the end of it is heard at once."""
    link.sock.shutdown(socket.SHUT_WR)
    drain(link)


def main(argv):
    seed = int(argv[2]) if len(argv) > 2 else 4
    rnd = random.Random(seed)
    blocks = make_blocks(rnd)
    with tempfile.TemporaryDirectory(prefix="godwit-lazy.") as folder:
        bench = Bench(argv[1], write_image(godwit, folder, blocks), folder, blocks)
        for test in (the_whole_way, the_start, requests_come_first, requests_interrupt_the_push, takes_nothing, with_large_pages,
                     with_odd_pages, devices_need_pages, no_end_before_it_runs, last_word, lies, errors_reported, harmless, flood, flood_of_all,
                     false_recoveries, bits_behind_the_end, outstanding_requests, ends, silence):
            print(test.__name__, flush=True)
            test(bench)
        for test in (cut_everywhere, cut_recoveries):
            print(test.__name__, f"seed {seed}", flush=True)
            test(bench, rnd)


if __name__ == "__main__":
    main(sys.argv)
