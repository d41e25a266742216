#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make-seeds.py: writes the first inputs of each fuzz target, fuzz/corpus/NAME/*, from the byte drawings of docs/spec.

Small on purpose: pages of 1 KiB, guests of three pages. Inputs that once failed lie in the same folders under names
of their own and are never removed; this script only writes what it lists.
"""
import json
import os
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
P = 1024  # target page of the streams: target-page-bits 10, the smallest whose words have room for the flag 0x200


def be(n, v):
    return v.to_bytes(n, "big")


def str8(s):
    return be(1, len(s)) + s.encode()


def put(target, name, data):
    folder = os.path.join(HERE, "corpus", target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data)


# docs/spec/stream.md 2, 3

MAGIC = bytes.fromhex("5145564d00000003")


def subsection(name, payload):
    return b"\x05" + str8(name) + be(4, 1) + payload


def config(caps=(), bits=10, uuid=None):
    out = b"\x07" + be(4, 14) + b"pc-i440fx-10.0"
    if bits:
        out += subsection("configuration/target-page-bits", be(4, bits))
    if caps:
        out += subsection("configuration/capabilities", be(4, len(caps)) + b"".join(map(str8, caps)))
    if uuid:
        out += subsection("configuration/uuid", uuid)
    return out


# stream.md 4, 5, 7

def start(kind, section, name, version):
    return be(1, kind) + be(4, section) + str8(name) + be(4, 0) + be(4, version)


def more(kind, section):
    return be(1, kind) + be(4, section)


def footer(section):
    return b"\x7e" + be(4, section)


def command(number, payload=b""):
    return b"\x08" + be(2, number) + be(2, len(payload)) + payload


EOS = be(8, 0x10)
FLUSH = be(8, 0x200)
PAGE_OF = bytes(range(256)) * 4


def word(value, flags, name=None):
    return be(8, value | flags | (0 if name else 0x20)) + (str8(name) if name else b"")


def blocks(entries, extra=lambda name, used: b""):
    out = be(8, sum(used for _, used in entries) | 4)
    return out + b"".join(str8(name) + be(8, used) + extra(name, used) for name, used in entries)


GUEST = [("m0", 2 * P), ("pc.rom", P)]


def description(devices):
    return {"page_size": P, "devices": devices}


def field(name, size, **more_keys):
    return {"name": name, **more_keys, "type": more_keys.get("type", "uint8"), "size": size}


def obj(name, fields, subsections=()):
    out = {"vmsd_name": name, "version": 1, "fields": fields}
    return {**out, "subsections": list(subsections)} if subsections else out


def end(devices, text=True):
    """FULL sections of (id, name, body), EOF, description."""
    out = b"".join(start(4, i, name, 1) + body + footer(i) for i, name, body, _ in devices) + b"\0"
    if not text:
        return out
    described = [{"name": name, "instance_id": 0, **d} for _, name, _, d in devices]
    data = json.dumps(description(described)).encode()
    return out + b"\x06" + be(4, len(data)) + data


SUB = b"\x05" + str8("timer/sub") + be(4, 1) + b"\x09"
DEVICES = [
    (4, "timer", b"abcd" + SUB, obj("timer", [field("a", 2), field("b", 1, array_len=2)], [obj("timer/sub", [field("c", 1)])])),
    (5, "slirp", b"xyz", {"size": 3, "fields": [field("data", 3)]}),
]


def ram(*parts):
    """START with the first part, PARTs with the others, END with the last."""
    heads = [start(1, 1, "ram", 4)] + [more(2, 1)] * (len(parts) - 2) + [more(3, 1)]
    return b"".join(h + p + EOS + footer(1) for h, p in zip(heads, parts))


def mapped(base):
    """A mapped-ram file whose first byte is byte `base` of the file."""
    out = MAGIC + config(["mapped-ram"]) + start(1, 1, "ram", 4)
    out += be(8, sum(used for _, used in GUEST) | 4)
    for name, used in GUEST:
        out += str8(name) + be(8, used)
        bitmap = base + len(out) + 28
        pages = (bitmap + 8 + P - 1) // P * P
        out += be(4, 1) + be(8, P) + be(8, bitmap) + be(8, pages)
        out += b"\x01" + bytes(pages - bitmap - 1) + PAGE_OF * (used // P)
    return out + EOS + footer(1) + more(2, 1) + EOS + footer(1) + command(11) + more(3, 1) + EOS + footer(1) + end(DEVICES)


def streams():
    plain = ram(blocks(GUEST), word(0, 8, "m0") + PAGE_OF + word(P, 2) + b"\0", word(0, 8, "pc.rom") + PAGE_OF)
    yield "plain", 0, MAGIC + config() + plain + end(DEVICES)
    yield "trailing", 0, MAGIC + config() + plain + end(DEVICES) + b"trailing"
    yield "no-description", 0, MAGIC + config() + plain + end(DEVICES, text=False)
    deltas = ram(blocks(GUEST), word(0, 8, "m0") + PAGE_OF, word(0, 0x40) + b"\x01" + be(2, 4) + b"\x00\x02ab" + FLUSH)
    yield "xbzrle", 0, MAGIC + config() + deltas + end(DEVICES)
    head = command(1) + command(2, be(4, 1)) + command(3, be(8, 0x1000 | P) + be(8, P))
    big = blocks([("m0", 0x1000), ("r", P)], lambda name, used: be(8, 0x1000) if name == "m0" else b"")
    yield "advised", 0, MAGIC + config() + head + ram(big, word(0, 2, "m0") + b"\0") + command(11) + end(DEVICES)
    shared = blocks(GUEST, lambda name, used: be(8, 0x10000))
    yield "ignore-shared", 0, MAGIC + config(["x-ignore-shared"]) + ram(shared, b"") + end(DEVICES)
    yield "mapped", 0, mapped(0)
    yield "mapped-offset", 2, mapped(4096)
    early = start(1, 1, "ram", 4) + blocks(GUEST) + EOS + footer(1) + start(4, 9, "vmem", 1) + b"early" + footer(9)
    vmem = (9, "vmem", b"early", obj("vmem", [field("e", 5)]))
    rest = more(2, 1) + word(0, 2, "m0") + b"\0" + EOS + footer(1) + more(3, 1) + EOS + footer(1)
    text = json.dumps(description([{"name": n, "instance_id": 0, **d} for _, n, _, d in [vmem, *DEVICES]])).encode()
    yield "early", 0, MAGIC + config() + early + rest + end(DEVICES, text=False) + b"\x06" + be(4, len(text)) + text
    background = start(1, 1, "ram", 4) + blocks(GUEST) + EOS + footer(1) + more(2, 1) + word(0, 2, "m0") + b"\0" + EOS + footer(1)
    yield "background", 0, MAGIC + config() + background + end(DEVICES)
    opening, closing = start(1, 3, "dirty-bitmap", 1) + b"private" + footer(3), more(3, 3) + b"private" + footer(3)
    yield "opaque", 0, MAGIC + config() + opening + closing + plain + end(DEVICES)
    yield "multifd", 1, MAGIC + config() + ram(blocks(GUEST) + FLUSH, FLUSH) + end(DEVICES)
    yield "small-tail", 4, MAGIC + config() + plain + end(DEVICES)
    advised = start(1, 1, "ram", 4) + blocks(GUEST) + EOS + footer(1) + more(2, 1) + word(0, 2, "m0") + b"\0" + EOS + footer(1)
    discard = command(6, b"\0" + str8("m0") + b"\0" + be(8, 0) + be(8, P))
    inside = command(4) + b"".join(start(4, i, n, 1) + body + footer(i) for i, n, body, _ in DEVICES) + command(2, be(4, 3)) + command(5)
    package = command(7, be(4, len(inside))) + inside
    wanted = more(2, 1) + word(0, 8, "m0") + PAGE_OF + EOS + footer(1) + more(3, 1) + EOS + footer(1) + b"\0"
    yield "postcopy", 8, MAGIC + config() + head + advised + discard + package + wanted
    resumed = more(2, 1) + word(0, 2, "m0") + b"\0" + EOS + footer(1) + more(3, 1) + EOS + footer(1) + b"\0"
    yield "recovery", 16, command(10, str8("m0")) + command(10, str8("pc.rom")) + command(9) + resumed
    yield "preempt", 32, be(8, 0x2000 | 2) + str8("m0") + b"\0" + be(8, 0x1000 | 0x22) + b"\0" + EOS


def vmdescs():
    walked = [
        obj("d", [field("a", 2), field("b", 1, array_len=2)], [obj("timer/sub", [field("c", 1)])]),
        obj("d", [field("s", 2, type="struct", struct=obj("s", [field("x", 1), field("y", 1)]), array_len=2)]),
        obj("d", [{**field("v", 3, type="vstruct"), **obj("v", [field("x", 3)])}]),
        obj("d", [field("caps", 16, type="capability", array_len=2)]),
        obj("d", [field("a", 1, index=0), field("a", 1, index=1), field("a", 1)]),
        {"size": 3, "fields": [field("data", 3)]},
    ]
    devices = [{"name": f"dev{i}", "instance_id": 0, **d} for i, d in enumerate(walked)]
    text = json.dumps({"configuration": obj("configuration", []), **description(devices)}).encode()
    yield "subsection", text + b"\0abcd" + SUB
    yield "capability", text + b"\0" + str8("x-ignore-shared") + str8("mapped-ram")
    yield "duplicate-keys", (b'{"devices":[{"name":"d","instance_id":0,"vmsd_name":"d","version":1,"fields":[{"name":"l","type":'
                             b'"qtailq","vmsd_name":"e","fields":[],"vmsd_name":"e","fields":[],"size":4}]}]}\0abcd')
    yield "endless", (b'{"devices":[{"name":"d","instance_id":0,"vmsd_name":"d","version":1,"fields":[{"name":"a","type":"struct",'
                      b'"array_len":1152921504606846976,"size":0,"struct":{"vmsd_name":"s","version":1,"fields":[]}}]}]}\0')


def others():
    spec_delta = bytes.fromhex("0002488196120185")
    yield "xbzrle", "spec", bytes([12, 0]) + spec_delta
    yield "xbzrle", "small", bytes([4, 0xaa]) + b"\x00\x01z\x03\x02yy"
    yield "xbzrle", "third-byte", bytes([16, 1]) + b"\xff\xff\x01\x01\x01"
    captured = ("0002000400000001" "0003001100000000000c000000001000046d656d30" "0004000c000000000294e00000001000"
                "00050005046d656d30" "0006000400000001" "00070000" "0001000400000000")
    yield "return_path", "captured", bytes.fromhex(captured)
    yield "return_path", "bad-name", bytes.fromhex("0005000205" "6d")
    ranges = be(8, 0x10000) + be(8, 0x1000) + be(8, 0x13000) + be(8, 0x2000)
    yield "discard", "captured", b"\0" + str8("mem0") + b"\0" + ranges
    yield "discard", "half-a-range", b"\0" + str8("mem0") + b"\0" + ranges[:24]
    yield "config", "plain", MAGIC + config(bits=None) + b"\x01"
    yield "config", "all", MAGIC + config(["x-ignore-shared", "mapped-ram"], 16, bytes(range(16))) + b"\x01"
    items = start(1, 1, "ram", 4) + footer(7) + command(2, be(4, 1)) + command(3, bytes(16)) + command(10, str8("m0"))
    yield "framing", "sections", items + more(2, 1) + start(4, 0x28, "globalstate", 1) + command(11)
    yield "ram", "list", bytes([2, 0]) + blocks(GUEST)
    yield "ram", "address", bytes([2, 1]) + blocks(GUEST, lambda name, used: be(8, 0x1000))
    pages = blocks([("m0", 4 * P), ("r", 2 * P)], lambda name, used: be(8, 2 * P) if name == "m0" else b"")
    yield "ram", "page-size", bytes([2, 4]) + pages + EOS
    yield "ram", "page-size-last", bytes([2, 4]) + blocks([("m0", 4 * P)], lambda name, used: be(8, 2 * P)) + EOS
    yield "ram", "word", bytes([4, 0]) + bytes.fromhex("0000000001144060")
    header = be(4, 1) + be(8, 4096) + be(8, 0x8e) + be(8, 0x100000)
    yield "mapped", "spec", bytes([4, 0]) + be(8, 0x72) + be(8, 0x1000000) + header
    yield "mapped", "ignored", bytes([4, 1]) + be(8, 0x72) + be(8, 0x1000000) + be(4, 1) + be(8, 4096) + bytes(16)
    yield "mapped", "huge", bytes([4, 0]) + be(8, 2**62) + be(8, 2**63) + header


# docs/spec/multifd.md 2, 3, 7

HELLO = bytes.fromhex("1122334400000001") + bytes(range(16)) + b"\1" + bytes(39)
BIG = 65536         # pages of 64 KiB: 8 in a packet, 384 bytes of header


def packet(flags, number, normal=(), zero=(), payload=b"", name=b"", alloc=8, size=None):
    head = bytes.fromhex("1122334400000001") + be(4, flags) + be(4, alloc) + be(4, len(normal))
    head += be(4, len(payload) if size is None else size) + be(8, number) + be(4, len(zero)) + bytes(28) + name.ljust(256, b"\0")
    offsets = [*normal, *zero]
    return head + b"".join(be(8, o) for o in offsets + [0] * (8 - len(offsets))) + payload


def multifds():
    """A byte 03 in front: pages of 64 KiB."""
    yield "zlib", packet(1, 0, alloc=0) + packet(2, 1, [BIG, 0], [2 * BIG], b"x" * 50, b"m0") + packet(1, 2, alloc=0)
    yield "zstd", packet(4, 0, [3 * BIG], (), b"y" * 20, b"m0") + packet(4, 1, (), [BIG, 0], b"", b"m0")
    yield "old-source", packet(3, 0, [BIG], (), b"z" * 9, b"m0") + packet(0, 0, size=9, name=b"m0") + packet(1, 2, size=9, name=b"m0")
    yield "device-state", bytes.fromhex("112233440000000100000040") + b"vfio".ljust(256, b"\0") + be(4, 0) + be(4, 9) + b"opaque..."
    yield "main-channel", MAGIC


def unpacks():
    """method, then be16 bytes of pages, be16 bytes of payload, payload. For zstd frames written by hand."""
    def chunk(pages, payload):
        return be(2, pages) + be(2, len(payload)) + payload

    def deflate(*flushes):
        z = zlib.compressobj(1)
        return [z.compress(PAGE_OF) + z.flush(f) for f in flushes]

    sync, full, finish = deflate(zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_FINISH)
    yield "zlib", b"\0" + chunk(P, sync) + chunk(P, full)
    yield "zlib-finished", b"\0" + chunk(P, sync) + chunk(P, full) + chunk(P, finish)
    yield "zlib-anew", b"\0" + chunk(P, sync) + chunk(P, sync)
    head = bytes.fromhex("28b52ffd0048")

    def raw(data):
        return (len(data) << 3).to_bytes(3, "little") + data

    def run(byte, n):       # one byte, n times
        return (n << 3 | 2).to_bytes(3, "little") + byte

    yield "zstd", b"\1" + chunk(P, head + raw(PAGE_OF)) + chunk(2 * P, run(b"a", P) + raw(PAGE_OF))
    yield "zstd-ended", b"\1" + chunk(P, head + raw(PAGE_OF)) + chunk(P, run(b"a", P) + b"\1\0\0")
    yield "zstd-window", b"\1" + chunk(P, bytes.fromhex("28b52ffd0080") + raw(PAGE_OF))


def explained():
    """kind of channel (with 8: the guest is known), then its bytes."""
    main = {name: data for name, _, data in streams()}
    yield "main", 2, main["plain"]
    yield "main-postcopy", 2, main["postcopy"]
    yield "recovery", 3 | 8, main["recovery"]
    yield "recovery-unknown", 3, main["recovery"]
    yield "preempt", 4 | 8, main["preempt"]
    head = bytes.fromhex("1122334400000001") + be(4, 1) + be(4, 0) * 3 + be(8, 0) + bytes(320 - 32)
    yield "multifd", 5 | 8, HELLO + head + bytes(8 * 128)
    bitmap = be(2, 5) + be(2, 3) + str8("m0") + be(8, 8) + b"\xf5" + bytes(7) + be(8, 0x0123456789ABCDEF)
    yield "return_path", 6 | 8, bytes.fromhex("0002000400000001" "0003000f00000000000010000000100002") + b"m0" + bitmap + bytes.fromhex("0001000400000000")
    yield "silent", 1, b"x"
    yield "opaque", 0, b"GET /"


def qmps():
    """Behind the greeting: answers by id, as the target's queries ask for them. A byte 00 in front: no greeting."""
    answers = [{"status": "active", "ram": {"total": 4096, "transferred": 10, "remaining": 0}}, {"status": "paused", "running": False}]
    lines = [json.dumps({"return": a, "id": i + 2}) for i, a in enumerate(answers)]
    event = '{"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}, "data": {}}'
    yield "answers", ("\n".join(lines[:1] + [event] + lines[1:]) + "\n").encode()
    yield "error", b'{"error": {"class": "GenericError", "desc": "no"}, "id": 2}\n'
    yield "greeting", b'\0{"QMP": {"version": {"qemu": {"major": 7, "minor": 2}}}}\n{"return": {}, "id": 1}\n'


