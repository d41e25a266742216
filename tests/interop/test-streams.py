#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every kind of stream a QEMU writes, received by godwit over every transport, compared with the guest's memory, and
given back to a QEMU.

test-streams.py 7.2|10.0|11.1[,VERSION...] [KIND...]
"""
import os
import shlex
import socket
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
import images
import refstream
from capture_guests import KINDS as CAPTURED, Failed, HugePages, Kind, KindVm, migrate, wait_status
from lost_pages import unless_lost
from vm import Unavailable, skip

# Beside those of the captures: memory that is plugged in.
KINDS = {**CAPTURED,
         "virtio-mem-plugged": Kind(memory="8M,maxmem=1G,slots=1", args=(
             "-object", "memory-backend-ram,id=vm0,size=64M", "-device", "virtio-mem-pci,id=v0,memdev=vm0,requested-size=16M")),
         "dimm": Kind(memory="8M,maxmem=1G,slots=1", args=(
             "-object", "memory-backend-ram,id=d0,size=32M", "-device", "pc-dimm,memdev=d0"))}
HUGE = "hugepage"               # a test of its own: huge pages belong to the whole machine
TRIES_OF_7_2 = 9                # its TCG loses most of what a guest that is no Linux writes meanwhile (stream.md, 10)


class Receiver(godwit.Run):
    """godwit receive in the background; uri is where it listens."""

    def __init__(self, uri, image, *options, **popen):
        super().__init__("receive", uri, image, "--json", *options, **popen)
        self.image = image
        if uri.startswith(("tcp:", "unix:", "vsock:")):
            self.wait_stdout('"event":"listening"')
            self.uri = next(e["uri"] for e in self.events() if e["event"] == "listening")

    def events(self):
        return godwit.Result(self.args, 0, self.stdout, "", 0).events

    def done(self):
        return self.wait().ok().event("done")


# --- what was received --------------------------------------------------------------------------------------------

def check_ram(vm, image, ram, others, shared):
    """Every block of the image, by both readers, against what the guest had."""
    s = refstream.decode_file(image)
    raw = vm.path("raw")
    for name, want in [("m0", ram), *others]:
        if name == "m0" and shared:
            assert not s.blocks[name].sent, f"{len(s.blocks[name].sent)} pages of memory that is not in the stream"
            continue
        images.same_bytes(f"{name} by refstream.py", s.blocks[name].ram, want)
        images.same_bytes(f"{name} by godwit", images.raw_ram(image, raw, name), want)
    return s


def check_inspect(image, s, shared):
    """godwit inspect says the same as the second reader: machine, blocks, devices and their bytes."""
    r = godwit.run("inspect", image, "--json").ok()
    guest = r.event("guest")
    assert guest["machine"] == s.machine and guest["format"] == "image" and not guest["warnings"], guest
    assert guest["capabilities"] == s.capabilities, guest
    blocks = {e["name"]: e for e in r.events if e["event"] == "block"}
    assert list(blocks) == list(s.blocks), list(blocks)
    for b in s.blocks.values():
        e = blocks[b.name]
        assert (e["used_bytes"], e["pages"]) == (b.used, len(b.sent)), e
        assert e["ignored"] == (shared and b.name == "m0"), e
    devices = [e for e in r.events if e["event"] == "device"]
    assert [(e["name"], e["instance"]) for e in devices] == [d[:2] for d in s.devices], devices
    with open(image, "rb") as f:
        for e, (name, _, body) in zip(devices, s.devices):
            f.seek(e["offset"])
            assert f.read(e["bytes"]) == bytes(body), f"{name} is not where inspect says"
    return guest, devices


def check_kind(name, vm, done, guest, s):
    """What is special about it can be seen in what godwit said."""
    kind = KINDS[name]
    asks_back = bool({"return-path", "postcopy-ram"} & set(kind.caps))
    assert done["source_notified"] == asks_back, done
    assert done["background"] == ("background-snapshot" in kind.caps), done
    assert done["devices"] == len(s.devices) and done["trailing_bytes"] == 0, done
    assert guest["described"], guest        # also where the source suppressed its description: it marks a whole image
    assert s.ram_ended, "an image without RAM END cannot be loaded"
    if name == "xbzrle":
        assert done["xbzrle_pages"] > 50, done
    if name == "uuid":
        assert guest["uuid"] == kind.args[1], guest
    if name == "many-devices":
        assert len(s.devices) >= 76, len(s.devices)
    if vm.version == "7.2" and kind.runs and name != "xbzrle":
        assert done["rounds"] >= 3, done


# --- and given back -----------------------------------------------------------------------------------------------

def give_back(name, source, image, ram, way):
    """Into a waiting QEMU like the source; its memory is then the source's."""
    kind = KINDS[name]
    with KindVm(source.version, kind, incoming="defer", args=["-S"] if kind.runs else []) as vm:
        shared = "x-ignore-shared" in kind.caps
        if shared:
            with open(vm.ram_path(), "r+b") as f:
                f.write(ram)
        r = godwit.run("restore", image, f"--qmp={vm.monitor}", f"--way={way}", "--json").ok()
        assert r.event("restored")["way"] in (way, "direct", "stream")
        assert not vm.is_running()
        images.same_bytes(f"m0 restored ({way})", vm.main_ram(), ram)
        if not kind.runs:
            return
        vm.qmp.cont()
        deadline = time.monotonic() + 30 * godwit.PATIENCE
        while vm.main_ram() == ram:
            assert time.monotonic() < deadline, "it does not run"
            time.sleep(0.05)


