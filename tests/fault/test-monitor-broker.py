#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The broker of a page server's monitor: who finds it, who must not, what it hands over, and that it ends when it is not needed.

test-broker.py QEMU: a version.
"""
import collections
import contextlib
import fcntl
import json
import os
import random
import shutil
import signal
import socket
import stat
import string
import subprocess
import sys
import tempfile
import time
from types import SimpleNamespace

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
import private_mounts
from saved_guest import Kept, wait_status
from linuxguest import Restored
from qmp import QmpClosed, QmpTimeout
from relay import Relay
from traced_run import Stepped
from vm import Unavailable, skip

SLOW = "--max-bandwidth=5M"
Moment = collections.namedtuple("Moment", "pattern slow")
END = Moment(r"active -> postcopy-active \(ending\)", False)
PING = bytes.fromhex("080002000400000001")
HELD_S = 0.2        # behind RESUME_ACK
PACKAGE_SENT = Moment("active -> postcopy-device", False)


class Place:
    """A private XDG_RUNTIME_DIR, in which the brokers of these tests are alone."""

    def __init__(self, folder):
        self.runtime = folder
        os.environ["XDG_RUNTIME_DIR"] = folder
        self.folder = os.path.join(folder, f"godwit-{os.geteuid()}")

    def sockets(self):
        return os.listdir(self.folder) if os.path.isdir(self.folder) else []

    def info(self):
        """(pid of the broker, is its page server gone)."""
        said = self.ask({"want": "info"})
        return said["pid"], not said["server"]

    def ask(self, message):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.connect(os.path.join(self.folder, self.sockets()[0]))
            s.send(json.dumps(message).encode())
            return json.loads(s.recv(4096))

    def where(self):
        """The folder in which QEMU is to listen."""
        return self.ask({"want": "info"})["folder"]

    def wait_gone(self, pid):
        wait(lambda: not self.sockets() and not lives(pid), f"broker {pid} ends, {self.sockets()}")


def wait(true, what):
    deadline = time.monotonic() + 30 * godwit.PATIENCE
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def lives(pid):
    """A process that nobody waits for may stay as a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def name_of(pid):
    with open(f"/proc/{pid}/comm", encoding="ascii") as f:
        return f.read().strip()


def serve(kept, address, *options, **popen):
    return godwit.Run("serve", kept.image, f"--qmp={address}", "-v", *options, **popen)


def killed(kept, vm, address=None):
    """A page server dies when the guest is QEMU's."""
    with serve(kept, address or vm.monitor, SLOW) as g:
        wait_status(vm, "postcopy-active")
        g.kill()
        g.process.wait()


def completes(kept, vm, address=None):
    with serve(kept, address or vm.monitor) as g:
        done = g.wait(90).ok()
    wait_status(vm, "completed")
    return done


def hands_over(kept, version, place):
    """It is there after the death of its page server, and gone when the work is done, with all it had."""
    with kept.destination(version, "-S") as vm:
        state = vm.state()
        killed(kept, vm)
        where = place.where()
        assert os.path.isdir(where), where
        pid, alone = place.info()
        rows = [e for e in godwit.run("doctor", "--json").ok().events if e["name"] == "brokers"]
        assert f"process {pid} holds {vm.monitor}" in rows[0]["text"] and kept.image in rows[0]["advice"], rows
        assert (alone, name_of(pid), os.getpgid(pid)) == (True, "godwit-broker", pid), (alone, name_of(pid), os.getpgid(pid), pid)
        assert [os.readlink(f"/proc/{pid}/fd/{n}") for n in range(3)] == ["/dev/null"] * 3
        mode = stat.S_IMODE(os.stat(place.folder).st_mode)
        assert mode == 0o700 and len(place.sockets()) == 1, (oct(mode), place.sockets())
        assert "was kept" in completes(kept, vm).stderr
        assert not place.sockets() and not os.path.exists(where), "it outlives its page server's goodbye"
        place.wait_gone(pid)
        assert vm.state()["parameters"] == state["parameters"] and vm.state()["capabilities"] == state["capabilities"]
        vm.qmp.command("cont")
        kept.goes_on_in(vm)


