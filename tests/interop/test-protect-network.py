#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a protected guest sends leaves when the checkpoint behind it is safe, and not before: a client never saw a number that the failed-over guest has yet
to send. And nothing of the filters that hold it back stays in QEMU.

test-protect-network.py [CASE...]. GODWIT_ROUNDS: how many primaries are killed; GODWIT_SEED.
"""
import fcntl
import json
import os
import random
import signal
import socket
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import colo
import godwit
from colo import Protect, Standby, Wire
from linuxguest import LinuxGuest
from vm import Unavailable, skip
from worker import Client, FailedOver, Working, in_order, net_args

ROUNDS = int(os.environ.get("GODWIT_ROUNDS", "1"))
PATIENT = ("--timeout=60000", "--interval=500")
LINKS = [(), ("--channels=2",), ("--channels=2", "--compress=zstd")]
TERM_MS = int(4000 * min(3, godwit.patience()))
TERM = f"--lease-term={TERM_MS}"
random = random.Random(int(os.environ.get("GODWIT_SEED", "11")))


def filters(vm):
    return [o["name"] for o in vm.qmp.command("qom-list", path="/objects") if "filter" in o["type"]]


def as_before(vm, before):
    deadline = time.monotonic() + 20 * godwit.patience()
    while (now := vm.state()) != before or filters(vm):
        assert time.monotonic() < deadline, f"{before} has become {now}, with {filters(vm)}"
        time.sleep(0.02)


def kill_and_fail_over(folder, client, *options, moment):
    """One primary is killed; the last number that the client has of it, and the first one of its successor."""
    with Standby(folder) as standby, Working(net_args(client)) as vm:
        vm.booted()
        with Protect(vm, f"unix:{standby.socket}", f"--dir={standby.dir}", *PATIENT, *options) as protect:
            protect.wait_protected(2)
            client.wait_more(1)
            moment(protect)
            os.kill(vm.pid, signal.SIGKILL)
            protect.ends(godwit.RECOVERABLE)
        last = client.take()[-1]
        with FailedOver(standby.folder, net_args(client)) as after:
            client.wait_more(5)
            assert "BAD" not in after.console(), after.console()
            after.wait_restored()
        return last, client.take()[0]


def kills(folder):
    with Client() as client:
        for n in range(ROUNDS):
            last, first = kill_and_fail_over(folder, client, *LINKS[n % len(LINKS)], moment=lambda _: time.sleep(random.random()))
            print(f"{n}: the client has {last}, the successor begins with {first}", flush=True)
            assert last < first, f"the client has seen {last}, and its guest goes on with {first}"


def control(folder):
    """Without the filters the same test fails."""
    def moment(protect):
        protect.forget()
        protect.wait_event("checkpoint")
        client.wait_more(10)
    with Client() as client:
        for _ in range(5):
            last, first = kill_and_fail_over(folder, client, "--no-output-commit", moment=moment)
            if first <= last:
                return
        raise AssertionError("nobody would have noticed packets that left too early")


def held(folder):
    """While an epoch is not safe nothing leaves, what it sent leaves with the next one, and at the end all is there, whoever ends the protection."""
    with Client() as client, Working(net_args(client)) as vm, Standby(folder) as standby:
        vm.booted()
        before = vm.state()
        for end in "stop", "SIGTERM", "guard", "both":
            standby.forget()
            with Wire(os.path.join(folder, "wire"), standby.socket) as wire, \
                    Protect(vm, wire.uri, "--interval=100", "--timeout=60000", "--channels=2") as protect:
                protect.wait_protected(3)
                assert filters(vm) == ["godwit-buffer-0"]
                wire.hold(colo.REPLY, 0)    # the guest runs meanwhile
                time.sleep(0.1)             # what the last checkpoint has released arrives
                count = len(client.seen())
                vm.keeps_ticking()
                assert len(client.seen()) == count, f"{len(client.seen()) - count} packets left though no epoch was safe"
                wire.go_on()
                client.wait_more(20)
                wire.hold(colo.LOADED, 0)   # the epoch is safe, but the guest stands still
                wire.go_on()
                END[end](vm, protect)
            client.wait_more(5)
            as_before(vm, before)
            standby.wait_event("ended")
        in_order(client.seen())


def by_stop(vm, protect):
    godwit.run("protect", "--stop", vm.monitor).ok()
    protect.ends(godwit.DONE)


def by_signal(_, protect):
    protect.kill(signal.SIGTERM)
    protect.ends(godwit.DONE)


def guard_killed(_, protect):
    protect.kill()
    protect.wait()
    protect.wait_guard("its guard was killed; the guest runs")


def both_killed(vm, protect):
    """Then --stop releases the guest. The settings that only they knew are put back by hand."""
    with open(f"/proc/{protect.process.pid}/task/{protect.process.pid}/children", encoding="ascii") as f:
        second = int(f.read())
    os.kill(protect.process.pid, signal.SIGSTOP)
    os.kill(second, signal.SIGKILL)
    protect.kill()
    protect.wait()
    godwit.run("protect", "--stop", vm.monitor).ok()
    vm.qmp.command("migrate-set-capabilities", capabilities=[{"capability": c, "state": False} for c in ("events", "return-path", "multifd")])
    vm.qmp.command("migrate-set-parameters", x_checkpoint_delay=20000, max_bandwidth=128 << 20)


END = {"stop": by_stop, "SIGTERM": by_signal, "guard": guard_killed, "both": both_killed}


def ends_unseen(vm, protect, client, accident):
    """A guest whose lease is not kept ends, and nobody has seen what it sent since its last checkpoint."""
    accident()
    time.sleep(0.1)     # what a checkpoint has released just before arrives
    count = len(client.seen())
    pid = vm.pid
    deadline = time.monotonic() + 20 * godwit.patience()
    while os.path.exists(f"/proc/{pid}") and vm.process.poll() is None:
        assert time.monotonic() < deadline, "the guest was not ended"
        time.sleep(0.01)
    protect.wait()
    sent = len(client.take()) - count
    assert not sent, f"{sent} packets left a guest that was to be ended"


def left_alone(folder):
    """Both guards are killed between two checkpoints: the guest's network comes back by itself. A guest whose guard is killed and whose lease is beaten keeps what it
    sent until it ends."""
    with Client() as client, Working(net_args(client)) as vm, Standby(folder) as standby:
        vm.booted()
        with Protect(vm, f"unix:{standby.socket}", "--interval=2000", "--timeout=1000", "--checkpoint-timeout=1") as protect:
            protect.wait_protected(1)
            with open(f"/proc/{protect.process.pid}/task/{protect.process.pid}/children", encoding="ascii") as f:
                second = int(f.read())
            os.kill(protect.process.pid, signal.SIGSTOP)
            os.kill(second, signal.SIGKILL)
            protect.kill()
            protect.wait()
        assert filters(vm) == ["godwit-buffer-0"]
        client.wait_more(50)
        godwit.run("protect", "--stop", vm.monitor).ok()
        assert not filters(vm)
        client.wait_more(10)
        with Protect(vm, f"unix:{standby.socket}", "--interval=100", "--timeout=60000", f"--lease=file:{folder}/lease", TERM) as protect:
            protect.wait_protected(2)
            beats(folder)
            ends_unseen(vm, protect, client, protect.kill)


def wait_top(standby, match):
    """What godwit top shows of the guest."""
    deadline = time.monotonic() + 20 * godwit.patience()
    while not match(row := json.loads(godwit.run("top", standby.dir, "--once", "--json").ok().stdout.splitlines()[0])):
        assert time.monotonic() < deadline, row
        time.sleep(0.05)


def beats(folder):
    deadline = time.monotonic() + 20 * godwit.patience()
    while True:
        with open(os.path.join(folder, "lease"), encoding="ascii") as f:
            if f.read().strip().endswith(TERM.replace("--lease-term=", "+")):
                return
        assert time.monotonic() < deadline, "the lease is not beaten"
        time.sleep(0.01)


def standby_lost(folder):
    """A standby that hangs within an epoch: the guest is released in time, its packets leave, and it is protected again."""
    timeout = godwit.Timeout(800)
    with Client() as client, Working(net_args(client)) as vm, Standby(folder) as standby, \
            Wire(os.path.join(folder, "wire"), standby.socket) as wire, \
            Protect(vm, wire.uri, f"--dir={standby.dir}", "--interval=100", f"--timeout={timeout.ms:.0f}") as protect:
        vm.booted()
        protect.wait_protected(2)
        protect.forget()
        wire.hold(colo.RECEIVED, 0)
        lost = protect.wait_unprotected()
        assert lost["pause_us"] < timeout.allowed_ms() * 1e3, lost
        client.wait_more(20)
        wire.go_on()
        protect.wait_protected(2)
        client.wait_more(20)
        protect.kill(signal.SIGTERM)
        protect.ends(godwit.DONE)
        assert not filters(vm)
        lost_with_its_lease(folder, vm, standby, client)


def lost_with_its_lease(folder, vm, standby, client):
    """The standby and the store of the lease are gone at once: the guest runs on until its term is over, and nothing leaves."""
    def both(lease):
        fcntl.flock(lease, fcntl.LOCK_EX)
        wire.cut()
    with Wire(os.path.join(folder, "wire-2"), standby.socket) as wire, \
            Protect(vm, wire.uri, f"--dir={standby.dir}", "--interval=100", "--timeout=60000", f"--lease=file:{folder}/lease", TERM) as protect:
        protect.wait_protected(2)
        beats(folder)
        wait_top(standby, lambda row: (row["disk"], row["network"]) == ("none", "held") and 0 < (row["lease_left_us"] or 0) < TERM_MS * 1000)
        interval = vm.qmp.command("qom-get", path="/objects/godwit-buffer-0", property="interval")
        assert interval == (100 + 30000 + 60000 + TERM_MS) * 1000, interval
        with open(os.path.join(folder, "lease"), "rb") as lease:
            ends_unseen(vm, protect, client, lambda: both(lease))
        assert protect.wait_event("note", match=lambda e: "held back" in e["message"])
        assert protect.wait().status == godwit.RECOVERABLE


def unanswered(folder):
    """The host of the standby answers no connection: that of a guest with a network is given up at once when the protection is to end, and not by a second
    process that takes it for a hang."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, socket.create_connection(listener.getsockname()), \
            LinuxGuest("11.1", args=["-netdev", "user,id=n0"]) as vm:
        before = vm.state()
        port = listener.getsockname()[1]
        with Protect(vm, f"tcp:127.0.0.1:{port}") as protect:
            protect.wait_event("connecting")
            wait_dialled(port)
            protect.kill(signal.SIGTERM)
            protect.ends(godwit.DONE)
            assert "killed" not in protect.stderr, protect.stderr
        as_before(vm, before)


