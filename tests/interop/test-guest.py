#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The Linux test guest on a real QEMU: boots, counts, stamps its memory; and the checker finds what is wrong with it.

test-guest.py 7.2|10.0|11.1
"""
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "lib"), os.path.join(HERE, "..", "guest")]
import check_stamp
from linuxguest import LESS_TO_BOOT, check_ticks, ticks_of
from vm import Unavailable, Vm, get_guest, get_qemu, skip

MIB = 1 << 20
PAGE = 4096
STAMP_MIB = 4


def start(qemu, kernel, initrd, cpus=1, stamp=STAMP_MIB):
    return Vm(qemu, ["-machine", "pc,memory-backend=m0", "-m", "128M", "-smp", str(cpus), "-object",
                     "memory-backend-file,id=m0,size=128M,mem-path={dir}/ram,share=on", "-kernel", kernel,
                     "-initrd", initrd, "-append", f"console=ttyS0 quiet {LESS_TO_BOOT} stamp={stamp} stamp_rate=64"])


def passes(text, seed):
    return [int(g) for g in re.findall(rf"^stamp ok gen (\d+) pages \d+ seed {seed}$", text, re.M)]


def check_running(vm, cpus):
    """Generations rise, ticks count up by one, nothing is bad."""
    vm.wait_console(lambda t: all(len(set(passes(t, s))) >= 2 for s in range(1, cpus + 1)) and len(ticks_of(t)) > 5)
    text = vm.console()
    assert "BAD" not in text, text
    for seed in range(1, cpus + 1):
        gens = passes(text, seed)
        assert gens == sorted(gens) and gens[-1] > gens[0], gens
    ticks = ticks_of(text)
    check_ticks(ticks)
    assert ticks[0][0] == 0, ticks


def find_page(path, seed, index):
    """File offset of a stamped page."""
    with open(path, "rb") as f:
        ram = f.read()
    for offset in range(0, len(ram), PAGE):
        words = memoryview(ram)[offset:offset + PAGE].cast("Q")
        if ram[offset:offset + 8] == check_stamp.MAGIC_BYTES and (words[3], words[1]) == (seed, index):
            return offset
    raise AssertionError(f"no page {index} of seed {seed}")


def faults_after(path, offset, data):
    """What the checker says with these bytes put there; the file is restored."""
    with open(path, "r+b") as f:
        f.seek(offset)
        old = f.read(len(data))
        f.seek(offset)
        f.write(data)
        f.flush()
        faults = check_stamp.check_file(path)[1]
        f.seek(offset)
        f.write(old)
    return faults


def stamped_page(seed, index, generation, pages):
    """A page that is consistent in itself."""
    head = check_stamp.MAGIC_BYTES + b"".join(v.to_bytes(8, "little") for v in (index, generation, seed, 0, pages))
    body = head + check_stamp.noise(seed, index, generation)
    total = sum(memoryview(body).cast("Q")) & check_stamp.M64
    return body + total.to_bytes(8, "little")


def check_checker(ram, writers):
    """Every kind of damage is found."""
    w = writers[1]
    total = len(w.pages) + len(w.torn)
    index = max(w.pages)
    offset = find_page(ram, 1, index)
    generation = w.pages[index]
    assert check_stamp.check_file(ram)[1] == []
    with open(ram, "rb") as f:
        f.seek(offset)
        assert f.read(PAGE) == stamped_page(1, index, generation, total), "checker and guest disagree on a page"
    for name, at, data in [
            ("one bit", offset + 2000, b"\xff"),
            ("a page that became zero", offset, bytes(PAGE)),
            ("a page that stayed behind", offset, stamped_page(1, index, generation - 1, total)),
            ("a page from the future", offset, stamped_page(1, index, generation + 2, total)),
            ("a page at two places", find_page(ram, 1, index - 1), stamped_page(1, index, generation, total)),
            ("a wrong checksum", offset + PAGE - 8, b"\0" * 8)]:
        assert faults_after(ram, at, data), f"the checker did not see {name}"
    check_torn(ram, w, total)
    assert check_stamp.check_file(ram)[1] == []


def check_torn(ram, w, total):
    """A half-written page is accepted exactly where the writer is, and only one."""
    if w.torn:
        return
    order = [k * 7919 % total for k in range(total)]
    first = w.pages[order[0]]
    place = next((k for k, i in enumerate(order) if w.pages[i] != first), 0)

    def torn(index):
        return bytearray(stamped_page(1, index, w.pages[index] + 1, total)[:1000] + bytes(PAGE - 1000))

    for at, good in [(place, True), ((place + 1) % total, False)]:
        page = torn(order[at])
        page[32:40] = (1).to_bytes(8, "little")
        assert (faults_after(ram, find_page(ram, 1, order[at]), page) == []) == good, (place, at)


def run(qemu, kernel, initrd, cpus):
    with start(qemu, kernel, initrd, cpus) as vm:
        check_running(vm, cpus)
        for _ in range(3):      # stopped at arbitrary moments, in the middle of a page among others
            vm.qmp.command("stop")
            writers, faults = check_stamp.check_file(vm.path("ram"))
            assert not faults, faults
            assert sorted(writers) == list(range(1, cpus + 1)), sorted(writers)
            assert sum(len(w.pages) + len(w.torn) for w in writers.values()) == STAMP_MIB * MIB // PAGE
            print(f"stopped: {[(w.seed, min(w.pages.values()), w.torn) for w in writers.values()]}")
            if cpus == 1:
                check_checker(vm.path("ram"), writers)
            vm.qmp.command("cont")
        check_running(vm, cpus)


def run_without_stamp(qemu, kernel, initrd):
    with start(qemu, kernel, initrd, stamp=0) as vm:
        vm.wait_console(lambda t: len(ticks_of(t)) > 3)
        assert "stamp" not in vm.console(), vm.console()
        vm.qmp.command("stop")
        assert check_stamp.check_file(vm.path("ram")) == ({}, [])


def main():
    try:
        qemu = get_qemu(sys.argv[1])
        kernel, initrd = get_guest()
    except Unavailable as e:
        skip(str(e))
    run(qemu, kernel, initrd, 1)
    run(qemu, kernel, initrd, 2)
    run_without_stamp(qemu, kernel, initrd)


if __name__ == "__main__":
    main()