def of_a_long_name(kept, version, place):
    """The image's path is longer than any message: the broker goes on, and says whose it is, as far as whole characters go."""
    folder = os.path.join(os.path.dirname(kept.image), "names")
    room = 255 - len(folder) - 1        # it ends in the middle of a character
    link = os.path.join(folder, "x" * (room % 2 + 1) + "\u00e9" * 120, *["\x01" * 200] * 16)
    os.makedirs(os.path.dirname(link))
    os.link(kept.image, link)
    with kept.destination(version, "-S") as vm:
        killed(SimpleNamespace(image=link), vm)
        said = place.ask({"want": "info"})["image"]
        assert len(said.encode()) == 254 and link.startswith(said), said
        rows = [e for e in godwit.run("doctor", "--json").ok().events if e["name"] == "brokers"]
        assert "page server that is gone" in rows[0]["text"], rows
        godwit.run("restore", kept.image, f"--qmp={vm.monitor}").fails(godwit.FAILED, "holds the monitor")
        completes(kept, vm, f"pid:{vm.pid}")


def one_at_a_time(kept, version, place):
    with kept.destination(version, "-S", "-qmp", "unix:{dir}/second,server=on,wait=off") as vm:
        with serve(kept, vm.monitor, SLOW) as g:
            wait_status(vm, "postcopy-active")
            for address in (vm.monitor, f"unix:{vm.monitor}", vm.path("second")):
                second = godwit.run("serve", kept.image, f"--qmp={address}")
                second.fails(godwit.REFUSED, f"process {g.process.pid} already serves this QEMU")
                assert second.seconds < 5 * godwit.PATIENCE, second
            godwit.run("restore", kept.image, f"--qmp={vm.monitor}").fails(godwit.FAILED, "holds the monitor", "godwit serve")
            assert not place.info()[1]
            g.kill()
            g.process.wait()
        completes(kept, vm, vm.path("second"))      # the same QEMU: its broker is found by another door
        assert not place.sockets()


def ends_with_qemu(kept, version, place):
    with kept.destination(version, "-S") as vm:
        killed(kept, vm)
        pid = place.info()[0]
    place.wait_gone(pid)


def ends_with_the_migration(kept, version, place):
    """Its page server sent everything and died before it could say so; nobody comes."""
    with kept.destination(version, "-S") as vm:
        state = vm.state()
        with Stepped("serve", kept.image, f"--qmp={vm.monitor}") as g:
            assert g.kill_at(END), g.text
            g.process.wait()
        wait(lambda: not place.sockets(), "it sees the end of the migration")
        if vm.qmp.command("query-migrate")["status"] == "completed":
            assert vm.state()["capabilities"] == state["capabilities"]
            with serve(kept, vm.monitor) as g:
                g.wait().ok()


def ends_when_told(kept, version, place):
    """SIGTERM; then the next page server connects by itself, and so it does when the broker was killed as well."""
    with kept.destination(version, "-S") as vm:
        for number in (signal.SIGTERM, signal.SIGKILL):
            killed(kept, vm)
            pid, where = place.info()[0], place.where()
            os.kill(pid, number)
            wait(lambda pid=pid: not lives(pid), "it ends")
            assert len(place.sockets()) == (number == signal.SIGKILL), place.sockets()
        os.rmdir(where)
        assert "was kept" not in completes(kept, vm).stderr
        assert not place.sockets()


def gave_up(vm, result, place):
    """Its link ended while it loaded devices, and no QEMU comes back from there: it ends, or hangs for good, and we say which."""
    if "hangs" not in result.stderr:
        result.fails(godwit.FAILED, "nothing was sent|no guest runs in this QEMU")
        with contextlib.suppress(QmpTimeout, QmpClosed, BrokenPipeError):     # it ends, or hangs behind what it said
            wait(lambda: not vm.qmp.command("query-status", timeout=5 * godwit.PATIENCE), f"it ends, {result}")
        return
    result.fails(godwit.FAILED, "while it loaded the guest's devices", "kill it", "no guest runs in this QEMU")
    assert "failed" in vm.stderr() and place.sockets(), vm.stderr()
    with contextlib.suppress(QmpTimeout):
        raise AssertionError(f"it does not hang: {vm.qmp.command('query-status', timeout=2)}")


