#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A kept Linux guest runs at once in a real QEMU and its memory follows: godwit serve and restore --lazy, to the last byte, over
any number of deaths of the page server.

test-lazy.py SERVE-TOOL DESTINATION [SOURCE]: QEMU versions; DESTINATION,... hugepage: destinations of 2 MiB pages.
GODWIT_KILL_ROUNDS: how often serve is killed (12), GODWIT_SEED: when. GODWIT_ONLY: names of tests.
"""
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
import images
import linuxguest
from linuxguest import MIB, RAM_BYTES, LinuxGuest, Restored, check_continues, check_memory
from vm import Unavailable, skip

ROUNDS = int(os.environ.get("GODWIT_KILL_ROUNDS", "12"))
SEED = int(os.environ.get("GODWIT_SEED", "4"))
CRASH_IN_RECOVERY = ("7.2",)    # rarely, when the link breaks while it recovers; godwit is not there to be blamed
SLOW = "--max-bandwidth=30M"
# A guest that waits for a page has not been stopped: its clock goes on, for as long as no page server comes.
linuxguest.LONGEST_TICK_S = 180
missing = []


class Kept:
    """What the source left: an image and the console up to it."""

    def __init__(self, tool, version, folder):
        self.tool = tool
        self.image = os.path.join(folder, "image")
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


def is_done(vm, before):
    """Nothing of godwit is left in it."""
    assert status(vm) == "completed", status(vm)
    after = vm.state()
    for what in ("parameters", "capabilities"):
        assert after[what] == before[what], f"{after[what]} was {before[what]}"


def every_byte(kept, version):
    """Served to a destination that does not run it: RAM is the image's; and asked again it needs nothing."""
    with kept.destination(version, "-S") as vm:
        before = vm.state()
        with serve(kept, vm, "--json") as g:
            done = g.wait().ok().event("served")
        assert done["pushed_pages"] + done["requested_pages"] >= 128 * MIB // 4096, done
        is_done(vm, before)
        assert vm.state()["run"] == "paused"
        print(f"    {kept.is_in(vm)} more blocks compared", flush=True)
        with serve(kept, vm) as g:
            g.wait().ok()
        vm.qmp.command("cont")
        kept.goes_on_in(vm)


def runs_at_once(kept, version):
    with kept.destination(version) as vm:
        before = vm.state()
        with serve(kept, vm, "--json") as g:
            done = g.wait(90).ok().event("served")
        assert done["requests"] > 0 and 0 < done["latency_us"]["p50"] <= done["latency_us"]["p99"] <= done["latency_us"]["max"], done
        is_done(vm, before)
        kept.goes_on_in(vm)


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


# --- deaths of the page server ---