# docs/spec/postcopy.md 1.2, 6: what a destination of fuzz_serve says at once, behind RESUME or the package, and behind the end

def said(kind, payload=b""):
    return be(2, kind) + be(2, len(payload)) + payload


def asks(start, length, block=None):
    return said(3 if block else 4, be(8, start) + be(4, length) + (str8(block) if block else b""))


def has(block, bits):
    return said(5, str8(block)) + be(8, 8) + bits.ljust(8, b"\0") + be(8, 0x0123456789ABCDEF)


def serves():
    runs, shut, ack = said(2, be(4, 0x42)), said(1, be(4, 0)), said(6, be(4, 1))
    some, none = has("ram0", b"\x0f\x0f") + has("rom", b"\x15"), has("ram0", b"") + has("rom", b"")
    for name, mode, *parts in (
            ("plain", 0, b"", runs, shut),
            ("requests", 0, b"", asks(8192, 4096, "ram0") + runs + asks(0, 65536) + asks(16384, 4096, "rom"), asks(0, 4096) + shut),
            ("large", 2, b"", asks(16384, 16384, "ram0") + runs, shut),
            ("refused", 0, b"", said(1, be(4, 1)), b""),
            ("resumed", 1, some, ack + asks(4096, 4096, "rom"), shut),
            ("resumed-large", 3, some, ack, shut),
            ("resumed-whole", 1, has("ram0", b"\xff\xff") + has("rom", b"\xff"), ack, shut),
            ("resumed-empty", 1, none, ack + asks(0, 4096, "ram0"), shut),
            ("split", 3, has("ram0", b"\1") + has("rom", b""), ack, shut),
            ("size", 1, said(5, str8("ram0")) + be(8, 16), b"", b""),
            ("behind-shut", 0, b"", runs, shut + shut + ack)):
        yield name, bytes([mode]) + be(2, len(parts[0])) + be(2, len(parts[1])) + b"".join(parts)


