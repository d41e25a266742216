#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Whoever ends a save: its guest runs on as before, its settings are put back, the old image stays, nothing else is left.

test-killed.py 7.2|10.0|11.1 [SEED]
"""
import os
import random
import signal
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
from protected_guest import MIB, Victim
from vm import Unavailable, skip

MOMENTS = 10
SLOWLY = "--max-bandwidth=20M"      # about 1.5 s for the victim's memory
DIRECT = "--way=direct"


def save(vm, *options, **popen):
    return godwit.Run("save", vm.monitor, vm.image, SLOWLY, *options, **popen)


def typical_seconds(vm):
    start = time.monotonic()
    godwit.run("save", vm.monitor, vm.path("other"), SLOWLY).ok()
    os.unlink(vm.path("other"))
    return time.monotonic() - start


def killed_at_random_moments(vm, seed):
    """kill -9: nobody is asked. From before the first command to after the last byte."""
    rng = random.Random(seed)
    length = typical_seconds(vm)
    finished = 0
    for n in range(MOMENTS):
        moment = rng.uniform(0, length * 1.05) if n else 0.01
        options = rng.choice([(), ("--stop",), ("--json",), *([(DIRECT,), (DIRECT, "--stop")] if vm.direct else [])])
        with save(vm, *options) as r:
            time.sleep(moment)
            if r.process.poll() is None:
                r.kill()
            status = r.wait().status
        print(f"  killed after {moment:.3f} of {length:.3f} s: {status}", flush=True)
        if status == godwit.DONE:       # it was faster
            finished += 1
            if "--stop" in options:
                vm.qmp.cont()
            vm.wait_as_before()
            godwit.run("verify", vm.image).ok()
            vm.put_old_image()
            continue
        vm.unharmed_unless_kept(stopped="--stop" in options)
    with save(vm, "--stop") as r:       # the moment that chance seldom finds
        while not vm.is_kept():
            assert r.process.poll() is None, r.stderr
            time.sleep(0.001)
        r.kill()
        r.wait()
    vm.unharmed_unless_kept(stopped=True)
    assert finished < MOMENTS - 1, f"seed {seed}: {finished} of {MOMENTS} were too late"  # how long a save takes varies with the machine


def folder_of_socket(pid):
    """Where this process listens for its QEMU."""
    with open("/proc/net/unix", encoding="utf-8") as f:
        path_of = {row.split()[6]: row.split()[7] for row in f if "/tmp/godwit-" in row and row.endswith("/migration\n")}
    links = [os.readlink(fd.path) for fd in os.scandir(f"/proc/{pid}/fd")]
    found = {os.path.dirname(path_of[name[8:-1]]) for name in links if name.startswith("socket:[") and name[8:-1] in path_of}
    return found.pop() if found else None


def killed_while_sending(vm, *options):
    """In the middle of memory, for certain. The socket that QEMU came to goes, too."""
    with save(vm, *options) as r:
        vm.wait_moving(4 * MIB)
        folder = folder_of_socket(r.process.pid)
        r.kill()
        r.wait()
        vm.unharmed()
        guard_said = r.wait_guard(r"the save was killed before it finished")
    assert guard_said
    assert not folder or not os.path.exists(folder), folder
    return folder


def stopped_by_signals(vm):
    """Signals that ask: status 1, one sentence that names the signal."""
    for number, name in ((signal.SIGINT, "SIGINT"), (signal.SIGTERM, "SIGTERM"), (signal.SIGHUP, "SIGHUP")):
        with save(vm, *[DIRECT] * (vm.direct and name != "SIGINT")) as r:
            vm.wait_moving(2 * MIB)
            r.kill(number)
            r.wait(10).fails(godwit.FAILED, name, "as it was before|untouched|no image", "runs on")
        vm.unharmed()


def stopped_at_once(vm):
    """Before anything was changed, or just after: never a hang, never a guest that is left stopped."""
    for delay_ms in (1, 3, 5, 8, 12, 20, 25, 30):
        with save(vm, *[DIRECT] * (vm.direct and delay_ms % 2)) as r:
            time.sleep(delay_ms / 1000)
            r.kill(signal.SIGTERM)
            result = r.wait(10)
        assert result.status in (godwit.FAILED, godwit.DONE, -signal.SIGTERM), result
        vm.unharmed()


def ignored_hangup(vm):
    """nohup's wish is respected."""
    with save(vm, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as r:
        vm.wait_moving(2 * MIB)
        r.process.send_signal(signal.SIGHUP)
        r.wait().ok()
    godwit.run("verify", vm.image).ok()
    vm.put_old_image()
    vm.wait_as_before()


def group_killed(vm):
    """A whole session ends: the guard is in one of its own."""
    with save(vm, start_new_session=True) as r:
        vm.wait_moving(4 * MIB)
        os.killpg(r.process.pid, signal.SIGTERM)
        r.killed_by = signal.SIGKILL
        os.killpg(r.process.pid, signal.SIGKILL)
        r.wait()
        vm.unharmed()


def stopped_and_continued(vm):
    """A save that is suspended for a while goes on; the source only waits."""
    with save(vm) as r:
        vm.wait_moving(2 * MIB)
        r.process.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        assert vm.counts()
        r.process.send_signal(signal.SIGCONT)
        r.wait().ok()
    vm.wait_as_before()
    godwit.run("verify", vm.image).ok()
    vm.put_old_image()


def cannot_migrate_any_more(vm):
    """7.2 after a background snapshot that failed. It says "failed" and keeps its socket open: not waited for."""
    r = godwit.run("save", vm.monitor, vm.image).fails(godwit.FAILED, "QEMU ended the migration|source|QEMU.s migration has the status|cut short", "runs on")
    assert r.seconds < 5 * godwit.PATIENCE, r
    vm.unharmed()


def main():
    version, *seed = sys.argv[1:]
    seed = int(seed[0]) if seed else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    try:
        with Victim(version) as vm:
            vm.direct = version != "7.2"    # QEMU writes the image itself
            killed_at_random_moments(vm, seed)
            killed_while_sending(vm, *[DIRECT] * vm.direct)
            assert not vm.direct or not vm.qmp.command("query-fdsets"), "the QEMU still has a file of ours"
            killed_while_sending(vm)
            killed_while_sending(vm, "--stop")
            assert killed_while_sending(vm, "--channels=2"), "channels need a socket with a name"
            stopped_by_signals(vm)
            stopped_at_once(vm)
            ignored_hangup(vm)
            group_killed(vm)
            stopped_and_continued(vm)
            vm.can_be_saved()
        with Victim(version, backend="memfd") as vm:
            killed_while_sending(vm, "--at=start")
            if version == "7.2":
                cannot_migrate_any_more(vm)
            else:
                vm.can_be_saved()
    except Unavailable as e:
        skip(str(e))


if __name__ == "__main__":
    main()
