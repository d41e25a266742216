#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""godwit protect and godwit failover with real QEMUs: the guest goes on from its last epoch when its primary is dead and never before, and runs on whatever
happens to its standby or its guard.

test-protect.py 11.1 10.0 [CASE...]. GODWIT_ROUNDS: how many primaries are killed; GODWIT_SEED.
"""
import contextlib
import os
import random
import signal
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import colo
import godwit
from colo import Protect, Standby, Wire
from linuxguest import LinuxGuest, Restored, check_ticks, ticks_of
from vm import Unavailable, skip

ROUNDS = int(os.environ.get("GODWIT_ROUNDS", "2"))
INTERVAL_MS, TIMEOUT_MS = 100, 800
OPTIONS = (f"--interval={INTERVAL_MS}", f"--timeout={TIMEOUT_MS}")
LINKS = [(), ("--channels=2",), ("--channels=2", "--compress=zstd")]
random = random.Random(int(os.environ.get("GODWIT_SEED", "10")))


def as_before(vm, before):
    """It runs, and its settings are those of the beginning; nothing of ours is open in it."""
    deadline = time.monotonic() + 20 * godwit.patience()
    while (now := vm.state()) != before:
        assert time.monotonic() < deadline, f"{before} has become {now}"
        time.sleep(0.02)
    assert vm.qmp.command("query-migrate")["status"] in ("completed", "failed")
    assert not [y for y in vm.qmp.command("query-yank") if y["type"] == "migration"]


def owner_locks(vm):
    """How many of them this QEMU has open."""
    fds = f"/proc/{vm.pid}/fd"
    return sum("owner.lock" in os.readlink(os.path.join(fds, fd)) for fd in os.listdir(fds))


def forget_events(vm):
    vm.qmp.command("query-status")
    vm.qmp.events.clear()


def longest_standstill_ms(vm):
    """From STOP to RESUME, by the clock of QEMU, since forget_events."""
    vm.qmp.command("query-status")
    longest, since = 0, None
    for e in vm.qmp.events:
        at = e["timestamp"]["seconds"] * 1e3 + e["timestamp"]["microseconds"] / 1e3
        if e["event"] == "STOP":
            since = at
        elif e["event"] == "RESUME" and since:
            longest, since = max(longest, at - since), None
    assert since is None, "it stands still"
    return longest


def failover(folder, *options, backend="memfd", **keywords):
    return Restored(folder, options, "11.1", command="failover", backend=backend, args=["-name", "vm"], **keywords)


def refused(folder, *patterns):
    godwit.run("failover", folder, "--", "/bin/false").fails(godwit.REFUSED, "nothing was started", *patterns)


def check_goes_on(before, after, epochs):
    """From the moment of the last epoch, which may be older than the last line of the primary, and never newer."""
    last, ticks = ticks_of(before)[-1][0], ticks_of(after[:after.rfind("\n") + 1])
    if not after.startswith("tick"):    # its first line began before
        ticks = [t for t in ticks if t[0] >= ticks[0][0]]
    check_ticks(ticks)
    assert last - 20 <= ticks[0][0] <= last + 2, f"{ticks[0]} after {last}, {epochs}"
    assert "BAD" not in after, after


def kills(folder):
    """kill -9 of one primary after the other, each the failed-over guest of the one before. Never while it lives; the lock proves its death."""
    with Standby(folder) as standby, contextlib.ExitStack() as stack:
        vm = stack.enter_context(LinuxGuest("11.1", args=["-name", "vm"])).booted()
        for n in range(ROUNDS):
            standby.forget()
            with Protect(vm, f"unix:{standby.socket}", f"--dir={standby.dir}", *OPTIONS, *LINKS[n % len(LINKS)]) as protect:
                protect.wait_protected(1 + random.randrange(8))
                time.sleep(random.random() * INTERVAL_MS / 1e3)
                refused(standby.folder, f"process {vm.pid} holds .*owner.lock")
                before = vm.console()
                vm.process.poll()
                os.kill(vm.pid, signal.SIGKILL)
                vm = stack.enter_context(failover(standby.folder, *(["--eager"] if n % 3 == 2 else [])))
                assert "its QEMU has gone" in protect.ends(godwit.RECOVERABLE).stderr
            vm.wait_console(lambda t: len(ticks_of(t[:t.rfind("\n") + 1])) >= 3)
            vm.stamped_again()
            check_goes_on(before, vm.console(), standby.events()[-1])
            refused(standby.folder, f"process {vm.pid} holds .*owner.lock")


def stops(folder):
    """--stop, SIGTERM: the guest runs on, its QEMU is as it was, and what the standby has is not to be run without the operator's word."""
    with LinuxGuest("11.1", args=["-name", "vm"]) as vm, Standby(folder) as standby:
        vm.booted()
        vm.qmp.command("migrate-set-capabilities", capabilities=[{"capability": "xbzrle", "state": True}])
        vm.qmp.command("migrate-set-parameters", max_bandwidth=7 << 20, multifd_channels=5)
        before = vm.state()
        for end in "stop", "SIGTERM":
            standby.forget()
            with Protect(vm, f"unix:{standby.socket}", f"--dir={standby.dir}", *OPTIONS, "--channels=2") as protect:
                protect.wait_protected(3)
                assert owner_locks(vm) == 1
                godwit.run("protect", vm.monitor, f"unix:{standby.socket}").fails(godwit.REFUSED, "protects the QEMU .* already")
                if end == "stop":
                    godwit.run("protect", "--stop", vm.monitor).ok()
                else:
                    protect.kill(signal.SIGTERM)
                protect.ends(godwit.DONE)
            standby.wait_event("ended")
            assert vm.state() == before
            as_before(vm, before)
            assert owner_locks(vm) == 0
            refused(standby.folder, "nothing proves", "--primary-is-dead")
        vm.keeps_ticking()
        godwit.run("protect", "--stop", vm.monitor).ok()
        os.unlink(standby.image)
        godwit.run("failover", standby.folder, "--primary-is-dead", "--", "/bin/false").fails(godwit.FAILED, "no epoch to go on from")