# docs/spec/working-set.md. The target puts the checksums right.

def working_sets():
    def head(page=4096, version=1):
        return b"GWWS\r\n\x1a\n" + be(4, version) + be(4, page) + bytes(range(16)) + be(8, 1700000000) + bytes(16) + bytes(8)

    def chunk(*runs, mark=0x57534348, n=None):
        return be(4, mark) + be(4, len(runs) if n is None else n) + be(8, 1700000001) + b"".join(
            be(2, block) + be(2, pages) + be(4, first) for block, pages, first in runs) + bytes(8)

    two = chunk((0, 1, 7), (2, 300, 9)) + chunk((0, 65535, 0xFFFFFFFF))
    yield "empty", head()
    yield "two-chunks", head() + two
    yield "torn", head() + two[:-3]
    yield "no-pages", head() + chunk((0, 0, 7))
    yield "no-entries", head() + chunk()
    yield "too-many", head() + chunk((0, 1, 7), n=4097)
    yield "all-entries", head() + chunk(*((1, 1, i) for i in range(0, 600, 2)))
    yield "other-mark", head() + chunk((0, 1, 7), mark=0x57534349)
    yield "newer", head(version=2)
    yield "version-0", head(version=0)
    yield "odd-pages", head(page=4097)
    yield "short", head()[:63]


