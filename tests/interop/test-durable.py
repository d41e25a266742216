#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""godwit standby --durable and a real QEMU primary: kill -9 of the standby at seeded moments, and the last epoch that was acknowledged is there afterwards, byte
for byte.

test-durable.py 11.1 [CASE...]. GODWIT_KILLS: of the standby; GODWIT_SEED; GODWIT_DISK: where its files are.
"""
import contextlib
import os
import random
import re
import signal
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import colo
import godwit
import images
from colo import Standby, Wire
from linuxguest import LinuxGuest, Restored, check_goes_on, check_memory, ticks_of
from vm import Unavailable, skip

KILLS = int(os.environ.get("GODWIT_KILLS", "5"))
SEED = int(os.environ.get("GODWIT_SEED", "11"))
LINKS = [(0, "none"), (2, "none")]
random = random.Random(SEED)


@contextlib.contextmanager
def killed_standby(folder, *options):
    """A standby that is expected to die by SIGKILL inside."""
    standby = Standby(folder, "--durable", *options)
    try:
        yield standby
    finally:
        kill(standby)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(standby.socket)


def kill(standby):
    standby.kill(signal.SIGKILL)
    standby.wait()


def recovered(folder, acknowledged):
    """What the next standby makes of what the dead one left: (epoch, RAM)."""
    with killed_standby(folder) as standby:
        ended = standby.wait_event("ended")
        assert ended["message"] == "its standby died" and acknowledged <= ended["epoch"] <= acknowledged + 1, (ended, acknowledged)
        images.is_tidy(standby.folder, "guest.img")
        godwit.run("verify", standby.image).ok()
        raw = os.path.join(folder, "raw")
        ram = images.raw_ram(standby.image, raw)
    return ended["epoch"], ram


def one_kill(vm, folder, link):
    """Up to some epoch at LOADED, where the primary stands still; then on, and the standby dies after a moment, wherever it is."""
    with killed_standby(folder) as standby, Wire(os.path.join(vm.dir, "wire"), standby.socket, records=True) as wire:
        colo.protect(vm, wire.uri, 5, *link)
        standby.wait_event("protected")
        wire.hold(colo.LOADED, random.randrange(1, 6))
        ram, acknowledged = vm.ram(), wire.sent[colo.LOADED]    # this one is held: safe, and not acknowledged
        moment = random.choice([None, 0, 0.002, 0.01, 0.03, 0.1])
        if moment is not None:
            acknowledged += 1
            wire.hold_next(colo.LOADED)     # the primary stands still there, if the standby comes so far
            wire.go_on()
            time.sleep(moment * random.random() * 2)
        kill(standby)
        wire.cut()
        stands = vm.qmp.command("query-status")["status"] == "colo"
        later = vm.ram() if stands else None
        epoch, kept = recovered(folder, acknowledged)
        if moment is None:
            assert epoch == acknowledged + 1, epoch
        elif epoch == acknowledged + 1:
            assert stands, "an epoch that the primary has not sent"
            ram = later
        if wire.check_kept(ram, kept):   # the stamps are those of one moment
            check_memory(os.path.join(folder, "raw"))
    colo.release(vm)
    return epoch - acknowledged


def kills(folder, vm):
    newer = 0
    for n in range(KILLS):
        newer += one_kill(vm, folder, LINKS[n % len(LINKS)])
        if n % 20 == 19:
            print(f"{n + 1} kills, {newer} found an epoch that was safe and not acknowledged yet", flush=True)
    vm.keeps_ticking()
    print(f"{KILLS} kills of the standby (seed {SEED}), {newer} found an epoch that was safe and not acknowledged yet")


def failover(folder, vm):
    """Both die; godwit failover makes the image of the journal, and the guest goes on."""
    with contextlib.ExitStack() as stack:
        with killed_standby(folder) as standby:
            colo.protect(vm, f"unix:{standby.socket}", 50)
            acknowledged = standby.wait_epoch(5)
            kill(standby)
            names = sorted(os.listdir(standby.folder))
            assert {"guest.img.standby", "guest.img.journal.0", "guest.img.journal.1"} <= set(names) and "guest.img" not in names, names
        before = vm.console()
        os.kill(vm.pid, signal.SIGKILL)
        again = Restored(standby.folder, ["--primary-is-dead", "-v"], "11.1", command="failover", backend="memfd")
        stack.enter_context(again)
        again.wait_console(lambda t: len(ticks_of(t[:t.rfind("\n") + 1])) >= 3)
        again.stamped_again()
        check_goes_on(before, again.console(), acknowledged)


def damaged(folder, vm):
    """What cannot be recovered is said, and nothing is taken away; a guest of that name is not protected over it."""
    with killed_standby(folder) as standby:
        colo.protect(vm, f"unix:{standby.socket}", 20)
        standby.wait_epoch(3)
        kill(standby)
        colo.release(vm)
        for i in 0, 1:
            with open(f"{standby.image}.journal.{i}", "r+b") as f:
                f.seek(40)
                f.write(b"damage")
        names = sorted(os.listdir(standby.folder))
        godwit.run("failover", standby.folder, "--primary-is-dead", "--", "/bin/false").fails(
            godwit.IN_DOUBT, "cannot be recovered.*journal.0 is damaged", "nothing was started")
        with killed_standby(folder) as second:
            assert re.search("journal.0 is damaged", second.wait_event("failed")["message"])
            second.forget()
            vm.qmp.migrate(f"unix:{second.socket}")
            second.wait_event("failed")
        assert set(os.listdir(standby.folder)) - {"owner.lock"} == set(names) - {"owner.lock"}, os.listdir(standby.folder)


def main():
    only = sys.argv[2:]
    with LinuxGuest("11.1") as vm:
        vm.booted()
        for case in [kills, damaged, failover]:     # the last one ends it
            if not only or case.__name__ in only:
                print(f"--- {case.__name__}", flush=True)
                with tempfile.TemporaryDirectory(prefix="godwit-durable.", dir=os.environ.get("GODWIT_DISK")) as folder:
                    case(folder, vm)


if __name__ == "__main__":
    try:
        main()
    except Unavailable as e:
        skip(str(e))
