#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Many guests out of one image, which they map copy-on-write: godwit restore --clone.

test-clone.py QEMU [OLDER]

Eight clones run at once, each rewriting its memory and checking it. One is killed, one saved, one migrated away; nothing of it reaches
another, or the image. OLDER: a QEMU that cannot map an image; then images that QEMU wrote are tried as well.
"""
import contextlib
import hashlib
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
from linuxguest import LinuxGuest, Restored, check_continues, ticks_of
from qmp import Qmp
from vm import Unavailable, get_qemu, skip

CLONES = int(os.environ.get("GODWIT_CLONES", "8"))
GENERATION = "324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87"
RAM = {"backend": "ram", "ram_name": "pc.ram", "words": "load=1", "args": (
    "-device", "virtio-balloon-pci,free-page-reporting=on", "-device", f"vmgenid,guid={GENERATION}")}
MIB = 1 << 20


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else \
            hashlib.sha256(f.read()).hexdigest()


class Source:
    """An image, and the console up to it."""

    def __init__(self, version, folder):
        self.version, self.folder = version, folder
        self.image = os.path.join(folder, "image")
        with LinuxGuest(version, **RAM) as vm:
            vm.booted()
            vm.stamped_again()
            self.machine = vm.machine
            godwit.run("save", vm.monitor, self.image, "--stop").ok()
            self.console = vm.console()
        # As a template is kept. Root can write it all the same.
        os.chmod(self.image, 0o400)
        self.hash = sha256(self.image)

    def keywords(self):
        return {**RAM, "machine": self.machine}

    def unchanged(self):
        assert sha256(self.image) == self.hash, "the image is not what it was"


class Clone:
    """One of restore --clone -n N: its folder, its monitor."""

    def __init__(self, folder):
        self.dir = folder
        self.qmp = Qmp.connect(self.path("qmp"), 60 * godwit.PATIENCE)
        self.monitor = self.path("monitor")
        with open(self.path("pid"), encoding="ascii") as f:
            self.pid = int(f.read())

    def path(self, name):
        return os.path.join(self.dir, name)

    # What a LinuxGuest does with a console, and a monitor.
    cpus, timeout = 1, 60 * godwit.PATIENCE
    console = LinuxGuest.console
    _text = LinuxGuest._text
    ticks = LinuxGuest.ticks
    wait_console = LinuxGuest.wait_console
    stamped_again = LinuxGuest.stamped_again
    keeps_ticking = LinuxGuest.keeps_ticking

    class process:
        @staticmethod
        def poll():
            return None


def command_of(source, folder):
    """A template: {n} is the number of the clone."""
    vm = LinuxGuest(source.version, **source.keywords())
    shutil.rmtree(vm.dir)
    return [a.replace(vm.dir, os.path.join(folder, "{n}")) for a in vm.argv]


def memory_of(pid):
    """(private, proportional) KiB of a process."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        text = f.read()
    return tuple(sum(int(n) for n in re.findall(rf"^{key}:\s+(\d+)", text, re.M)) for key in ("Private_Dirty", "Pss"))


def wait_restored(run, n):
    deadline = time.monotonic() + 120 * godwit.PATIENCE
    while run.stdout.count('"restored"') < n:
        assert run.process.poll() is None and time.monotonic() < deadline, f"{run.stdout}\n{run.stderr}"
        time.sleep(0.02)


def many_at_once(source):
    print(f"  {CLONES} clones at once", flush=True)
    folder = tempfile.mkdtemp(prefix="godwit-clones.")
    for n in range(1, CLONES + 1):
        os.mkdir(os.path.join(folder, str(n)))
    try:
        with godwit.Run("restore", source.image, "--clone", "-n", CLONES, "--json", "--", *command_of(source, folder)) as run:
            wait_restored(run, CLONES)
            clones = [Clone(os.path.join(folder, str(n))) for n in range(1, CLONES + 1)]
            try:
                they_are_apart(source, clones, run)
            finally:
                for c in clones:
                    with contextlib.suppress(OSError):
                        os.kill(c.pid, signal.SIGKILL)
                run.killed_by = signal.SIGKILL
            run.wait()
            done = [godwit.json.loads(line) for line in run.stdout.splitlines() if '"restored"' in line]
            assert sorted(e["clone"] for e in done) == list(range(1, CLONES + 1)), done
            assert all(e["way"] == "clone" and e["running"] for e in done), done
    finally:
        shutil.rmtree(folder)
    source.unchanged()