# docs/spec/stream.md, postcopy.md 3, 6: what a source says to fuzz_receive, over one connection or two


def receives():
    by_name = {name: data for name, _, data in streams()}
    for name in ("plain", "early", "advised", "background", "ignore-shared", "opaque", "no-description", "xbzrle", "postcopy"):
        yield name, 0, by_name[name], b""
    head = MAGIC + config() + command(1) + command(2, be(4, 1)) + command(3, be(8, P) * 2)
    listed = start(1, 1, "ram", 4) + blocks(GUEST) + EOS + footer(1)
    some = more(2, 1) + word(0, 8, "m0") + PAGE_OF + EOS + footer(1)
    ram_end = more(3, 1) + EOS + footer(1)
    discard = command(6, b"\0" + str8("m0") + b"\0" + be(8, 0) + be(8, P))
    inside = command(4) + b"".join(start(4, i, n, 1) + body + footer(i) for i, n, body, _ in DEVICES) + command(2, be(4, 3)) + command(5)
    package = command(7, be(4, len(inside))) + inside
    switched = head + listed + some + discard + package
    rest = more(2, 1) + word(0, 8, "m0") + PAGE_OF + word(P, 2) + b"\0" + word(0, 2, "pc.rom") + b"\0" + EOS + footer(1) + ram_end + b"\0"
    asked = command(10, str8("m0")) + command(10, str8("pc.rom")) + command(9)
    early = start(4, 9, "vmem", 1) + b"early" + footer(9)
    yield "switched", 0, switched + rest, b""
    yield "without-discard", 0, head + listed + package + rest, b""
    yield "two-connections", 0, switched, asked + rest
    yield "two-processes", 1, head + listed + early + some + discard + package + some, asked + rest
    yield "two-processes-in-vain", 1, switched, asked[:9]
    yield "mute", 2, switched + rest, b""
    yield "package-first", 0, head + package, b""
    yield "discard-behind-the-end", 0, head + listed + ram_end + discard, b""
    yield "package-behind-the-end", 0, head + listed + ram_end + package, b""
    yield "end-in-the-switch", 0, head + listed + some + discard + ram_end + end(DEVICES), b""


