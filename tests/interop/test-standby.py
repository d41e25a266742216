#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""godwit standby and real QEMU primaries: every epoch is the primary's memory, and a guest goes on from the last one.

test-standby.py 11.1 [CASE...]
"""
import os
import signal
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import colo
import godwit
import images
from colo import Standby, Wire
from linuxguest import LinuxGuest, Restored, check_memory
from vm import Unavailable, skip


def same_memory(vm, image):
    """The image holds what the primary, which stands still, has in its RAM."""
    raw = vm.path("raw")
    images.raw_ram(image, raw)
    with open(raw, "rb") as f:
        images.same_bytes("RAM", vm.ram(), f.read())
    os.unlink(raw)


def equal(folder, channels=0, compression="none", epochs=5):
    """Behind some checkpoints the primary stands still, its LOADED held back: its RAM is the standby's, byte for byte. Then it runs on."""
    with LinuxGuest("11.1") as vm, Standby(folder) as standby, Wire(os.path.join(folder, "wire"), standby.socket) as wire:
        vm.booted()
        colo.protect(vm, wire.uri, channels=channels, compression=compression)
        assert standby.wait_event("protected")["ram_bytes"] >= vm.ram_bytes
        wire.hold(colo.LOADED, epochs)
        assert vm.qmp.command("query-status")["status"] == "colo"
        ram = vm.ram()
        wire.cut()
        ended = standby.wait_event("ended")
        assert ended["epoch"] >= epochs and ended["channels"] == channels, ended
        assert vm.ram() == ram, "the primary did not stand still"
        same_memory(vm, standby.image)
        assert any(e["pages"] for e in standby.events() if e["event"] == "epoch"), "no epoch had a page"
        colo.release(vm)
        vm.keeps_ticking()
        standby.kill(signal.SIGTERM)
        assert standby.wait().status == godwit.DONE


def main():
    only = sys.argv[2:]
    cases = {"plain": lambda d: equal(d), "channels-2": lambda d: equal(d, 2), }
    for name, case in cases.items():
        if only and name not in only:
            continue
        print(f"--- {name}", flush=True)
        with tempfile.TemporaryDirectory(prefix="godwit-standby.") as folder:
            case(folder)


if __name__ == "__main__":
    try:
        main()
    except Unavailable as e:
        skip(str(e))
