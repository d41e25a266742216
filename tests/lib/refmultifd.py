#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A second reader of multifd channels, written from docs/spec/multifd.md alone; the main stream is refstream.py's.

Like that one it knows nothing of Godwit's decoder, wants everything in memory, and gives a Bad with the offset for
whatever it does not expect. What came between two marks of the main stream has no order; `reverse` applies the
channels from the last to the first, which must make no difference.

refmultifd.py STYLE MAIN CHANNEL...: print a summary as JSON. STYLE: round or section (multifd.md, 5).
"""
import json
import subprocess
import sys
import zlib

from refstream import PAGE, Bad, Reader, Stream

MAGIC, VERSION = 0x11223344, 1
SYNC, METHODS = 0x01, {0: "none", 2: "zlib", 4: "zstd"}
PAGES = 524288 // PAGE
PAYLOAD_MAX = 2 * 524288
END_OF_FRAME = b"\1\0\0"        # an empty last block: makes a whole zstd frame of what a channel leaves open


class Packet:
    def __init__(self, r):
        self.at = r.at
        r.need(r.be32() == MAGIC, "magic of a packet")
        r.need(r.be32() == VERSION, "version of a packet")
        flags = r.be32()
        r.need(flags & 0x3e in METHODS and not flags & ~0x3f, f"flags {flags:#x}")
        self.sync, self.method = bool(flags & SYNC), METHODS[flags & 0x3e]
        allocated, normal, size = r.be32(), r.be32(), r.be32()
        self.number = r.be64()
        zero = r.be32()
        r.take(4 + 24)
        name = bytes(r.take(256))
        offsets = [r.be64() for _ in range(PAGES)]
        r.need(normal + zero <= allocated <= PAGES, f"{normal} + {zero} of {allocated} pages")
        self.normal, self.zero = offsets[:normal], offsets[normal:normal + zero]
        self.block = None
        if normal or zero:
            r.need(b"\0" in name and name[0], f"block name {name!r}")
            self.block = name[:name.index(b"\0")].decode()
        r.need(not any(o % PAGE for o in self.normal + self.zero), "offset inside a page")
        r.need(size <= PAYLOAD_MAX, f"payload of {size} bytes")
        self.payload = bytes(r.take(size if normal else 0))     # 7.2 leaves an old size in packets without pages
        self.pages = b""        # the payload, unpacked


class Channel:
    """One channel: id, uuid, packets."""

    def __init__(self, data):
        r = Reader(data, 0)
        r.need(r.be32() == MAGIC and r.be32() == VERSION, "hello")
        self.uuid = bytes(r.take(16)).hex()
        self.id = r.u8()
        r.take(7 + 32)
        self.packets = []
        while r.at < len(data):
            self.packets.append(Packet(r))
        self.syncs = sum(p.sync for p in self.packets)
        self.methods = {p.method for p in self.packets if p.normal}
        r.need(len(self.methods) <= 1, "two methods in one channel")
        self.unpack(next(iter(self.methods), "none"))

    def unpack(self, method):
        if method == "zlib":
            z = zlib.decompressobj()
            for p in self.packets:
                if p.normal:
                    p.pages = z.decompress(p.payload)
                    self.need(not z.eof and p.payload.endswith(b"\0\0\xff\xff"), p, "no sync flush")
        elif method == "zstd":
            # The command takes a whole frame only, so what belongs to which packet shows only in the sum.
            frame = b"".join(p.payload for p in self.packets) + END_OF_FRAME
            plain = subprocess.run(["zstd", "-dqc", "--long=25"], input=frame, stdout=subprocess.PIPE, check=True).stdout
            at = 0
            for p in self.packets:
                p.pages = plain[at:at + len(p.normal) * PAGE]
                at += len(p.pages)
            self.need(at == len(plain), self.packets[-1], "more came out than there are pages")
        else:
            for p in self.packets:
                p.pages = p.payload
        for p in self.packets:
            self.need(len(p.pages) == len(p.normal) * PAGE, p, f"{len(p.pages)} bytes for {len(p.normal)} pages")

    def need(self, truth, packet, text):
        if not truth:
            raise Bad(packet.at, f"channel {self.id}, packet {packet.number}: {text}")


class MultifdStream(Stream):
    """The main stream with its channels; decode() applies all of them."""

    def __init__(self, data, channels, style, reverse=False):
        super().__init__(data)
        self.style, self.reverse = style, reverse
        self.channels = [Channel(c) for c in channels]
        self.counts.update(channel_normal=0, channel_zero=0, packets=0, marks=0)
        self.queues = [list(c.packets) for c in self.channels]
        if [c.id for c in self.channels] != list(range(len(channels))):
            raise Bad(0, "channel ids")

    def decode(self):
        super().decode()
        for i, left in enumerate(self.queues):      # 7.2 lets an empty packet follow a SYNC that had pages
            self.r.need(not any(p.block or p.sync for p in left), f"packets of channel {i} behind the last mark")
        return self

    def mark(self, style):
        if style != self.style:
            return
        self.counts["marks"] += 1
        for queue in reversed(self.queues) if self.reverse else self.queues:
            self.apply_until_sync(queue)

    def apply_until_sync(self, queue):
        while True:
            self.r.need(queue, "a channel has no SYNC for this mark")
            p = queue.pop(0)
            self.apply(p)
            if p.sync:
                return

    def apply(self, p):
        self.counts["packets"] += 1
        if not p.block:
            return
        self.r.need(p.block in self.blocks, f"packet {p.number}: unknown block {p.block}")
        b = self.blocks[p.block]
        for i, offset in enumerate(p.normal + p.zero):
            self.r.need(offset + PAGE <= b.used, f"packet {p.number}: page {offset:#x} outside {b.name}")
            normal = i < len(p.normal)
            b.ram[offset:offset + PAGE] = p.pages[i * PAGE:(i + 1) * PAGE] if normal else bytes(PAGE)
            b.sent.add(offset)
        self.counts["channel_normal"] += len(p.normal)
        self.counts["channel_zero"] += len(p.zero)


def main(argv):
    parts = []
    for path in argv[2:]:
        with open(path, "rb") as f:
            parts.append(f.read())
    s = MultifdStream(parts[0], parts[1:], argv[1]).decode()
    json.dump({"machine": s.machine, "counts": s.counts, "blocks": {b.name: b.sha256() for b in s.blocks.values()},
               "channels": [{"id": c.id, "uuid": c.uuid, "packets": len(c.packets), "syncs": c.syncs, "methods": sorted(c.methods)}
                            for c in s.channels]}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    try:
        main(sys.argv)
    except Bad as e:
        sys.exit(f"{sys.argv[2]}: {e}")