# docs/spec/colo.md 4

def primaries():
    """A guest, and checkpoints of it: what is sent before each answer."""
    head = MAGIC + config() + command(1) + command(2, be(4, 1))
    first = ram(blocks(GUEST), word(0, 8, "m0") + PAGE_OF + word(P, 2) + b"\0", word(0, 8, "pc.rom") + PAGE_OF)
    guest = head + first + end(DEVICES)
    devices = b"".join(start(4, i, n, 1) + body + footer(i) for i, n, body, _ in DEVICES) + b"\0"
    request, size = be(4, 1), be(4, 4) + be(8, len(devices))
    early = start(4, 9, "vmem", 1) + b"early" + footer(9)
    described = [(9, "vmem", b"early", {"size": 5, "fields": [field("data", 5)]}), *DEVICES]
    with_early = head + early + first + end(DEVICES, text=False)[:-1] + end(described)[len(end(described, text=False)) - 1:]

    def epoch(*records, before=b"", state=devices):
        return request, be(4, 3) + before + more(3, 1) + b"".join(records) + EOS + footer(1) + b"\0" + be(4, 4) + be(8, len(state)) + state

    page, zero = word(P, 8, "m0") + PAGE_OF, word(0, 2) + b"\0"
    yield "epochs", [guest, *epoch(page, zero), *epoch(zero), *epoch()]
    yield "marks", [guest, *epoch(page, FLUSH, zero, FLUSH, before=command(11))]
    yield "early", [with_early, *epoch(page, state=early + devices), *epoch(page, state=devices + early)]
    yield "no-guest", [guest[:300]]
    yield "no-size", [guest, *epoch(page), request, be(4, 3) + more(3, 1) + EOS + footer(1) + b"\0" + request]
    yield "half", [guest, *epoch(page), *(part[:40] for part in epoch(zero))]
    yield "too-much", [guest, request, be(4, 3) + more(3, 1) + EOS + footer(1) + b"\0" + be(4, 4) + be(8, 1 << 40)]
    yield "turn", [guest + request, be(4, 3)]
    yield "background", [head + start(1, 1, "ram", 4) + blocks(GUEST) + EOS + footer(1) + more(2, 1) + page + EOS + footer(1) + end(DEVICES),
                         *epoch(page)]


