# SPDX-License-Identifier: MIT
"""Guests that were booted before. A boot takes five seconds of a processor under TCG, and a hundred tests want the same guest.

The folder GODWIT_BOOTED_GUESTS (without it, each guest boots) has one of each kind, as it is when it counts and its memory was stamped: QEMU's own
stream of it, and its console. Only QEMU writes and reads them, so no fault of Godwit can be in them.
"""
import fcntl
import hashlib
import os
import shlex
import shutil
import time

FOLDER = os.environ.get("GODWIT_BOOTED_GUESTS")


def find(kind, boot):
    """Path of the kept guest; `kind` is whatever decides what is in its memory and devices. The first of its kind comes from boot(), which returns a Vm
    to use with "with"."""
    path = os.path.join(FOLDER, hashlib.sha256(repr(kind).encode()).hexdigest()[:16])
    os.makedirs(FOLDER, exist_ok=True)
    with open(path + ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path):
            shutil.rmtree(path + ".partial", ignore_errors=True)
            os.mkdir(path + ".partial")
            with boot() as vm:
                _keep(vm, path + ".partial")
            os.rename(path + ".partial", path)
    return path


def _keep(vm, folder):
    vm.qmp.command("stop")
    vm.qmp.command("migrate-set-parameters", max_bandwidth=10 << 30)
    vm.qmp.command("migrate", uri="exec:cat >" + shlex.quote(os.path.join(folder, "stream")))
    _wait_completed(vm)
    shutil.copyfile(vm.path("console"), os.path.join(folder, "console"))


def argv(path, vm):
    """How a QEMU starts that gets this guest. Its console goes on in a file where the earlier part already is."""
    shutil.copyfile(os.path.join(path, "console"), vm.path("console"))
    at = vm.argv.index("-serial")
    return [*vm.argv[:at], "-chardev", f"file,id=console,path={vm.path('console')},append=on", "-serial", "chardev:console",
            *vm.argv[at + 2:], "-incoming", "defer"]


def load(path, vm):
    """Into QEMU, started with that; the guest runs."""
    vm.qmp.command("migrate-incoming", uri="exec:cat " + shlex.quote(os.path.join(path, "stream")))
    _wait_completed(vm)
    vm.qmp.cont()
    vm.qmp.events.clear()


def _wait_completed(vm):
    deadline = time.monotonic() + vm.timeout
    while (now := vm.qmp.command("query-migrate").get("status")) != "completed":
        assert now != "failed" and time.monotonic() < deadline, f"a guest that was booted before: {now}, {vm.stderr()}"
        time.sleep(0.01)
