#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""check_stamp.py RAMFILE [--quiet]: verify a test guest's memory from outside.

RAMFILE is the raw content of the guest's RAM while the guest is stopped. Every page written by stamp (see stamp.c
for the layout) is found by its magic and verified: content, completeness of the set, and that the generations are
exactly those of one moment, so that a page that was forgotten by a migration is found too. At most one page per
process, the one being rewritten, may be torn.

Exit status: 0 all good, 1 something is wrong (each fault is a line on stderr), 2 usage, 3 no stamped page at all.
"""
import array
import mmap
import sys

PAGE = 4096
WORDS = PAGE // 8
MAGIC, INDEX, GENERATION, SEED, WRITING, PAGES, NOISE, CHECKSUM = 0, 1, 2, 3, 4, 5, 6, WORDS - 1
MAGIC_BYTES = b"GODWITST"
M64 = (1 << 64) - 1
FAULTS_SHOWN = 20
GOLD = 0x9E3779B97F4A7C15

# Noise of a whole page at once: one big integer whose 128-bit lanes hold one 64-bit word each.
LANES = CHECKSUM - NOISE
ONES = sum(1 << (128 * i) for i in range(LANES))
LOW = ONES * M64
STEPS = sum((((i + 1) * GOLD) & M64) << (128 * i) for i in range(LANES))


def mix(z, low=M64):
    z = ((z ^ ((z >> 30) & low)) * 0xBF58476D1CE4E5B9) & low
    z = ((z ^ ((z >> 27) & low)) * 0x94D049BB133111EB) & low
    return z ^ ((z >> 31) & low)


def noise(seed, index, generation):
    """Words 6..510 of a page, as 8-byte little-endian words."""
    start = (mix(seed & M64) + index * 0xD1B54A32D192ED03 + generation * 0x8CB92BA72F3D8DD7) & M64
    wide = array.array("Q", mix((STEPS + ONES * start) & LOW, LOW).to_bytes(LANES * 16, "little"))
    return wide[0::2].tobytes()


def check_content(page):
    """None, or what is wrong inside this page."""
    w = memoryview(page).cast("Q")
    if w[WRITING]:
        return "marked as being written"
    if page[NOISE * 8:CHECKSUM * 8] != noise(w[SEED], w[INDEX], w[GENERATION]):
        return "content is not that of its header"
    if w[CHECKSUM] != sum(w[:CHECKSUM]) & M64:
        return "checksum is wrong"
    return None


class Writer:
    """The pages of one stamp process (one seed)."""

    def __init__(self, seed):
        self.seed = seed
        self.pages = {}         # index -> generation
        self.totals = set()
        self.torn = []
        self.faults = []

    def add(self, offset, page):
        w = memoryview(page).cast("Q")
        index, generation = w[INDEX], w[GENERATION]
        wrong = check_content(page)
        if wrong and w[WRITING] == 1:
            self.torn.append((index, w[PAGES]))
            return
        if wrong:
            self.faults.append(f"page {index} at {offset:#x}: {wrong}")
        if index in self.pages:
            self.faults.append(f"page {index} at {offset:#x}: seen twice")
        self.pages[index] = generation
        self.totals.add(w[PAGES])

    def check_set(self):
        if len(self.totals) != 1:
            self.faults.append(f"headers disagree about the number of pages: {sorted(self.totals)}")
            return
        total = self.totals.pop()
        missing = set(range(total)) - set(self.pages) - {i for i, _ in self.torn}
        if missing:
            self.faults.append(f"{len(missing)} of {total} pages missing, first {min(missing)}")
        if len(self.torn) > 1:
            self.faults.append(f"{len(self.torn)} pages marked as being written: {[i for i, _ in self.torn]}")
        if not missing:
            self.check_order(total)

    def check_order(self, total):
        """In the order of writing: pages of generation g + 1, then at most the torn one, then pages of g."""
        stride = 7919 if total % 7919 else 7927
        order = [k * stride % total for k in range(total)]
        torn = {i for i, _ in self.torn}
        # If the torn page is the first of a round, all others must be equal.
        first = self.pages.get(order[0], self.pages.get(order[-1]))
        now = first
        for place, index in enumerate(order):
            if index in torn:
                now = first - 1 if place else first
                continue
            generation = self.pages[index]
            if generation == now or (now == first and generation == first - 1 and not torn):
                now = generation
                continue
            self.faults.append(f"page {index} has generation {generation}, place {place} of the order wants {now}")


def read_writers(ram):
    writers = {}
    offset = ram.find(MAGIC_BYTES)
    while offset >= 0:
        if offset % PAGE == 0 and offset + PAGE <= len(ram):
            page = ram[offset:offset + PAGE]
            seed = memoryview(page).cast("Q")[SEED]
            writers.setdefault(seed, Writer(seed)).add(offset, page)
        offset = ram.find(MAGIC_BYTES, offset + 8)
    return writers


def check_file(path):
    """(writers, faults) of a raw RAM file."""
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as ram:
        writers = read_writers(ram)
    for w in writers.values():
        w.check_set()
    return writers, [f"seed {w.seed}: {f}" for w in writers.values() for f in w.faults]


def print_faults(faults):
    for fault in faults[:FAULTS_SHOWN]:
        print(f"BAD {fault}", file=sys.stderr)
    if len(faults) > FAULTS_SHOWN:
        print(f"BAD ... and {len(faults) - FAULTS_SHOWN} more", file=sys.stderr)


def main(argv):
    args = [a for a in argv[1:] if a != "--quiet"]
    if len(args) != 1 or args[0].startswith("-"):
        print(__doc__.split("\n\n", maxsplit=1)[0], file=sys.stderr)
        return 2
    writers, faults = check_file(args[0])
    print_faults(faults)
    if faults:
        return 1
    if not writers:
        print("no stamped page", file=sys.stderr)
        return 3
    if "--quiet" not in argv:
        for w in writers.values():
            print(f"ok seed {w.seed} pages {len(w.pages)} torn {len(w.torn)} gen {min(w.pages.values())}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