def secondaries():
    """What it says: PONG and SHUT 0 in the new dialect, READY, and three words a checkpoint."""
    shut = be(2, 2) + be(2, 4) + be(4, 1) + be(2, 1) + be(2, 4) + be(4, 0)
    ready, epoch = be(4, 0), be(4, 2) + be(4, 5) + be(4, 6)
    yield "good", 0, shut + ready + 3 * epoch
    yield "old", 1, ready + 3 * epoch
    yield "gone", 0, shut + ready + epoch + be(4, 2)
    yield "loaded-first", 0, shut + ready + be(4, 2) + be(4, 6)
    yield "size", 0, shut + ready + be(4, 2) + be(4, 4) + be(8, 9)
    yield "number", 1, ready + be(4, 7)
    yield "failed", 0, shut[:-1] + b"\1" + ready
    yield "no-shut", 0, ready + epoch


def main():
    for name, flags, data in secondaries():
        put("colo_primary", name, bytes([flags]) + data)
    for name, pieces in primaries():
        put("standby", name, b"".join(be(2, len(piece)) + piece for piece in pieces))
    for name, flags, one, two in receives():
        put("receive", name, bytes([flags]) + be(2, len(one)) + one + two)
    for name, data in working_sets():
        put("working_set", name, data)
    for name, data in serves():
        put("pageserver", name, data)
    for name, data in qmps():
        put("qmp", name, data)
    for name, flags, data in streams():
        put("stream", name, bytes([flags, 1]) + data)
    for name, kind, data in explained():
        put("dissector", name, bytes([kind, 1]) + data)
    for name, data in vmdescs():
        put("vmdesc", name, data)
    for name, data in multifds():
        put("multifd", name, b"\3" + (data if name == "main-channel" else HELLO + data))
    for name, data in unpacks():
        put("decompress", name, data)
    for target, name, data in others():
        put(target, name, data)