def while_it_loads(kept, version, place):
    """Killed behind the package, of which QEMU has read nothing yet: it is not taken for a guest that waits."""
    with kept.destination(version, "-S") as vm:
        with Stepped("serve", kept.image, f"--qmp={vm.monitor}", "--working-set=off") as g:
            assert g.kill_at(PACKAGE_SENT), g.text
            g.process.wait()
        result = godwit.run("serve", kept.image, f"--qmp={vm.monitor}")
        if result.status != godwit.DONE:        # it had all it needed for its devices
            gave_up(vm, result, place)
    wait(lambda: not place.sockets(), "its broker ends with it")


def before_it_was_needed(kept, version, place):
    """Killed before the QEMU was asked for anything, or before the link stood: nothing is lost, nothing stays."""
    where = set()
    with kept.destination(version, "-S") as vm:
        for ms in (0, 3, 10, 20, 30):
            with serve(kept, vm.monitor) as g:
                time.sleep(ms / 1000)
                g.kill()
                g.process.wait()
            with contextlib.suppress(IndexError, OSError, ValueError):   # there may be none, or it may be ending
                where.add(place.where())
            if vm.process.poll() is not None:    # in the middle of its devices: it gave up, as it must
                break
        else:
            result = godwit.run("serve", kept.image, f"--qmp={vm.monitor}")
            if result.status != godwit.DONE:
                gave_up(vm, result, place)
    wait(lambda: not place.sockets(), "all end")
    wait(lambda: not any(map(os.path.exists, where)), f"{where} go")


def planted(kept, version, place):
    """A folder that others can get into, or a link, is not used; the next place is, and the work is done."""
    shared = os.path.join(place.runtime, "shared")
    for make in (lambda p: os.mkdir(p, 0o755), lambda p: os.symlink("/nowhere", p)):
        os.mkdir(shared)
        bad = os.path.join(shared, f"godwit-{os.geteuid()}")
        make(bad)
        env = {**os.environ, "XDG_RUNTIME_DIR": shared}
        with kept.destination(version, "-S") as vm:
            with serve(kept, vm.monitor, SLOW, env=env) as g:
                wait_status(vm, "postcopy-active")
                g.kill()
                g.process.wait()
            assert not os.path.isdir(bad) or not os.listdir(bad), os.listdir(bad)
            with serve(kept, vm.monitor, env=env) as g:
                assert "was kept" in g.wait(90).ok().stderr
        subprocess.run(["rm", "-r", shared], check=True)


def of_a_started_qemu(kept, version, place):
    """restore --lazy -- QEMU dies: its QEMU lives on, and is found by its process number or by a monitor of its own."""
    for by_pid in (True, False):
        with Restored(kept.image, ["--lazy", "-v", SLOW], version, machine=kept.machine, backend="memfd", args=["-S"]) as vm:
            wait_status(vm, "postcopy-active")
            vm.process.kill()
            vm.process.wait()
            completes(kept, vm, f"pid:{vm.pid}" if by_pid else vm.monitor)
            assert not place.sockets()
    godwit.run("serve", kept.image, "--qmp=pid:1").fails(godwit.FAILED, "process number 1")


def two_at_once(kept, version, place):
    """Started together, before there is a broker: one serves, the other is refused, or finds that all is done."""
    for _ in range(4):
        with kept.destination(version, "-S") as vm:
            with serve(kept, vm.monitor) as g, serve(kept, vm.monitor) as h:
                results = [g.wait(90), h.wait(90)]
            statuses = sorted(r.status for r in results)
            assert statuses in ([godwit.DONE, godwit.REFUSED], [godwit.DONE, godwit.DONE]), f"{results[0]}\n{results[1]}"
            assert max(r.seconds for r in results) < 30 * godwit.PATIENCE
            wait_status(vm, "completed")
            assert not place.sockets()


def fails_and_waits(kept, vm, image, *words):
    godwit.run("serve", image, f"--qmp={vm.monitor}").fails(godwit.RECOVERABLE, "still waits", *words)


