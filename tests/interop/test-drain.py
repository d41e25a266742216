#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A post-copy between two QEMUs that breaks for good: godwit drain takes what the source has, the source is killed, and godwit serve
completes the destination, whose guest goes on with the right memory.

test-drain.py VERSION
"""
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
import images
import linuxguest
import pcsource
from saved_guest import wait_guest
from linuxguest import MIB, LinuxGuest, check_continues, check_memory
from lost_pages import unless_lost
from traced_run import Stepped
from postcopy_source_vm import migrate, wait_behind_the_switch, wait_status
from protected_guest import Victim
from vm import Unavailable, skip

linuxguest.LONGEST_TICK_S = 180     # a guest that waits for a page has not been stopped
TOLD_AT_THE_END = ("7.2",)          # the others hear before the first page that their guest is not theirs (docs/spec/postcopy.md 1.4)
missing = []


def drain(vm, image, *options):
    return godwit.Run("drain", vm.monitor, image, *options, env={**os.environ, "GODWIT_TRACE": "1"})


def broken(version, a, b, *capabilities, bandwidth=100 * MIB):
    """B has the guest and A the memory; nothing passes between them any more. B's guest is stopped, so that its monitor answers."""
    for q in (a.qmp, b.qmp):
        q.command("migrate-set-capabilities", capabilities=[{"capability": c, "state": True} for c in ("postcopy-ram", *capabilities)])
    uri = f"unix:{b.path('in')}"
    b.qmp.command("migrate-incoming", uri=uri)
    migrate(a, uri, bandwidth=bandwidth, postcopy_bandwidth=bandwidth // 10)
    wait_guest(b)
    wait_behind_the_switch(a)
    b.qmp.command("stop")
    a.qmp.command("migrate-pause")
    wait_status(a, "postcopy-paused")
    wait_status(b, "postcopy-paused")
    a.qmp.command("migrate-set-parameters", max_postcopy_bandwidth=0)


def pair(version):
    a = LinuxGuest(version, backend="memfd")
    return a, LinuxGuest(version, machine=a.machine, backend="memfd", incoming="defer")


def is_memory_alone(image, folder, loader):
    """Our commands say what it is, and nobody takes it for a guest, QEMU neither."""
    out = godwit.run("inspect", image).ok().stdout
    assert re.search("devices +left out", out) and "godwit-memory-only" in out, out
    assert godwit.run("inspect", image, "--json").ok().event("guest")["memory_only"] is True
    assert "memory that was drained" in godwit.run("verify", image).ok().stdout
    godwit.run("send", image, f"unix:{folder}/nobody").fails(godwit.REFUSED, "without its devices", "godwit serve")
    with loader as vm:
        before = vm.state()
        godwit.run("restore", image, "--qmp", vm.monitor).fails(godwit.REFUSED, "without its devices")
        godwit.run("serve", image, "--qmp", vm.monitor).fails(godwit.REFUSED, "without devices", "postcopy-paused")
        assert vm.state() == before
        if vm.version == "7.2":
            return
        vm.qmp.command("migrate-set-capabilities", capabilities=[{"capability": "mapped-ram", "state": True}])
        vm.qmp.command("migrate-incoming", uri=f"file:{image}", exit_on_error=False)
        assert wait_status(vm, "failed", "completed") == "failed"


def drained(version):
    """All three processes, once."""
    a, b = pair(version)
    with b, a:
        a.booted()
        image = b.path("memory")
        broken(version, a, b)
        stood = a.ram()
        godwit.run("drain", a.monitor, b.path("nowhere/memory")).fails(godwit.FAILED, "nowhere", "nothing was changed")
        wait_status(a, "postcopy-paused")
        with drain(a, image, "--json") as g:
            done = g.wait().ok().event("drained")
        assert done["safe_to_stop"] and done["breaks"] == 1, done
        assert godwit.where(done) == ("destination-waits", "drained"), done
        wait_status(a, "completed")
        assert not a.qmp.command("query-status")["running"]
        images.same_bytes("m0", images.raw_ram(image, b.path("raw")), stood)
        is_memory_alone(image, b.dir, LinuxGuest(version, machine=a.machine, backend="memfd", incoming="defer", args=("-S",)))
        console = a.console()
        a.process.kill()
        a.process.wait()
        godwit.run("serve", image, "--qmp", b.monitor, timeout=90).ok()
        wait_status(b, "completed")
        b.qmp.command("cont")
        b.wait_console(lambda t: t.count("\ntick") >= 3, timeout=90 * godwit.PATIENCE)
        check_continues(console, b.console())
        b.stamped_again()
        b.qmp.command("stop")
        check_memory(b.ram_path())


def not_received(vm, image):
    """Who receives would end such a source in a way that lets it run its guest, which its destination has."""
    uri = f"unix:{vm.path('received')}"
    for option in ("--connect-timeout=1", "--without-source"):
        godwit.run("receive", uri, image, "--resume", option).fails(godwit.REFUSED, "memory that was drained", "godwit drain")
    godwit.run("receive", uri, image).fails(godwit.REFUSED, "what began it", "godwit drain")
    godwit.run("save", vm.monitor, image, "--postcopy", "--resume").fails(godwit.FAILED, "not begun by a save", "godwit drain")
    wait_status(vm, "postcopy-paused")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


class Talkers:
    """Strangers who connect to a port whenever somebody listens there, and say what no source says, or what one says that asks for a block."""

    SAID = (b"GET / HTTP/1.1\r\n\r\n", b"\x08\0\x0a\0\x03\x02m0", b"SSH-2.0-x\r\n")

    def __init__(self, port):
        self.port, self.heard, self.end = port, 0, threading.Event()
        self.threads = [threading.Thread(target=self.talk, args=(said,)) for said in self.SAID * 2]

    def talk(self, said):
        while not self.end.wait(0.005):
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as s:
                    s.sendall(said)
                    self.heard += 1
                    s.shutdown(socket.SHUT_WR)
                    s.recv(1)
            except OSError:
                pass

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        for t in self.threads:
            t.join()


def killed(version):
    """drain dies, again and again: the source keeps everything, and stands. Strangers who can reach its port decide nothing."""
    a, b = pair(version)
    with b, a:
        a.booted()
        image = b.path("memory")
        broken(version, a, b)
        stood = a.ram()
        for _ in range(3):
            with drain(a, image, "--max-bandwidth=40M") as g:
                g.wait_stderr("postcopy-recover -> postcopy-active")
                time.sleep(0.15)
                g.kill()
                g.process.wait()
            wait_status(a, "postcopy-paused")
            assert not a.qmp.command("query-status")["running"]
            godwit.run("drain", b.monitor, image).fails(godwit.REFUSED, "no drain of this QEMU", "nothing was changed")
        not_received(a, image)
        port = free_port()
        with Talkers(port) as talkers, drain(a, image, "--max-bandwidth=40M", f"--listen=tcp:127.0.0.1:{port}") as g:
            g.wait_stderr("postcopy-recover -> postcopy-active")
            wait_status(a, "postcopy-active")
            a.qmp.command("migrate-pause")      # the link breaks: mended by itself
            g.wait().ok()
        assert talkers.heard > 10, talkers.heard
        images.same_bytes("m0", images.raw_ram(image, b.path("raw")), stood)
        assert not a.qmp.command("query-status")["running"]
        assert not [n for n in os.listdir(b.dir) if "partial" in n]


def source_killed(version):
    """The source dies: nobody says that it still has its memory."""
    a, b = pair(version)
    with b, a:
        a.booted()
        image = b.path("memory")
        broken(version, a, b)
        with drain(a, image, "--max-bandwidth=40M", "--json") as g:
            g.wait_stderr("postcopy-recover -> postcopy-active")
            a.process.kill()
            a.process.wait()
            end = g.wait()
        assert end.status == godwit.IN_DOUBT and "does not answer any more" in end.sentences[-1], end
        assert image + ".partial" in end.sentences[-1] and "still has" not in end.stderr, end
        assert godwit.where(end.events[-1]) == ("split", "drained-not-confirmed"), end
        assert os.path.exists(image + ".partial") and not os.path.exists(image), os.listdir(b.dir)


def left_by_nobody(image):
    """A part of a guest that bears nobody's name."""
    uri = image + ".in"
    with godwit.Run("receive", f"unix:{uri}", image, "--json") as r:
        r.wait_stdout("listening")
        with pcsource.Link(uri) as s:
            s.switch()
            r.kill()
            r.wait()
    os.unlink(uri)


def unheard(version):
    """The link breaks behind the last page. An old source, that was to hear then, waits for ever; its memory is safe all the same."""
    if version not in TOLD_AT_THE_END:
        return
    a, b = pair(version)
    with b, a:
        a.booted()
        image = b.path("memory")
        broken(version, a, b)
        stood = a.ram()
        with Stepped("drain", a.monitor, image, "--json") as g:
            g.reach(r"-> postcopy-active \(ending\)")
            a.qmp.command("migrate-pause")
            done = g.wait().ok().event("drained")
        assert done["safe_to_stop"], done
        wait_status(a, "postcopy-active")
        assert not a.qmp.command("query-status")["running"]
        images.same_bytes("m0", images.raw_ram(image, b.path("raw")), stood)


def refused(version):
    """Sources in other states, destinations, and what was released: a sentence, and nothing changes."""
    a, b = pair(version)
    with b, a:
        a.booted()
        image = b.path("memory")
        for vm, words in ((a, "no source in postcopy-paused"), (b, "no source in postcopy-paused")):
            before = vm.state()
            godwit.run("drain", vm.monitor, image).fails(godwit.REFUSED, words)
            assert vm.state() == before
        left_by_nobody(image)
        godwit.run("drain", a.monitor, image).fails(godwit.REFUSED, "no drain of this QEMU", "nothing was changed")
        os.unlink(image + ".partial")
        os.unlink(image + ".partial.state")
        broken(version, a, b, "release-ram")
        godwit.run("drain", b.monitor, image).fails(godwit.REFUSED, "is the destination", "godwit serve")
        godwit.run("drain", a.monitor, image).fails(godwit.REFUSED, "release-ram")
        assert not os.path.exists(image)
        wait_status(a, "postcopy-paused")


STRANGER = """
import os, socket, sys, time
os.setgid(65534), os.setuid(65534)
said = sys.stdin.buffer.read()
tried = set()
while os.getppid() != 1:
    for path in {line.split()[-1] for line in open("/proc/net/unix") if "/tmp/godwit-" in line and line.rstrip().endswith("/migration")} - tried:
        try:
            s = socket.socket(socket.AF_UNIX)
            s.connect(path)
            s.sendall(said)
            print("connected", flush=True)
            s.recv(1)
            tried.add(path)
        except PermissionError:
            tried.add(path)
            print("shut out", flush=True)
        except OSError:
            pass
    time.sleep(0.001)
"""


def zeros(blocks):
    """What a source says that comes back, with nothing but zero pages."""
    name = lambda n: bytes([len(n)]) + n.encode()
    ask = b"".join(b"\x08\x00\x0a" + struct.pack(">H", 1 + len(n)) + name(n) for n, _, _ in blocks)
    pages = b"".join(struct.pack(">Q", at | 2 | (0x20 if at else 0)) + (b"" if at else name(n)) + b"\0"
        for n, size, _ in blocks for at in range(0, size, 4096))
    foot = struct.pack(">Q", 0x10) + b"\x7e" + struct.pack(">I", 1)
    return ask + b"\x08\x00\x09\x00\x00\x02" + struct.pack(">I", 1) + pages + foot + b"\x03" + struct.pack(">I", 1) + foot + b"\0"


def strangers(version):
    """Another user of the machine who waits for our socket does not become the source."""
    if os.geteuid():
        missing.append("strangers: only root can be another user")
        return
    a, b = pair(version)
    with b, a:
        a.booted()
        image = b.path("memory")
        broken(version, a, b)
        stood = a.ram()
        with subprocess.Popen([sys.executable, "-c", STRANGER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stranger:
            try:
                stranger.stdin.write(zeros(a.blocks()))
                stranger.stdin.close()
                with drain(a, image, "--max-bandwidth=40M") as g:
                    assert stranger.stdout.readline() == b"shut out\n"
                    g.wait().ok()
            finally:
                stranger.kill()
        wait_status(a, "completed")
        images.same_bytes("m0", images.raw_ram(image, b.path("raw")), stood)


def unplugged(version):
    """A virtio-mem device that is not plugged in full: refused before anything is asked of the source."""
    device = ("-m", "32M,slots=2,maxmem=1G", "-object", "memory-backend-memfd,id=vm0,size=64M", "-device", "virtio-mem-pci,memdev=vm0,requested-size=0")
    a = Victim(version, backend="memfd", args=device)
    with a, Victim(version, backend="memfd", incoming="defer", args=device) as b:
        image = b.path("memory")
        a.qmp.command("migrate-set-capabilities", capabilities=[{"capability": "xbzrle", "state": False}])
        broken(version, a, b, bandwidth=MIB)
        godwit.run("drain", a.monitor, image).fails(godwit.REFUSED, "virtio-mem", "nothing was changed")
        assert not os.path.exists(image)
        wait_status(a, "postcopy-paused")


def main(argv):
    version = argv[1]
    wanted = os.environ.get("GODWIT_ONLY", "").split(",")
    try:
        for test in (drained, killed, source_killed, unheard, strangers, refused, unplugged):
            if wanted == [""] or test.__name__ in wanted:
                print(f"  {version}: {test.__name__}", flush=True)
                unless_lost(version, test, version)
    except Unavailable as e:
        skip(str(e))
    if missing:
        skip("; ".join(missing) + "; all others passed")


if __name__ == "__main__":
    main(sys.argv)
