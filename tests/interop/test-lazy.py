#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A kept Linux guest runs at once in a real QEMU and its memory follows: godwit serve and restore --lazy, to the last byte.
Deaths of the page server are in test-lazy-kills.py.

test-lazy.py DESTINATION [SOURCE]: QEMU versions; DESTINATION,... hugepage: destinations of 2 MiB pages.
GODWIT_ONLY: names of tests.
"""
import os
import shutil
import signal
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
from saved_guest import Kept, is_done, serve, status, wait_guest, wait_status
from linuxguest import MIB, RAM_BYTES, LinuxGuest, Restored
from vm import Unavailable, skip

missing = []


def every_byte(kept, version):
    """Served to a destination that does not run it: RAM is the image's; and asked again it needs nothing."""
    with kept.destination(version, "-S") as vm:
        before = vm.state()
        with serve(kept, vm, "--json") as g:
            done = g.wait().ok().event("served")
        assert godwit.where(done) == ("destination-runs", "arrived"), done
        assert done["pushed_pages"] + done["requested_pages"] >= 128 * MIB // 4096, done
        is_done(vm, before)
        assert vm.state()["run"] == "paused"
        print(f"    {kept.is_in(vm)} more blocks compared", flush=True)
        with serve(kept, vm) as g:
            g.wait().ok()
        vm.qmp.cont()
        kept.goes_on_in(vm)


def runs_at_once(kept, version):
    with kept.destination(version) as vm:
        before = vm.state()
        with serve(kept, vm, "--json") as g:
            done = g.wait(90).ok().event("served")
        assert done["requests"] > 0 and 0 < done["latency_us"]["p50"] <= done["latency_us"]["p99"] <= done["latency_us"]["max"], done
        is_done(vm, before)
        kept.goes_on_in(vm)


def served(kept, version, *options):
    """A running guest until it is whole, through a narrow link; what serve says of it."""
    with kept.destination(version) as vm:
        with serve(kept, vm, "--json", "--max-bandwidth=100M", *options) as g:
            done = g.wait(90).ok().event("served")
        kept.goes_on_in(vm)
    return done


def working_set(kept, version):
    """What the guest asked for the first time goes first the second time. How much less it then waits is bench/run's to say: on a busy machine it asks for more."""
    path = kept.image + ".ws"
    if os.path.exists(path):
        os.unlink(path)
    first = served(kept, version)
    said = godwit.run("inspect", kept.image, "--json").ok().event("working_set")
    assert first["requested_pages"] and not first["working_set_pages"], first
    assert 0 < said["pages"] <= first["requested_pages"] and not said["unused"], (said, first)
    second = served(kept, version)
    assert said["pages"] / 2 < second["working_set_pages"] <= said["pages"], (second, said)  # but for those it asked for before their turn
    os.unlink(path)
    third = served(kept, version, "--working-set=off")
    assert not third["working_set_pages"] and not os.path.exists(path), third


def preempt(kept, version):
    """Requested pages over a connection of their own, beside the push; after a recovery too, where QEMU survives one."""
    done = served(kept, version, "--preempt")
    assert done["preempt"] and done["requested_pages"], done
    with kept.destination(version, "-S") as vm:
        if version != "7.2":
            with serve(kept, vm, "--preempt", "--max-bandwidth=5M") as g:
                wait_guest(vm)
                g.kill()
                g.process.wait()
        with serve(kept, vm, "--preempt", "--json") as g:
            assert g.wait(90).ok().event("served")["preempt"]
        kept.is_in(vm)


def restored_lazily(kept, version):
    """godwit restore --lazy -- QEMU: one command for all."""
    with Restored(kept.image, ["--lazy", "-v"], version, machine=kept.machine, backend="memfd") as vm:
        vm.wait_console(lambda t: t.count("\ntick") >= 3, timeout=90 * godwit.PATIENCE)
        deadline = time.monotonic() + 60 * godwit.PATIENCE
        while status(vm) != "completed":
            assert time.monotonic() < deadline, status(vm)
            time.sleep(0.1)
        kept.goes_on_in(vm)
        vm.qmp.command("quit")
        vm.process.wait(30 * godwit.PATIENCE)
        assert vm.process.returncode == 0, vm.stderr()


def interrupted(kept, version):
    """SIGINT: the guest is QEMU's and waits, the sentence says how to go on, and so it does."""
    with kept.destination(version, "-S") as vm:
        with serve(kept, vm, "--max-bandwidth=5M", "--json") as g:
            wait_guest(vm)
            g.kill(signal.SIGINT)
            r = g.wait().fails(godwit.RECOVERABLE, "godwit serve .* again", "runs in QEMU")
        assert godwit.where(r.event("failed")) == ("destination-waits", "destination-waits"), r
        with serve(kept, vm) as g:
            g.wait(90).ok()
        vm.qmp.cont()
        kept.goes_on_in(vm)


# --- what is refused ---

