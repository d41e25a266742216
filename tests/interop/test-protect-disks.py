#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The disks of a protected guest are at the standby, at the moment of its memory: after kill -9 of the primary each sector is what the guest's memory says.
A mirror that is not whole is no epoch, and a server of disks that dies, hangs or is full is the end of the protection, not of the guest.

test-protect-disks.py [CASE...]. GODWIT_ROUNDS: how many primaries are killed; GODWIT_SEED.
"""
import contextlib
import glob
import hashlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
from colo import Protect, Standby, Wire
from coloprimary import EOF, Primary, description, devices
from diskstandby import DISK_BYTES, DiskStandby, disk_args, given_args
from foreign import Foreign
from mfdsource import head
from linuxguest import LinuxGuest, Restored, check_goes_on, ticks_of
from vm import Unavailable, get_storage_daemon, skip
from worker import STEP_MS, Client, FailedOver, Working, net_args, works

ROUNDS = int(os.environ.get("GODWIT_ROUNDS", "2"))
PATIENT = ("--timeout=60000", "--interval=500")
LINKS = [(), ("--channels=2",), ("--channels=2", "--compress=zstd")]
SLOW_BYTES = 8 << 20
random = random.Random(int(os.environ.get("GODWIT_SEED", "11")))


def slow_disk(folder):
    """d2, which no device uses, and slow() makes slow."""
    path = os.path.join(folder, "d2")
    with open(path, "wb") as f:
        f.write(b"x" * SLOW_BYTES)
    return ["-object", "throttle-group,id=slow", "-drive", f"if=none,id=d2,driver=throttle,throttle-group=slow,file.driver=raw,file.file.driver=file,"
                                                          f"file.file.filename={path}"]


def slow(vm, bytes_per_s):
    """0: as fast as it is."""
    vm.qmp.command("qom-set", path="/objects/slow", property="limits", value={"bps-total": bytes_per_s})


def ours(vm):
    """What is of protect in this QEMU."""
    nodes = [n["node-name"] for n in vm.qmp.command("query-named-block-nodes", flat=True)]
    jobs = [j["device"] for j in vm.qmp.command("query-block-jobs")]
    objects = [o["name"] for o in vm.qmp.command("qom-list", path="/objects")]
    return [n for n in nodes + jobs + objects if n.startswith("godwit-")]


def as_before(vm, before):
    deadline = time.monotonic() + 30 * godwit.patience()
    while (now := vm.state()) != before or ours(vm):
        assert time.monotonic() < deadline, f"{before} has become {now}, with {ours(vm)}"
        time.sleep(0.02)


def goes_on(vm, client, last, before, said):
    """The successor: its sectors are what its memory says, and its client has seen nothing that it has yet to send."""
    client.wait_more(5)
    vm.wait_restored()
    works(vm)
    vm.wait_console(lambda t: len(ticks_of(t[:t.rfind("\n") + 1])) >= 3)
    check_goes_on(before, vm.console(), said)
    first = client.seen()[0]
    assert last < first, f"the client has seen {last}, and its guest goes on with {first}"
    print(f"killed: the client has {last}, the successor began with {first}", flush=True)


def kills(folder, rounds=None, options=PATIENT, at_least_s=0, **popen):
    """One primary after the other, each the successor of the one before, with two disks and a network."""
    with Client() as client, DiskStandby(folder, **popen) as standby, contextlib.ExitStack() as stack:
        vm = stack.enter_context(Working([*disk_args(folder), *net_args(client)])).booted()
        works(vm)
        for n in range(rounds or ROUNDS):
            standby.forget()
            with standby.protect(vm, *options, *LINKS[n % len(LINKS)]) as protect:
                protect.wait_protected(1 if at_least_s else 1 + random.randrange(4))
                client.wait_more(1)
                time.sleep(max(at_least_s, random.random()))
                before = vm.console()
                os.kill(vm.pid, signal.SIGKILL)
                protect.ends(godwit.RECOVERABLE)
            last = client.take()[-1]
            vm = stack.enter_context(FailedOver(standby.folder, [*given_args(), *net_args(client)], *(["--eager"] if n % 3 == 2 else [])))
            goes_on(vm, client, last, before, standby.stdout)


def follow(standby, trace):
    """What it makes safe and what it removes, its engine as well."""
    return subprocess.Popen(["strace", "-f", "-y", "-qq", "-e", "trace=fsync,fdatasync,unlink", "-o", trace, "-p", str(standby.process.pid)])


def check_order(trace):
    """An epoch's disks are on the disk before its record in the journal is, and nothing is removed before what replaces it is there."""
    with open(trace, encoding="utf-8") as f:    # the standby's are fsync, the engine's fdatasync
        done = re.findall(r"(fsync|fdatasync|unlink)\((?:\d+<|\")[^>\"]*/(?:disk-d0\.1\.(\w+)|guest\.img\.(journal))", f.read())
    done = [(what, disk or journal) for what, disk, journal in done if what != "fdatasync" or journal]
    at = [done.index(("fsync", str(n))) for n in range(4)]
    journal = [i for i, (what, name) in enumerate(done) if name == "journal"]
    assert done.index(("fsync", "base")) < journal[0], done
    for n in range(3):
        assert any(at[n] < i < at[n + 1] for i in journal), f"no record between the disks of epochs {n} and {n + 1}: {done}"
    for n in 1, 2:
        gone = done.index(("unlink", str(n)))
        assert done[gone - 2:gone] == [("fsync", "base"), ("fsync", str(n + 1))], f"what epoch {n} wrote was not safe elsewhere: {done}"


