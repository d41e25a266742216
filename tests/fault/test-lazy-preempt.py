#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The preempt channel of the page server against destinations made by hand: when it is connected, what goes over it and what
does not, and what happens when it is refused, cut or not read.

test-lazy-preempt.py SERVE-TOOL [SEED]
"""
import os
import random
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
from lazypeer import (PAGE, PING, RECV_BITMAP, RESUME, Bench, Ended, answer, bitmap, check_failed, drain, pong, request, resume_ack,
                      until, write_image)

LARGE = 64 * PAGE


def make_blocks(rnd):
    def block(pages):
        return b"".join(rnd.randbytes(PAGE) if rnd.random() < 0.7 else bytes(PAGE) for _ in range(pages))
    return {"ram0": block(512), "rom": block(100)}


def connect(server, guest, early=False):
    """Both connections of a start, up to the package, which is not answered. The second comes behind PONG 1, or before."""
    link = server.link(guest)
    piece = until(link, "command", PING)
    assert piece[2] == b"\0\0\0\1"
    if early:
        second = server.second(guest)
    else:
        server.no_second()
    answer(link, piece)
    assert link.next()[:2] == ("command", 3)
    if not early:
        second = server.second(guest)
    until(link, "package")
    return link, second


def connect_again(server, guest, early=False):
    """Both connections of a recovery, up to RESUME, which is not answered."""
    link = server.link(guest)
    for name in guest.blocks:
        assert until(link, "command", RECV_BITMAP) and link.asked[-1] == name
    if early:
        second = server.second(guest)
    else:
        server.no_second()
    link.send(b"".join(bitmap(n, guest.bits(n)) for n in guest.blocks))
    if not early:
        second = server.second(guest)
    assert link.next()[:2] == ("command", RESUME)
    return link, second


def finish(server, link, second, early=False):
    """The rest comes, END behind all of it; the second connection ends without a mark, or with one where it was early."""
    while True:
        piece = link.next()
        if piece[0] == "end":
            drain_second(link, second)
        if answer(link, piece):
            break
    assert not early or second.next() == ("mark",)
    status, values, said, _ = server.wait()
    assert second.next() == ("eof",)
    link.close()
    second.close()
    assert status == 0 and values["state"] == "completed", (status, values, said)
    return values


def drain_second(link, second):
    """END on the main connection can overtake what was requested."""
    while not link.guest.whole():
        assert second.next()[0] == "page"


def completes(bench, guest, *options, early=False):
    with bench.server(*options, "early" if early else "preempt") as server:
        if server.recovers:
            link, second = connect_again(server, guest, early)
            link.send(resume_ack())
        else:
            link, second = connect(server, guest, early)
            link.send(pong(3) + pong(0x42))
        values = finish(server, link, second, early)
    assert guest.whole()
    return values


def resumes(bench, guest, *options, early=False):
    guest.forget_halves()
    before = guest.count()
    values = completes(bench, guest, "resume", *options, early=early)
    assert int(values["already_there"]) == before, (values, before)


# --- what goes where ---

def the_whole_way(bench):
    for early in (False, True):
        values = completes(bench, bench.guest(), early=early)
        assert values["requests"] == "0", values


def requests_go_over_it(bench):
    """In their order, the first with its block's name, each with its own CONTINUE; the push goes on behind the last, on the main
    connection."""
    for early in (False, True):
        guest = half_done(bench)
        wanted = [("rom", 70), ("rom", 3), ("ram0", 400), ("ram0", 399), ("rom", 50), *(("rom", p) for p in range(51, 56))]
        with bench.server("rate=1", "resume", "early" if early else "preempt") as server:
            link, second = connect_again(server, guest, early)
            link.send(resume_ack() + b"".join(request(p * PAGE, PAGE, n) for n, p in wanted[:5]) + request(51 * PAGE, 5 * PAGE))
            assert [second.next()[1:] for _ in wanted] == wanted
            assert until(link, "page")[1:] == ("rom", 56)
            link.close()
            second.close()
            ended = server.wait()
            check_failed(ended, True)
        values = ended[1]
        assert values["requests"] == "6" and int(values["requested_pages"]) == len(wanted), values
        assert 0 < int(values["latency_p50_us"]) <= int(values["latency_max_us"]), values
        resumes(bench, guest, early=early)


def lost_on_the_way(bench):
    """A second connection that ends before the destination has it is made anew, whatever is asked for meanwhile."""
    guest = half_done(bench)
    with bench.server("rate=1", "resume", "preempt") as server:
        link, second = connect_again(server, guest, False)
        second.close()
        link.send(resume_ack() + request(70 * PAGE, PAGE, "rom"))
        for page in (3, 60, 50):
            time.sleep(0.005)
            link.send(request(page * PAGE, PAGE, "rom"))
        third = server.second(guest)
        assert [third.next()[1:] for _ in range(4)] == [("rom", p) for p in (70, 3, 60, 50)]
        link.close()
        third.close()
        check_failed(server.wait(), True)
    resumes(bench, guest)


def they_overtake_the_push(bench):
    """While the main connection is full and not read, what is requested comes."""
    guest = bench.guest()
    with bench.server("preempt") as server:
        link, second = connect(server, guest)
        link.send(pong(3) + pong(0x42))
        for page in range(99, 0, -7):
            link.send(request(page * PAGE, PAGE, "rom"))
            assert second.next() == ("page", "rom", page)
        finish(server, link, second)


def what_is_there_is_not_sent_again(bench):
    guest = bench.guest()
    with bench.server("preempt") as server:
        link, second = connect(server, guest)
        link.send(pong(3) + pong(0x42) + request(5 * PAGE, 3 * PAGE, "rom") * 3 + request(6 * PAGE, PAGE) + request(7 * PAGE, 2 * PAGE))
        assert [second.next()[2] for _ in range(4)] == [5, 6, 7, 8]
        values = finish(server, link, second)
    assert values["requests"] == "5" and values["requested_pages"] == "4", values


def large_pages(bench):
    """One that is pushed is not split, nor sent twice; another one overtakes it."""
    guest = bench.guest(host_pages={"ram0": LARGE})
    with bench.server(f"ram0={LARGE}", "rate=2000000", "preempt") as server:
        link, second = connect(server, guest)
        link.send(pong(3) + pong(0x42))
        until(link, "page")
        link.send(request(3 * LARGE, LARGE, "ram0"))
        assert [second.next()[2] for _ in range(64)] == list(range(192, 256))
        assert guest.count() < 64 + 2 + 16, "the push went on meanwhile"
        while not 0 < (half := link.host_page[1] if link.host_page else 0) % 64 < 48:
            until(link, "page")
        first = half - half % 64
        link.send(request(first * PAGE, LARGE, "ram0"))     # the rest comes where it began, and at once
        for page in range(half, first + 64):
            assert until(link, "page")[2] == page
        finish(server, link, second)
    guest = bench.guest(host_pages={"ram0": LARGE})
    for _ in range(3):      # cut, also inside of one
        with bench.server(f"ram0={LARGE}", "rate=1", "preempt", *["resume"] * bool(guest.links)) as server:
            again = server.recovers
            link, second = (connect_again if again else connect)(server, guest)
            link.send(resume_ack() if again else pong(3) + pong(0x42))
            until(link, "page")     # at this rate it would be the last for long, had the request come first
            link.send(request((7 - guest.links) * LARGE, LARGE, "ram0"))
            for _ in range(40):
                second.next()
            second.close()
            link.close()
            check_failed(server.wait(), True)
    resumes(bench, guest, f"ram0={LARGE}")


# --- what goes wrong ---

def it_is_refused(bench):
    """A destination that cannot be connected to twice: before the package the guest stays here, later it waits."""
    guest = bench.guest()
    with bench.server("preempt") as server:
        link = server.link(guest)
        piece = until(link, "command", PING)
        server.listener.close()
        answer(link, piece)
        check_failed(server.wait(), False, "preempt channel", "nobody listens")
        link.close()
    guest = half_done(bench)
    with bench.server("preempt", "resume") as server:
        link = server.link(guest)
        until(link, "command", RECV_BITMAP)
        server.listener.close()
        link.send(b"".join(bitmap(n, guest.bits(n)) for n in guest.blocks))
        check_failed(server.wait(), True, "preempt channel", "nobody listens")
        link.close()
    resumes(bench, guest)


def half_done(bench, pages=150):
    """A guest whose connections were cut."""
    guest = bench.guest()
    with bench.server("preempt") as server:
        link, second = connect(server, guest)
        link.send(pong(3) + pong(0x42) + request(98 * PAGE, PAGE, "rom"))
        second.next()
        while guest.count() < pages:
            link.next()
        second.close()
        link.close()
        check_failed(server.wait(), True)
    assert 0 < guest.count() < guest.total()
    return guest


def it_is_lost(bench):
    """The next request ends it, and a recovery brings the rest."""
    guest = bench.guest()
    with bench.server("preempt", "rate=1") as server:
        link, second = connect(server, guest)
        link.send(pong(3) + pong(0x42) + request(80 * PAGE, PAGE, "rom"))
        second.next()
        second.close()
        link.send(request(70 * PAGE, PAGE, "rom"))
        try:
            while True:
                link.next()
        except Ended:
            check_failed(server.wait(), True)
        link.close()
    resumes(bench, guest)


def it_is_not_read(bench):
    """A destination that asks and does not take is given up; memory does not grow."""
    guest = bench.guest()
    with bench.server("preempt", "idle-ms=1000") as server:
        link, second = connect(server, guest)
        link.send(pong(3) + pong(0x42) + request(0, 512 * PAGE, "ram0"))
        ended = server.wait()
        check_failed(ended, True, "took nothing")
        drain_both(link, second)
    resumes(bench, guest)


def drain_both(link, second):
    try:
        while second.next()[0] == "page":
            pass
    except Ended:
        pass
    second.close()
    drain(link)


def no_address(bench):
    with bench.server("preempt") as server:
        server.process.kill()
        server.process.wait()
    r = godwit.subprocess.run([bench.tool, bench.image, "fd:0", "preempt"], capture_output=True, text=True, check=False,
                              stdin=godwit.subprocess.DEVNULL)
    assert r.returncode == 1 and "second time" in r.stderr, r


def cut_everywhere(bench, rnd):
    """After any number of pages on both connections; the recoveries bring the rest, and only that."""
    for early in (False, True):
        guest, rounds = bench.guest(), 0
        while guest.total() - guest.count() > 100:
            options = ["early" if early else "preempt", *(["resume"] if rounds else [])]
            with bench.server(*options) as server:
                link, second = (connect_again if rounds else connect)(server, guest, early)
                missing = [p for p in range(300, 512) if p not in guest.pages["ram0"]]      # where the push does not begin
                asked = rnd.sample(missing, min(4, len(missing)))
                link.send((resume_ack() if rounds else pong(3) + pong(0x42)) + b"".join(request(p * PAGE, PAGE, "ram0") for p in asked))
                for _ in asked[rnd.randrange(3):]:
                    second.next()
                for _ in range(rnd.randrange(1, 60)):
                    link.next()
                for channel in (link, second) if rnd.random() < 0.5 else (second, link):
                    channel.close()
                check_failed(server.wait(), True)
            rounds += 1
        resumes(bench, guest, early=early)
        assert rounds > 2


def cut_connecting(bench):
    """In every stage of a recovery with two connections; each time it can be tried again."""
    guest = half_done(bench)
    for early in (False, True):
        for stage in range(4):
            with bench.server("resume", "early" if early else "preempt") as server:
                link = server.link(guest)
                if stage > 0:
                    until(link, "command", RECV_BITMAP)
                if stage > 1:
                    until(link, "command", RECV_BITMAP)
                    link.send(b"".join(bitmap(n, guest.bits(n)) for n in guest.blocks))
                    second = server.second(guest)
                if stage > 2:
                    until(link, "command", RESUME)
                if stage > 1:
                    second.close()
                link.close()
                check_failed(server.wait(), True)
    resumes(bench, guest)


def main(argv):
    seed = int(argv[2]) if len(argv) > 2 else 4
    rnd = random.Random(seed)
    blocks = make_blocks(rnd)
    with tempfile.TemporaryDirectory(prefix="godwit-lazy.") as folder:
        bench = Bench(argv[1], write_image(godwit, folder, blocks), folder, blocks)
        for test in (the_whole_way, requests_go_over_it, lost_on_the_way, they_overtake_the_push, what_is_there_is_not_sent_again, large_pages, it_is_refused,
                     it_is_lost, it_is_not_read, no_address, cut_connecting):
            print(test.__name__, flush=True)
            test(bench)
        print(cut_everywhere.__name__, f"seed {seed}", flush=True)
        cut_everywhere(bench, rnd)


if __name__ == "__main__":
    main(sys.argv)
