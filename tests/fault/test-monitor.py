#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Monitors that are no good: not there, busy, something else, gone in the middle. Status 1, one sentence, no hang.

test-monitor.py 7.2|10.0|11.1
"""
import contextlib
import os
import random
import signal
import socket
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
from relay import Fake, Relay
from protected_guest import MIB, Victim
from vm import Unavailable, skip

GREETING = b'{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 10}, "package": ""}, "capabilities": []}}\r\n'


def says(*chunks, then_wait=False):
    def talk(s):
        for c in chunks:
            s.sendall(c)
        if then_wait:
            s.recv(1 << 20)
            time.sleep(60)
    return talk


def echo(s):
    while data := s.recv(4096):
        s.sendall(data)


def floods(s):
    while True:
        s.sendall(b"x" * 65536)


def floods_events(s):
    s.sendall(GREETING)
    while True:
        s.sendall(b'{"event": "STOP", "data": {}, "timestamp": {"seconds": 1, "microseconds": 1}}\r\n' * 100)


def deep(s):
    s.sendall(b"[" * 200000)
    time.sleep(1)


def no_monitor(vm):
    """Each command that takes one."""
    place = vm.path("place")
    os.mkdir(place)
    nothing, text, dead = (os.path.join(place, n) for n in ("nothing", "text", "dead"))
    with open(text, "w", encoding="ascii") as f:
        f.write("not a socket")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(dead)
    for monitor, pattern in ((nothing, "no QMP socket"), (place, "socket|refused"), (text, "socket|refused"),
                             (dead, "refused|nobody"), ("tcp:127.0.0.1:1", "refused|nobody"), (f"unix:{nothing}", "no QMP socket"),
                             ("x" * 200, "107|no QMP socket")):
        r = godwit.run("save", monitor, vm.image)
        assert r.status in (godwit.FAILED, godwit.USAGE), r
        r.fails(r.status, pattern)
        r = godwit.run("restore", vm.good, f"--qmp={monitor}")
        assert r.status in (godwit.FAILED, godwit.USAGE), r
        r.fails(r.status, pattern)
        assert r.seconds < 12 * godwit.PATIENCE
    vm.unharmed()


def busy(vm):
    """Another client holds it: said within the limit, and not a byte of its conversation is disturbed."""
    vm.other.command("query-status")
    r = godwit.run("save", vm.held, vm.image).fails(godwit.FAILED, "another|somebody|client|busy|holds", "nothing was changed")
    assert r.seconds < 15 * godwit.PATIENCE, r
    vm.other.command("query-status")
    vm.unharmed()


def free_again(vm):
    """Held for a moment only: waited for."""
    with godwit.Run("save", vm.held, vm.image) as r:
        time.sleep(1)
        assert r.process.poll() is None, r.stderr
        vm.other.close()
        r.wait().ok()
    vm.put_old_image()
    vm.unharmed()


def not_qmp(vm, rng):
    """What answers is something else."""
    fake, fakes = vm.path("fake"), []
    for name, talk in (
            ("silence", says(then_wait=True)), ("gone at once", says()), ("echo", echo),
            ("http", says(b"HTTP/1.1 400 Bad Request\r\n\r\n")), ("ssh", says(b"SSH-2.0-OpenSSH_9.2\r\n", then_wait=True)),
            ("the human monitor", says(b"QEMU 10.0.13 monitor - type 'help' for more information\r\n(qemu) ", then_wait=True)),
            ("noise", says(rng.randbytes(100000))), ("zeros", says(bytes(100000))), ("a flood", floods), ("depth", deep),
            ("other JSON", says(b'{"hello": 1}\r\n', then_wait=True)), ("an array", says(b"[1, 2]\n", then_wait=True)),
            ("a greeting and silence", says(GREETING, then_wait=True)), ("a greeting and an end", says(GREETING)),
            ("a greeting and events without end", floods_events),
            ("a greeting of odd types", says(b'{"QMP": []}\n', then_wait=True)),
            ("an answer to nothing", says(GREETING, b'{"return": {}, "id": 77}\n' * 3, then_wait=True))):
        fakes.append((name, Fake(f"{fake}{len(fakes)}", talk)))
    with contextlib.ExitStack() as stack:
        runs = [(name, stack.enter_context(f), stack.enter_context(godwit.Run("save", f.path, vm.image))) for name, f in fakes]
        for name, _, run in runs:
            r = run.wait()
            assert r.status == godwit.FAILED and len(r.sentences) == 1, f"{name}: {r}"
            assert r.seconds < 40 * godwit.PATIENCE, f"{name}: {r}"
            assert "nothing was changed" in r.stderr, f"{name}: {r}"
    vm.image_untouched()


def lost(vm):
    """The connection to the monitor breaks at a command. QEMU lives on, so a new one puts everything in order."""
    path = vm.path("relay")
    for command, said in (
            (b'"query-status"', "nothing was changed"), (b'"query-migrate-capabilities"', "nothing was changed"),
            (b'"migrate-set-capabilities"', "runs on"), (b'"migrate-set-parameters"', "runs on"), (b'"getfd"', "runs on"),
            (b'"migrate"', "runs on"), (b'"cont"', None)):
        with Relay(path, vm.monitor, command):
            r = godwit.run("save", path, vm.image)
        if said:
            r.fails(godwit.FAILED, said)
        vm.wait_as_before()
        if not said:            # behind the last byte it is only opened again
            r.ok()
            godwit.run("verify", vm.image).ok()
            vm.put_old_image()
        vm.image_untouched()


def silent_while_it_loads(version, image):
    """A QEMU that has the image and does not answer may take its time, and may run the guest when godwit is stopped."""
    for stop in (False, True):
        with Victim(version, incoming="defer") as vm, Relay(vm.path("relay"), vm.monitor, mute_at=(b'"migrate-incoming"', b'"query-migrate"')) as relay:
            with godwit.Run("restore", image, f"--qmp={relay.address}", "--way=direct") as r:
                deadline = time.monotonic() + 30 * godwit.PATIENCE
                while len(relay.passed) < 3:        # it has asked, and asked again
                    assert time.monotonic() < deadline and r.process.poll() is None, r.stderr
                    time.sleep(0.01)
                if stop:
                    r.kill(signal.SIGTERM)
                    r.wait().fails(godwit.IN_DOUBT, "stopped by SIGTERM", "may run the guest", "query-status")
                else:
                    relay.release()
                    r.wait().ok()
            assert vm.counts(), f"the guest does not run: {vm.state()}"


def main():
    version = sys.argv[1]
    seed = int(sys.argv[2]) if sys.argv[2:] else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    try:
        start = time.monotonic()
        with Victim(version, args=["-qmp", "unix:{dir}/held,server=on,wait=off"]) as vm:
            vm.held = vm.path("held")
            vm.good = vm.path("good")
            godwit.run("save", vm.monitor, vm.good).ok()
            vm.other = type(vm.qmp).connect(vm.held)
            for step, *args in ((no_monitor,), (busy,), (free_again,), (not_qmp, random.Random(seed)), (lost,)):
                step(vm, *args)
                print(f"{step.__name__}: {time.monotonic() - start:.1f} s", flush=True)
            vm.can_be_saved()
            if version != "7.2":    # it cannot read an image
                silent_while_it_loads(version, vm.good)
    except Unavailable as e:
        skip(str(e))


if __name__ == "__main__":
    main()