def without_a_disk(folder):
    """A file that is not there is named, and nothing is changed."""
    names = sorted(os.listdir(folder))
    gone = glob.glob(f"{folder}/disk-d0.*.[0-9]*")
    for path in gone:
        os.rename(path, os.path.join(os.path.dirname(folder), os.path.basename(path)))
    godwit.run("failover", folder, "--", "/bin/false").fails(godwit.FAILED, "the disk d0 of the last epoch, .*disk-d0.* is missing", "disks.durable")
    for path in gone:
        os.rename(os.path.join(os.path.dirname(folder), os.path.basename(path)), path)
    assert sorted(os.listdir(folder)) == names, os.listdir(folder)


def both_killed(folder):
    """--durable: the standby is killed, its engine with it, and then the primary. Memory and disks of the last epoch are found, by the next standby or
    by failover itself."""
    trace = os.path.join(folder, "trace")
    with Client() as client, contextlib.ExitStack() as stack:
        vm = stack.enter_context(Working([*disk_args(folder), *net_args(client)])).booted()
        works(vm)
        for n in range(ROUNDS):
            with DiskStandby(folder, "--history=2" if n % 2 else "--durable") as standby, contextlib.ExitStack() as here:
                tracer = n == 0 and here.enter_context(follow(standby, trace))
                protect = here.enter_context(standby.protect(vm, *PATIENT, *LINKS[n % len(LINKS)]))
                protect.wait_protected(4 if tracer else 1 + random.randrange(4))
                client.wait_more(1)
                time.sleep(random.random())
                before = vm.console()
                os.kill(vm.pid, signal.SIGSTOP)     # what is held back stays there
                acknowledged = max(e["epoch"] for e in standby.events() if e["event"] in ("protected", "epoch"))
                standby.kill()
                standby.wait()
                os.kill(vm.pid, signal.SIGKILL)
                protect.wait()
                said = standby.stdout
            last = client.take()[-1]
            os.unlink(standby.socket)
            if tracer:
                check_order(trace)
            if n % 2:
                without_a_disk(standby.folder)
                with Standby(folder, "--durable") as unaware:
                    assert "has disks too: start godwit standby with --disks" in unaware.wait_event("failed")["message"]
                with DiskStandby(folder, "--durable") as again:
                    assert again.wait_event("ended")["epoch"] - acknowledged in (0, 1)
            vm = stack.enter_context(FailedOver(standby.folder, [*given_args(), *net_args(client)]))
            goes_on(vm, client, last, before, said)


