#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What may happen to the QEMU that is being saved, and by whom: killed, frozen, cancelled, stopped, reset, too busy.

test-source.py 7.2|10.0|11.1
"""
import os
import signal
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
from protected_guest import MIB, Victim
from vm import Unavailable, skip

SLOWLY = "--max-bandwidth=20M"


def save(vm, *options, image=None, monitor=None):
    return godwit.Run("save", monitor or vm.monitor, image or vm.image, SLOWLY, *options)


# --- it goes away ---------------------------------------------------------------------------------------------------

def killed(version):
    """kill -9 of the source: nobody can say where its guest is, and the image is as it was."""
    with Victim(version) as vm, save(vm) as r:
        vm.wait_moving(4 * MIB)
        vm.process.kill()
        result = r.wait(20).fails(godwit.IN_DOUBT, "QEMU", "gone|closed", "nothing was written")
        assert result.seconds < 8 * godwit.PATIENCE, result
        vm.image_untouched()


def quits(version):
    """The same asked for politely."""
    with Victim(version) as vm, save(vm) as r:
        vm.wait_moving(4 * MIB)
        vm.qmp.sock.sendall(b'{"execute": "quit"}\n')
        r.wait(20).fails(godwit.IN_DOUBT, "QEMU", "gone|closed", "nothing was written")
        vm.image_untouched()


def killed_while_received(version):
    """A source of receive, with and without a return path."""
    for answer in (True, False):
        with Victim(version) as vm, godwit.Run("receive", f"unix:{vm.path('in')}", vm.image) as r:
            r.wait_stderr("listening")
            vm.qmp.command("migrate-set-capabilities", capabilities=[{"capability": "return-path", "state": answer}])
            vm.qmp.migrate(f"unix:{vm.path('in')}")
            vm.wait_moving(2 * MIB)
            vm.process.kill()
            result = r.wait(20)
            assert result.status == godwit.FAILED and "no image was written" in result.stderr, result
            vm.image_untouched()


# --- it stands still ------------------------------------------------------------------------------------------------

def frozen_for_a_while(vm):
    """Less than the limit: nothing happens."""
    with save(vm, "--idle-timeout=20") as r:
        vm.wait_moving(2 * MIB)
        vm.process.send_signal(signal.SIGSTOP)
        time.sleep(2)
        vm.process.send_signal(signal.SIGCONT)
        r.wait().ok()
    godwit.run("verify", vm.image).ok()
    vm.put_old_image()
    vm.unharmed()


def frozen(vm):
    """Longer than the limit: the save ends, and when the QEMU wakes up, it is put back in order all the same."""
    with save(vm, "--idle-timeout=1") as r:
        vm.wait_moving(2 * MIB)
        vm.process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(4)
        finally:
            vm.process.send_signal(signal.SIGCONT)
        result = r.wait(60)
        assert result.status in (godwit.FAILED, godwit.IN_DOUBT), result
        assert "1000 ms" in result.stderr, result
        vm.unharmed()


def frozen_while_received(vm):
    with godwit.Run("receive", f"unix:{vm.path('in')}", vm.image, "--idle-timeout=1") as r:
        r.wait_stderr("listening")
        vm.qmp.migrate(f"unix:{vm.path('in')}")
        vm.wait_moving(2 * MIB)
        vm.process.send_signal(signal.SIGSTOP)
        try:
            result = r.wait(10)
        finally:
            vm.process.send_signal(signal.SIGCONT)
        assert result.status == godwit.FAILED and "1000 ms" in result.stderr, result
        vm.unharmed()


# --- its user does something ------------------------------------------------------------------------------------------

def cancelled(vm):
    with save(vm) as r:
        vm.wait_moving(4 * MIB)
        vm.qmp.command("migrate_cancel")
        result = r.wait(20).fails(godwit.FAILED, "cancelled", "runs on")
        assert result.seconds < 6 * godwit.PATIENCE, result
    vm.unharmed()


def reset(vm):
    """A guest that reboots while it is saved is saved in whatever state that is."""
    with save(vm) as r:
        vm.wait_moving(4 * MIB)
        vm.qmp.command("system_reset")
        r.wait().ok()
    godwit.run("verify", vm.image).ok()
    vm.put_old_image()
    vm.wait_as_before()


def stopped_by_its_user(vm):
    """Somebody pauses the guest meanwhile. The save comes to its end, and does not let it run again."""
    with save(vm, "--json") as r:
        vm.wait_moving(4 * MIB)
        vm.qmp.command("stop")
        said = r.wait().ok().event("saved")
    assert not said["running"] and not vm.is_running(), said
    godwit.run("verify", vm.image).ok()
    vm.put_old_image()
    vm.qmp.cont()
    vm.wait_as_before()


def settings_changed_meanwhile(vm):
    """The bandwidth is changed by somebody else during the save; in the end it is what it was before, and all is well."""
    with save(vm) as r:
        vm.wait_moving(2 * MIB)
        vm.qmp.command("migrate-set-parameters", max_bandwidth=90 * MIB)
        r.wait().ok()
    vm.put_old_image()
    vm.unharmed()


# --- it cannot ----------------------------------------------------------------------------------------------------------

def outrun(version):
    """It dirties its memory faster than the limit lets through: it is stopped for the rest, and runs on."""
    with Victim(version, ram=8 * MIB, spins=True) as vm:
        vm.qmp.command("migrate-set-parameters", downtime_limit=1)
        vm.before = vm.state()
        for attempt in range(5):    # on a busy machine the guest may be so slow that QEMU gets by without
            with godwit.Run("save", vm.monitor, vm.image, "--max-bandwidth=3M", "-v") as r:
                result = r.wait(120).ok()
            godwit.run("verify", vm.image).ok()
            vm.put_old_image()
            vm.unharmed()
            if "it is stopped for the rest" in result.stderr:
                return
            print(f"    attempt {attempt}: not outrun", flush=True)
        raise AssertionError(f"never stopped for the rest: {result}")


def not_migratable(version):
    """A device that cannot migrate: QEMU's own words, and nothing was changed."""
    with Victim(version, args=["-object", "memory-backend-ram,id=s,size=1M,share=on", "-device", "ivshmem-plain,memdev=s"]) as vm:
        r = godwit.run("save", vm.monitor, vm.image).fails(godwit.FAILED, "ivshmem")
        assert r.seconds < 5 * godwit.PATIENCE, r
        vm.unharmed()


