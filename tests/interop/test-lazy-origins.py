#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Images of every origin, given lazily to a QEMU of the same release: what QEMU sent to godwit receive in each way it has, and
what it wrote as mapped-ram by itself. Every byte of every block is compared, and a guest that ran runs on. Over unix and tcp.

test-lazy-origins.py SERVE-TOOL 7.2|10.0|11.1[,VERSION...] [KIND...]
"""
import os
import subprocess
import sys
import time
from dataclasses import replace

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
import images
from capture_guests import KINDS, Failed, HugePages, KindVm, migrate
from saved_guest import wait_guest, wait_status
from vm import Unavailable, skip

HUGE = "hugepage"           # its memory belongs to the whole machine: asked for by name
HUGE_BYTES = 2 << 20
OTHERS = {
    "sparse": replace(KINDS["plain"], ram=64 << 20),
    "dimm": replace(KINDS["plain"], memory="8M,maxmem=1G,slots=1",
                    args=("-object", "memory-backend-memfd,id=d0,size=32M,share=on", "-device", "pc-dimm,memdev=d0")),
}


def keep(vm, kind):
    """The image of a guest, made as its kind says."""
    image = vm.path("image")
    if kind.image:
        with open(image, "wb") as f:
            f.write(images.earlier_bytes(kind.offset))
        migrate(vm, kind, f"file:{image},offset={kind.offset}" if kind.offset else f"file:{image}")
        return image
    uri = f"unix:{vm.path('in')}"
    with godwit.Run("receive", uri, image, "--json") as r:
        r.wait_stdout('"event":"listening"')
        migrate(vm, kind, uri)
        r.wait().ok()
    return image


def trappable(kind):
    """Memory whose missing pages the kernel can trap; a file on a disk is not."""
    return kind if kind.backend == "memfd-huge" else replace(kind, backend="memfd")


def given_lazily(source, kind, image, ram, how):
    """Paused until every page is there; then every block is as in the source, and it runs on if it ran."""
    with KindVm(source.version, trappable(kind), incoming="defer", args=["-S"]) as vm:
        how(vm, kind, image)
        wait_status(vm, "completed")
        images.same_bytes("m0", vm.main_ram(), ram)
        others = dict(vm.other_blocks())
        for name, want in source.other_blocks():
            images.same_bytes(name, others[name], want)
        vm.qmp.cont()
        deadline = time.monotonic() + 30 * godwit.PATIENCE
        while kind.runs and vm.main_ram() == ram:
            assert time.monotonic() < deadline, "it does not run"
            time.sleep(0.05)
        return len(others)


def by_serve(vm, kind, image):
    godwit.run("serve", image, f"--qmp={vm.monitor}", f"--offset={kind.offset}").ok()


def over_tcp(tool):
    """By hand, as godwit serve makes its address itself: killed twice, and recovered over another address each time."""

    def how(vm, kind, image):
        vm.qmp.command("migrate-set-capabilities", capabilities=[{"capability": "postcopy-ram", "state": True}])
        vm.qmp.command("migrate-incoming", uri="tcp:127.0.0.1:0")
        more = [f"m0={HUGE_BYTES}"] if kind.backend == "memfd-huge" else []
        for _ in range(2):
            with subprocess.Popen([tool, image, address_of(vm), "rate=1000000", *more], stdout=subprocess.DEVNULL) as p:
                wait_guest(vm)
                p.kill()
            wait_status(vm, "postcopy-paused")
            more = [*more, "resume"]
            vm.qmp.command("migrate-recover", uri="tcp:[::1]:0")
        p = subprocess.run([tool, image, address_of(vm), *more], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           timeout=60 * godwit.PATIENCE, check=False)
        assert p.returncode == 0 and "state=completed" in p.stdout, p.stdout
    return how


def address_of(vm):
    address = vm.qmp.command("query-migrate")["socket-address"][0]
    host = f"[{address['host']}]" if ":" in address["host"] else address["host"]
    return f"tcp:{host}:{address['port']}"


def is_refused(vm, kind, image, status, *words):
    """Before the destination is touched, which then takes another guest."""
    with KindVm(vm.version, trappable(kind), incoming="defer", args=["-S"]) as target:
        before = target.state()
        godwit.run("serve", image, f"--qmp={target.monitor}").fails(status, *words)
        godwit.run("restore", image, "--lazy", f"--qmp={target.monitor}").fails(status, *words)
        assert target.state() == before
    return "refused"


def try_kind(name, kind, version, tool):
    with KindVm(version, kind) as vm:
        vm.ready()
        ram = None if kind.runs else vm.main_ram()      # now: 7.2 sets a guest going again after a background snapshot
        image = keep(vm, kind)
        if kind.damage:
            return is_refused(vm, kind, image, godwit.FAILED, "bitmaps were never written")
        if "x-ignore-shared" in kind.caps:
            return is_refused(vm, kind, image, godwit.REFUSED, "x-ignore-shared", "without --lazy")
        if kind.runs and version == "7.2":
            ram = images.raw_ram(image, vm.path("raw"))     # its TCG can lose writes of a running guest (stream.md, 10)
        ram = ram or vm.main_ram()
        blocks = given_lazily(vm, kind, image, ram, by_serve)
        if name in ("sparse", HUGE):
            given_lazily(vm, kind, image, ram, over_tcp(tool))
    return f"{blocks} other blocks"


def all_kinds(tool, version, wanted):
    for name, kind in {**KINDS, **OTHERS}.items():
        if version not in kind.versions or (name not in wanted if wanted else name == HUGE):
            continue
        start = time.monotonic()
        try:
            with HugePages(2 * kind.ram // HUGE_BYTES if name == HUGE else 0):
                said = try_kind(name, kind, version, tool)
        except (AssertionError, Failed) as e:
            raise AssertionError(f"{version} {name}: {e}") from e
        print(f"{version} {name}: {said}, {time.monotonic() - start:.1f} s", flush=True)


def main():
    tool, versions, *wanted = sys.argv[1:]
    try:
        for version in versions.split(","):
            all_kinds(tool, version, wanted)
    except Unavailable as e:
        skip(str(e))


if __name__ == "__main__":
    main()