def standbys(folder):
    """The standby is held up within an epoch, goes away, is not there: no standstill longer than --timeout, and protected again as soon as it is back."""
    with LinuxGuest("11.1", args=["-name", "vm"]) as vm, contextlib.ExitStack() as stack:
        standby = stack.enter_context(Standby(folder))
        vm.booted()
        before = vm.state()
        wire = stack.enter_context(Wire(os.path.join(folder, "wire"), standby.socket))
        protect = stack.enter_context(Protect(vm, wire.uri, f"--dir={standby.dir}", *OPTIONS))
        protect.wait_protected(2)
        for word in colo.RECEIVED, colo.LOADED:
            forget_events(vm)
            protect.forget()
            wire.hold(word, 0)
            assert "completed" not in protect.wait_event("unprotected")["message"]
            as_before(vm, before)
            assert TIMEOUT_MS / 2 < longest_standstill_ms(vm) < TIMEOUT_MS, longest_standstill_ms(vm)
            wire.go_on()
            protect.wait_protected(2)
            assert owner_locks(vm) == 1
        forget_events(vm)
        protect.forget()
        standby.kill()
        protect.wait_event("unprotected")
        protect.wait_event("not-yet")
        as_before(vm, before)
        standby.wait()
        standby = stack.enter_context(Standby(folder))
        protect.wait_protected(2)
        assert longest_standstill_ms(vm) < TIMEOUT_MS
        refused(standby.folder, f"process {vm.pid} holds .*owner.lock")
        protect.kill(signal.SIGTERM)
        protect.ends(godwit.DONE)
        as_before(vm, before)
        assert owner_locks(vm) == 0
        vm.keeps_ticking()


def guards(folder):
    """kill -9 of the guard, between two epochs and at each word within one: the guest runs on, and its QEMU is as it was."""
    with LinuxGuest("11.1", args=["-name", "vm"]) as vm, Standby(folder) as standby:
        vm.booted()
        before = vm.state()
        for word in None, colo.REPLY, colo.RECEIVED, colo.LOADED:
            standby.forget()
            with Wire(os.path.join(folder, "wire"), standby.socket) as wire, Protect(vm, wire.uri, *OPTIONS) as protect:
                protect.wait_protected(2)
                if word is not None:
                    wire.hold(word, 0)
                protect.kill()
                protect.wait()
                protect.wait_guard("its guard was killed; it runs on")
                as_before(vm, before)
            standby.wait_event("ended")
        vm.keeps_ticking()


def refusals(folder):
    """What cannot be protected is not touched."""
    disk = ["-drive", "if=none,id=d0,file=null-co://,format=raw", "-device", "virtio-blk-pci,drive=d0"]
    network = ["-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0"]
    standby = f"unix:{folder}/nobody"
    for version, args, reason in [("11.1", disk, "disk d0 is writable"), ("11.1", network, "network n0 is not protected"),
                                  ("10.0", [], "QEMU 10.0.* releases before 11.1")]:
        with LinuxGuest(version, args=args) as vm:
            before = vm.state()
            godwit.run("protect", vm.monitor, standby).fails(godwit.REFUSED, reason, "nothing was changed")
            if version == "11.1":
                godwit.run("protect", vm.monitor, standby, "--memory-only").fails(godwit.FAILED, "did not take the guest", "as it was before")
                godwit.run("protect", vm.monitor, "exec:true", "--memory-only").fails(godwit.REFUSED, "a standby is reached at")
                godwit.run("protect", vm.monitor, standby, "--memory-only", f"--dir={folder}").fails(godwit.USAGE, "no -name")
            assert vm.state() == before


def main():
    only = sys.argv[3:]
    for case in [kills, stops, standbys, guards, refusals]:
        if only and case.__name__ not in only:
            continue
        print(f"--- {case.__name__}", flush=True)
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="godwit-protect.") as folder:
            case(folder)
        print(f"{time.monotonic() - started:.1f} s", flush=True)


if __name__ == "__main__":
    try:
        main()
    except Unavailable as e:
        skip(str(e))