def sums(folder):
    """What the files of the disks have, but for those of one guest alone."""
    found = {}
    for path in glob.glob(f"{folder}/disk-*"):
        if not path.endswith("-branch"):
            with open(path, "rb") as f:
                found[path] = hashlib.sha256(f.read()).hexdigest()
    return found


def older(folder):
    """--history: an older epoch goes on with the disks of its own moment, and leaves those of all others as they are."""
    engine = f"--storage-daemon={get_storage_daemon('11.1')}"
    with DiskStandby(folder, "--history=3") as standby:
        with Working(disk_args(folder)) as vm:
            vm.booted()
            works(vm)
            with standby.protect(vm, *PATIENT) as protect:
                protect.wait_protected(8)
                os.kill(vm.pid, signal.SIGKILL)
                protect.ends(godwit.RECOVERABLE)
        standby.wait_event("ended")
        listed = godwit.run("inspect", standby.image, "--history", "--json").ok().stdout
        epochs = sorted(e["epoch"] for e in map(json.loads, listed.splitlines()))
        assert len(epochs) == 4 and epochs[0] > 0, epochs
        overlays = sorted(int(p.rpartition(".")[2]) for p in glob.glob(f"{standby.folder}/disk-d0.*.[0-9]*"))
        assert overlays == epochs, f"{overlays} {epochs}"
        before = sums(standby.folder)
        command = ["--", "/bin/false", "{disk:d0}{disk:d1}"]
        godwit.run("failover", f"{standby.folder}@{epochs[0]}", "--storage-daemon=/bin/false", *command).fails(godwit.FAILED, "does not serve disks")
        with open(f"{standby.folder}/disks", "r+b") as f:
            whole = f.read()
            for damage in b"nonsense\n", b"disk-d0.1.5\n", b"file 1 d0\n", b"disk-d0.1.5 ../d0\n", whole * 9:
                f.truncate(0)
                os.pwrite(f.fileno(), damage, 0)
                godwit.run("failover", f"{standby.folder}@{epochs[0]}", engine, *command).fails(godwit.FAILED, "is damaged: it has the line")
            f.truncate(0)
            os.pwrite(f.fileno(), whole, 0)
        for epoch in epochs[0], epochs[2]:
            nothing = godwit.run("failover", f"{standby.folder}@{epoch}", engine, *command)
            assert nothing.status == godwit.FAILED and "/bin/false ended with status 1" in nothing.stderr, nothing
            with FailedOver(f"{standby.folder}@{epoch}", given_args(), engine) as vm:
                vm.wait_restored()
                works(vm, 2)
            assert sums(standby.folder) == before
            godwit.run("failover", f"{standby.folder}@{epoch}", engine, *command).fails(godwit.FAILED, "started from this epoch has written to its disk")
        godwit.run("failover", f"{standby.folder}@{epochs[0] - 1}", engine, *command).fails(godwit.FAILED, "epoch")
        given = [a.replace("{disk:", f"{standby.folder}/disk-").replace("}", f".1.{epochs[3]}") + ",snapshot=on" * a.startswith("if=") for a in given_args()]
        with Restored(f"{standby.image}@{epochs[0]}", [], "11.1", backend="memfd", args=["-name", "vm", *given], words=f"work={STEP_MS}") as vm:
            try:
                works(vm, 2)
            except AssertionError as e:
                assert "work BAD" in str(e), e
            else:
                raise AssertionError("disks of another epoch were not noticed")
        with FailedOver(f"{standby.folder}@{epochs[3]}", given_args()) as vm:
            vm.wait_restored()
            works(vm, 2)
        assert sums(standby.folder) != before