def of_two_moments(kept, version, place):
    """An image that was written to is refused, a copy is not."""
    copy = kept.image + ".copy"
    with kept.destination(version, "-S") as vm:
        killed(kept, vm)
        size = os.stat(kept.image).st_size
        with open(kept.image, "ab") as f:
            f.write(b"more")
        fails_and_waits(kept, vm, kept.image, "was written to")
        os.truncate(kept.image, size)
        subprocess.run(["cp", "--sparse=always", kept.image, copy], check=True)
        changed = change_device(kept.image)
        fails_and_waits(kept, vm, kept.image, "not the image any more")
        change_device(kept.image, changed)
        godwit.run("serve", copy, f"--qmp={vm.monitor}").ok()
        kept.is_in(vm)
    os.unlink(copy)


def change_device(image, back=None):
    """Another byte in the state of a device; where and what it was, with which it is put back."""
    if back is None:
        device = [d for d in godwit.run("inspect", image, "--json").ok().events if d["event"] == "device" and d["name"] == "globalstate"][0]
        back = device["offset"] + device["bytes"] - 1, None      # its last byte, which means nothing
    with open(image, "r+b") as f:
        f.seek(back[0])
        was = f.read(1)
        f.seek(back[0])
        f.write(back[1] or bytes([was[0] ^ 1]))
    return back[0], was


def of_another_date(kept, version, place):
    """Storage that was restarted gives an image another date: what it consists of decides, and it is served."""
    with kept.destination(version, "-S") as vm:
        killed(kept, vm)
        os.utime(kept.image, (1, 1))
        done = godwit.run("serve", kept.image, f"--qmp={vm.monitor}").ok()
        assert "date" in done.stderr and "same guest" in done.stderr, done
        kept.is_in(vm)


def of_another_guest(kept, version, place):
    """With nobody left who remembers the image, what it consists of still has to be QEMU's."""
    other = kept.image + ".other"
    subprocess.run(["cp", "--sparse=always", kept.image, other], check=True)
    with open(other, "r+b") as f:
        at = f.read(1 << 20).index(b"\x02m0")
        f.seek(at)
        f.write(b"\x02mX")
    with kept.destination(version, "-S") as vm:
        killed(kept, vm)
        pid, where = place.info()[0], place.where()
        os.kill(pid, signal.SIGKILL)
        wait(lambda: not lives(pid), "it ends")
        os.rmdir(where)
        fails_and_waits(kept, vm, other, "another guest", "mX")
        completes(kept, vm)
    os.unlink(other)


def held_by_a_stranger(kept, version, place):
    """A silent client at the broker's door holds nobody up for long."""
    with kept.destination(version, "-S") as vm:
        killed(kept, vm)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.connect(os.path.join(place.folder, place.sockets()[0]))
            for message in (b"", b"{", b"[]", b'{"want": 3}', b'{"want": "cake"}', b"\0" * 4096):
                with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as t:
                    t.connect(os.path.join(place.folder, place.sockets()[0]))
                    t.send(message)
            completes(kept, vm)


def names_taken(kept, version, place):
    """Where QEMU is to listen nobody foresees, and only who must gets in."""
    with kept.destination(version, "-S") as vm:
        killed(kept, vm)
        where = place.where()
        assert stat.S_IMODE(os.stat(where).st_mode) == 0o700, oct(os.stat(where).st_mode)
        for turn in range(16):
            for attempt in range(1, 10):
                os.mkdir(os.path.join(where, f"{turn:x}.{attempt}"))
        completes(kept, vm)
        assert not os.path.exists(where), "it is left"


def of_another_user(kept, version, place):
    """A QEMU of a lesser user listens in our folder all the same; which nobody can list."""
    vm = kept.destination(version, "-S")
    vm.argv = private_mounts.run_as_nobody(vm.argv, vm.path("qemu"), "sys_ptrace", "dac_read_search")    # may trap pages; reads its kernel
    os.chmod(vm.dir, 0o777)
    with vm:
        killed(kept, vm)
        where = place.where()
        assert stat.S_IMODE(os.stat(where).st_mode) == 0o1733, oct(os.stat(where).st_mode)
        completes(kept, vm)
        assert not os.path.exists(where), "it is left"


