# SPDX-License-Identifier: MIT
"""
Works of a guest that has something to do: from the command, which starts QEMU too, until a job is done that touches 200 MiB of its memory at random and
then computes. And of many QEMUs that are given one image at the same time. As in works.py.

The guest is machine code in 32-bit mode. It waits until its QEMU has a UUID that does not begin with 0, which no image keeps (fw_cfg item 2), so that it is saved
before its job. A page is chosen by a linear congruential generator; each is written to, as every program's memory is.
"""
import os
import struct
import time
from contextlib import ExitStack
from dataclasses import dataclass

import qemus
from bench import NotRun, remove
from cloneworks import LONGEST_S, await_output, command, folders, result, save, started
from link import Link
from meter import Program, Stopwatch
from qmp import Qmp
from works import image_file, sample, with_godwit

TOUCHED_PAGES = (200 << 20) // 4096
COMPUTE = 200_000_000       # turns of a loop of two instructions
GO = "-uuid=ff000000-0000-0000-0000-000000000000".split("=")
WAYS = {"clone": ["--clone"], "eager": ["--way=auto"], "lazy": ["--lazy", "--working-set=off"], "lazy-known": ["--lazy", "--working-set=on"]}

# The numbers are put in their places: pages touched, mask of page numbers, turns.
JOB = bytes.fromhex(
    "fae4920c02e692"                            # cli; A20 on
    "2e660f01169800" "0f20c00c010f22c0"         # lgdtl cs:[0x98]; protected mode
    "66ea1e000f000800"                          # jmp 8:0xf001e
    "66b810008ed8"                              # ds = all of memory
    "66b8020066ba100566ef42ec84c074f0"          # wait: fw_cfg item 2, its first byte; again while it is 0
    "bb39300000b911111111"                      # ebx = seed; ecx = pages
    "69db0d66190081c35ff36e3c89d8c1e80b"        # touch: ebx = ebx * 1664525 + 1013904223; eax = ebx >> 11
    "25222222220d00010000c1e00cff004975dd"      # eax &= mask; eax |= 256; inc dword [eax << 12]; again
    "b9333333334975fd"                          # compute
    "baf8030000b02eeeb900100000e2feebf4"        # talk: out '.'; wait a little; again
    ).ljust(0x80, b"\0") + bytes.fromhex(
    "0000000000000000" "ffff0000009acf00" "ffff00000092cf00" "170080000f00")     # descriptors, and where they are


def job_bios(bench, size):
    """Of page numbers those below a power of two, in the memory that lies below 3 GiB."""
    pages = 1 << (min(size, 3 << 30) // 4096).bit_length() - 1

    def make(path):
        code = JOB
        for mark, number in ((0x11, TOUCHED_PAGES), (0x22, pages - 1), (0x33, COMPUTE)):
            code = code.replace(bytes([mark] * 4), struct.pack("<I", number))
        image = bytearray(65536)
        image[0:len(code)] = code
        image[0xFFF0:0xFFF5] = bytes.fromhex("ea000000f0")
        with open(path, "wb") as f:
            f.write(image)
    return bench.keep(("job-bios", size), make)


def job_image(bench, size):
    def make(path):
        with qemus.source(bench, "random", size, bios=job_bios(bench, size)) as source:
            time.sleep(0.3)     # so that it has come to where it waits
            save(bench, source.path("monitor2"), path)
        bench.drop(("guest", "random", size))
    return bench.keep(("job-image", size), make)


def job_command(bench, folder):
    argv = [a.replace("{n}", "1") for a in command(bench, folder, bench.size)]
    argv[argv.index("-bios") + 1] = job_bios(bench, bench.size)
    return [*argv, *GO]


@dataclass(frozen=True)
class Job:
    """From godwit restore -- QEMU until the guest says that its job is done. `lazy-known`: with the working set of such a guest before it."""
    way: str
    copies = 2

    def title(self):
        return f"godwit restore {' '.join(WAYS[self.way])} until the guest's job is done"

    def run(self, bench):
        image = job_image(bench, bench.size)
        if self.way == "lazy-known" and not os.path.exists(image + ".ws"):
            self.once(bench, image)     # which records it
        took = self.once(bench, image)
        if self.way != "lazy-known":
            remove(image + ".ws")
        return took

    def once(self, bench, image):
        with folders(bench, 1) as folder:
            began = time.monotonic()
            argv = [bench.godwit, "restore", image, *WAYS[self.way], "--quiet", "--", *job_command(bench, folder)]
            with started([argv]) as running:
                await_output([os.path.join(folder, "1", "console")], running)
                took = result(time.monotonic() - began, bench.size)
                if self.way == "lazy-known":        # it is written when QEMU has every page
                    await_output([image + ".ws"], running)
                return took


@dataclass(frozen=True)
class JobAlone:
    """The same of QEMU alone, which loads the image over 2 channels."""
    copies = 2

    def title(self):
        return "QEMU alone loads the image, until the guest's job is done"

    def run(self, bench):
        image = job_image(bench, bench.size)
        with folders(bench, 1) as folder:
            argv = [*job_command(bench, folder), "-incoming", "defer", "-qmp", f"unix:{folder}/1/qmp,server=on,wait=off"]
            began = time.monotonic()
            with started([argv]) as (qemu,):
                qmp = Qmp.connect(f"{folder}/1/qmp", LONGEST_S, alive=lambda: qemu.poll() is None)
                link = Link(channels=2)
                qmp.command("migrate-set-capabilities", capabilities=[{"capability": c, "state": True} for c in ("mapped-ram", *link.capabilities())])
                qmp.command("migrate-set-parameters", **link.parameters())
                qmp.command("migrate-incoming", uri=f"file:{image}")
                await_output([os.path.join(folder, "1", "console")], [qemu])
                seconds = time.monotonic() - began
                qmp.close()
                return result(seconds, bench.size)


@dataclass(frozen=True)
class Many:
    """One image to several QEMUs at the same time, each by a godwit of its own, until all have every page: `serve`, or restore by one of its ways."""
    way: str
    guests: int = 8
    scale: float = 0.125
    copies = 2

    def title(self):
        how = "serve" if self.way == "serve" else f"restore --way {self.way}"
        return f"{self.guests} x godwit {how} of one image at a time, guest x {self.scale:g}"

    def run(self, bench):
        size = int(bench.size * self.scale)
        image = image_file(bench, "random", size)
        with ExitStack() as stack:
            targets = [stack.enter_context(qemus.destination(bench, size)) for _ in range(self.guests)]
            bench.warm(size * self.guests, huge=True)
            commands = [self.command(bench, image, t.path("monitor2")) for t in targets]
            with Stopwatch([qemus.pid(t) for t in targets]) as watch, ExitStack() as running:
                used = [g.finish() for g in [running.enter_context(Program(bench, c)) for c in commands]]
            if any(t.qmp.command("query-migrate").get("status") != "completed" for t in targets):
                raise NotRun("godwit ended well, but a QEMU does not have the guest")
        own = [with_godwit(watch, size, u) for u in used]
        return sample(watch, size * self.guests, watch.cpu + sum(s["godwit_cpu"] for s in own), peak=max(s["peak"] for s in own))

    def command(self, bench, image, monitor):
        if self.way == "serve":
            return [bench.godwit, "serve", image, "--qmp", monitor, "--quiet", "--working-set=off"]
        return [bench.godwit, "restore", image, "--qmp", monitor, "--way", self.way, "--quiet"]
