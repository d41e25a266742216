#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A second reader of migration streams and mapped-ram images, written from docs/spec/stream.md and mapped-ram.md alone.

It knows nothing of Godwit's decoder and is not meant to be fast: it wants a whole stream in memory, and gives every
RAM block's content, the list of device sections and what the configuration said. Everything it does not expect is a
Bad with the offset. Not covered: postcopy after the advise, COLO; multifd channels are refmultifd.py's.

refstream.py FILE [START]: print a summary as JSON.
"""
import hashlib
import json
import mmap
import re
import struct
import sys

PAGE = 4096
EOF, START, PART, END, FULL, SUBSECTION, DESCRIPTION, CONFIGURATION, COMMAND, FOOTER = *range(9), 0x7E
ZERO, MEM_SIZE, NORMAL, EOS, CONTINUE, XBZRLE, FLUSH = 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x200
FIXED_LENGTH = {1: (0,), 2: (4,), 3: (0, 16), 4: (0,), 5: (0,), 8: (0,), 9: (0,), 11: (0,)}
MIB = 1 << 20
NO_PAGE = bytes(PAGE)


class Bad(Exception):
    def __init__(self, offset, text):
        super().__init__(f"at {offset:#x}: {text}")
        self.offset = offset


class Reader:
    def __init__(self, data, at):
        self.data, self.at = data, at

    def take(self, n):
        if self.at + n > len(self.data):
            raise Bad(self.at, f"{n} bytes wanted, {len(self.data) - self.at} left")
        self.at += n
        return self.data[self.at - n:self.at]

    def number(self, n):
        return int.from_bytes(self.take(n), "big")

    def u8(self):
        return self.number(1)

    def be16(self):
        return self.number(2)

    def be32(self):
        return self.number(4)

    def be64(self):
        return self.number(8)

    def str8(self):
        raw = self.take(self.u8())
        if not raw or not raw.isascii() or b"\0" in raw:
            raise Bad(self.at, f"bad name {raw!r}")
        return raw.decode()

    def peek(self, n=1):
        return self.data[self.at:self.at + n]

    def need(self, truth, text):
        if not truth:
            raise Bad(self.at, text)


class Block:
    def __init__(self, name, used):
        self.name, self.used = name, used
        self.page_size = self.address = None
        self.bitmap_offset = self.pages_offset = None   # mapped-ram
        self.ram = bytearray(used)
        self.sent = set()                               # offsets of pages that had a record (or a bit)
        self.stale = 0                                  # mapped-ram: absent pages with bytes in the file all the same

    def sha256(self):
        return hashlib.sha256(self.ram).hexdigest()


class Stream:
    """The decoded stream; decode() fills it."""

    def __init__(self, data, start=0):
        self.r = Reader(data, start)
        self.machine, self.capabilities, self.uuid, self.page_bits = None, [], None, 12
        self.blocks = {}                # name -> Block, in stream order
        self.commands = []              # (number, arguments)
        self.sections = []              # ("full"|"start"|..., idstr, instance)
        self.devices = []               # (idstr, instance, body)
        self.advise = None
        self.description = None
        self.counts = dict.fromkeys(("zero", "normal", "xbzrle", "flush", "parts"), 0)
        self.ram_started = self.ram_ended = False
        self.open = {}                  # section id -> idstr
        self.last_block = None
        self.described = []             # devices of the description not yet met
        self.mapped = self.ignore_shared = False

    def decode(self):
        self.find_description()
        self.read_head()
        while self.read_item():
            pass
        self.read_tail()
        return self

    # --- around the sections ---

    def find_description(self):
        """The JSON at the very end, if it is there: it is what makes device sections splittable."""
        end = len(self.r.data)
        at = end
        while True:
            at = self.r.data.rfind(b'{"', 0, at)
            if at < 6:
                return
            if self.r.data[at - 5] == DESCRIPTION and at + struct.unpack(">I", self.r.data[at - 4:at])[0] == end:
                break
        self.description = json.loads(bytes(self.r.data[at:end]))
        self.described = list(self.description["devices"])

    def read_head(self):
        r = self.r
        r.need(r.take(4) == b"QEVM" and r.be32() == 3, "not a version 3 stream")
        r.need(r.u8() == CONFIGURATION, "no configuration")
        n = r.be32()
        r.need(1 <= n <= 1024, "machine name length")
        self.machine = r.take(n).decode("ascii")
        while r.peek() == bytes([SUBSECTION]):
            r.u8()
            name = r.str8()
            r.need(r.be32() == 1, "subsection version")
            if name == "configuration/target-page-bits":
                self.page_bits = r.be32()
                r.need(self.page_bits == 12, "page bits")
            elif name == "configuration/capabilities":
                self.capabilities = [r.str8() for _ in range(r.be32())]
            elif name == "configuration/uuid":
                self.uuid = r.take(16).hex()
            else:
                raise Bad(r.at, f"unknown subsection {name}")
        self.mapped = "mapped-ram" in self.capabilities
        self.ignore_shared = "x-ignore-shared" in self.capabilities

    def read_tail(self):
        r = self.r
        if self.description is not None:
            r.need(r.u8() == DESCRIPTION, "no description")
            r.at += 4 + struct.unpack(">I", r.peek(4))[0]
            r.need(not self.described, f"{len(self.described)} devices of the description are missing")
        r.need(r.at == len(r.data), f"{len(r.data) - r.at} bytes after the end")

    # --- items ---

    def read_item(self):
        r = self.r
        kind = r.u8()
        if kind == EOF:
            r.need(not self.open or list(self.open.values()) == ["ram"], "open section at the end")
            return False
        if kind == COMMAND:
            self.read_command()
        elif kind in (START, FULL):
            self.read_first(kind)
        elif kind in (PART, END):
            self.read_next(kind)
        else:
            raise Bad(r.at - 1, f"item type {kind:#x}")
        return True

    def read_command(self):
        r = self.r
        number, length = r.be16(), r.be16()
        r.need(1 <= number <= 11, f"command {number}")
        r.need(length in FIXED_LENGTH.get(number, (length,)), f"length {length} of command {number}")
        r.need(number in (1, 2, 3, 11), f"command {number} is not covered")
        arguments = r.take(length)
        if number == 3 and length:
            self.advise = struct.unpack(">QQ", arguments)
        self.commands.append((number, bytes(arguments)))

    def read_first(self, kind):
        r = self.r
        section, name, instance, version = r.be32(), r.str8(), r.be32(), r.be32()
        r.need(section not in self.open, f"section {section} is open already")
        self.sections.append(("start" if kind == START else "full", name, instance))
        if kind == FULL:
            self.read_device(section, name, instance)
            return
        r.need(name == "ram" and instance == 0 and version == 4, f"START of {name} version {version}")
        r.need(not self.ram_started, "second RAM section")
        self.open[section] = name
        self.ram_started = True
        self.read_ram(first=True)
        self.read_footer(section)

    def read_next(self, kind):
        section = self.r.be32()
        self.r.need(section in self.open, f"section {section} is not open")
        self.sections.append(("part" if kind == PART else "end", self.open[section], 0))
        self.counts["parts"] += kind == PART
        self.read_ram(first=False)
        self.read_footer(section)
        if kind == END:
            del self.open[section]
            self.ram_ended = True
            if self.mapped:
                self.read_mapped_pages()

    def read_footer(self, section):
        self.r.need(self.r.u8() == FOOTER and self.r.be32() == section, f"no footer of section {section}")

    # --- device sections ---

    def read_device(self, section, name, instance):
        r = self.r
        begin = r.at
        if self.description is not None:
            r.need(self.described, f"{name} is not in the description")
            d = self.described.pop(0)
            r.need((d["name"], d["instance_id"]) == (name, instance), f"{name} met, {d['name']} described")
            self.walk_object(d)
        else:
            self.search_footer(section)
        self.devices.append((name, instance, bytes(r.data[begin:r.at])))
        self.read_footer(section)

    def walk_object(self, d):
        r = self.r
        for f in d["fields"]:
            r.take(f["size"] * f.get("array_len", 1))
        for s in d.get("subsections", []):
            r.need(r.u8() == SUBSECTION and r.str8() == s["vmsd_name"] and r.be32() == s["version"], "subsection")
            self.walk_object(s)

    def search_footer(self, section):
        r = self.r
        mark = bytes([FOOTER]) + struct.pack(">I", section)
        at = r.at
        while True:
            at = r.data.find(mark, at)
            r.need(at >= 0, f"no end of section {section}")
            if self.plausible(at + 5):
                r.at = at
                return
            at += 1

    def plausible(self, at):
        after = bytes(self.r.data[at:at + 300])
        if after in (b"\0",) or after[:2] == b"\0\x06":
            return True
        if after[:1] == b"\x08":
            return 1 <= int.from_bytes(after[1:3], "big") <= 11
        if after[:1] in (b"\x02", b"\x03"):
            return int.from_bytes(after[1:5], "big") in self.open
        return after[:1] in (b"\x01", b"\x04") and re.match(rb"[\x20-\x7e]+$", after[6:6 + after[5]]) is not None

    # --- RAM ---

    def read_ram(self, first):
        while True:
            word = self.r.be64()
            flags, value = word & (PAGE - 1), word & ~(PAGE - 1)
            if flags == EOS:
                self.r.need(value == 0, "EOS with a value")
                self.mark("section")
                return
            if flags == MEM_SIZE and first:
                self.read_block_list(value)
                first = False
            elif flags == FLUSH:
                self.counts["flush"] += 1
                self.mark("round")
            elif flags & ~CONTINUE in (ZERO, NORMAL, XBZRLE) and not self.mapped:
                self.read_page(flags, value)
            else:
                raise Bad(self.r.at - 8, f"RAM record {word:#x}")

    def mark(self, style):
        """A place where the channels of multifd may have to be waited for (multifd.md, 5)."""

    def read_block_list(self, total):
        r = self.r
        while total:
            name, used = r.str8(), r.be64()
            r.need(name not in self.blocks, f"block {name} twice")
            r.need(0 < used <= total and used % PAGE == 0, f"used length {used:#x} of {name}")
            total -= used
            b = self.blocks[name] = Block(name, used)
            if self.page_size_follows(last=total == 0):
                b.page_size = r.be64()
            if self.ignore_shared:
                b.address = r.be64()
            if self.mapped:
                self.read_mapped_header(b)

    def page_size_follows(self, last):
        """Only its own bytes tell whether this block carries a page size (stream.md, 7.2)."""
        if not self.advise or not self.advise[0] & ~(self.advise[1] | PAGE):
            return False
        if last:
            return int.from_bytes(self.r.peek(8), "big") % PAGE == 0
        return self.r.peek() == b"\0"

    def read_page(self, flags, offset):
        r = self.r
        if not flags & CONTINUE:
            name = r.str8()
            r.need(name in self.blocks, f"unknown block {name}")
            self.last_block = self.blocks[name]
        b = self.last_block
        r.need(b is not None, "CONTINUE before any block")
        r.need(offset + PAGE <= b.used, f"page {offset:#x} outside {b.name}")
        if flags & ZERO:
            r.need(r.u8() == 0, "fill byte")
            b.ram[offset:offset + PAGE] = bytes(PAGE)
            self.counts["zero"] += 1
        elif flags & NORMAL:
            b.ram[offset:offset + PAGE] = r.take(PAGE)
            self.counts["normal"] += 1
        else:
            r.need(offset in b.sent, "delta of a page never sent")
            r.need(r.u8() == 1, "XBZRLE encoding")
            self.apply_delta(b, offset, r.take(r.be16()))
            self.counts["xbzrle"] += 1
        b.sent.add(offset)

    def apply_delta(self, b, offset, delta):
        at = place = 0

        def length():
            nonlocal at
            self.r.need(at < len(delta), "delta cut")
            n = delta[at]
            at += 1
            if n & 0x80:
                self.r.need(at < len(delta) and delta[at] < 0x80, "length of a run")
                n = n & 0x7F | delta[at] << 7
                at += 1
            return n

        while at < len(delta):
            skip = length()
            self.r.need(skip or not place, "empty unchanged run")
            n = length()
            place += skip
            self.r.need(n and at + n <= len(delta) and place + n <= PAGE, "changed run")
            b.ram[offset + place:offset + place + n] = delta[at:at + n]
            place, at = place + n, at + n

    # --- mapped-ram ---

    def read_mapped_header(self, b):
        r = self.r
        r.need(r.be32() == 1, "mapped-ram header version")
        r.need(r.be64() == PAGE, "mapped-ram page size")
        b.bitmap_offset, b.pages_offset = r.be64(), r.be64()
        if b.bitmap_offset == b.pages_offset == 0:
            r.need(self.ignore_shared, "0/0 header without x-ignore-shared")
            return
        bitmap_end = b.bitmap_offset + 8 * -(-b.used // PAGE // 64)
        r.need(b.bitmap_offset == r.at, "bitmap is not behind the header")
        # A writer that learns only at the end which blocks are left out has kept the room for their pages.
        r.need(b.pages_offset == -(-bitmap_end // MIB) * MIB or self.ignore_shared and
               b.pages_offset >= bitmap_end and b.pages_offset % MIB == 0, "pages are not at the next MiB")
        r.need(b.pages_offset + b.used <= len(r.data), "pages outside the file")
        r.at = b.pages_offset + b.used

    def read_mapped_pages(self):
        data = self.r.data
        for b in self.blocks.values():
            if not b.pages_offset:
                continue
            bits = int.from_bytes(data[b.bitmap_offset:b.bitmap_offset + 8 * -(-b.used // PAGE // 64)], "little")
            self.r.need(bits >> (b.used // PAGE) == 0, f"bits past the end of {b.name}")
            for i in range(b.used // PAGE):
                place = b.pages_offset + i * PAGE
                if bits >> i & 1:
                    b.ram[i * PAGE:(i + 1) * PAGE] = data[place:place + PAGE]
                    b.sent.add(i * PAGE)
                elif data[place:place + PAGE] != NO_PAGE:
                    b.stale += 1


def is_whole(data):
    """Does a stream with a description end exactly here? For a receiver that must not wait for the connection to end."""
    at = len(data)
    if data[at - 1:] != b"}":
        return False
    while (at := data.rfind(b'\x06', 0, at)) > 0:
        if data[at - 1] == EOF and data[at + 5:at + 6] == b"{" and \
                at + 5 + int.from_bytes(data[at + 1:at + 5], "big") == len(data):
            return True
    return False


def decode_file(path, start=0):
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
        s = Stream(data, start).decode()
        s.r = None
        return s


def main(argv):
    s = decode_file(argv[1], int(argv[2], 0) if len(argv) > 2 else 0)
    json.dump({
        "machine": s.machine, "capabilities": s.capabilities, "uuid": s.uuid, "advise": s.advise,
        "commands": [n for n, _ in s.commands], "ram_ended": s.ram_ended, "counts": s.counts,
        "blocks": [{"name": b.name, "used": b.used, "page_size": b.page_size, "address": b.address,
                    "pages": len(b.sent), "stale": b.stale, "sha256": b.sha256()} for b in s.blocks.values()],
        "devices": [d[:2] for d in s.devices]}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    try:
        main(sys.argv)
    except Bad as e:
        sys.exit(f"{sys.argv[1]}: {e}")
