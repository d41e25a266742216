# SPDX-License-Identifier: MIT
"""A source that switches to post-copy, made by hand from docs/spec/postcopy.md: a guest of two blocks and two devices. Every message
can be sent alone, changed or left out, which no QEMU does.

A Link is one connection of it; the pieces it sends are functions. What comes back is taken apart by read_message().
"""
import socket

import godwit
from mfdsource import BLOCK, EOS, MEM_SIZE, NORMAL, ZERO, be, footer, page_bytes, part, str8

PAGE = 4096
ROM = "rom0"
PAGES = {BLOCK: 300, ROM: 5}
ADVISE, LISTEN, RUN, DISCARD, PACKAGED, RESUME, RECV_BITMAP, PING = 3, 4, 5, 6, 7, 9, 10, 2
SHUT, PONG, BITMAP, ACK = 1, 2, 5, 6
END_MARK = bytes.fromhex("0123456789abcdef")


def command(number, payload=b"", length=None):
    return b"\x08" + be(number, len(payload) if length is None else length, size=2) + payload


def ping(token):
    return command(PING, be(token))


def head(advise=True, return_path=True, machine=b"pc-i440fx-11.1"):
    out = b"QEVM" + be(3) + b"\x07" + be(len(machine)) + machine
    if return_path:
        out += command(1) + ping(1)
    return out + (command(ADVISE, be(PAGE, PAGE, size=8)) if advise else b"")


def start():
    total = sum(PAGES.values()) * PAGE
    return b"\x01" + be(1) + str8("ram") + be(0, 4) + be(total | MEM_SIZE, size=8) + \
        b"".join(str8(n) + be(pages * PAGE, size=8) for n, pages in PAGES.items()) + be(EOS, size=8) + footer()


def record(page, block=BLOCK, salt=0, off=0):
    return be(page * PAGE + off | NORMAL, size=8) + str8(block) + page_bytes(page, salt)


def zero(page, block=BLOCK):
    return be(page * PAGE | ZERO, size=8) + str8(block) + b"\0"


def discard(*ranges, block=BLOCK, version=0, nil=b"\0", length=None):
    return command(DISCARD, be(version, size=1) + str8(block) + nil + b"".join(be(*r, size=8) for r in ranges), length)


def device(number, body=b"state of a device"):
    return b"\x04" + be(number) + str8(f"device{number}") + be(0, 1) + body + b"\x7e" + be(number)


DEVICES = device(7) + device(8, b"\x7e" + be(8) + b" within")


def blob(devices=DEVICES, pings=(3, 0x42)):
    return command(LISTEN) + devices + b"".join(ping(t) for t in pings) + command(RUN)


def package(inside=None, size=None):
    inside = blob() if inside is None else inside
    return command(PACKAGED, be(len(inside) if size is None else size)) + inside


def end():
    return part(kind=3) + b"\0"


def question(block):
    return command(RECV_BITMAP, str8(block))


def bitmap_bytes(block):
    return 8 * -(-PAGES[block] // 64)


class Closed(Exception):
    """godwit closed the connection."""


class Link:
    def __init__(self, path, timeout=30):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout * godwit.PATIENCE)
        self.sock.connect(path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, *pieces):
        try:
            self.sock.sendall(b"".join(pieces))
        except (BrokenPipeError, ConnectionResetError):
            raise Closed from None

    def take(self, n):
        got = b""
        while len(got) < n:
            try:
                piece = self.sock.recv(n - len(got))
            except ConnectionResetError:
                piece = b""
            if not piece:
                raise Closed(got)
            got += piece
        return got

    def read_message(self):
        """(type, value), or (BITMAP, name, bits as a set) with everything about it checked."""
        kind, length = (int.from_bytes(self.take(2), "big") for _ in range(2))
        payload = self.take(length)
        if kind != BITMAP:
            return kind, int.from_bytes(payload, "big")
        name = payload[1:].decode()
        assert payload[0] == len(name), payload
        size = int.from_bytes(self.take(8), "big")
        assert size == bitmap_bytes(name), f"{size} bytes for {name}"
        bits = int.from_bytes(self.take(size), "little")
        assert bits >> PAGES[name] == 0, "bits behind the last page"
        assert self.take(8) == END_MARK
        return kind, name, {i for i in range(PAGES[name]) if bits >> i & 1}

    def expect(self, *wanted):
        for want in wanted:
            got = self.read_message()
            assert got == want, f"{got}, {want} expected"

    def is_closed(self):
        """Without another word."""
        try:
            got = self.read_message()
        except Closed as e:
            assert not e.args or not e.args[0], e.args
            return
        raise AssertionError(f"{got} came, and nothing was expected")

    # --- whole steps ---

    def switch(self, sent=range(0, 100), void=range(50, 100)):
        """Pre-copy of some pages with stale content, then the discards of a part of them and the package. Returns what is held there."""
        self.send(head(), start(), part(*[record(p, salt=9 if p in void else 0) for p in sent]))
        self.expect((PONG, 1))
        self.send(discard((min(void) * PAGE, len(void) * PAGE)), discard((100 * PAGE, PAGE), (101 * PAGE, 199 * PAGE)),
                  discard((0, 5 * PAGE), block=ROM), ping(2), package(), ping(4))
        self.expect((PONG, 2), (PONG, 3), (PONG, 0x42), (PONG, 4))
        return {BLOCK: set(sent) - set(void), ROM: set()}

    def pages(self, have, limit=10000):
        """Those that are missing, as far as the limit allows. Updates `have`."""
        records = []
        for block, n in PAGES.items():
            for p in sorted(set(range(n)) - have[block])[:limit]:
                records.append(zero(p, block) if is_zero(p, block) else record(p, block))
                have[block].add(p)
        self.send(part(*records))

    def finish(self):
        self.send(end())
        self.expect((SHUT, 0))

    def recover(self, have):
        """The bitmaps are exactly what was sent."""
        self.send(*[question(b) for b in PAGES])
        for block in PAGES:
            kind, name, bits = self.read_message()
            assert (kind, name) == (BITMAP, block) and bits == have[block], \
                f"{name}: {len(bits)} pages, {len(have[block])} expected, {sorted(bits ^ have[block])[:10]}"
        self.send(command(RESUME))
        self.expect((ACK, 1))


    def recover_what_is_told(self):
        """Whatever the bitmaps say; returned."""
        self.send(*[question(b) for b in PAGES])
        have = dict(self.read_message()[1:] for _ in PAGES)
        self.send(command(RESUME))
        self.expect((ACK, 1))
        return have


def is_zero(page, block):
    return block == BLOCK and page % 7 == 0 and page >= 50


def ram(block=BLOCK):
    return b"".join(bytes(PAGE) if is_zero(p, block) else page_bytes(p) for p in range(PAGES[block]))
