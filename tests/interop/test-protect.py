#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""godwit protect and godwit failover with real QEMUs: the guest goes on from its last epoch when its primary is dead and never before, and runs on whatever
happens to its standby or its guard.

test-protect.py 11.1 10.0 [CASE...]. GODWIT_ROUNDS: how many primaries are killed, and how many accidents of each kind happen; GODWIT_INTERVAL: milliseconds
between two checkpoints; GODWIT_TIMEOUT: those of a standstill on an idle machine; GODWIT_SEED.
"""
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import types

HERE = os.path.dirname(os.path.abspath(__file__))
LIB = os.path.join(HERE, "..", "lib")
sys.path.insert(0, LIB)
import colo
import godwit
import tinyguest
from colo import Protect, Standby, Wire
from foreign import Foreign
from linuxguest import LinuxGuest, Restored, check_goes_on, ticks_of
from ordered_vm import OrderedVm
from qmp import QmpClosed, QmpTimeout
from relay import Relay
from vm import Unavailable, skip

ROUNDS = int(os.environ.get("GODWIT_ROUNDS", "0"))
INTERVAL_MS, TIMEOUT = int(os.environ.get("GODWIT_INTERVAL", "100")), godwit.Timeout(int(os.environ.get("GODWIT_TIMEOUT", "800")))
TIMEOUT_MS = TIMEOUT.ms
# A busy machine may take its time; and with shorter intervals its QEMU leaves pages out of the first epochs (docs/spec/colo.md 12).
PATIENT = ("--timeout=60000", f"--interval={os.environ.get('GODWIT_INTERVAL', '500')}")
OPTIONS = (f"--interval={INTERVAL_MS}", f"--timeout={TIMEOUT_MS:.0f}")
GUARD_QUIET_MS = max(1000, TIMEOUT_MS * 3 / 4)   # after which a guard that gives no sign of life is killed
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


def vm_runs(vm):
    """A look at a moment between two checkpoints."""
    deadline = time.monotonic() + 20 * godwit.patience()
    while vm.qmp.command("query-status")["status"] != "running":
        assert time.monotonic() < deadline, "it stands still"
        time.sleep(0.001)


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
    return longest


def check_end(protect, event, place, next_step, message_id):
    """Its last line says where the guest is."""
    last = protect.events()[-1]
    assert (last["event"], last["next_step"], *godwit.where(last)) == (event, next_step, place, message_id), last


class FailedOver(Restored):
    def __init__(self, folder, *options):
        super().__init__(folder, options, "11.1", command="failover", backend="memfd", args=["-name", "vm"])

    def wait_restored(self):
        """All of its memory is there, and the folder is free for another protection."""
        deadline = time.monotonic() + 60 * godwit.patience()
        while "godwit: restored" not in self.stderr():
            assert time.monotonic() < deadline, self.stderr()
            time.sleep(0.02)


def refused(folder, *patterns):
    godwit.run("failover", folder, "--", "/bin/false").fails(godwit.REFUSED, "nothing was started", *patterns)


def stands_still(vm):
    """The last of STOP and RESUME that a QEMU that was killed has sent."""
    with contextlib.suppress(QmpClosed):
        vm.qmp.wait_event("none of this name", timeout=10)
    return [e["event"] for e in vm.qmp.events if e["event"] in ("STOP", "RESUME")][-1] == "STOP"


def kill_within(vm, wire):
    """kill -9 of a primary in the middle of an epoch: while it waits for a word of its standby, or while its pages are on their way."""
    word = random.choice([colo.REPLY, colo.RECEIVED, colo.LOADED])
    wire.hold(word, 0)
    if word == colo.REPLY:
        wire.when_sent(random.randrange(1, 10 ** random.randrange(2, 6)), lambda: os.kill(vm.pid, signal.SIGKILL))
        wire.go_on()
    else:
        os.kill(vm.pid, signal.SIGKILL)
    assert stands_still(vm)
    wire.cut()


def kills(folder):
    """kill -9 of one primary after the other, each the failed-over guest of the one before: at any moment, and every other one within an epoch.
    Never while it lives; the lock proves its death."""
    within = 0
    with Standby(folder) as standby, contextlib.ExitStack() as stack:
        vm = stack.enter_context(LinuxGuest("11.1", args=["-name", "vm"])).booted()
        for n in range(ROUNDS or 2):
            standby.forget()
            with Wire(os.path.join(folder, "wire"), standby.socket) as wire, \
                    Protect(vm, wire.uri, f"--dir={standby.dir}", *PATIENT, *LINKS[n // 2 % len(LINKS)]) as protect:
                protect.wait_protected(1 + random.randrange(8))
                refused(standby.folder, f"process {vm.pid} holds .*owner.lock")
                if n % 2:
                    kill_within(vm, wire)
                    within += 1
                else:
                    time.sleep(random.random() * INTERVAL_MS / 1e3)
                    os.kill(vm.pid, signal.SIGKILL)
                    within += stands_still(vm)
                before = vm.console()
                vm = stack.enter_context(FailedOver(standby.folder, *(["--eager"] if n % 3 == 2 else [])))
                assert "its QEMU has gone" in protect.ends(godwit.RECOVERABLE).stderr
                check_end(protect, "failed", "both-possible", "failover", "primary-gone")
            vm.wait_console(lambda t: len(ticks_of(t[:t.rfind("\n") + 1])) >= 3)
            vm.wait_restored()
            vm.stamped_again()
            check_goes_on(before, vm.console(), standby.events()[-1])
            if n % 10 == 9:
                print(f"{n + 1} primaries killed, {within} of them within an epoch", flush=True)
            refused(standby.folder, f"process {vm.pid} holds .*owner.lock")
        print(f"{n + 1} primaries killed, {within} of them within an epoch", flush=True)


def kill_protected(folder, stack):
    """A guest with a last epoch at the standby, which still is there, and a dead primary: the standby, and the console until then."""
    standby = stack.enter_context(Standby(folder))
    with LinuxGuest("11.1", args=["-name", "vm"]) as vm:
        vm.booted()
        with Protect(vm, f"unix:{standby.socket}", f"--dir={standby.dir}", *PATIENT) as protect:
            protect.wait_protected(3)
            os.kill(vm.pid, signal.SIGKILL)
            protect.wait()
        return standby, vm.console()


def failovers(folder):
    """Into a QEMU that waits; and killed in the middle, after which the page server goes on. Either QEMU has the lock then."""
    with contextlib.ExitStack() as stack:
        standby, before = kill_protected(folder, stack)
        with LinuxGuest("11.1", incoming="defer", backend="memfd") as vm:
            godwit.run("failover", standby.folder, f"--qmp={vm.monitor}").ok()
            vm.wait_console(lambda t: len(ticks_of(t[:t.rfind("\n") + 1])) >= 3)
            check_goes_on(before, vm.console(), standby.stdout)
            refused(standby.folder, f"process {vm.pid} holds .*owner.lock")
        with FailedOver(standby.folder, "--max-bandwidth=8M") as vm:
            deadline = time.monotonic() + 60 * godwit.patience()
            while vm.qmp.command("query-migrate").get("status") != "postcopy-active":
                assert time.monotonic() < deadline
                time.sleep(0.01)
            vm.process.kill()
            vm.process.wait()
            refused(standby.folder, f"process {vm.pid} holds .*owner.lock")
            godwit.run("serve", standby.image, f"--qmp={vm.monitor}").ok()
            while len(ticks_of(vm.console())) < 4:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            check_goes_on(before, vm.console(), standby.stdout)
            vm.qmp.command("quit")


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
                godwit.run("protect", vm.monitor, f"unix:{standby.socket}").fails(godwit.REFUSED, "already protects the QEMU")
                if end == "stop":
                    godwit.run("protect", "--stop", vm.monitor).ok()
                else:
                    protect.kill(signal.SIGTERM)
                protect.ends(godwit.DONE)
                check_end(protect, "ended", "source-runs", "nothing", "released")
            kept = standby.wait_event("ended")
            assert godwit.where(kept) == ("both-possible", "epoch-kept"), kept
            assert vm.state() == before
            as_before(vm, before)
            assert owner_locks(vm) == 0
            refused(standby.folder, "nothing proves", "--primary-is-dead")
        with Protect(vm, f"unix:{standby.socket}", f"--dir={folder}", "--name=elsewhere", *OPTIONS) as protect:
            assert "--name=elsewhere" in protect.wait_event("note")["message"]
            protect.kill(signal.SIGINT)
            protect.ends(godwit.DONE)
        standby.wait_event("ended")
        vm.keeps_ticking()
        godwit.run("protect", "--stop", vm.monitor).ok()
        os.unlink(standby.image)
        godwit.run("failover", standby.folder, "--primary-is-dead", "--", "/bin/false").fails(godwit.FAILED, "no epoch to start from")


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
            assert "completed" not in protect.wait_unprotected()["message"]
            as_before(vm, before)
            assert TIMEOUT_MS / 2 < longest_standstill_ms(vm) < TIMEOUT.allowed_ms(), (longest_standstill_ms(vm), TIMEOUT_MS)
            wire.go_on()
            protect.wait_protected(2)
            assert owner_locks(vm) == 1
        forget_events(vm)
        protect.forget()
        standby.kill()
        protect.wait_unprotected()
        protect.wait_event("not-yet")
        as_before(vm, before)
        standby.wait()
        standby = stack.enter_context(Standby(folder))
        protect.wait_protected(2)
        assert longest_standstill_ms(vm) < TIMEOUT.allowed_ms(), (longest_standstill_ms(vm), TIMEOUT_MS)
        refused(standby.folder, f"process {vm.pid} holds .*owner.lock")
        protect.kill(signal.SIGTERM)
        protect.ends(godwit.DONE)
        as_before(vm, before)
        assert owner_locks(vm) == 0
        vm.keeps_ticking()


def limits(folder):
    """An epoch that is larger than the standby takes ends the protection, not the guest, and the one before is kept. Over TLS as QEMU has it set."""
    keys = os.path.join(folder, "keys")
    os.mkdir(keys, 0o700)
    with open(os.path.join(keys, "keys.psk"), "w", encoding="ascii") as f:
        f.write("qemu:" + os.urandom(16).hex() + "\n")
    psk = ["-object", f"tls-creds-psk,id=tls0,dir={keys},endpoint=client"]
    with LinuxGuest("11.1", args=["-name", "vm", *psk]) as vm, contextlib.ExitStack() as stack:
        vm.booted()
        vm.qmp.command("migrate-set-parameters", tls_creds="tls0")
        before = vm.state()
        standby = stack.enter_context(Standby(folder, f"--tls-creds={keys}", "--memory-limit=64K"))
        protect = stack.enter_context(Protect(vm, f"unix:{standby.socket}", *PATIENT))
        assert "an epoch takes more than 65536 bytes; raise --memory-limit" in standby.wait_event("ended")["message"]
        forget_events(vm)
        protect.wait_unprotected()
        as_before(vm, before)
        vm.keeps_ticking()
        godwit.run("verify", standby.image).ok()
        standby.kill(signal.SIGTERM)
        assert standby.wait().status == godwit.DONE
        stack.enter_context(Standby(folder, f"--tls-creds={keys}"))
        protect.forget()
        protect.wait_protected(2)
        protect.kill(signal.SIGTERM)
        protect.ends(godwit.DONE)
        as_before(vm, before)


def stuck(folder, vm, standby, before):
    """The guard is stopped itself: for a moment, after which it goes on; and beside a standby that is stopped within an epoch: its second process kills it and
    releases the guest."""
    standby.forget()
    with Wire(os.path.join(folder, "wire"), standby.socket) as wire, Protect(vm, wire.uri, *OPTIONS) as protect:
        protect.wait_protected(2)
        protect.process.send_signal(signal.SIGSTOP)
        time.sleep(GUARD_QUIET_MS / 2e3)
        protect.process.send_signal(signal.SIGCONT)
        protect.forget()
        forget_events(vm)
        protect.wait_protected(protect.wait_event("checkpoint")["checkpoints"] + 2)
        wire.hold(colo.REPLY, 0)
        os.kill(standby.process.pid, signal.SIGSTOP)
        protect.kill(signal.SIGSTOP)
        protect.killed_by = signal.SIGKILL
        wire.go_on()
        protect.wait(20)
        protect.wait_guard("its guard was killed, as it gave no sign of life for .* ms; the guest runs")
        as_before(vm, before)
        limit_ms = GUARD_QUIET_MS + 500 * godwit.patience()
        longest = longest_standstill_ms(vm)
        assert 500 < longest < limit_ms, f"the guest of a guard that was stopped stood still for {longest:.0f} ms, {limit_ms:.0f} were allowed"
        print(f"the guest of a guard that was stopped stood still for {longest:.0f} ms, --timeout={TIMEOUT_MS:.0f}", flush=True)
        os.kill(standby.process.pid, signal.SIGCONT)
    standby.wait_event("ended")


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
                protect.wait_guard("its guard was killed; the guest runs")
                as_before(vm, before)
            standby.wait_event("ended")
        stuck(folder, vm, standby, before)
        vm.keeps_ticking()


class Accidents:
    """What may happen to a protected guest, at any moment. Each leaves it protected again."""

    KINDS = ["standby_stopped", "standby_killed", "link_cut", "link_cut_after_bytes", "guard_killed", "second_killed", "both_killed", "copy_killed"]

    def __init__(self, folder, vm, stack):
        self.folder, self.vm, self.stack = folder, vm, stack
        self.before = vm.state()
        self.standby = stack.enter_context(Standby(folder))
        self.wire = stack.enter_context(Wire(os.path.join(folder, "wire"), self.standby.socket))
        self.epochs = self.longest_ms = 0
        self.start(())

    def start(self, link):
        self.protect = self.stack.enter_context(Protect(self.vm, self.wire.uri, f"--dir={self.standby.dir}", *OPTIONS, *link))
        self.protect.wait_protected()

    def again(self):
        """A guard that was killed needs a successor; the settings that only it knew are put back by hand."""
        self.protect.wait()
        as_before(self.vm, self.before)
        self.start(random.choice(LINKS))

    def happen(self, kind):
        self.standby.forget()
        forget_events(self.vm)
        time.sleep(random.random() * 2 * INTERVAL_MS / 1e3)
        self.protect.forget()
        getattr(self, kind)()
        self.protect.wait_protected()
        vm_runs(self.vm)
        longest = longest_standstill_ms(self.vm)
        assert longest < TIMEOUT.allowed_ms(), f"{kind}: the guest stood still for {longest} ms, --timeout={TIMEOUT_MS:.0f}"
        self.longest_ms = max(self.longest_ms, longest)
        assert "BAD" not in self.vm.console()

    def check_image(self):
        """The standby has lost its primary: what it has is whole, and of one moment."""
        self.epochs += 1
        self.standby.wait_event("ended")
        godwit.run("verify", self.standby.image).ok()

    def standby_stopped(self):
        os.kill(self.standby.process.pid, signal.SIGSTOP)
        time.sleep(random.random() * 3 * TIMEOUT_MS / 1e3)
        os.kill(self.standby.process.pid, signal.SIGCONT)
        self.protect.forget()

    def standby_killed(self):
        self.standby.kill()
        self.standby.wait()
        self.protect.wait_unprotected()
        self.standby = self.stack.enter_context(Standby(self.folder))

    def link_cut(self):
        self.wire.cut()
        self.protect.wait_unprotected()

    def link_cut_after_bytes(self):
        self.wire.cut_after(random.randrange(1, 10 ** random.randrange(1, 7)))
        self.protect.wait_unprotected()
        self.wire.left = None

    def guard_killed(self):
        self.protect.kill()
        self.protect.wait_guard("its guard was killed; the guest runs")
        self.check_image()
        self.again()

    def second(self):
        with open(f"/proc/{self.protect.process.pid}/task/{self.protect.process.pid}/children", encoding="ascii") as f:
            return int(f.read())

    def second_killed(self):
        first = self.second()
        os.kill(first, signal.SIGKILL)
        deadline = time.monotonic() + 10 * godwit.patience()
        while True:
            with contextlib.suppress(ValueError):
                if self.second() != first:
                    break
            assert time.monotonic() < deadline, "there is no other"
        self.guard_killed()

    def both_killed(self):
        second = self.second()
        os.kill(self.protect.process.pid, signal.SIGSTOP)
        os.kill(second, signal.SIGKILL)
        self.protect.kill()
        self.protect.wait()
        godwit.run("protect", "--stop", self.vm.monitor).ok()
        self.check_image()
        self.vm.qmp.command("migrate-set-capabilities", capabilities=[{"capability": c, "state": on} for c, on in self.before["capabilities"].items()])
        p = self.before["parameters"]
        self.vm.qmp.command("migrate-set-parameters", **{k: p[k] for k in p if k in ("x-checkpoint-delay", "max-bandwidth", "multifd-channels",
                                                                                     "multifd-compression", "downtime-limit")})
        self.again()

    def copy_killed(self):
        self.protect.kill(signal.SIGTERM)
        self.protect.ends(godwit.DONE)
        protect = self.stack.enter_context(Protect(self.vm, self.wire.uri, f"--dir={self.standby.dir}", *OPTIONS, "--max-bandwidth=64M"))
        protect.wait_event("connecting")
        time.sleep(random.random())
        protect.kill()
        protect.wait()
        self.again()


def moments(folder):
    """Accidents at random moments: never a longer standstill than is allowed, a whole epoch at the standby, and protected again."""
    with LinuxGuest("11.1", args=["-name", "vm"]) as vm, contextlib.ExitStack() as stack:
        vm.booted()
        accidents = Accidents(folder, vm, stack)
        kinds = Accidents.KINDS * (ROUNDS or 1)
        random.shuffle(kinds)
        for n, kind in enumerate(kinds):
            try:
                accidents.happen(kind)
            except BaseException:
                print(f"accident {n}: {kind}", flush=True)
                raise
        godwit.run("protect", "--stop", vm.monitor).ok()
        as_before(vm, accidents.before)
        assert owner_locks(vm) == 0
        vm.keeps_ticking()
        print(f"{len(kinds)} accidents, the longest standstill {accidents.longest_ms:.0f} ms, {accidents.epochs} images whole", flush=True)


def foreign(folder):
    """A migration that its user begins while the guest is not protected goes on, whatever is tried meanwhile: one message, and no retry touches it."""
    with LinuxGuest("11.1", args=["-name", "vm"]) as vm, Foreign(vm, os.path.join(folder, "elsewhere")) as other, \
            Relay(os.path.join(folder, "monitor"), vm.monitor, count=b'"query-migrate"') as monitor, Standby(folder) as standby, \
            Protect(at(monitor.address), f"unix:{standby.socket}", *OPTIONS) as protect:
        vm.booted()
        protect.wait_protected(2)
        standby.kill()
        protect.wait_unprotected()
        protect.wait_event("not-yet")   # the next attempt is some time away
        other.begin()
        first = monitor.counted
        deadline = time.monotonic() + 60 * godwit.patience()
        while monitor.counted < first + 2:      # each attempt asks whether there is one
            assert time.monotonic() < deadline, "it does not try again"
            time.sleep(0.02)
        other.goes_on()
        busy = [e["message"] for e in protect.events() if e["event"] == "not-yet" and "another migration" in e["message"]]
        assert len(busy) == 1, busy
        protect.kill(signal.SIGTERM)
        protect.ends(godwit.DONE)
        other.goes_on()
        other.cancel()
        vm.keeps_ticking()


def at(address):
    """A guest whose monitor is elsewhere."""
    return types.SimpleNamespace(monitor=address)


PROXY = """
import signal, sys
sys.path.insert(0, sys.argv[1])
from relay import Relay
Relay(sys.argv[2], sys.argv[3])
print("listens", flush=True)
signal.pause()
"""


@contextlib.contextmanager
def proxy(path, to):
    """In a process of its own."""
    with subprocess.Popen([sys.executable, "-c", PROXY, LIB, path, to], stdout=subprocess.PIPE) as p:
        try:
            assert p.stdout.readline() == b"listens\n"
            yield p
        finally:
            p.kill()


def monitors(folder):
    """The connection to the monitor breaks within a checkpoint, and QEMU lives: the guest runs on, and is protected again over another connection. When there
    is none any more, nobody says that QEMU is dead, though the process at the other end was seen to die."""
    with LinuxGuest("11.1", args=["-name", "vm"]) as vm, Standby(folder) as standby, \
            Wire(os.path.join(folder, "wire"), standby.socket) as wire:
        vm.booted()
        before = vm.state()
        with Relay(None, vm.monitor) as relay, Protect(at(relay.address), wire.uri, "--interval=100", "--timeout=60000") as protect:
            protect.wait_protected(2)
            for word in colo.REPLY, colo.RECEIVED, colo.LOADED:
                protect.forget()
                wire.hold(word, 0)
                relay.break_off()
                assert "the connection to its monitor broke" in protect.wait_unprotected()["message"]
                vm_runs(vm)
                wire.go_on()
                protect.wait_protected(2)
            wire.hold(colo.RECEIVED, 0)
            protect.process.send_signal(signal.SIGSTOP)     # so that its second process finds the broken connection
            relay.break_off()
            protect.kill()
            protect.wait()
            protect.wait_guard("its guard was killed; the guest runs")
        as_before(vm, before)
        wire.go_on()
        path = os.path.join(folder, "monitor")
        with proxy(path, vm.monitor) as p, Protect(at(path), wire.uri, "--interval=100", "--timeout=60000") as protect:
            protect.wait_protected(2)
            p.kill()
            assert "look whether its QEMU process lives" in protect.ends(godwit.IN_DOUBT).stderr
            check_end(protect, "failed", "both-possible", "ask-source", "kept-source-not-put-back")
        godwit.run("protect", "--stop", vm.monitor).ok()
        vm_runs(vm)
        vm.keeps_ticking()


def quit_out_of_colo(vm):
    """QEMU 11.1 may stand still for good instead of ending (docs/spec/colo.md, 12): its user kills it then."""
    try:
        vm.qmp.command("quit", timeout=10 * godwit.patience())
    except QmpTimeout:
        print("QEMU did not end")
        vm.process.kill()


def shut_downs(folder):
    """A guest that was shut down is none that died, whatever ends its QEMU, and also where nobody sees that end; until it is reset and runs on."""
    for end in "killed", "quits", "quits unseen", "reset":
        with OrderedVm("11.1", args=("-no-shutdown",)) as vm, Standby(folder) as standby, Relay(None, vm.monitor) as relay, \
                Protect(at(relay.address) if end == "quits unseen" else vm, f"unix:{standby.socket}", "--memory-only", *PATIENT) as protect:
            protect.wait_protected(1)
            if end.startswith("quits"):
                quit_out_of_colo(vm)
            else:
                vm.order(tinyguest.POWER_OFF)
                protect.wait_event("note", match=lambda e: "shut down" in e["message"])     # QEMU may be killed before it has told each monitor
            if end == "reset":
                vm.qmp.command("system_reset")
                vm.qmp.wait_event("RESET")
                vm.qmp.cont()
                vm.counts()
                protect.forget()
                protect.wait_event("checkpoint")
            if end in ("killed", "reset"):
                vm.process.kill()
            protect.ends(godwit.RECOVERABLE if end == "reset" else godwit.DONE)
            if end == "reset":
                check_end(protect, "failed", "both-possible", "failover", "primary-gone")
            else:
                check_end(protect, "ended", "lost", "nothing", "primary-shut-down")
        os.unlink(standby.socket)


def leavers(folder):
    """A guest that its user migrates while it is not protected is elsewhere: no failover, whether its QEMU ends then or the protection does."""
    for end in "killed", "stopped":
        lease, home = os.path.join(folder, f"lease-{end}"), os.path.join(folder, end)
        os.mkdir(home)
        with LinuxGuest("11.1", args=["-name", "vm"]) as vm, Standby(home) as standby, \
                Protect(vm, f"unix:{standby.socket}", "--memory-only", f"--dir={standby.dir}", f"--lease=file:{lease}", *PATIENT) as protect:
            vm.booted()
            protect.wait_protected(1)
            lock = os.path.join(standby.dir, "vm", "owner.lock")
            assert os.path.exists(lock)
            standby.kill()
            protect.wait_unprotected()
            vm.qmp.command("migrate", uri=f"exec:cat >{home}/elsewhere")
            protect.wait_event("note", match=lambda e: "migrated to another QEMU" in e["message"])
            if end == "killed":
                vm.process.kill()
            else:
                protect.kill(signal.SIGTERM)
            assert "do not start godwit failover" in protect.ends(godwit.DONE).stderr
            check_end(protect, "ended", "destination-runs", "nothing", "arrived")
            with open(lease, encoding="ascii") as f:
                assert f.read().strip().endswith("+forever")
            assert not os.path.exists(lock), "the lock would let a failover begin when this QEMU is dead"


def refusals(folder):
    """What cannot be protected is not touched."""
    disk = ["-drive", "if=none,id=d0,file=null-co://,format=raw", "-device", "virtio-blk-pci,drive=d0"]
    standby = f"unix:{folder}/nobody"
    for version, args, reason in [("11.1", disk, "disk d0 is writable"), ("10.0", [], "QEMU 10.0.* releases before 11.1")]:
        with LinuxGuest(version, args=args) as vm:
            before = vm.state()
            godwit.run("protect", vm.monitor, standby).fails(godwit.REFUSED, reason, "nothing was changed")
            if version == "11.1":
                godwit.run("protect", vm.monitor, standby, "--memory-only").fails(godwit.FAILED, "did not accept the guest", "as it was before")
                godwit.run("protect", vm.monitor, "exec:true", "--memory-only").fails(godwit.REFUSED, "a standby is reached at")
                godwit.run("protect", vm.monitor, standby, "--memory-only", f"--dir={folder}").fails(godwit.USAGE, "no -name")
            assert vm.state() == before


def main():
    only = sys.argv[3:]
    for case in [kills, failovers, stops, standbys, foreign, monitors, shut_downs, leavers, limits, guards, moments, refusals]:
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
