#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""godwit save of a guest in each run state that a QEMU can be brought into: afterwards as before, as often as one likes, or refused and untouched.

test-run-states.py 7.2|10.0|11.1
"""
import os
import socket
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
import refstream
import tinyguest
from capture_guests import Kind, KindVm
import linuxguest
from linuxguest import LinuxGuest, Restored, check_continues
from ordered_vm import OrderedVm, wait
from qmp import QmpError
from vm import Unavailable, skip

BAD_DISK = ("-blockdev", "driver=raw,node-name=r,file.driver=blkdebug,file.image.driver=null-co,file.image.size=1048576,"
            "file.inject-error.0.event=read_aio", "-device", "ide-hd,drive=r,rerror=stop,bus=ide.0,unit=0")
# name: (QEMU's options, how the guest gets there)
KEPT = {
    "prelaunch": ((), None), "paused": ((), "stop"), "suspended": ((), tinyguest.SUSPEND),
    "shutdown": (("-no-shutdown",), tinyguest.POWER_OFF),
    "guest-panicked": (("-device", "pvpanic", "-action", "panic=pause"), tinyguest.PANIC),
    "watchdog": (("-device", "ib700", "-action", "watchdog=pause"), tinyguest.WATCHDOG),
    "io-error": (BAD_DISK, tinyguest.READ_DISK),
}


def state_in(image):
    body = next(d[2] for d in refstream.decode_file(image).devices if d[0] == "globalstate")
    return bytes(body[4:36]).rstrip(b"\0").decode()


def bring_into(vm, name, how):
    if isinstance(how, int):
        vm.order(how)
    elif how:
        vm.qmp.command(how)
    vm.wait_state(name)


def saved_as_before(vm, name, *options):
    before, count = vm.state(), vm.counter()
    saved = godwit.run("save", vm.monitor, vm.image, "--json", *options).ok().event("saved")
    assert saved["state"] == name and not saved["running"], saved
    assert vm.state() == before and vm.counter() == count, f"{vm.state()} was {before}"
    godwit.run("verify", vm.image).ok()
    assert state_in(vm.image) == name, state_in(vm.image)


def refused(vm, *options, says="nothing was changed"):
    before, count = vm.state(), vm.counter()
    godwit.run("save", vm.monitor, vm.image, *options).fails(godwit.REFUSED, vm.run_state(), says, "nothing was changed")
    assert vm.state() == before and vm.counter() == count, f"{vm.state()} was {before}"
    assert not os.path.exists(vm.image)


def goes_on(vm, name):
    """What its user may do next works as if there had been no save."""
    if name == "suspended":
        vm.qmp.command("system_wakeup")
    elif name == "shutdown":
        try:
            vm.qmp.cont()
        except QmpError as e:
            assert "eset" in e.desc, e
        vm.qmp.command("system_reset")
        vm.qmp.cont()
    elif name == "io-error":
        return
    else:
        vm.qmp.cont()
    vm.counts()


def kept(version, name, args, how):
    with OrderedVm(version, runs=name != "prelaunch", args=args) as vm:
        bring_into(vm, name, how)
        if version != "7.2":
            for options in ((), ("--stop",), ("--channels=2",), ("--postcopy",), ("--at=start",)):
                saved_as_before(vm, name, *options)
        elif name == "suspended":
            refused(vm)
            refused(vm, "--stop", says="system_wakeup")
        else:
            refused(vm, says="--stop")
        goes_on(vm, name)


def stopped_in_7_2(version):
    """What it cannot put back is left as was asked for."""
    with OrderedVm(version) as vm:
        bring_into(vm, "paused", "stop")
        godwit.run("save", vm.monitor, vm.image, "--stop").ok()
        assert state_in(vm.image) == "paused" and vm.run_state() == "postmigrate"
        refused_again(vm)


def refused_again(vm):
    godwit.run("save", vm.monitor, vm.image).fails(godwit.REFUSED, "postmigrate", "cont", "nothing was changed")
    vm.qmp.cont()
    vm.counts()


def after_stop(version):
    """A guest that ran and was to stand still then: only cont leads on, and the next save says so."""
    with OrderedVm(version) as vm:
        godwit.run("save", vm.monitor, vm.image, "--stop").ok()
        assert vm.run_state() == "postmigrate"
        refused_again(vm)


def debugged(version):
    """Held by a debugger: 10.0 and 11.1 abort when they are to put that back."""
    with OrderedVm(version) as vm:
        vm.qmp.human(f"gdbserver unix:{vm.path('gdb')},server=on,wait=off")
        with socket.socket(socket.AF_UNIX) as gdb:
            gdb.connect(vm.path("gdb"))
            gdb.sendall(b"+$Qqemu.sstep=1#d4+$s#73")      # a step with timer and interrupts, or it would stay halted
            vm.wait_state("debug")
            refused(vm)
            refused(vm, "--stop")


def waits(version):
    with KindVm(version, Kind(), incoming="defer") as vm:
        vm.run_state = lambda: vm.qmp.command("query-status")["status"]
        r = godwit.run("save", vm.monitor, vm.path("image")).fails(godwit.REFUSED, "inmigrate", "nothing was changed")
        assert vm.run_state() == "inmigrate", r


def changed_meanwhile(version):
    """Its user, or the guest itself, stops it in the middle: that is what holds afterwards."""
    for name, how in (("paused", "stop"), ("suspended", tinyguest.SUSPEND)):
        with OrderedVm(version, ram=32 << 20) as vm:
            with open(vm.ram_path(), "r+b") as f:
                f.seek(8 << 20)
                f.write(os.urandom(16 << 20))
            with godwit.Run("save", vm.monitor, vm.image, "--max-bandwidth=10M", "--json") as r:
                vm.wait(lambda: vm.qmp.command("query-migrate").get("ram", {}).get("transferred", 0) > 2 << 20, "it sends nothing")
                bring_into(vm, name, how)
                saved = r.wait().ok().event("saved")
            assert saved["state"] == name == vm.run_state() == state_in(vm.image), f"{saved} {vm.run_state()}"
            goes_on(vm, name)


def linux_sleeps(version):
    """Linux in S3: kept, woken here, and woken once more out of its image, in both ways."""
    linuxguest.LONGEST_TICK_S = 180     # its clock counts the sleep, which lasts as long as the save
    with LinuxGuest(version, words="sleep_at=12") as source:
        source.run_state = lambda: source.qmp.command("query-status")["status"]
        source.booted()
        wait(lambda: source.run_state() == "suspended", "Linux does not suspend")
        image, before = source.path("image"), source.console()
        if version == "7.2":
            godwit.run("save", source.monitor, image).fails(godwit.REFUSED, "suspended", "nothing was changed")
        else:
            godwit.run("save", source.monitor, image).ok()
            assert state_in(image) == "suspended" == source.run_state(), source.run_state()
        source.qmp.command("system_wakeup")
        source.keeps_ticking()
        for options in () if version == "7.2" else ((), ("--lazy",)):
            with Restored(image, options, version, backend="memfd") as copy:
                wait(lambda: copy.qmp.command("query-status")["status"] == "suspended", "not as it was")
                copy.qmp.command("system_wakeup")
                copy.keeps_ticking()
                check_continues(before, copy.console())


def main():
    version = sys.argv[1]
    try:
        start = time.monotonic()
        for name, (args, how) in KEPT.items():
            kept(version, name, args, how)
            print(f"{name}: {time.monotonic() - start:.1f} s", flush=True)
        if version == "7.2":
            stopped_in_7_2(version)
        else:
            changed_meanwhile(version)
        for step in (after_stop, debugged, waits, linux_sleeps):
            step(version)
            print(f"{step.__name__}: {time.monotonic() - start:.1f} s", flush=True)
    except Unavailable as e:
        skip(str(e))


if __name__ == "__main__":
    main()