def of_two_qemus(kept, version, place):
    """One program passes on the monitors of two QEMUs, as ssh does: the broker of one is not taken for that of the other."""
    with kept.destination(version, "-S") as a, kept.destination(version, "-S") as b:
        with Relay(a.path("far"), a.monitor) as to_a, Relay(b.path("far"), b.monitor) as to_b:
            killed(kept, a, to_a.address)
            assert len(place.sockets()) == 1, place.sockets()
            assert "was kept" not in completes(kept, b, to_b.address).stderr
            assert len(place.sockets()) == 1, place.sockets()
            assert "was kept" in completes(kept, a, to_a.address).stderr


def not_qemu(kept, version, place):
    """Who listens in QEMU's place, where a page server had told it to, is given nothing."""
    where = "/tmp/godwit-" + "".join(random.choices(string.ascii_letters, k=6))
    address, aside = os.path.join(where, "0123456789abcdef"), os.path.join(where, "aside")
    os.mkdir(where, 0o700)
    try:
        with kept.destination(version, "-S") as vm:
            vm.qmp.command("migrate-set-capabilities", capabilities=[{"capability": "postcopy-ram", "state": True}])
            vm.qmp.command("migrate-incoming", uri=f"unix:{address}")
            os.rename(address, aside)
            with socket.socket(socket.AF_UNIX) as s:
                s.bind(address)
                s.listen()
                r = serve(kept, vm.monitor).wait()
                r.fails(godwit.REFUSED, f"process {os.getpid()} and not QEMU", "start it again")
                s.settimeout(30 * godwit.PATIENCE)
                with s.accept()[0] as link:
                    assert not link.recv(64), "it was given something"
            os.rename(aside, address)
            completes(kept, vm)
    finally:
        shutil.rmtree(where, ignore_errors=True)


def cleaned_away(kept, version, place):
    """/tmp was cleaned while a broker lived, and somebody put a link where its folder was: what is behind it is not touched."""
    other = os.path.join(place.runtime, "other")
    precious = os.path.join(other, "precious")
    os.mkdir(other, 0o755)
    with open(precious, "w", encoding="ascii"), kept.destination(version, "-S") as vm:
        killed(kept, vm)
        pid, where = place.info()[0], place.where()
        for kind in (fcntl.LOCK_EX, fcntl.LOCK_SH):
            assert is_locked(where, kind) == (kind == fcntl.LOCK_EX), "it is not locked against what cleans /tmp"
        os.rmdir(where)
        os.symlink(other, where)
        try:
            completes(kept, vm)
            place.wait_gone(pid)
            assert os.path.exists(precious) and os.path.islink(where), "it was removed"
            assert stat.S_IMODE(os.stat(other).st_mode) == 0o755, oct(os.stat(other).st_mode)
        finally:
            os.unlink(where)
    subprocess.run(["rm", "-r", other], check=True)


def is_locked(folder, kind):
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


@contextlib.contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def stopped_for_a_while(kept, version, place):
    """A broker that does not answer is reported, in limited time, and not replaced: it alone has the monitor. Also when nobody gets
    into its queue any more."""
    with kept.destination(version, "-S", "-qmp", "unix:{dir}/second,server=on,wait=off") as vm:
        killed(kept, vm)
        pid, door = place.info()[0], place.sockets()
        for full in (False, True):
            with stopped(pid), contextlib.ExitStack() as queue:
                while full:
                    s = queue.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
                    s.setblocking(False)
                    try:
                        s.connect(os.path.join(place.folder, door[0]))
                    except BlockingIOError:
                        break
                who = "fuser" if full else f"process {pid}.*kill -CONT {pid}"
                runs = [queue.enter_context(godwit.Run("serve", kept.image, f"--qmp={address}")) for address in (vm.monitor, f"pid:{vm.pid}")]
                runs.append(queue.enter_context(godwit.Run("restore", kept.image, f"--qmp={vm.monitor}")))
                for run, status in zip(runs, (godwit.IN_DOUBT, godwit.IN_DOUBT, godwit.FAILED), strict=True):
                    r = run.wait(60).fails(status, "does not answer", who)
                    assert r.seconds < 40 * godwit.PATIENCE, r
                row = [e for e in godwit.run("doctor", "--json").ok().events if e["name"] == "brokers"][0]
                assert row["finding"] == "limited" and "does not answer" in row["text"], row
                assert place.sockets() == door, "its door was taken away"
        assert place.info() == (pid, True), "it is another one"
        assert "was kept" in completes(kept, vm).stderr