def control(folder):
    """With the writes of the epoch that was under way the disks are of another moment, and that is noticed."""
    for _ in range(3):
        with tempfile.TemporaryDirectory(prefix="godwit-disks.") as more:
            try:
                kills(more, 1, ("--timeout=60000", "--interval=4000"), 3, env={**os.environ, "GODWIT_TEST_NO_DISK_BOUNDARY": "1"})
            except AssertionError as e:
                assert "work BAD" in str(e), e
                return
    raise AssertionError("a disk that is ahead of its memory was not noticed")


def accidents(folder):
    """The server of disks is killed, hangs, has no room; a mirror goes away. No epoch is called good, and protection comes back by itself."""
    with DiskStandby(folder) as standby, Working(disk_args(folder)) as vm:
        vm.booted()
        each_accident(standby, vm)


def each_accident(standby, vm):
    timeout = godwit.Timeout(1500)
    before = vm.state()
    with standby.protect(vm, "--interval=200", f"--timeout={timeout.ms:.0f}") as protect:
        protect.wait_protected(2)
        for accident in (killed, hangs, mirror_cancelled, no_room):
            print(accident.__name__, flush=True)
            standby.forget()
            protect.forget()
            vm.qmp.events.clear()
            undo = accident(vm, standby)
            lost = protect.wait_unprotected()
            print(f"  {lost['message']}", flush=True)
            assert lost["pause_us"] < timeout.allowed_ms() * 1e3, lost
            if undo:
                undo()
            protect.wait_protected(2)
        godwit.run("protect", "--stop", vm.monitor).ok()
        protect.ends(godwit.DONE)
    as_before(vm, before)
    works(vm)


def killed(_, standby):
    os.kill(standby.engine(), signal.SIGKILL)


def hangs(_, standby):
    """The standby itself does as well, as its host would."""
    engine = standby.engine()
    os.kill(engine, signal.SIGSTOP)
    return lambda: os.kill(engine, signal.SIGCONT) if os.path.exists(f"/proc/{engine}") else None


def mirror_cancelled(vm, _):
    vm.qmp.command("block-job-cancel", device="godwit-mirror-1", force=True)


def no_room(_, standby):
    """As a full disk: the engine may not write any file beyond its start."""
    engine = standby.engine()
    subprocess.run(["prlimit", f"--pid={engine}", "--fsize=4096"], check=True)


def stops(folder):
    """--stop, SIGTERM, a guard that was killed, also while the disks are copied: nothing of ours is left, and the guest works on."""
    with DiskStandby(folder) as standby, Working(disk_args(folder) + slow_disk(folder)) as vm:
        vm.booted()
        before = vm.state()
        for end in "stop", "SIGTERM", "guard":
            with standby.protect(vm, "--interval=200", "--timeout=60000") as protect:
                protect.wait_protected(1)
                assert "godwit-mirror-1" in ours(vm)
                if end == "stop":
                    godwit.run("protect", "--stop", vm.monitor).ok()
                else:
                    protect.kill(signal.SIGTERM if end == "SIGTERM" else signal.SIGKILL)
                if end == "guard":
                    protect.wait()
                    protect.wait_guard("its guard was killed; the guest runs")
                else:
                    protect.ends(godwit.DONE)
            as_before(vm, before)
            standby.wait_event("ended")
            standby.forget()
        killed_in_the_copy(vm, standby)
        as_before(vm, before)
        works(vm)


