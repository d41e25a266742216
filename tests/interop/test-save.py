#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""godwit save on a live Linux guest: what is kept, and that the source is afterwards as it was before.

test-save.py 7.2|10.0|11.1
"""
import os
import re
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
import images
import refstream
from linuxguest import LinuxGuest, check_memory, check_ticks
from lost_pages import unless_lost
from vm import Unavailable, skip

ODD_OFFSET = 0x100123
MAPPED = ("10.0", "11.1")


def save(vm, image, *options, timeout=60):
    """A save that must succeed. The result as --json gives it."""
    r = godwit.run("save", vm.monitor, image, "--json", *options, timeout=timeout).ok()
    assert not r.sentences, r
    return r.event("saved")


def change_settings(vm, round_number):
    """Settings a user may have left behind, different each time; what a release does not have is left out."""
    has = vm.state()["capabilities"]
    on = {0: {"xbzrle", "events"}, 1: {"postcopy-ram", "auto-converge"}, 2: {"multifd", "mapped-ram"}, 3: {"x-ignore-shared"}}[round_number]
    vm.qmp.command("migrate-set-capabilities", capabilities=[{"capability": c, "state": c in on} for c in has if c in on or has[c]])
    vm.qmp.command("migrate-set-parameters", max_bandwidth=(round_number + 3) << 20, downtime_limit=100 + round_number,
                   multifd_channels=3 + round_number, xbzrle_cache_size=(64 << 20) >> round_number)


def check_live(vm, image, offset=0):
    """An image of a guest that went on: its memory is that of one moment, by the stamps in it."""
    raw = vm.path("raw")
    godwit.run("verify", image, f"--offset={offset}").ok()
    assert godwit.run("inspect", image, f"--offset={offset}", "--json").ok().event("guest")["clonable"]
    images.raw_ram(image, raw, offset=offset)
    check_memory(raw, vm.cpus)
    os.unlink(raw)


def save_live(vm, image, n, *options, offset=0):
    """Save while it runs; guest and settings are as before, the image is good."""
    change_settings(vm, n)
    before = vm.state()
    ticks = len(vm.ticks())
    saved = save(vm, image, *options)
    assert saved["running"] and saved["paused_ms"] < 10000, saved
    assert godwit.where(saved) == ("source-runs", "saved"), saved
    assert vm.state() == before, f"{vm.state()} was {before}"
    assert vm.qmp.command("query-migrate")["status"] == "completed"
    vm.keeps_ticking()
    assert len(vm.ticks()) > ticks
    check_live(vm, image, offset)
    return saved


def check_stopped_as_before(vm, before):
    """10.0 and later: as before. 7.2, where it was asked for (--stop): in postmigrate; nothing but cont leads out of that."""
    now = vm.state()
    if vm.version == "7.2":
        assert now.pop("run") == "postmigrate" and before.pop("run") == "paused"
    assert now == before, f"{now} was {before}"


def save_paused(vm, image):
    """A guest that is paused stays so, and all of its memory is kept."""
    vm.qmp.command("stop")
    before, console = vm.state(), vm.console()
    if vm.version == "7.2":     # it could not be put back
        godwit.run("save", vm.monitor, image).fails(godwit.REFUSED, "paused", "--stop", "nothing was changed")
        assert vm.state() == before
    for _ in range(1 if vm.version == "7.2" else 2):
        saved = save(vm, image, *["--stop"] * (vm.version == "7.2"))
        assert not saved["running"], saved
    check_stopped_as_before(vm, before)
    s = images.check_image(vm, image, vm.path("raw"))
    assert state_of(s) == b"paused", state_of(s)
    assert vm.console() == console
    vm.qmp.cont()
    vm.keeps_ticking()


def state_of(s):
    """The run state an image says its guest had."""
    body = next(d[2] for d in s.devices if d[0] == "globalstate")
    return bytes(body[4:36]).rstrip(b"\0")


def check_devices(vm, image, s):
    """Every device section splits exactly: godwit and the second reader agree on the list and on the bytes."""
    r = godwit.run("inspect", image, "--json").ok()
    text = r.stdout
    for name, instance, body in s.devices:
        assert f'"{name}"' in text, f"{name} is not in {text}"
    assert "not found" not in text
    assert not r.sentences, r


def save_with_header(vm, image, offset, *options):
    """--offset keeps what the file has before it, to the byte; what it had behind goes away."""
    mine = images.earlier_bytes(offset)
    with open(image, "wb") as f:
        f.write(mine + b"old content that must go away" * 1000)
    save_live(vm, image, 1, f"--offset={offset}", *options, offset=offset)
    with open(image, "rb") as f:
        assert f.read(offset) == mine


def save_and_stop(vm, image, *options):
    saved = save(vm, image, "--stop", *options)
    assert not saved["running"], saved
    assert godwit.where(saved) == ("kept-whole" if saved["state"] == "postmigrate" else "source-paused", "saved"), saved
    console = vm.console()
    assert vm.qmp.command("query-status")["status"] in ("postmigrate", "paused")
    s = images.check_image(vm, image, vm.path("raw"))
    check_memory(vm.path("raw"), vm.cpus)
    assert state_of(s) == b"running", state_of(s)
    check_devices(vm, image, s)
    assert vm.console() == console, "it runs"
    vm.qmp.cont()      # what its user may do now
    vm.keeps_ticking()


def at_start_refused(vm, image):
    """A background snapshot of memory in an ordinary file: QEMU cannot, and godwit changes nothing."""
    with open(image, "rb") as f:
        old = f.read()
    before = vm.state()
    r = godwit.run("save", vm.monitor, image, "--at=start", "--json").fails(godwit.FAILED, "background", "runs on|nothing was changed")
    assert godwit.where(r.event("failed"))[0] == "source-runs", r
    assert vm.state() == before, f"{vm.state()} was {before}"
    vm.keeps_ticking()
    with open(image, "rb") as f:
        assert f.read() == old


def file_backed(version):
    """One CPU, memory in a file."""
    with LinuxGuest(version) as vm:
        folder = vm.path("images")
        os.mkdir(folder)
        image = os.path.join(folder, "image")
        direct = ["--way=direct"] * (version in MAPPED)
        vm.booted()
        save_live(vm, image, 0)
        save_live(vm, image, 2, *direct)        # the second one replaces the first
        save_live(vm, image, 3, "--listen=tcp:127.0.0.1:0")
        save_live(vm, image, 1, f"--listen=unix:{vm.path('listen')}")
        assert not os.path.exists(vm.path("listen"))
        images.is_tidy(folder, "image")
        save_paused(vm, image)
        at_start_refused(vm, image)
        for offset in (4096, ODD_OFFSET):
            save_with_header(vm, image, offset, *(direct if offset == ODD_OFFSET else ()))
        save_and_stop(vm, image, *direct)
        vm.stamped_again()
        images.is_tidy(folder, "image")
        check_ticks(vm.ticks())


def save_at_start(vm, image, options=()):
    """The moment that is kept is the beginning: the guest outlives it by far before the save ends."""
    before = vm.state()
    ticks = len(vm.ticks())
    saved = save(vm, image, "--at=start", *options, timeout=120)
    assert saved["running"], saved
    assert vm.state() == before, f"{vm.state()} was {before}"
    assert len(vm.ticks()) > ticks, "the guest did not run during the save"
    vm.keeps_ticking()
    check_live(vm, image)
    assert refstream.decode_file(image).ram_ended


def memfd_backed(version):
    """Two CPUs, memory in a memfd, which background snapshots can do."""
    with LinuxGuest(version, cpus=2, backend="memfd") as vm:
        image = vm.path("image")
        vm.booted()
        save_live(vm, image, 0)
        save_at_start(vm, image, ["--max-bandwidth=30M"])
        save_at_start(vm, image)
        vm.qmp.command("stop")
        before = vm.state()
        save(vm, image, "--at=start", *["--stop"] * (vm.version == "7.2"))
        check_stopped_as_before(vm, before)
        images.check_image(vm, image, vm.path("raw"))
        vm.qmp.cont()
        save(vm, image, "--at=start", "--stop")
        assert not vm.qmp.command("query-status")["running"]
        check_live(vm, image)
        vm.qmp.cont()
        save_and_stop(vm, image)
        vm.stamped_again()


def main():
    try:
        start = time.monotonic()
        unless_lost(sys.argv[1], file_backed, sys.argv[1])
        print(f"file backed: {time.monotonic() - start:.1f} s")
        unless_lost(sys.argv[1], memfd_backed, sys.argv[1])
        print(f"both: {time.monotonic() - start:.1f} s")
    except Unavailable as e:
        skip(str(e))


if __name__ == "__main__":
    main()