def they_are_apart(source, clones, run):
    killed, saved, moved, reset, ballooned, *others = clones
    for c in clones:
        c.wait_console(lambda t: len(ticks_of(t)) >= 2, timeout=60 * godwit.PATIENCE)
    private, proportional = zip(*(memory_of(c.pid) for c in clones))
    print(f"    private {max(private) >> 10} MiB at most, proportional {sum(proportional) >> 10} MiB together", flush=True)
    killed.stamped_again()
    os.kill(killed.pid, signal.SIGKILL)
    again = os.path.join(source.folder, "again")
    saved.stamped_again()
    number = generation(saved)
    godwit.run("save", saved.monitor, again, "--stop").ok()
    with LinuxGuest(source.version, incoming=f"unix:{source.folder}/moved", **source.keywords()) as there:
        migrate_by_postcopy(moved, there, f"unix:{source.folder}/moved")
        there.stamped_again()
        check_continues(moved.console(), there.console())
    balloon(ballooned)
    reset.qmp.command("system_reset")       # which rewrites all memory, as a kexec does
    reset.wait_console(lambda t: re.search(r"(?s)tick 0 .*stamp ok", t), timeout=120 * godwit.PATIENCE)
    for c in [ballooned, *others]:
        c.stamped_again()
    for c in [ballooned, *others]:
        check_continues(source.console, c.console())
    each_has_a_number(clones[3:], number, again)
    source.unchanged()
    saved_clone_goes_on(source, saved, again)


def balloon(clone):
    """Pages go back to the host and come again, and its guest reports free ones all the time; QEMU may not discard what the file has."""
    for size in (100 * MIB, 128 * MIB):
        clone.qmp.command("balloon", value=size)
        clone.wait_console(lambda t, size=size: clone.qmp.command("query-balloon")["actual"] == size, timeout=60 * godwit.PATIENCE)


def generation(clone):
    return uuid.UUID(clone.qmp.command("query-vm-generation-id")["guid"])


def each_has_a_number(clones, saved, image):
    """Of its own, by its vmgenid, and where the guest sees it: in its memory. (The kernel of Debian 12's cloud image has no driver for it.)"""
    numbers = {generation(c) for c in clones}
    assert len(numbers) == len(clones) and uuid.UUID(GENERATION) not in numbers, numbers
    with open(image, "rb") as f:
        content = f.read()
    assert saved.bytes_le in content and uuid.UUID(GENERATION).bytes_le not in content


def migrate_by_postcopy(moved, there, uri):
    on = [{"capability": "postcopy-ram", "state": True}]
    moved.qmp.command("migrate-set-capabilities", capabilities=on)
    there.qmp.command("migrate-set-capabilities", capabilities=on)
    moved.qmp.command("migrate", uri=uri)
    moved.qmp.command("migrate-start-postcopy")
    there.wait_console(lambda t: len(ticks_of(t)) >= 2, timeout=60 * godwit.PATIENCE)
    there.wait_console(lambda t: moved.qmp.command("query-migrate")["status"] == "completed", timeout=60 * godwit.PATIENCE)


def saved_clone_goes_on(source, saved, again):
    """Its image is one like any other, and clones of its own can be made of it."""
    godwit.run("verify", again).ok()
    with Restored(again, ["--clone"], source.version, **source.keywords()) as vm:
        vm.stamped_again()
        check_continues(source.console + saved.console(), vm.console())


def behind_a_monitor(source):
    """A QEMU that maps the image already is checked; one that does not is refused, and told how."""
    print("  --qmp", flush=True)
    with LinuxGuest(source.version, incoming="defer", **source.keywords()) as vm:
        r = godwit.run("restore", source.image, "--clone", f"--qmp={vm.monitor}")
        r.fails(godwit.REFUSED, r"does not map .*start it with -machine memory-backend=pc.ram -object memory-backend-file,id=pc.ram")
    option = re.search(r"-object (\S+?);", r.sentences[0]).group(1)
    vm = LinuxGuest(source.version, incoming="defer", **source.keywords())
    vm.argv[vm.argv.index("-object") + 1] = option
    with vm:
        plan = godwit.run("plan", source.image, vm.monitor).ok()
        assert plan.stdout.startswith("clone: "), plan
        r = godwit.run("restore", source.image, "--clone", f"--qmp={vm.monitor}", "--json").ok()
        assert r.event("restored")["way"] == "clone", r
        vm.stamped_again()
        check_continues(source.console, vm.console())
    for wrong, why in ((",offset=1048576", ",offset=2097152"), ("share=off,readonly=on,rom=off", "share=off")):
        vm = LinuxGuest(source.version, incoming="defer", **source.keywords())
        vm.argv[vm.argv.index("-object") + 1] = option.replace(wrong, why)
        with vm:
            godwit.run("restore", source.image, "--clone", f"--qmp={vm.monitor}").fails(godwit.REFUSED, "does not map")
    another = os.path.join(source.folder, "another")
    shutil.copy(source.image, another)
    vm = LinuxGuest(source.version, incoming="defer", **source.keywords())
    vm.argv[vm.argv.index("-object") + 1] = option.replace(source.image, another)
    with vm:        # the name is another file's by now
        shutil.copy(source.image, another + ".new")
        os.rename(another + ".new", another)
        godwit.run("restore", another, "--clone", f"--qmp={vm.monitor}").fails(godwit.REFUSED, "maps another file")
    source.unchanged()