def killed_in_the_copy(vm, standby):
    """The second process while the disks are copied, and when it has a successor, the first."""
    def second():
        with open(f"/proc/{protect.process.pid}/task/{protect.process.pid}/children", encoding="ascii") as f:
            return int(f.read() or 0)
    deadline = time.monotonic() + 20 * godwit.patience()
    slow(vm, 1 << 18)
    with standby.protect(vm, "--interval=200", "--timeout=60000") as protect:
        while "godwit-mirror-2" not in ours(vm):
            assert time.monotonic() < deadline, "the copy does not begin"
            time.sleep(0.01)
        first = second()
        os.kill(first, signal.SIGKILL)
        while second() in (0, first):
            assert time.monotonic() < deadline, "there is no other second process"
            time.sleep(0.01)
        assert not all(j["ready"] for j in vm.qmp.command("query-block-jobs")), "the successor came when the copy was over"
        protect.kill()
        slow(vm, 0)
        protect.wait()
        protect.wait_guard("its guard was killed; the guest runs")


def connect(path, data=b""):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(30 * godwit.patience())
    s.connect(path)
    s.sendall(data)
    return s


def leave_early(standby):
    """Nine bytes make a primary."""
    with connect(standby.socket, head()[:9]):
        standby.wait_event("connected")
    assert "was cut short" in standby.wait_event("failed")["message"]


def another_guest(standby, refusal="is copying the disks of another guest"):
    """Its guard has another address for its disks, or it has none."""
    with Primary(standby.socket) as p:
        p.begin(mark=False)
        p.send(p.end([]) + devices() + EOF + description())
        p.main.settimeout(60 * godwit.patience())
        message = standby.wait_event("failed")["message"]
        assert refusal in message, message


def another_guard(standby):
    with connect(standby.disks.removeprefix("unix:"), b"disks 4096 d9\n") as s:
        answer = s.makefile().readline()
    assert re.fullmatch("error the disks of a guest are being copied already\n", answer), answer


def copy_goes_on(vm, after):
    """The last mirror is not whole yet, and it writes more."""
    deadline, first = time.monotonic() + 30 * godwit.patience(), None
    while True:
        jobs = {j["device"]: j for j in vm.qmp.command("query-block-jobs")}
        assert len(jobs) == 3 and all(j["io-status"] == "ok" for j in jobs.values()), (after, jobs)
        job = jobs["godwit-mirror-2"]
        assert not job["ready"], f"{after} came when the copy was over"
        first = job["offset"] if first is None else first
        if job["offset"] > first:
            return
        assert time.monotonic() < deadline, f"{after}: the copy stands still"
        time.sleep(0.01)


def strangers(folder):
    """While a guard copies disks others connect to the standby: the copy goes on, and protection begins with it. Those who say nothing hold no guard up."""
    with DiskStandby(folder) as standby, Working(disk_args(folder) + slow_disk(folder)) as vm, contextlib.ExitStack() as stack:
        vm.booted()
        slow(vm, 1 << 18)
        for _ in range(3):
            stack.enter_context(connect(standby.disks.removeprefix("unix:")))
        protect = stack.enter_context(standby.protect(vm, "--interval=200", "--timeout=60000"))
        deadline = time.monotonic() + 20 * godwit.patience()
        while "godwit-mirror-2" not in ours(vm):
            assert time.monotonic() < deadline, f"the copy does not begin: {protect.stderr}"
            time.sleep(0.01)
        for stranger in (leave_early, another_guest, another_guard):
            standby.forget()
            stranger(standby)
            copy_goes_on(vm, stranger.__name__)
        slow(vm, 0)
        protect.wait_protected(1)
        assert not [e for e in protect.events() if e["event"] == "unprotected"], protect.stdout
        os.kill(vm.pid, signal.SIGKILL)
        protect.ends(godwit.RECOVERABLE)
        ended = standby.wait_event("ended")
        with open(os.path.join(standby.folder, "disks"), encoding="ascii") as f:
            kept = f.read()
        assert kept == "".join(f"disk-d{i}.1.{ended['epoch']} d{i}\n" for i in range(3)), (kept, ended)


class Gate(Wire):
    """A wire that leads nowhere until it is opened."""

    def __init__(self, path, to):
        self.opened = threading.Event()
        super().__init__(path, to)

    def accept(self):
        self.opened.wait()
        super().accept()

    def __exit__(self, *_):
        self.opened.set()
        super().__exit__()