class OpenMonitor:
    """A monitor that was negotiated, with oob, while QEMU was free to do so. A vCPU that waits for a page can hold QEMU's lock;
    no new monitor is answered then, and godwit serve cannot ask for a recovery. This one still can."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(30 * godwit.PATIENCE)
        self.sock.connect(path)
        self.file = self.sock.makefile("r")
        self.file.readline()
        self.call({"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}})

    def call(self, command):
        self.sock.sendall(json.dumps(command).encode() + b"\n")
        while True:
            answer = json.loads(self.file.readline())
            if "event" not in answer:
                assert "return" in answer, f"{command}: {answer}"
                return

    def recover(self, uri):
        self.call({"exec-oob": "migrate-recover", "arguments": {"uri": uri}, "id": 1})

    def close(self):
        self.file.close()
        self.sock.close()


class Killer:
    """Kills serve at seeded moments, and counts what it met."""

    def __init__(self, kept, version, rnd):
        self.kept, self.version, self.rnd = kept, version, rnd
        self.kills = self.early = self.destinations = self.complete = self.held_up = self.crashed = 0

    def run(self, rounds, *args):
        """Destinations are worn out until so many kills are done; each that can be is completed and looked at."""
        while self.kills < rounds or not self.complete:
            self.destinations += 1
            with self.kept.destination(self.version, *args, "-qmp", "unix:{dir}/open,server=on,wait=off") as vm:
                monitor = OpenMonitor(vm.path("open"))
                if self.wear_out(vm, monitor, rounds):
                    self.finish(vm, monitor, paused="-S" in args)
                    self.complete += 1
                monitor.close()
        print(f"    {self.kills} kills, {self.destinations} destinations, {self.early} killed before they had the guest, "
              f"{self.complete} completed, {self.held_up} recoveries of a monitor held up, {self.crashed} QEMUs that crashed", flush=True)

    def wear_out(self, vm, monitor, rounds):
        """True: it has the guest, whole or not. False: the first kill came too early, and QEMU gave up as it must."""
        was_running = False
        while self.kills < rounds:
            with serve(self.kept, vm, SLOW, env={**os.environ, "GODWIT_TRACE": "1"}) as g:
                time.sleep(self.rnd.uniform(0.0, 0.5))
                if g.process.poll() is None:
                    g.kill()
                    g.process.wait()
                    self.kills += 1
                    was_running = was_running or "-> postcopy-active" in g.stderr
                    assert not was_running or vm.process.poll() is None, vm.stderr()
                    continue
                result = g.wait()
            if result.status == godwit.DONE:
                return True
            if not was_running:
                self.early += 1
                return False
            if self.version in CRASH_IN_RECOVERY and vm.process.poll() in (-signal.SIGSEGV, -signal.SIGABRT):
                self.crashed += 1
                assert self.crashed <= 1 + self.kills // 20, vm.stderr()
                return False
            self.rescue(vm, monitor, result)
        return was_running

    def rescue(self, vm, monitor, result, rate=30 * MIB):
        """What serve could not ask for is asked for by the monitor that was open; a page server without one is killed again."""
        assert result.status == godwit.IN_DOUBT and "did not answer" in result.stderr, \
            f"kill {self.kills}: {result}\nQEMU ({vm.process.poll()}): {vm.stderr()}"
        self.held_up += 1
        uri = f"unix:{vm.path(f'again{self.held_up}')}"
        monitor.recover(uri)
        with open(vm.path("tool"), "wb") as said, \
                subprocess.Popen([self.kept.tool, self.kept.image, uri, "resume", f"rate={rate}"], stdout=said, stderr=said) as p:
            try:
                p.wait(self.rnd.uniform(0.1, 0.5) if rate else 60 * godwit.PATIENCE)
            except subprocess.TimeoutExpired:
                p.kill()
                self.kills += 1
        with open(vm.path("tool"), encoding="ascii") as said:
            text = said.read()
        assert p.returncode in (0, -signal.SIGKILL), text
        return p.returncode == 0

    def finish(self, vm, monitor, paused):
        with serve(self.kept, vm) as g:
            result = g.wait(120)
        if result.status == godwit.IN_DOUBT:
            assert self.rescue(vm, monitor, result, rate=0)
        else:
            assert result.status == godwit.DONE, f"{result}\nQEMU: {vm.stderr()}"
        wait_status(vm, "completed")
        if paused:
            self.kept.is_in(vm)
            vm.qmp.command("cont")
        self.kept.goes_on_in(vm)


def killed(kept, version):
    rnd = random.Random(SEED)
    for args in (("-S",), ()):
        print(f"    seed {SEED}, {' '.join(args) or 'running'}", flush=True)
        Killer(kept, version, rnd).run(max(1, ROUNDS // 2), *args)


def interrupted(kept, version):
    """SIGINT: the guest is QEMU's and waits, the sentence says how to go on, and so it does."""
    with kept.destination(version, "-S") as vm:
        with serve(kept, vm, "--max-bandwidth=5M") as g:
            wait_status(vm, "postcopy-active")
            g.kill(signal.SIGINT)
            g.wait().fails(godwit.RECOVERABLE, "godwit serve .* again", "runs in QEMU")
        with serve(kept, vm) as g:
            g.wait(90).ok()
        vm.qmp.command("cont")
        kept.goes_on_in(vm)


def wait_status(vm, wanted):
    deadline = time.monotonic() + 30 * godwit.PATIENCE
    while (now := status(vm)) != wanted:
        assert time.monotonic() < deadline, f"{now}, {wanted} expected"
        time.sleep(0.01)


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
        vm.qmp.command("cont")
    with LinuxGuest(version, machine=kept.machine, backend="memfd") as vm:      # one that has a guest
        before = vm.state()
        with serve(kept, vm) as g:
            g.wait().fails(godwit.REFUSED, "waits for no guest", "running")
        assert vm.state() == before
    with kept.destination(version, "-S", incoming=f"unix:{folder}/in") as vm:   # one that waits for somebody else
        with serve(kept, vm) as g:
            assert g.wait().status == godwit.FAILED


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
                    wait_status(vm, "postcopy-active")
                    time.sleep(0.3)
                    g.kill()
                    g.process.wait()
                wait_status(vm, "postcopy-paused")
            with serve(kept, vm) as g:
                g.wait(90).ok()
            kept.is_in(vm)
            vm.qmp.command("cont")
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
    tool, versions, source = argv[1], argv[2].split(","), argv[3] if len(argv) > 3 else argv[2]
    tests = [huge] if source == "hugepage" else [every_byte, runs_at_once, restored_lazily, interrupted, refused, killed]
    wanted = os.environ.get("GODWIT_ONLY", "").split(",")
    try:
        for version in versions:
            with tempfile.TemporaryDirectory(prefix="godwit-lazy.") as folder:
                kept = Kept(tool, version if source == "hugepage" else source, folder)
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