def send(name, source, image, ram, uri):
    """godwit send to a QEMU that listens itself."""
    kind = KINDS[name]
    with KindVm(source.version, kind, incoming="defer", args=["-S"]) as vm:
        if "x-ignore-shared" in kind.caps:
            return
        vm.qmp.command("migrate-incoming", uri=uri.replace("{dir}", vm.dir))
        godwit.run("send", image, address_of(vm) or uri.replace("{dir}", vm.dir)).ok()
        wait_status(vm.qmp, lambda i: i.get("status") == "completed")
        images.same_bytes("m0 sent", vm.main_ram(), ram)


def address_of(vm):
    address = (vm.qmp.command("query-migrate").get("socket-address") or [{}])[0]
    if address.get("type") != "inet":
        return None
    host = f"[{address['host']}]" if ":" in address["host"] else address["host"]
    return f"tcp:{host}:{address['port']}"


# --- one kind -----------------------------------------------------------------------------------------------------

def receive_kind(name, version):
    kind = KINDS[name]
    shared = "x-ignore-shared" in kind.caps
    with KindVm(version, kind) as vm:
        vm.ready()
        ram = None if kind.runs else vm.main_ram()      # now: 7.2 sets a guest going again after a background snapshot
        image = vm.path("image")
        with Receiver(f"unix:{vm.path('in')}", image) as r:
            migrate(vm, kind, r.uri)
            done = r.done()
        assert not os.path.exists(vm.path("in")), "the socket is left behind"
        ram = ram or vm.main_ram()
        s = check_ram(vm, image, ram, vm.other_blocks(), shared)
        godwit.run("verify", image).ok()
        guest, _ = check_inspect(image, s, shared)
        check_kind(name, vm, done, guest, s)
        give_back(name, vm, image, ram, "auto")
        give_back(name, vm, image, ram, "stream")
        send(name, vm, image, ram, "unix:{dir}/in")
    return f"{len(s.devices)} devices, {done['pages']} pages, {done['rounds']} rounds"


