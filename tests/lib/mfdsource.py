# SPDX-License-Identifier: MIT
"""A source of a multifd migration made by hand, from docs/spec/{stream,multifd,channels}.md: a guest of one block and no
devices. Every piece can be sent alone, changed or left out, which no QEMU does.

with Source(path, channels=2) as s: s.good() is a whole migration; s.main and s.channel[i] are sockets. What godwit
answers on the main channel is read to its end by answers().
"""
import functools
import hashlib
import socket
import struct

import godwit

PAGE, PAGES = 4096, 128
BLOCK, BLOCK_PAGES = "ram0", 1024
SYNC, ZLIB, ZSTD, DEVICE_STATE = 0x01, 0x02, 0x04, 0x40
MAGIC = 0x11223344
ZERO, MEM_SIZE, NORMAL, EOS, FLUSH = 0x02, 0x04, 0x08, 0x10, 0x200
SHUT_OK, SHUT_BAD = b"\0\1\0\4\0\0\0\0", b"\0\1\0\4\0\0\0\1"


def be(*words, size=4):
    return b"".join(w.to_bytes(size, "big") for w in words)


def str8(text):
    return be(len(text), size=1) + text.encode()


def footer():
    return b"\x7e" + be(1)


# --- the main channel ---

def head(machine="pc-i440fx-11.1", return_path=True):
    asks = b"\x08" + be(1, 0, size=2) + b"\x08" + be(2, 4, size=2) + be(1) if return_path else b""
    return b"QEVM" + be(3) + b"\x07" + be(len(machine)) + machine.encode() + asks


def start(mark=True, block=BLOCK, pages=BLOCK_PAGES):
    used = pages * PAGE
    return b"\x01" + be(1) + str8("ram") + be(0, 4) + be(used | MEM_SIZE, size=8) + str8(block) + be(used, size=8) + \
        (be(FLUSH, size=8) if mark else b"") + be(EOS, size=8) + footer()


def part(*records, kind=2):
    return be(kind, size=1) + be(1) + b"".join(records) + be(EOS, size=8) + footer()


def end(mark=True):
    return part(be(FLUSH, size=8) if mark else b"", kind=3)


def zero_record(page):
    return be(page * PAGE | ZERO, size=8) + str8(BLOCK) + b"\0"


def tail():
    text = b'{"page_size":4096,"devices":[]}'
    return b"\0\x06" + be(len(text)) + text


# --- a multifd channel ---

def hello(number, uuid=bytes(16), version=1):
    return be(MAGIC, version) + uuid + be(number, size=1) + bytes(39)


@functools.lru_cache(None)
def page_bytes(page, salt=0):
    """Half noise, half pattern, different for each page."""
    noise = hashlib.shake_128(struct.pack("<II", page, salt)).digest(2048)
    return noise + noise[:4] * 512


def packet(normal=(), zero=(), payload=None, flags=0, name=BLOCK, number=0, **changed):
    """Header and payload; the keywords magic, version, alloc, normal_n, zero_n, size say something else than is true."""
    if payload is None:
        payload = b"".join(page_bytes(o // PAGE) for o in normal)
    offsets = [*normal, *zero]
    name = name if isinstance(name, bytes) else name.encode()
    if not offsets and "name" not in changed:
        name = b""
    return be(changed.get("magic", MAGIC), changed.get("version", 1), flags, changed.get("alloc", PAGES if offsets else 0),
              changed.get("normal_n", len(normal)), changed.get("size", len(payload))) + be(number, size=8) + \
        be(changed.get("zero_n", len(zero))) + bytes(28) + name.ljust(256, b"\0")[:256] + \
        be(*offsets[:PAGES], size=8).ljust(8 * PAGES, b"\0") + payload


def sync():
    return packet(flags=SYNC)


def offsets(first, n):
    return [p * PAGE for p in range(first, first + n)]


class Source:
    def __init__(self, path, channels=2, connect=True):
        self.path, self.n = path, channels
        self.main, self.channel = None, []
        self.extra = []
        if connect:
            self.connect()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for s in [self.main, *self.channel, *self.extra]:
            if s:
                s.close()

    def open(self, first=b""):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.settimeout(30 * godwit.PATIENCE)
        s.connect(self.path)
        self.extra.append(s)
        if first:
            s.sendall(first)
        return s

    def open_channel(self, number):
        s = self.open(hello(number))
        self.channel.append(s)
        return s

    def connect(self):
        self.main = self.open()
        for number in range(self.n):
            self.open_channel(number)

    # --- pieces of a good migration ---

    def begin(self, mark=True, pages=BLOCK_PAGES, **keywords):
        """Up to the first sync."""
        if mark:
            self.each(sync())
        self.main.sendall(head(**keywords) + start(mark, pages=pages))

    def each(self, data):
        for s in self.channel:
            s.sendall(data)

    def finish(self):
        """The last sync and all behind it."""
        self.each(sync())
        self.main.sendall(end() + tail())

    def pages(self, n=BLOCK_PAGES):
        """All pages, a quarter of them zero, dealt out to the channels."""
        for i, first in enumerate(range(0, n, PAGES)):
            normal, zero = offsets(first, 96), offsets(first + 96, 32)
            self.channel[i % len(self.channel)].sendall(packet(normal, zero, number=i))

    def good(self):
        self.begin()
        self.pages()
        self.finish()
        return self.answers()

    def answers(self):
        """All that comes back until the end."""
        got = b""
        self.main.settimeout(10 * godwit.PATIENCE)
        try:
            while not got.endswith((SHUT_OK, SHUT_BAD)):
                piece = self.main.recv(4096)
                if not piece:
                    break
                got += piece
        except (ConnectionResetError, TimeoutError):
            pass
        return got


def ram(pages=BLOCK_PAGES):
    """What good() keeps."""
    return b"".join(page_bytes(p) if p % PAGES < 96 else bytes(PAGE) for p in range(pages))
