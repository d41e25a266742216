#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A mapped-ram file saved by QEMU, read and written again by the image room, is loaded by QEMU as if nothing had happened.

test-image.py IMAGE-TOOL 10.0|11.1 (who saves). The copy is compared with the file byte by byte, and loaded by 10.0 and 11.1,
without multifd and with 4 channels; each time the guest's RAM is compared, and the guest goes on running.
"""
import os
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
import tinyguest
from imagefile import differences
from vm import Unavailable, Vm, get_qemu, skip

MIB = 1 << 20
RAM = 16 * MIB
OLD = b"what the owner of the file keeps in front. " * 40000
COUNTER = tinyguest.FIRST * 4096      # the first word of the first page the guest dirties


class Guest(Vm):
    """The tiny guest, its RAM a file of its own or of somebody else."""

    def __init__(self, qemu, ram=None, *args):
        super().__init__(qemu, ["-machine", "pc-i440fx-10.0,memory-backend=m0", "-m", f"{RAM // MIB}M", "-object",
                                f"memory-backend-file,id=m0,size={RAM // MIB}M,mem-path={ram or '{dir}/ram'},share=on",
                                "-bios", "{dir}/bios", *args], console=False)
        self.ram = ram or self.path("ram")
        with open(self.path("bios"), "wb") as f:
            f.write(tinyguest.bios())
        if not ram:
            with open(self.ram, "wb") as f:
                f.truncate(RAM)

    def memory(self):
        with open(self.ram, "rb") as f:
            return f.read()

    def counter(self):
        with open(self.ram, "rb") as f:
            f.seek(COUNTER)
            return int.from_bytes(f.read(4), "little")

    def wait_counting(self):
        first, deadline = self.counter(), time.monotonic() + 30 * godwit.PATIENCE
        while self.counter() == first:
            assert time.monotonic() < deadline, "the guest does not run"
            time.sleep(0.01)

    def use(self, caps, channels=0):
        caps = [*caps, *(["multifd"] if channels else [])]
        self.qmp.command("migrate-set-capabilities", capabilities=[{"capability": c, "state": True} for c in caps])
        if channels:
            self.qmp.command("migrate-set-parameters", multifd_channels=channels)

    def wait_migration(self):
        deadline = time.monotonic() + 60 * godwit.PATIENCE
        while True:
            info = self.qmp.command("query-migrate")
            if info.get("status") == "completed":
                return
            assert info.get("status") != "failed" and self.process.poll() is None, (info, self.stderr())
            assert time.monotonic() < deadline, info
            time.sleep(0.02)


def uri(path, offset):
    return f"file:{path}" + (f",offset={offset:#x}" if offset else "")


def load(qemu, path, offset, caps, channels, memory, ram):
    with Guest(qemu, ram, "-S", "-incoming", "defer") as vm:
        vm.use(caps, channels)
        vm.qmp.command("migrate-incoming", uri=uri(path, offset))
        vm.wait_migration()
        assert vm.memory() == memory, "RAM differs"
        vm.qmp.cont()
        vm.wait_counting()


def rewrite(tool, path, copy, offset):
    with open(copy, "wb") as f:
        f.write(OLD)
    subprocess.run([tool, "rewrite", path, str(offset), copy, str(offset)], check=True)
    with open(path, "rb") as f, open(copy, "rb") as g:
        original, written = f.read(), g.read()
    assert written[:offset] == OLD[:offset] == original[:offset]
    places, dropped = differences(original, written, offset)
    assert not places, f"{len(places)} bytes differ, first {places[:5]}"
    same = "the same" if original == written else "the same but for content under cleared bits"
    print(f"  copy: {len(written)} bytes, {same}; {dropped} pages of zeros lost their bit")


def save(vm, path, offset, caps, state):
    if state != "never started":
        vm.qmp.cont()
        vm.wait_counting()
    if state == "stopped":
        vm.qmp.command("stop")
    with open(path, "wb") as f:
        f.write(OLD)
    vm.use(caps)
    vm.qmp.migrate(uri(path, offset))
    vm.wait_migration()


def run(tool, source, destinations, folder, state, offset, caps=("mapped-ram",)):
    path, copy = os.path.join(folder, "image"), os.path.join(folder, "copy")
    print(f"{state} guest, offset {offset:#x}, {' '.join(caps)}")
    with Guest(source, None, "-S") as vm:
        save(vm, path, offset, caps, state)
        rewrite(tool, path, copy, offset)
        for version, qemu in destinations.items():
            for channels in (0, 4):
                ram = vm.ram if "x-ignore-shared" in caps else None     # shared: it must find what is in it
                load(qemu, copy, offset, caps, channels, vm.memory(), ram)
                print(f"  loaded by {version}, {channels or 'no'} channels")


def main():
    tool, version = sys.argv[1:]
    sys.stdout.reconfigure(line_buffering=True)
    try:
        qemus = {v: get_qemu(v) for v in ("10.0", "11.1")}
    except Unavailable as e:
        skip(str(e))
    with tempfile.TemporaryDirectory(prefix="godwit-image.") as folder:
        for state in ("never started", "stopped", "live"):
            for offset in (0, 0x100123):
                run(tool, qemus[version], qemus, folder, state, offset)
        if version == "11.1":
            run(tool, qemus[version], {"11.1": qemus["11.1"]}, folder, "stopped", 4096,
                ("x-ignore-shared", "mapped-ram"))
        else:
            print("x-ignore-shared with mapped-ram: QEMU 10.0 cannot save that (docs/spec/mapped-ram.md 4)")


if __name__ == "__main__":
    main()
