#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The example of libgodwit-qemu, as it is built against the library: a Linux guest is saved in one QEMU and runs at once in another.

test-example.py PROGRAM SOURCE DESTINATION: QEMU versions.
"""
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
from linuxguest import LinuxGuest
from saved_guest import Kept
from vm import Unavailable, skip


class Saved(Kept):
    """What the program under test saves, and where it goes on."""

    def __init__(self, vm, image):
        self.image, self.machine, self.console = image, vm.machine, ""


def example(*args):
    return subprocess.run([sys.argv[1], *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120 * godwit.PATIENCE)


def moves(source, destination, folder):
    with LinuxGuest(source, backend="memfd") as vm:
        vm.booted()
        kept = Saved(vm, os.path.join(folder, "image"))
        with kept.destination(destination) as to:
            r = example(vm.monitor, kept.image, to.monitor)
            assert r.returncode == 0, r
            assert "saved " in r.stdout and "the guest is running, with all of its memory" in r.stdout, r
            assert not r.stderr, r
            kept.console = vm.console()
            kept.goes_on_in(to)


def says_why_not(source, folder):
    """No monitor, and a QEMU that waits for no guest: the guest runs on, and is told to do so."""
    image = os.path.join(folder, "other")
    r = example(os.path.join(folder, "nowhere"), image, "unused")
    assert r.returncode == 1 and "not saved: " in r.stderr and not os.path.exists(image), r
    with LinuxGuest(source, backend="memfd") as vm:
        vm.booted()
        r = example(vm.monitor, image, vm.monitor)
        assert r.returncode == 1 and "does not wait for a guest" in r.stderr and f"{image} is as it was" in r.stderr, r


with tempfile.TemporaryDirectory() as folder:
    try:
        moves(sys.argv[2], sys.argv[3], folder)
        says_why_not(sys.argv[2], folder)
    except Unavailable as e:
        skip(str(e))