def written_by_qemu(source):
    """Old content under cleared bits is found, and convert removes it."""
    print("  an image that QEMU wrote", flush=True)
    theirs, ours = (os.path.join(source.folder, n) for n in ("theirs", "ours"))
    with LinuxGuest(source.version, **source.keywords()) as vm:
        vm.booted()
        vm.qmp.command("migrate-set-capabilities", capabilities=[{"capability": "mapped-ram", "state": True}])
        vm.qmp.command("stop")
        vm.qmp.command("migrate", uri=f"file:{theirs}")
        vm.wait_console(lambda t: vm.qmp.command("query-migrate")["status"] == "completed")
    block = next(e for e in godwit.run("inspect", theirs, "--json", "--blocks").ok().events if e["name"] == "pc.ram")
    with open(theirs, "r+b") as f:      # as a page that was written and cleared leaves it
        f.seek(block["bitmap_offset"])
        bits = f.read(block["used_bytes"] // 4096 // 8)
        absent = next(i for i in range(len(bits) * 8) if not bits[i // 8] >> (i % 8) & 1)
        f.seek(block["pages_offset"] + absent * 4096 + 4000)
        f.write(b"old")
    assert not guest_of(theirs)["clonable"]
    assert f"page {absent} of RAM block" in guest_of(theirs)["not_clonable"]
    argv = LinuxGuest(source.version, **source.keywords()).argv
    godwit.run("restore", theirs, "--clone", "--", *argv).fails(godwit.REFUSED, f"page {absent} .*godwit convert")
    godwit.run("convert", theirs, ours).ok()
    assert guest_of(ours)["clonable"] and guest_of(source.image)["clonable"]
    with Restored(ours, ["--clone"], source.version, **source.keywords()) as vm:
        vm.wait_console(lambda t: vm.qmp.command("query-status")["status"] == "paused")   # as it was saved
        vm.qmp.cont()
        vm.stamped_again()


def with_nodes(vm):
    """Its memory in two NUMA nodes and a DIMM."""
    a = vm.argv
    a[a.index("-machine") + 1] = vm.machine
    a[a.index("-m") + 1] = "128M,slots=2,maxmem=1G"
    a[a.index("-object") + 1] = "memory-backend-ram,size=64M,id=n0"
    a += ["-object", "memory-backend-ram,size=64M,id=n1", "-numa", "node,memdev=n0", "-numa", "node,memdev=n1",
          "-object", "memory-backend-ram,size=128M,id=d0", "-device", "pc-dimm,memdev=d0"]
    return vm


def several_blocks(source):
    print("  NUMA nodes and a DIMM", flush=True)
    image = os.path.join(source.folder, "nodes")
    with with_nodes(LinuxGuest(source.version)) as vm:
        vm.booted()
        godwit.run("save", vm.monitor, image, "--stop").ok()
        console = vm.console()
    with with_nodes(Restored(image, ["--clone", "-v"], source.version)) as vm:
        vm.stamped_again()
        check_continues(console, vm.console())
        assert all(f"id={block},size={size}M,mem-path={image}," in vm.stderr() for block, size in (("n0", 64), ("n1", 64), ("d0", 128))), vm.stderr()
        assert "maps 256 MiB of the image" in vm.stderr(), vm.stderr()


def guest_of(image):
    return godwit.run("inspect", image, "--json").ok().event("guest")


def refused(source, older):
    print("  refused", flush=True)
    argv = LinuxGuest(source.version, **source.keywords()).argv
    hashed = sha256(source.image)
    godwit.run("restore", source.image, "--clone", "--", *argv, "-device", "vfio-pci,host=0000:00:1f.0").fails(godwit.REFUSED, "vfio-pci")
    shared = LinuxGuest(source.version, **{**source.keywords(), "backend": "memfd"}).argv
    godwit.run("restore", source.image, "--clone", "--", *shared).fails(godwit.REFUSED, "share=on")
    larger = LinuxGuest(source.version, ram_bytes=256 << 20, **source.keywords()).argv
    godwit.run("restore", source.image, "--clone", "--", *larger).fails(godwit.REFUSED, "start it with the same memory size")
    if older:
        old = [get_qemu(older), *argv[1:]]
        godwit.run("restore", source.image, "--clone", "--", *old).fails(godwit.REFUSED, "QEMU 8.2 and later can")
    assert sha256(source.image) == hashed


def main():
    version, *older = sys.argv[1:]
    with contextlib.ExitStack() as stack:
        folder = tempfile.mkdtemp(prefix="godwit-clone.")
        stack.callback(shutil.rmtree, folder)
        try:
            source = Source(version, folder)
            many_at_once(source)
            behind_a_monitor(source)
            refused(source, older[0] if older else None)
            if older:
                written_by_qemu(source)
                several_blocks(source)
        except Unavailable as e:
            skip(str(e))


if __name__ == "__main__":
    main()
