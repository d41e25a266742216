# SPDX-License-Identifier: MIT
"""A Linux guest that was saved while it ran, and the destinations in which its life is to go on (post-copy from its image)."""
import os
import time

import godwit
import images
import linuxguest
from linuxguest import LinuxGuest, check_continues, check_memory
from lost_pages import unless_lost

# A guest that waits for a page has not been stopped: its clock goes on, for as long as no page server comes.
linuxguest.LONGEST_TICK_S = 180


class Kept:
    """What the source left: an image and the console up to it."""

    def __init__(self, version, folder):
        self.image = os.path.join(folder, "image")
        unless_lost(version, self._save, version)

    def _save(self, version):
        with LinuxGuest(version, backend="memfd") as vm:
            vm.booted()
            self.machine = vm.machine
            godwit.run("save", vm.monitor, self.image, "--stop").ok()
            self.console = vm.console()
            images.check_image(vm, self.image, vm.path("raw"), refstream_too=False)

    def destination(self, version, *args, incoming="defer", **keywords):
        """memfd: what the kernel can trap pages of, and what can be looked at."""
        return LinuxGuest(version, machine=self.machine, backend="memfd", incoming=incoming, args=args, **keywords)

    def is_in(self, vm):
        """A paused destination has every byte, in each block that both can show."""
        images.check_image(vm, self.image, vm.path("raw"), refstream_too=False)
        compared = 0
        with open(f"/proc/{vm.pid}/mem", "rb") as mem:
            for name, used, at in vm.blocks():
                raw = vm.path("raw-block")
                r = godwit.run("convert", self.image, raw, "--to=raw", f"--block={name}")
                if r.status or not at:      # a block that does not migrate, or a QEMU that does not say where it is
                    continue
                mem.seek(at)
                with open(raw, "rb") as f:
                    images.same_bytes(name, mem.read(used), f.read())
                compared += 1
        return compared

    def goes_on_in(self, vm):
        """The second life follows on the first, and its memory is right."""
        vm.wait_console(lambda t: t.count("\ntick") >= 3, timeout=90 * godwit.PATIENCE)
        check_continues(self.console, vm.console())
        vm.stamped_again()
        vm.qmp.command("stop")
        check_memory(vm.ram_path())


def serve(kept, vm, *options, **popen):
    return godwit.Run("serve", kept.image, f"--qmp={vm.monitor}", "-v", *options, **popen)


def status(vm):
    return vm.qmp.command("query-migrate").get("status", "")


def wait_status(vm, wanted):
    deadline = time.monotonic() + 30 * godwit.PATIENCE
    while (now := status(vm)) != wanted:
        assert time.monotonic() < deadline, f"{now}, {wanted} expected"
        time.sleep(0.01)


def wait_guest(vm):
    """Until the guest is this QEMU's and a break can be recovered. The status alone comes with LISTEN already, up to 10.0."""
    wait_status(vm, "postcopy-active")
    deadline = time.monotonic() + 30 * godwit.PATIENCE
    while vm.qmp.command("query-status")["status"] == "inmigrate":
        assert time.monotonic() < deadline, "it does not read RUN"
        time.sleep(0.01)


def is_done(vm, before):
    """Nothing of godwit is left in it."""
    assert status(vm) == "completed", status(vm)
    after = vm.state()
    for what in ("parameters", "capabilities"):
        assert after[what] == before[what], f"{after[what]} was {before[what]}"