def locked(kept, version, place):
    """One who stands still in the middle of looking for a broker holds up the others, but not for ever."""
    if version != "11.1":       # it takes its time, and no QEMU has a part in it
        return
    with kept.destination(version, "-S") as vm:
        killed(kept, vm)
        fd = os.open(place.folder, os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            godwit.run("serve", kept.image, f"--qmp={vm.monitor}", timeout=90).fails(godwit.IN_DOUBT, "locked", "lslocks")
        finally:
            os.close(fd)
        completes(kept, vm)


@contextlib.contextmanager
def attached(place):
    """Like a page server."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.connect(os.path.join(place.folder, place.sockets()[0]))
        s.send(b'{"want": "serve"}')
        for fd in socket.recv_fds(s, 4096, 4)[1]:
            os.close(fd)
        yield s


def holds_a_link(kept, version, place):
    """The link of a recovery that its page server was in the middle of gets a word, and is kept; that of one which was made ends a moment
    later, and in silence: there may be half a page on it."""
    with kept.destination(version, "-S") as vm:
        killed(kept, vm)
        for made in (True, False):
            far, near = socket.socketpair()
            with far:
                with near, attached(place) as server:
                    socket.send_fds(server, [b'{"link": true, "fds": ["link"]}'], [near.fileno()])
                    began = time.monotonic()
                    if made:
                        server.send(b'{"resumed": true}')
                far.settimeout(30 * godwit.PATIENCE)
                said = far.recv(64)
                if made:
                    assert not said and time.monotonic() - began >= HELD_S, (said, time.monotonic() - began)
                    continue
                assert said == PING, said
                far.settimeout(2 * HELD_S)
                with contextlib.suppress(TimeoutError):
                    raise AssertionError(f"it is not kept: {far.recv(64)}")
        completes(kept, vm)


def goodbye(kept, version, place):
    """Its page server leaves while another one, who has the folder locked, waits for an answer: neither waits for the other."""
    with kept.destination(version, "-S") as vm:
        killed(kept, vm)
        lock = os.open(place.folder, os.O_RDONLY)
        with attached(place) as server, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
            fcntl.flock(lock, fcntl.LOCK_EX)
            other.connect(os.path.join(place.folder, place.sockets()[0]))
            server.send(b'{"bye": true}')
            other.settimeout(2 * godwit.PATIENCE)
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):     # it may be gone before the question
                other.send(b'{"want": "serve"}')
                assert not other.recv(4096)
        os.close(lock)
        wait(lambda: not place.sockets(), "it ends")


def main(argv):
    version = argv[1]
    wanted = os.environ.get("GODWIT_ONLY", "").split(",")
    tests = [hands_over, of_a_long_name, one_at_a_time, ends_with_qemu, ends_with_the_migration, ends_when_told, before_it_was_needed,
             while_it_loads, planted, of_a_started_qemu, held_by_a_stranger, holds_a_link, goodbye, names_taken, of_another_user, of_two_qemus, not_qemu,
             cleaned_away, stopped_for_a_while, locked, two_at_once, of_two_moments, of_another_date, of_another_guest]
    try:
        with tempfile.TemporaryDirectory(prefix="godwit-broker.") as folder:
            place = Place(folder)
            kept = Kept(version, folder)
            for test in tests:
                if wanted == [""] or test.__name__ in wanted:
                    print(f"  {version}: {test.__name__}", flush=True)
                    test(kept, version, place)
    except Unavailable as e:
        skip(str(e))


if __name__ == "__main__":
    main(sys.argv)
