# SPDX-License-Identifier: MIT
"""A COLO primary made by hand, from docs/spec/colo.md: the guest of mfdsource.py and two devices. Every message can be sent alone, changed or
left out, which no QEMU does. It keeps what its guest's memory is at the last epoch that was acknowledged."""
import json

import mfdsource
from colo import LOADED, READY, RECEIVED, REPLY, REQUEST, SEND, SIZE
from mfdsource import BLOCK, BLOCK_PAGES, EOS, FLUSH, NORMAL, PAGE, ZERO, be, packet, page_bytes, str8, sync

CONTINUE = 0x20
EOF = b"\0"


def device(number, body=b"state of a device"):
    return b"\x04" + be(number) + str8(f"device{number}") + be(0, 1) + body + b"\x7e" + be(number)


def early(salt=0):
    """A device that comes before RAM (virtio-mem)."""
    return device(6, b"early %-10d" % salt)


def devices(salt=0):
    return device(7, b"%-16d" % salt) + device(8, b"\x7e" + be(8) + b" within")


def description(has_early=False):
    def one(number, size):
        return {"name": f"device{number}", "instance_id": 0, "vmsd_name": f"device{number}", "version": 1,
                "fields": [{"name": "body", "type": "buffer", "size": size}]}
    text = json.dumps({"page_size": PAGE, "devices": [*([one(6, 16)] if has_early else []), one(7, 16), one(8, 12)]}).encode()
    return b"\x06" + be(len(text)) + text


def record(page, content=None, again=False):
    """A page with content or of zeros; again: of the block named last."""
    word = page * PAGE | (ZERO if content is None else NORMAL) | (CONTINUE if again else 0)
    return be(word, size=8) + (b"" if again else str8(BLOCK)) + (EOF if content is None else content)


def section(*records, kind=3, number=1, marks=0):
    return be(kind, size=1) + be(number) + b"".join(records) + be(FLUSH, size=8) * marks + be(EOS, size=8) + mfdsource.footer()


class Primary(mfdsource.Source):
    def __init__(self, path, channels=0, connect=True):
        super().__init__(path, channels, connect)
        self.ram = bytearray(BLOCK_PAGES * PAGE)
        self.newer = {}         # what the epoch under way has changed
        self.epoch = -1
        self.has_early = False

    def keep(self):
        for page, content in self.newer.items():
            self.ram[page * PAGE:(page + 1) * PAGE] = content or bytes(PAGE)
        self.newer = {}
        self.epoch += 1

    # --- words ---

    def send(self, data):
        self.main.sendall(data)

    def word(self, number, *value):
        self.send(be(number) + be(*value, size=8))

    def hear(self, n):
        got = b""
        while len(got) < n:
            more = self.main.recv(n - len(got))
            if not more:
                raise ConnectionResetError(f"closed, {n} bytes expected, got {got!r}")
            got += more
        return got

    def expect(self, number):
        got = self.hear(4)
        assert got == be(number), f"{got.hex()}, {number} expected"

    def is_hung_up_on(self):
        """Not another word comes."""
        try:
            got = self.main.recv(4096)
        except ConnectionResetError:
            got = b""
        assert got == b"", f"still said: {got.hex()}"

    # --- pieces ---

    def note(self, normal, zero):
        self.newer.update(normal)
        self.newer.update((page, None) for page in zero)

    def pages(self, normal, zero):
        """As records, or as packets dealt out to the channels."""
        self.note(normal, zero)
        if not self.n:
            return [*(record(p, c) for p, c in normal.items()), *(record(p) for p in zero)]
        for i, (page, content) in enumerate(normal.items()):
            self.channel[i % self.n].sendall(packet([page * PAGE], payload=content))
        if zero:
            self.channel[-1].sendall(packet(zero=[p * PAGE for p in zero]))
        return []

    def end(self, records):
        if self.n:
            self.each(sync())
        return section(*records, marks=1 if self.n else 0)

    def guest(self, normal=None, zero=()):
        """The initial migration, and READY."""
        normal = {p: page_bytes(p) for p in range(0, 64)} if normal is None else normal
        if self.has_early:
            self.send(mfdsource.head() + early() + mfdsource.start(False))
        else:
            self.begin(mark=self.n > 0)
        records = self.pages(normal, zero)
        if records:
            self.send(section(*records, kind=2))
        self.send(self.end([]) + devices() + EOF + description(self.has_early))
        self.hear(16)           # PONG, SHUT 0
        self.expect(READY)
        self.keep()
        return self

    def request(self):
        self.word(REQUEST)
        self.expect(REPLY)
        self.word(SEND)

    def checkpoint(self, normal=None, zero=(), before=b"", salt=1):
        """A good one."""
        self.request()
        self.send(before + self.end(self.pages(normal or {}, zero)) + EOF)
        self.devices((early(salt) if self.has_early else b"") + devices(salt) + EOF)
        self.finish_epoch()

    def devices(self, data):
        self.word(SIZE, len(data))
        self.send(data)

    def finish_epoch(self):
        self.expect(RECEIVED)
        self.keep()
        self.expect(LOADED)