def on_its_way(folder):
    """The disks are copied, and their guest is on its way: another guest that is here sooner does not get them."""
    with DiskStandby(folder) as standby, Working(disk_args(folder, 1)) as vm, Gate(os.path.join(folder, "gate"), standby.socket) as gate:
        vm.booted()
        with Protect(vm, gate.uri, f"--dir={standby.dir}", f"--disks={standby.disks}", "--interval=200", "--timeout=60000") as protect:
            deadline = time.monotonic() + 20 * godwit.patience()
            while vm.qmp.command("query-migrate").get("status") != "active":
                assert time.monotonic() < deadline, f"the first copy does not begin: {protect.stderr}"
                time.sleep(0.01)
            another_guest(standby, "has the disks of another guest, which is on its way")
            gate.opened.set()
            protect.wait_protected(1)
            assert not [e for e in protect.events() if e["event"] in ("unprotected", "not-yet")], protect.stdout
            protect.kill(signal.SIGTERM)
            protect.ends(godwit.DONE)
        works(vm)


def foreign(folder):
    """A migration that its user begins while the disks are copied goes on, however the protection ends."""
    with DiskStandby(folder) as standby, Working(disk_args(folder, 1) + slow_disk(folder)) as vm, Foreign(vm, os.path.join(folder, "elsewhere")) as other:
        vm.booted()
        for end in "SIGTERM", "guard", "copied":
            slow(vm, 1 << 18)
            with standby.protect(vm, "--interval=200", "--timeout=60000") as protect:
                deadline = time.monotonic() + 20 * godwit.patience()
                while "godwit-mirror-1" not in ours(vm):
                    assert time.monotonic() < deadline, "the copy does not begin"
                    time.sleep(0.01)
                other.begin()
                if end != "copied":
                    protect.kill(signal.SIGTERM if end == "SIGTERM" else signal.SIGKILL)
                slow(vm, 0)
                result = protect.wait()
                if end == "guard":
                    protect.wait_guard("its guard was killed; the guest runs")
                else:
                    assert result.status == (godwit.DONE if end == "SIGTERM" else godwit.FAILED), result
                assert (end == "copied") == ("busy with another migration" in result.stderr), result
            assert not ours(vm), ours(vm)
            other.goes_on()
            other.cancel()
        works(vm)


def block_io(vm, *commands):
    """What a guest would do to its disk d0, beyond the worker's sectors."""
    for command in commands:
        said = vm.qmp.human(f'qemu-io d0 "{command}"')
        assert "fail" not in said.lower() and "error" not in said.lower(), (command, said)


@contextlib.contextmanager
def disk_server(folder):
    """A disk that another process serves over vhost-user. The path of its socket."""
    path, image = os.path.join(folder, "vhost"), os.path.join(folder, "far")
    with open(image, "wb") as f:
        f.truncate(DISK_BYTES)
    export = f"type=vhost-user-blk,id=e,node-name=f,addr.type=unix,addr.path={path},writable=on"
    with subprocess.Popen([get_storage_daemon("11.1"), "--blockdev", f"driver=file,node-name=f,filename={image}", "--export", export]) as p:
        try:
            deadline = time.monotonic() + 20 * godwit.patience()
            while not os.path.exists(path):
                assert p.poll() is None and time.monotonic() < deadline, "the storage daemon does not serve the disk"
                time.sleep(0.01)
            yield path
        finally:
            p.kill()


def outside(folder):
    """A disk that is no block device of QEMU is seen all the same, with an id or without."""
    nobody = f"unix:{folder}/nobody"
    for word in ("id=far,", ""):
        with disk_server(folder) as path:
            args = ["-name", "vm", "-chardev", f"socket,id=c,path={path}", "-device", f"vhost-user-blk-pci,{word}chardev=c"]
            with LinuxGuest("11.1", args=args) as vm:
                name = "far" if word else r"device\[\d\]"
                for option in ((), (f"--disks={nobody}",)):
                    godwit.run("protect", vm.monitor, nobody, *option).fails(
                        godwit.REFUSED, f"its device {name} is a vhost-user-blk-pci: .*cannot be mirrored", "--memory-only", "nothing was changed")
                godwit.run("protect", vm.monitor, nobody, "--memory-only").fails(godwit.FAILED, "did not accept the guest")
        os.unlink(path)