def try_kind(name, version):
    with HugePages(KINDS[name].ram * 2 // (2 << 20) if name == HUGE else 0):
        return unless_lost(version if KINDS[name].runs else None, receive_kind, name, version, tries=TRIES_OF_7_2, most=1 << 10)


# --- transports -----------------------------------------------------------------------------------------------------

def kept(vm, image):
    godwit.run("verify", image).ok()
    images.same_bytes("m0", images.raw_ram(image, vm.path("raw")), vm.main_ram())
    os.unlink(image)


def migrate_again(vm, kind, uri):
    """QEMU holds a guest that was migrated for given away, until it has run."""
    if vm.qmp.command("query-status")["status"] == "postmigrate":
        vm.qmp.cont()
        vm.qmp.command("stop")
    migrate(vm, kind, uri)


def over_sockets(vm, image, kind):
    for uri in (f"unix:{vm.path('s')}", "tcp:127.0.0.1:0", "tcp:[::1]:0"):
        with Receiver(uri, image) as r:
            migrate_again(vm, kind, r.uri)
            r.done()
            kept(vm, image)


def over_passed_descriptors(vm, image, kind):
    """fd: at both ends: a socket pair, which answers, and a pipe, which does not."""
    pairs = [socket.socketpair()] if kind.caps else [socket.socketpair(), os.pipe()]
    for ours, theirs in pairs:
        ours, theirs = (x if isinstance(x, int) else x.detach() for x in (ours, theirs))
        vm.qmp.command("getfd", fds=[theirs], fdname="out")
        os.close(theirs)
        with Receiver(f"fd:{ours}", image, pass_fds=[ours]) as r:
            os.close(ours)
            migrate_again(vm, kind, "fd:out")
            done = r.done()
            assert done["source_notified"] == bool(kind.caps), done
            kept(vm, image)


def over_commands(vm, image, kind):
    """exec: on the source starts godwit; exec: and file: on godwit's side; a descriptor the shell opened."""
    log = vm.path("log")
    migrate_again(vm, kind, f"exec:{shlex.quote(godwit.PROGRAM)} receive fd:0 {image} 2>{log}")
    wait_for(image)
    kept(vm, image)
    stream, fifo = vm.path("stream"), vm.path("fifo")
    os.mkfifo(fifo)
    with Receiver(f"exec:cat {fifo}", image) as r:
        migrate_again(vm, kind, f"exec:tee {stream} >{fifo}")
        r.done()
        kept(vm, image)
    for uri in (f"file:{stream}", f"exec:cat {stream}"):
        r = godwit.run("receive", uri, image, "--json").ok()
        assert not r.event("done")["source_notified"]
        kept(vm, image)
    with open(stream, "rb") as f:
        godwit.run("receive", "fd:0", image, stdin=f).ok()
    kept(vm, image)
    r = godwit.run("receive", "exec:exit 3", image).fails(godwit.FAILED, "exit 3", "3")
    assert not os.path.exists(image)
    return stream


def wait_for(path):
    deadline = time.monotonic() + 30 * godwit.PATIENCE
    while not os.path.exists(path):
        assert time.monotonic() < deadline, f"{path} does not appear"
        time.sleep(0.02)


def transports(version):
    for name in ("plain", "return-path"):
        kind = KINDS[name]
        for way in (over_sockets, over_passed_descriptors, *([over_commands] if not kind.caps else [])):
            with KindVm(version, kind, args=[]) as vm:
                vm.ready()
                way(vm, vm.path("image"), kind)
    print(f"{version} transports: ok", flush=True)


def send_everywhere(version):
    """godwit send: tcp, both families, and unix; from an image and from a stream file."""
    kind = KINDS["plain"]
    with KindVm(version, kind) as vm:
        vm.ready()
        ram, image, stream = vm.main_ram(), vm.path("image"), vm.path("stream")
        migrate(vm, kind, f"exec:cat >{stream}")
        godwit.run("convert", stream, image).ok()
        for uri in ("tcp:127.0.0.1:0", "tcp:[::1]:0", "unix:{dir}/in"):
            send("plain", vm, image, ram, uri)
        send("plain", vm, stream, ram, "unix:{dir}/in")
    print(f"{version} send: ok", flush=True)


def every_kind(version, wanted):
    """What could not be had, as sentences."""
    missing = []
    for name, kind in KINDS.items():
        if kind.image or version not in kind.versions or (name not in wanted if wanted else name == HUGE):
            continue
        start = time.monotonic()
        try:
            said = try_kind(name, version)
        except Unavailable as e:
            missing.append(f"{version} {name}: {e}")
            continue
        except (AssertionError, Failed) as e:
            raise AssertionError(f"{version} {name}: {e}") from e
        print(f"{version} {name}: {said}, {time.monotonic() - start:.1f} s", flush=True)
    return missing


def main():
    versions, *wanted = sys.argv[1:]
    missing = []
    try:
        for version in versions.split(","):
            if not wanted:
                transports(version)
                send_everywhere(version)
            missing += every_kind(version, wanted)
    except Unavailable as e:
        skip(str(e))
    if missing:
        skip("; ".join(missing))


if __name__ == "__main__":
    main()
