#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The links between godwit serve and a real QEMU are cut again and again while it lives, and it goes on by itself: with one connection and
with two (--preempt), for a guest that waits and for one that runs; and a tunnel loses the second
one, before QEMU has it or later.

test-lazy-cut-serve.py SERVE-TOOL 7.2|10.0|11.1. Where: GODWIT_SEED; GODWIT_CUTS=all: ten times as many. GODWIT_ONLY: names of tests.
"""
import contextlib
import os
import random
import socket
import struct
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
import images
import tinyguest
from cuts import ALL, CRASHES, PAGE, SEED, Lab
from saved_guest import wait_guest, wait_status
from proxy_run import Proxy
from vm import Unavailable, skip

CUTS = 10
ROUNDS = 10 if ALL else 1
AGAIN_MAX = 3
RATE = "--max-bandwidth=1M"


def first(rnd):
    """Behind devices that were loaded meanwhile."""
    return f"--cut-after=main:forward:{rnd.randint(200, 400)}000"


def in_pages(rnd):
    return rnd.choice((f"--cut-at=recovery:forward:page:{rnd.randint(1, 30)}", f"--cut-at=recovery:forward:zero:{rnd.randint(1, 100)}"))


def in_handshake(rnd):
    """Of a recovery, before RESUME."""
    return rnd.choice((f"--cut-at=recovery:forward:recv-bitmap:{rnd.randint(1, 5)}", f"--cut-at=recovery:return:recv-bitmap:{rnd.randint(1, 5)}",
                       f"--cut-after=recovery:forward:{rnd.randint(4, 109)}", f"--cut-after=recovery:return:{rnd.randint(1, 450)}"))


def in_recovery(rnd):
    return rnd.choice((in_handshake(rnd), "--cut-at=recovery:forward:resume", "--cut-at=recovery:return:resume-ack"))


def some_cuts(lab, rnd):
    """In turn: of the recovery, and of the push that follows, so that each time there is something new."""
    hard = lab.version in CRASHES
    cuts = [first(rnd)]
    for _ in range(CUTS // 2):
        cuts += ["--cut-at=recovery:return:resume-ack" if hard else in_recovery(rnd), in_pages(rnd)]
    return cuts[:CUTS]


class Served:
    """godwit serve through a proxy that cuts."""

    def __init__(self, lab, vm, cuts, *options):
        at = lab.new_uri()
        self.cuts, self.again = cuts, 0
        self.proxy = Proxy(vm.uri, "--keep", "--cut-all", *cuts, listen=at)
        self.args = ("serve", lab.image, f"--qmp={vm.monitor}", f"--listen={vm.uri}", f"--connect={at}", "--working-set=off", "-v", "--json", RATE, *options)

    def __enter__(self):
        self.proxy.__enter__()
        self.run = godwit.Run(*self.args)
        return self

    def __exit__(self, *_):
        self.run.__exit__()
        self.proxy.__exit__()

    def done(self, vm):
        """It came to its end; how often it was cut."""
        result = self.run.wait(120)
        while result.status == godwit.RECOVERABLE and self.again < AGAIN_MAX:   # it gives up where five recoveries brought nothing
            self.again += 1
            result = godwit.run(*self.args, "--resume", timeout=120)
        self.proxy.stop()
        assert result.status == godwit.DONE, f"{self.cuts}: {result}\nQEMU ({vm.process.poll()}): {vm.stderr()}\n{self.proxy}"
        return len({e["connection"] for e in self.proxy.messages("CUT") if "on purpose" in e["text"]})


def runs_right(lab, vm):
    """What the guest does not write is as it was; what it counts up, it has counted in every page as often."""
    vm.qmp.command("stop")
    ram = vm.main_ram()
    first, counted, end = tinyguest.FIRST, tinyguest.FIRST + tinyguest.PAGES - tinyguest.TOGGLED, tinyguest.FIRST + tinyguest.PAGES
    images.same_bytes("below", ram[:first * PAGE], lab.ram[:first * PAGE])
    images.same_bytes("above", ram[end * PAGE:], lab.ram[end * PAGE:])
    rounds = [(struct.unpack_from("<I", ram, p * PAGE)[0] - struct.unpack_from("<I", lab.ram, p * PAGE)[0]) % (1 << 32)
              for p in range(first, counted)]
    assert 0 < rounds[0] == max(rounds) <= min(rounds) + 1 and rounds == sorted(rounds, reverse=True), rounds


def paused(lab, rnd):
    with lab.destination() as vm, Served(lab, vm, some_cuts(lab, rnd)) as s:
        n = s.done(vm)
        lab.has_everything(vm)
    return n


def running(lab, rnd, *options, cuts=None):
    with lab.destination() as vm, Served(lab, vm, cuts or some_cuts(lab, rnd), *options) as s:
        wait_guest(vm)
        vm.qmp.cont()
        n = s.done(vm)
        wait_status(vm, "completed")
        runs_right(lab, vm)
    return n


def preempt(lab, rnd):
    """Either connection breaks, and takes the other one with it. Never just behind RESUME, which some QEMUs do not survive (postcopy.md, 5)."""
    cuts = [first(rnd)]
    while len(cuts) < CUTS:
        cuts += [in_handshake(rnd)] if lab.version not in CRASHES else []
        cuts += [rnd.choice((f"--cut-after=preempt:forward:{rnd.randint(10, 20)}000", f"--cut-after=recovery:forward:{rnd.randint(150, 250)}000"))]
    return running(lab, rnd, "--preempt", cuts=cuts)


class Losing:
    """Passes connections on to another unix socket, but for some, which it takes and closes: a tunnel whose other end fails."""

    def __init__(self, at, to, lost):
        self.to, self.lost, self.n, self.socks = to, lost, 0, []
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(at)
        self.listener.listen(8)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            self.n += 1
            if self.n in self.lost:
                near.close()
                continue
            far = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                far.connect(self.to)
            except OSError:
                near.close()
                continue
            self.socks += [near, far]
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(a, b), daemon=True).start()

    @staticmethod
    def _pass(a, b):
        with contextlib.suppress(OSError):
            while data := a.recv(65536):
                b.sendall(data)
        for s in (a, b):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

    def cut(self, n=None):
        """The n-th that was passed on, or all."""
        for s in self.socks if n is None else self.socks[2 * n - 2:2 * n]:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.cut()
        for s in (self.listener, *self.socks):
            s.close()


@contextlib.contextmanager
def through(lab, vm, lost, *options):
    """godwit serve, whose connections come through a Losing: (it, the Losing)."""
    at = lab.new_uri()
    way = Losing(at.removeprefix("unix:"), vm.uri.removeprefix("unix:"), lost)
    try:
        with godwit.Run("serve", lab.image, f"--qmp={vm.monitor}", f"--listen={vm.uri}", f"--connect={at}", "--working-set=off", "-v",
                        "--preempt", *options) as g:
            wait_guest(vm)
            yield g, way
    finally:
        way.close()


def second_lost(lab, _):
    """In a recovery the second connection does not reach QEMU, which waits for it for ever: it is made anew."""
    if lab.version in CRASHES:
        return 1
    with lab.destination() as vm, through(lab, vm, {4}, "--max-bandwidth=4M", "--answer-timeout=1") as (g, way):
        way.cut()
        result = g.wait(60)
        assert result.status == godwit.DONE, f"{result}\n{vm.stderr()}"
        assert way.n == 5, way.n
        lab.has_everything(vm)
    return 1


def second_ends(lab, _):
    """It breaks alone. QEMU does not notice before the end of the pages, nor we before something is asked for."""
    for runs in (False, True):
        with lab.destination() as vm, through(lab, vm, (), "--max-bandwidth=300K") as (g, way):
            way.cut(2)
            if runs:
                vm.qmp.cont()
            result = g.wait(60)
            assert result.status == godwit.DONE, f"{result}\n{vm.stderr()}"
            assert way.n == 4, way.n
            if runs:
                wait_status(vm, "completed")
                runs_right(lab, vm)
            else:
                lab.has_everything(vm)
    return 2


def main():
    tool, version = sys.argv[1:]
    wanted = os.environ.get("GODWIT_ONLY", "").split(",")
    try:
        with tempfile.TemporaryDirectory(prefix="godwit-cuts.") as folder:
            lab, rnd = Lab(tool, version, folder), random.Random(SEED)
            print(f"  seed {SEED}", flush=True)
            for test in (paused, running, preempt, second_lost, second_ends):
                if wanted == [""] or test.__name__ in wanted:
                    n = sum(test(lab, rnd) for _ in range(ROUNDS))
                    print(f"  {test.__name__}: {n} cuts", flush=True)
                    assert test in (second_lost, second_ends) or n > ROUNDS * CUTS // 3, n    # some come behind the last page
    except Unavailable as e:
        skip(str(e))


if __name__ == "__main__":
    main()