def busy(version):
    """One migration at a time: the second save is refused, the first is not disturbed, and so with a migration of others."""
    with Victim(version, args=["-qmp", "unix:{dir}/second,server=on,wait=off"]) as vm:
        second, other = vm.path("second"), vm.path("other")
        with save(vm) as r:
            vm.wait_moving(2 * MIB)
            godwit.run("save", second, other).fails(godwit.REFUSED, "busy", "migration")
            assert not os.path.exists(other)
            r.wait().ok()
        godwit.run("verify", vm.image).ok()
        vm.put_old_image()
        vm.unharmed()
        vm.qmp.migrate("exec:cat >/dev/null")
        vm.wait_moving()
        now = vm.state()
        godwit.run("save", second, other).fails(godwit.REFUSED, "busy", "active|device|setup")
        assert vm.state() == now
        vm.qmp.command("migrate_cancel")
        vm.unharmed()


def nothing_to_save(version):
    """It waits for a guest itself, or has given its own away."""
    with Victim(version, incoming="defer") as vm:
        godwit.run("save", vm.monitor, vm.image).fails(godwit.REFUSED, "incoming")
        vm.image_untouched()
    with Victim(version) as vm:
        vm.qmp.command("migrate-set-parameters", max_bandwidth=1 << 40)
        vm.qmp.migrate("exec:cat >/dev/null")
        while vm.qmp.command("query-status")["status"] != "postmigrate":
            time.sleep(0.02)
        godwit.run("save", vm.monitor, vm.image).fails(godwit.REFUSED, "postmigrate|given")
        vm.image_untouched()


def main():
    version = sys.argv[1]
    try:
        start = time.monotonic()
        with Victim(version) as vm:
            for step in (cancelled, reset, stopped_by_its_user, settings_changed_meanwhile, frozen_for_a_while, frozen,
                         frozen_while_received):
                step(vm)
                print(f"{step.__name__}: {time.monotonic() - start:.1f} s", flush=True)
            vm.can_be_saved()
        for step in (killed, quits, killed_while_received, outrun, not_migratable, busy, nothing_to_save):
            step(version)
            print(f"{step.__name__}: {time.monotonic() - start:.1f} s", flush=True)
    except Unavailable as e:
        skip(str(e))


if __name__ == "__main__":
    main()
