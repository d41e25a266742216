# SPDX-License-Identifier: MIT
"""The QEMUs of a benchmark: a paused source with given memory, and destinations that wait; and one migration."""
import os
import shutil

from bench import NotRun
from qmp import QmpClosed, QmpError, QmpTimeout
from vm import Vm

UNLIMITED = 1 << 42     # bytes per second; the default would be what is measured
LONGEST = 600.0         # seconds a migration may take


def source(bench, kind, size, bios=None):
    """
    A guest that holds the given content. Its page tables are filled before, as those of a guest that has used its memory are.
    It never ran; with a `bios` of its own it runs that.
    """
    path = bench.guest(kind, size)
    memory = f"memory-backend-file,id=pc.ram,size={size},mem-path={path},share=on,prealloc=on"
    return start(bench, *paused_or(bios), "-machine", "pc,memory-backend=pc.ram", "-m", f"{size >> 20}M", "-object", memory)


# What the memory of a destination may be: QEMU's default (an empty text), the same touched before the guest comes, or a
# new file in tmpfs as for a guest that shares its memory with other processes.
MEMORY = {
    "default": "",
    "prealloc": "memory-backend-ram,prealloc=on",
    "shared": "memory-backend-file,share=on,mem-path={tmpfs}/ram",
}


def destination(bench, size, memory="default", bios=None):
    """Waits with -incoming defer. It lets its guest run only with a `bios`."""
    args = [*paused_or(bios), "-incoming", "defer", "-m", f"{size >> 20}M", "-machine"]
    backend = MEMORY[memory].format(tmpfs=bench.tmpfs)
    if backend:
        args += ["pc,memory-backend=pc.ram", "-object", f"{backend},id=pc.ram,size={size}"]
    else:
        args += ["pc"]
    return start(bench, *args)


def paused_or(bios):
    return ["-bios", bios] if bios else ["-S"]


def start(bench, *args):
    """Beside our own monitor it has one for the command that is measured. It ends with us, also when we are killed."""
    vm = Vm(bench.qemu, [*args, "-qmp", "unix:{dir}/monitor2,server=on,wait=off"], console=False, timeout=120.0)
    if shutil.which("setpriv"):
        vm.argv = ["setpriv", "--pdeathsig", "KILL", *vm.argv]
    return vm


def prepare(machine, link, capabilities=(), **parameters):
    states = [{"capability": c, "state": True} for c in ("events", *capabilities, *link.capabilities())]
    machine.qmp.command("migrate-set-capabilities", capabilities=states)
    parameters.update(link.parameters())
    if parameters:
        machine.qmp.command("migrate-set-parameters", **parameters)


def await_end(machine):
    """Until this end of the migration says that it is over, well or not."""
    try:
        event = machine.qmp.wait_event("MIGRATION", LONGEST, lambda d: d["status"] in ("completed", "failed", "cancelled"))
        if event["data"]["status"] == "completed":
            return
        said = machine.qmp.command("query-migrate").get("error-desc", "it does not say why")
    except (QmpClosed, QmpError, QmpTimeout) as e:
        said = f"{e}; {machine.stderr().strip()}"
    raise NotRun(f"QEMU's migration failed: {said}")


def pid(machine):
    return machine.process.pid


def socket_path(bench):
    return os.path.join(bench.tmpfs, "link")