if __name__ == "__main__":
    main()


# docs/spec/partial.md 2, 3

MIB_ = 1 << 20


def state_block(name, used, bitmap_at, pages_at, page=0, left_out=0):
    return str8(name) + be(8, used) + be(8, page) + be(8, bitmap_at) + be(8, pages_at) + be(1, left_out)


def piece(data):
    return be(4, len(data)) + data


def state(blocks, cursor=5 * MIB_, marker=7 * MIB_, early=b"", package=b"", note=b""):
    return bytes(range(16)) + be(8, marker) + be(8, 0) + be(8, cursor) + be(8, 100) + be(4, 2) + \
        piece(config(["mapped-ram"], bits=0)) + be(4, len(blocks)) + b"".join(blocks) + piece(early) + piece(package) + piece(note)


RAM = state_block("ram", 3 * 4096, 200, MIB_)
ROM = state_block("rom", 4096, 2 * MIB_, 3 * MIB_)
put("recv_state", "head", b"\0" + b"GWPARTL1" + be(4, 1) + be(4, 0) + be(8, 4096) + be(8, 300) + bytes(16))
put("recv_state", "guest", b"\1" + state([RAM, ROM], early=b"early", package=bytes.fromhex("0800040000 0800050000"), note=b"{}"))
put("recv_state", "huge-pages", b"\1" + state([state_block("ram", 1 << 21, 200, MIB_, page=1 << 21)]))
put("recv_state", "left-out", b"\1" + state([RAM, state_block("shared", 4096, 0, 0, left_out=1)]))
put("recv_state", "overlapping", b"\1" + state([ROM, RAM]))
put("recv_state", "cut", b"\1" + state([RAM])[:-7])
