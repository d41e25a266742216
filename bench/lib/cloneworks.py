# SPDX-License-Identifier: MIT
"""
Works of starting guests out of an image: from the command, which starts QEMU too, to the first byte that the guest puts out. As in works.py.

The guest is a few bytes of machine code that write to the serial port without end, in a memory of any size with content; for memory it is a Linux guest.
"""
import os
import re
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import qemus
from bench import NotRun
from linuxguest import LinuxGuest
from qmp import Qmp
from vm import Unavailable

LONGEST_S = 120
MEMORY_OF = 512 << 20       # of the Linux guest
WAYS = {"clone": ["--clone"], "eager": ["--way=auto"], "stream": ["--way=stream"], "lazy": ["--lazy"]}

TALK = bytes.fromhex(
    "baf803"    # mov dx,0x3f8
    "b02e"      # again: mov al,'.'
    "ee"        # out dx,al
    "b90010"    # mov cx,0x1000
    "e2fe"      # loop $
    "ebf6")     # jmp again


def bios(bench):
    def make(path):
        image = bytearray(65536)
        image[0:len(TALK)] = TALK
        image[0xFFF0:0xFFF5] = bytes.fromhex("ea000000f0")     # reset vector: jmp 0xf000:0
        with open(path, "wb") as f:
            f.write(image)
    return bench.keep(("talking-bios",), make)


def talking_image(bench, size):
    """The image of a guest that was saved while it talked; made by godwit, so that it is clonable."""
    def make(path):
        with qemus.source(bench, "random", size, bios=bios(bench)) as source:
            save(bench, source.path("monitor2"), path)
        bench.drop(("guest", "random", size))
    return bench.keep(("talking-image", size), make)


def linux_image(bench):
    def make(path):
        with LinuxGuest("11.1", backend="ram", ram_name="pc.ram", ram_bytes=MEMORY_OF) as vm:
            vm.booted()
            save(bench, vm.monitor, path)
    return bench.keep(("linux-clone-image",), make)


def save(bench, monitor, path):
    p = subprocess.run([bench.godwit, "save", monitor, path, "--stop", "--quiet"], capture_output=True, text=True, check=False)
    if p.returncode:
        raise NotRun(f"godwit save failed: {p.stderr.strip()}")


@contextmanager
def folders(bench, n):
    """A folder for each guest; its QEMU, whose pid file is there, ends with the block."""
    folder = tempfile.mkdtemp(dir=bench.tmpfs)
    for i in range(1, n + 1):
        os.mkdir(os.path.join(folder, str(i)))
    try:
        yield folder
    finally:
        for pid in pids(folder, n):
            with suppress(OSError):
                os.kill(pid, 9)
        shutil.rmtree(folder, ignore_errors=True)


def pids(folder, n):
    found = []
    for i in range(1, n + 1):
        with suppress(OSError, ValueError), open(os.path.join(folder, str(i), "pid"), encoding="ascii") as f:
            found.append(int(f.read()))
    return found


def command(bench, folder, size):
    return [bench.qemu, "-nodefaults", "-display", "none", "-accel", "tcg", "-machine", "pc", "-m", f"{size >> 20}M", "-bios", bios(bench),
            "-serial", f"file:{folder}/{{n}}/console", "-pidfile", f"{folder}/{{n}}/pid"]


def starts(bench, way, image, qemu, n):
    """The commands: one for all clones, else one for each guest."""
    if way == "clone" and n > 1:
        return [[bench.godwit, "restore", image, "--clone", "-n", str(n), "--quiet", "--", *qemu]]
    return [[bench.godwit, "restore", image, *WAYS[way], "--quiet", "--", *(a.replace("{n}", str(i)) for a in qemu)] for i in range(1, n + 1)]


@contextmanager
def started(commands):
    """Ended, if they have not by themselves, when their QEMUs have."""
    errors = tempfile.TemporaryFile()
    running = [subprocess.Popen(c, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors) for c in commands]
    try:
        yield running
    except NotRun as e:
        errors.seek(0)
        raise NotRun(f"{e}: {errors.read().decode('utf-8', 'replace').strip()}") from None
    finally:
        for p in running:
            p.kill()
            p.wait()


def await_output(paths, running):
    deadline = time.monotonic() + LONGEST_S
    while not all(os.path.exists(p) and os.path.getsize(p) for p in paths):
        if time.monotonic() > deadline or any(p.poll() for p in running):
            raise NotRun("a guest was not heard of")
        time.sleep(0.001)


def result(seconds, size, **more):
    return {"seconds": seconds, "bytes": size, "cpu": 0.0, "others": None, **more}


@dataclass(frozen=True)
class FirstOutput:
    """From godwit restore -- QEMU to the first byte on the console of the last guest."""
    way: str
    guests: int = 1
    scale: float = 1
    copies = 2

    def title(self):
        scale = f" x {self.scale:g}" if self.scale != 1 else ""
        return f"{self.guests} x godwit restore {WAYS[self.way][0]} to the first output, guest{scale}"

    def run(self, bench):
        size = int(bench.size * self.scale)
        image = talking_image(bench, size)
        with folders(bench, self.guests) as folder:
            commands = starts(bench, self.way, image, command(bench, folder, size), self.guests)
            began = time.monotonic()
            with started(commands) as running:
                await_output([os.path.join(folder, str(i), "console") for i in range(1, self.guests + 1)], running)
                return result(time.monotonic() - began, size)


@dataclass(frozen=True)
class QemuStart:
    """QEMU alone, with the same command line and nothing to load, until its monitor answers that it is paused."""
    copies = 2

    def title(self):
        return "QEMU's own start to a paused prompt"

    def run(self, bench):
        with folders(bench, 1) as folder:
            argv = [a.replace("{n}", "1") for a in command(bench, folder, bench.size)] + ["-S", "-qmp", f"unix:{folder}/1/qmp,server=on,wait=off"]
            began = time.monotonic()
            with started([argv]) as (qemu,):
                qmp = Qmp.connect(f"{folder}/1/qmp", LONGEST_S, alive=lambda: qemu.poll() is None)
                qmp.command("query-status")
                seconds = time.monotonic() - began
                qmp.close()
                return result(seconds, bench.size)


@dataclass(frozen=True)
class Memory:
    """Linux guests that go on from one image, when each has counted ten times: what their QEMUs take together, shared pages by halves, thirds, ..."""
    way: str
    guests: int = 8
    copies = 2

    def title(self):
        return f"{self.guests} Linux guests of 512 MiB, godwit restore {WAYS[self.way][0]}: memory together"

    def run(self, bench):
        try:
            image = linux_image(bench)
        except Unavailable as e:
            raise NotRun(str(e)) from None
        with folders(bench, self.guests) as folder:
            vm = LinuxGuest("11.1", backend="ram", ram_name="pc.ram", ram_bytes=MEMORY_OF)
            shutil.rmtree(vm.dir)
            commands = starts(bench, self.way, image, [a.replace(vm.dir, f"{folder}/{{n}}") for a in vm.argv], self.guests)
            began = time.monotonic()
            with started(commands) as running:
                consoles = [os.path.join(folder, str(i), "console") for i in range(1, self.guests + 1)]
                await_output(consoles, running)
                seconds = time.monotonic() - began
                while min(count(c, b"\ntick") for c in consoles) < 10:
                    time.sleep(0.05)
                return result(seconds, MEMORY_OF, peak=sum(proportional(p) for p in pids(folder, self.guests)))


def count(path, what):
    with open(path, "rb") as f:
        return f.read().count(what)


def proportional(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return int(re.search(r"^Pss:\s+(\d+)", f.read(), re.M).group(1)) << 10