def refusals(folder):
    """A writable disk that nobody keeps, a command without its disk, a disk that was written to since."""
    args = disk_args(folder)
    with LinuxGuest("11.1", args=["-name", "vm", *args]) as vm:
        nobody = f"unix:{folder}/nobody"
        godwit.run("protect", vm.monitor, nobody).fails(godwit.REFUSED, "disk d0 is writable", "--unprotected-disk", "nothing was changed")
        godwit.run("protect", vm.monitor, nobody, "--unprotected-disk=d0").fails(godwit.REFUSED, "disk d1 is writable")
        godwit.run("protect", vm.monitor, nobody, "--unprotected-disk=d7").fails(godwit.USAGE, "no writable disk d7")
        godwit.run("protect", vm.monitor, nobody, "--unprotected-disk=d0", "--unprotected-disk=d1").fails(godwit.FAILED, "did not accept the guest")
        godwit.run("protect", vm.monitor, nobody, f"--disks={nobody}").fails(godwit.FAILED, "was not reached")
        assert not ours(vm)
    with DiskStandby(folder) as standby:
        with Working(args) as vm:
            vm.booted()
            with standby.protect(vm, *PATIENT) as protect:
                protect.wait_protected(1)
                block_io(vm, "write -P 7 1M 64k", "write -z 1M 4k", "discard 1028k 4k", "read -P 7 1032k 56k", "flush")
                protect.wait_protected(protect.events()[-1]["checkpoints"] + 2)
                os.kill(vm.pid, signal.SIGKILL)
                protect.wait()
        godwit.run("failover", standby.folder, "--", "/bin/false").fails(godwit.FAILED, r"disk d0 is not in the command: write \{disk:d0\}")
        godwit.run("failover", standby.folder, "--", "/bin/false", "{disk:d0}{disk:d1}{disk:x}").fails(godwit.FAILED, "no such disk")
        paths = [os.path.realpath(p) for d in ("d0", "d1") for p in glob.glob(f"{standby.folder}/disk-{d}.1.[0-9]*")]
        with Working([*args], incoming="defer", backend="memfd") as other:
            godwit.run("failover", standby.folder, f"--qmp={other.monitor}").fails(godwit.FAILED, "does not have all of the guest's disks.*d0 is", *paths)
        given = [a for i, p in enumerate(paths) for a in ("-drive", f"if=none,id=d{i},file={p},format=qcow2", "-device", f"virtio-blk-pci,drive=d{i}")]
        with Working(given, incoming="defer", backend="memfd") as other:
            assert paths[1] in godwit.run("failover", standby.folder, f"--qmp={other.monitor}").ok().stderr
            works(other)
            block_io(other, "read -P 7 1032k 56k", "read -P 0 1M 4k", "read -P 0 1028k 4k")
        godwit.run("failover", standby.folder, "--", "/bin/false", *paths, "{disk:d0}{disk:d1}").fails(godwit.FAILED, "has written to its disk")


def main():
    only = sys.argv[1:]
    get_storage_daemon("11.1")
    for case in [kills, both_killed, older, control, accidents, stops, strangers, on_its_way, foreign, outside, refusals]:
        if only and case.__name__ not in only:
            continue
        print(f"--- {case.__name__}", flush=True)
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="godwit-disks.") as folder:
            case(folder)
        print(f"{time.monotonic() - started:.1f} s", flush=True)


if __name__ == "__main__":
    try:
        main()
    except Unavailable as e:
        skip(str(e))