def wait_dialled(port):
    """A connection to that port is being made (SYN_SENT), by whoever sends the first copy."""
    deadline = time.monotonic() + 20 * godwit.patience()
    while True:
        with open("/proc/net/tcp", encoding="ascii") as f:
            rows = [line.split()[2:4] for line in f][1:]
        if [f"0100007F:{port:04X}", "02"] in rows:
            return
        assert time.monotonic() < deadline, f"nobody dials: {rows}"
        time.sleep(0.01)


def refusals(folder):
    """What cannot be held back is refused, unless it may leave at once. Nothing stays."""
    nobody = f"unix:{folder}/nobody"
    tap = "tap,id=n0,queues=2,script=no,downscript=no"
    psk = os.path.join(folder, "keys")
    os.mkdir(psk, 0o700)
    with open(os.path.join(psk, "keys.psk"), "w", encoding="ascii") as f:
        f.write("qemu:" + os.urandom(16).hex() + "\n")
    tls = ["-netdev", "user,id=n0", "-object", f"tls-creds-psk,id=tls0,dir={psk},endpoint=client"]
    for args, reason in ((["-netdev", tap], "network n0 cannot be held back.*no filter-buffer"), (tls, "tls-creds is set")):
        try:
            with LinuxGuest("11.1", args=args) as vm:
                if args is tls:
                    vm.qmp.command("migrate-set-parameters", tls_creds="tls0")
                before = vm.state()
                godwit.run("protect", vm.monitor, nobody).fails(godwit.REFUSED, reason, "--no-output-commit", "nothing was changed")
                godwit.run("protect", vm.monitor, nobody, "--no-output-commit").fails(godwit.FAILED, "did not accept the guest", "as it was before")
                as_before(vm, before)
        except RuntimeError as e:
            if args is tls or "tun" not in str(e):
                raise
            print("not tried: this user may not open /dev/net/tun")
    with LinuxGuest("11.1", args=["-netdev", "user,id=n0"]) as vm:
        before = vm.state()
        godwit.run("protect", vm.monitor, nobody).fails(godwit.FAILED, "the standby at .* was not reached", "as it was before")
        as_before(vm, before)


def main():
    only = sys.argv[1:]
    for case in [held, kills, control, left_alone, standby_lost, unanswered, refusals]:
        if only and case.__name__ not in only:
            continue
        print(f"--- {case.__name__}", flush=True)
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="godwit-network.") as folder:
            case(folder)
        print(f"{time.monotonic() - started:.1f} s", flush=True)


if __name__ == "__main__":
    try:
        main()
    except Unavailable as e:
        skip(str(e))