def refused(kept, version):
    folder = os.path.dirname(kept.image)
    garbled, stream = os.path.join(folder, "garbled"), os.path.join(folder, "stream")
    with open(kept.image, "rb") as f:
        start = f.read(1 << 20)
    with open(garbled, "wb") as f:
        f.write(b"Q" + start[:5000] + bytes(5000))
    godwit.run("convert", kept.image, stream, "--to=stream").ok()
    with kept.destination(version, "-S") as vm:
        before = vm.state()
        for image, code in ((os.path.join(folder, "nothing"), godwit.FAILED), (garbled, godwit.FAILED), (stream, godwit.REFUSED)):
            godwit.run("serve", image, f"--qmp={vm.monitor}").fails(code, os.path.basename(image))
            assert vm.state() == before
        with serve(kept, vm) as g:  # and it still waits
            g.wait().ok()
        vm.qmp.cont()
    with LinuxGuest(version, machine=kept.machine, backend="memfd", is_first_life=True) as vm:      # one that has a guest
        before = vm.state()
        with serve(kept, vm) as g:
            g.wait().fails(godwit.REFUSED, "waits for no guest", "running")
        assert vm.state() == before
    with kept.destination(version, "-S", incoming=f"unix:{folder}/in") as vm:   # one that waits for somebody else
        with serve(kept, vm) as g:
            assert g.wait().status == godwit.FAILED


def another(kept):
    """The image of a guest that differs in one byte of a device."""
    path = kept.image + ".another"
    shutil.copyfile(kept.image, path)
    said = godwit.run("inspect", path, "--device=timer", "--json").ok()
    off = said.event("device")["offset"] + 1
    with open(path, "r+b") as f:
        f.seek(off)
        byte = f.read(1)[0]
        f.seek(off)
        f.write(bytes([byte ^ 1]))
    return path


def mistaken(kept, version):
    """A QEMU that has pages of one image gets none of another; one that gave its guest away needs none."""
    other = another(kept)
    with kept.destination(version, "-S") as vm:
        with serve(kept, vm, "--max-bandwidth=5M") as g:
            wait_guest(vm)
            g.kill()
            g.process.wait()
        godwit.run("serve", other, f"--qmp={vm.monitor}").fails(godwit.RECOVERABLE, "not the image any more")
        godwit.run("serve", other + ".none", f"--qmp={vm.monitor}").fails(godwit.RECOVERABLE, "waits for its pages")
        with serve(kept, vm) as g:
            g.wait(90).ok()
        kept.is_in(vm)
    with LinuxGuest(version, machine=kept.machine, backend="memfd") as vm:
        vm.qmp.migrate("exec:cat >/dev/null")
        wait_status(vm, "completed")
        godwit.run("serve", kept.image, f"--qmp={vm.monitor}").fails(godwit.REFUSED, "sent its own guest away")


def huge(kept, version):
    """A destination of 2 MiB pages."""
    with HugePages() as got:
        if not got:
            missing.append("huge pages: /proc/sys/vm/nr_hugepages does not give 64 of 2 MiB")
            return
        size = f"size={RAM_BYTES // MIB}M"
        vm = kept.destination(version, "-S")
        vm.argv = [a.replace(f"memory-backend-memfd,share=on,{size}", f"memory-backend-memfd,share=on,{size},hugetlb=on,hugetlbsize=2M")
                   for a in vm.argv]
        assert "hugetlb=on" in " ".join(vm.argv)
        with vm:
            for _ in range(3):
                with serve(kept, vm, "--max-bandwidth=20M") as g:
                    wait_guest(vm)
                    time.sleep(0.3)
                    g.kill()
                    g.process.wait()
                wait_status(vm, "postcopy-paused")
            with serve(kept, vm) as g:
                g.wait(90).ok()
            kept.is_in(vm)
            vm.qmp.cont()
            vm.keeps_ticking()


class HugePages:
    """They belong to the whole machine: borrowed, and given back."""
    PATH = "/proc/sys/vm/nr_hugepages"

    before = None

    def __enter__(self):
        try:
            with open(self.PATH, "r+", encoding="ascii") as f:
                self.before = int(f.read())
                f.seek(0)
                f.write(str(self.before + 64))
            with open(self.PATH, encoding="ascii") as f:
                return int(f.read()) >= self.before + 64
        except OSError:
            return False

    def __exit__(self, *_):
        if self.before is not None:
            with open(self.PATH, "w", encoding="ascii") as f:
                f.write(str(self.before))


def main(argv):
    versions, source = argv[1].split(","), argv[2] if len(argv) > 2 else argv[1]
    tests = [huge] if source == "hugepage" else [every_byte, runs_at_once, working_set, preempt, restored_lazily, interrupted, refused, mistaken]
    wanted = os.environ.get("GODWIT_ONLY", "").split(",")
    try:
        for version in versions:
            with tempfile.TemporaryDirectory(prefix="godwit-lazy.") as folder:
                kept = Kept(version if source == "hugepage" else source, folder)
                for test in tests:
                    if wanted == [""] or test.__name__ in wanted:
                        print(f"  {version}: {test.__name__}", flush=True)
                        test(kept, version)
    except Unavailable as e:
        skip(str(e))
    if missing:
        skip("; ".join(missing))


if __name__ == "__main__":
    main(sys.argv)
