#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A Linux guest saved in one QEMU release goes on in another: by every way of godwit restore, and in stock QEMU alone.

test-restore.py SOURCE[=MACHINE] DESTINATION [DESTINATION]

The guest is saved with --stop, so its console is cut at one byte: the first life's text and that of each second life
together must be one text without gap.
"""
import contextlib
import os
import shutil
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
import images
from linuxguest import LinuxGuest, Restored, check_continues, check_memory
from lost_pages import unless_lost
from vm import Unavailable, skip

READS_IMAGES = ("10.0", "11.1")
ODD_OFFSET = 0x100123
CPUS = 2


class Kept:
    """What the source left: images of one moment and the console up to it."""

    def __init__(self, version, machine, folder):
        self.folder = folder
        self.image, self.odd, self.aligned = (os.path.join(folder, n) for n in ("image", "odd", "aligned"))
        with LinuxGuest(version, machine, cpus=CPUS) as vm:
            vm.booted()
            self.machine = vm.machine
            godwit.run("save", vm.monitor, self.image, "--stop").ok()
            self.console = vm.console()
            s = images.check_image(vm, self.image, vm.path("raw"))
            check_memory(vm.path("raw"), CPUS)
            self.devices = [d[:2] for d in s.devices]
        for path, offset in ((self.odd, ODD_OFFSET), (self.aligned, 3 << 20)):
            godwit.run("convert", self.image, path, f"--to-offset={offset}").ok()

    def keywords(self):
        return {"machine": self.machine, "cpus": CPUS}


def goes_on(vm, kept, running=True):
    """The second life follows on the first."""
    if not running:
        assert vm.qmp.command("query-status")["status"] == "paused"
        assert vm.console() == ""
        vm.qmp.cont()
    vm.wait_console(lambda t: t.count("\ntick") >= 3, timeout=60 * godwit.PATIENCE)
    check_continues(kept.console, vm.console())


def restored_by(kept, version, way, image=None, options=()):
    """godwit restore IMAGE -- QEMU: started, filled, handed over."""
    print(f"  restore --way={way} {' '.join(options)}", flush=True)
    with Restored(image or kept.image, [f"--way={way}", "-v", *options], version, **kept.keywords()) as vm:
        goes_on(vm, kept)
        if not image:
            vm.stamped_again()
        vm.qmp.command("stop")
        check_memory(vm.ram_path(), CPUS)
        said = vm.stderr()
        assert vm.qmp.command("query-migrate")["status"] == "completed"
        vm.qmp.command("quit")
        vm.process.wait(30)
        assert vm.process.returncode == 0, vm.stderr()
    return said


def restored_by_qmp(kept, version, way, *options, args=()):
    """A QEMU that waits already, behind a monitor; its settings are afterwards as before."""
    print(f"  restore --qmp --way={way} {' '.join(options)} {' '.join(args)}", flush=True)
    with LinuxGuest(version, incoming="defer", args=args, **kept.keywords()) as vm:
        before = vm.state()
        r = godwit.run("restore", kept.image, f"--qmp={vm.monitor}", f"--way={way}", "--json", *options).ok()
        done = r.event("restored")
        assert done["way"] == way and done["running"] == ("-S" not in args), r
        after = vm.state()
        assert before.pop("run") == "inmigrate" and after.pop("run") == ("paused" if "-S" in args else "running")
        assert after == before, f"{after} was {before}"
        goes_on(vm, kept, running="-S" not in args)


def compare_memory(kept, version, way):
    """With -S nothing runs: the destination's memory is the image's."""
    with LinuxGuest(version, incoming="defer", args=["-S"], **kept.keywords()) as vm:
        godwit.run("restore", kept.image, f"--qmp={vm.monitor}", f"--way={way}").ok()
        images.check_image(vm, kept.image, vm.path("raw"), refstream_too=False)
        # and the other way round: what is saved from it is the same guest
        again = vm.path("again")
        stop = ["--stop"] if version == "7.2" else []  # it cannot put "paused" back
        godwit.run("save", vm.monitor, again, *stop).ok()
        r = godwit.run("verify", kept.image, again)
        assert r.status in (godwit.DONE, godwit.DIFFERENT), r
        assert '"m0"' not in r.stdout, r


def restored_with_detach(kept, version):
    """--detach: godwit ends, QEMU goes on without it."""
    print("  restore --detach", flush=True)
    with Restored(kept.image, ["--detach"], version, **kept.keywords()) as vm:
        assert vm.process.wait(30 * godwit.PATIENCE) == 0, vm.stderr()
        vm.process.poll = lambda: None      # the guest's process is another one
        goes_on(vm, kept)
        vm.qmp.command("quit")


def loaded_by_qemu_alone(kept, version, image, offset=0):
    """-incoming file:IMAGE, no godwit anywhere."""
    print(f"  QEMU alone, offset {offset:#x}", flush=True)
    uri = f"file:{image}" + (f",offset={offset:#x}" if offset else "")
    with LinuxGuest(version, incoming=uri, args=["-global", "migration.mapped-ram=on"], **kept.keywords()) as vm:
        goes_on(vm, kept)


def loaded_with_multifd(kept, version, channels):
    print(f"  QEMU alone, {channels} channels", flush=True)
    with LinuxGuest(version, incoming="defer", args=["-S"], **kept.keywords()) as vm:
        vm.qmp.command("migrate-set-capabilities", capabilities=[
            {"capability": "mapped-ram", "state": True}, {"capability": "multifd", "state": channels > 0}])
        if channels:
            vm.qmp.command("migrate-set-parameters", multifd_channels=channels)
        vm.qmp.command("migrate-incoming", uri=f"file:{kept.image}")
        wait_loaded(vm)
        images.check_image(vm, kept.image, vm.path("raw"), refstream_too=False)
        goes_on(vm, kept, running=False)


def wait_loaded(vm):
    deadline = time.monotonic() + 60 * godwit.PATIENCE
    while True:
        info = vm.qmp.command("query-migrate")
        if info.get("status") == "completed":
            return
        assert info.get("status") != "failed", info
        assert time.monotonic() < deadline, info
        time.sleep(0.05)


def read_by_qemu(kept, version):
    """Everything a QEMU that reads images does with one."""
    loaded_by_qemu_alone(kept, version, kept.image)
    loaded_by_qemu_alone(kept, version, kept.odd, ODD_OFFSET)
    loaded_by_qemu_alone(kept, version, kept.aligned, 3 << 20)
    for channels in (0, 4):
        loaded_with_multifd(kept, version, channels)
    said = restored_by(kept, version, "direct")
    assert "reads mapped-ram images itself" in said, said
    restored_by(kept, version, "direct", kept.odd, [f"--offset={ODD_OFFSET}"])
    restored_by_qmp(kept, version, "direct", "--channels=4")


def destination(kept, version):
    print(f"into {version}", flush=True)
    restored_by(kept, version, "stream", kept.odd, [f"--offset={ODD_OFFSET}"])
    restored_by_qmp(kept, version, "stream", args=["-S"])
    compare_memory(kept, version, "stream")
    if version in READS_IMAGES:
        read_by_qemu(kept, version)
    else:
        r = godwit.run("restore", kept.image, "--way=direct", "--", *LinuxGuest(version, **kept.keywords()).argv)
        r.fails(godwit.REFUSED, "image")
    restored_by(kept, version, "auto")
    restored_with_detach(kept, version)


def main():
    source, *destinations = sys.argv[1:]
    version, _, machine = source.partition("=")
    with contextlib.ExitStack() as stack:
        folder = tempfile.mkdtemp(prefix="godwit-restore.")
        stack.callback(shutil.rmtree, folder)
        try:
            kept = unless_lost(version, Kept, version, machine, folder)
            for version in destinations:
                destination(kept, version)
        except Unavailable as e:
            skip(str(e))


if __name__ == "__main__":
    main()
