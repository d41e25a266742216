# SPDX-License-Identifier: MIT
"""A destination of a post-copy made by hand, from docs/spec/postcopy.md alone: it takes the stream apart, keeps what came,
and answers what the test wants, which no QEMU does. Not a QEMU: nothing is loaded.

A Guest is what such a destination holds over several connections; a Link is one of them. Every page that comes for the
second time, every page that is not what the image has, and everything the format does not allow is a Wrong.
"""
import fcntl
import os
import signal
import socket
import struct
import subprocess
import termios
import time

from mfdsource import be, str8

PAGE = 4096
ZERO, MEM_SIZE, NORMAL, EOS, CONTINUE = 0x02, 0x04, 0x08, 0x10, 0x20
OPEN_RETURN_PATH, PING, ADVISE, LISTEN, RUN, DISCARD, PACKAGED, RESUME, RECV_BITMAP = 1, 2, 3, 4, 5, 6, 7, 9, 10
END_MARK = 0x0123456789ABCDEF
PACKAGE = bytes.fromhex("0800040000" "0800020004" "00000003" "0800020004" "00000042" "0800050000")     # of a guest without devices
PATIENCE_S = 60


class Wrong(Exception):
    """The source did what the format does not allow."""


class Ended(Exception):
    """The source closed the connection."""


# --- messages of the return path ---

def message(kind, payload=b"", length=None):
    return be(kind, len(payload) if length is None else length, size=2) + payload


def shut(status=0):
    return message(1, be(status))


def pong(token):
    return message(2, be(token))


def request(start, length, block=None):
    head = be(start, size=8) + be(length)
    return message(3, head + str8(block)) if block is not None else message(4, head)


def resume_ack(value=1):
    return message(6, be(value))


def bitmap(block, bits, mark=END_MARK, size=None):
    return message(5, str8(block)) + be(len(bits) if size is None else size, size=8) + bits + be(mark, size=8)


# --- images ---

def write_image(godwit, folder, blocks):
    """A guest of these blocks, {name: bytes}, and no devices, as an image. Returns its path."""
    stream, image = os.path.join(folder, "stream"), os.path.join(folder, "image")
    machine = b"pc-i440fx-11.1"
    total = sum(len(v) for v in blocks.values())
    footer = b"\x7e" + be(1)
    out = [b"QEVM", be(3), b"\x07", be(len(machine)), machine, b"\x01", be(1), str8("ram"), be(0, 4), be(total | MEM_SIZE, size=8)]
    out += [str8(n) + be(len(v), size=8) for n, v in blocks.items()]
    out += [be(EOS, size=8), footer, b"\x02", be(1)]
    for name, content in blocks.items():
        for at in range(0, len(content), PAGE):
            page = content[at:at + PAGE]
            if any(page):
                out += [be(at | NORMAL, size=8), str8(name), page]
            else:
                out += [be(at | ZERO, size=8), str8(name), b"\0"]
    out += [be(EOS, size=8), footer, b"\x03", be(1), be(EOS, size=8), footer]
    text = b'{"page_size":4096,"devices":[]}'
    out += [b"\0\x06", be(len(text)), text]
    with open(stream, "wb") as f:
        f.write(b"".join(out))
    godwit.run("convert", stream, image).ok()
    return image


# --- the destination ---

class Guest:
    """The memory of the destination. host_pages: {block: bytes} where they are larger."""

    def __init__(self, blocks, host_pages=None):
        self.blocks = blocks                        # what is right
        self.pages = {n: {} for n in blocks}        # what came: {page: connection it came on}
        self.host_pages = host_pages or {}
        self.links = 0
        self.begin()

    def begin(self):
        """A new stream: what came before a package that did not come is lost with it."""
        self.discarded = {n: set() for n in self.blocks}
        self.packaged = False

    def discard(self, block, ranges):
        """(start, length) in bytes. Before a package all is discarded that was not sent, and nothing else."""
        for start, length in ranges:
            pages = range(start // PAGE, (start + length) // PAGE)
            if not pages or start % PAGE or length % PAGE or pages[-1] >= len(self.blocks[block]) // PAGE:
                raise Wrong(f"DISCARD of {length} bytes at {start} of {block}")
            if any(p in self.pages[block] or p in self.discarded[block] for p in pages):
                raise Wrong(f"DISCARD of {pages} of {block}, which came before or was discarded")
            self.discarded[block].update(pages)

    def check_discards(self):
        if not any(self.discarded.values()):
            raise Wrong("a package without a DISCARD")
        for name, content in self.blocks.items():
            left = set(range(len(content) // PAGE)) - self.discarded[name] - set(self.pages[name])
            if left:
                raise Wrong(f"{len(left)} pages of {name} neither came nor were discarded, {min(left)} first of all")
        self.packaged = True

    def place(self, block, page, content):
        if block not in self.blocks:
            raise Wrong(f"a page of block {block!r}")
        if page in self.pages[block]:
            raise Wrong(f"page {page} of {block} came on connection {self.pages[block][page]} and on {self.links}")
        if content != self.blocks[block][page * PAGE:(page + 1) * PAGE]:
            raise Wrong(f"page {page} of {block} is not what the image has")
        self.pages[block][page] = self.links

    def count(self):
        return sum(len(p) for p in self.pages.values())

    def total(self):
        return sum(len(b) // PAGE for b in self.blocks.values())

    def whole(self):
        return self.count() == self.total()

    def forget_halves(self):
        """A page larger than PAGE counts when it is complete; pieces of one are lost with the connection."""
        for name, size in self.host_pages.items():
            n = size // PAGE
            have = self.pages[name]
            for first in {p - p % n for p in have}:
                mine = [p for p in range(first, first + n) if p in have]
                if len(mine) < n:
                    for p in mine:
                        del have[p]

    def bits(self, block):
        have = self.pages[block]
        pages = len(self.blocks[block]) // PAGE
        value = sum(1 << p for p in have)
        return value.to_bytes(8 * -(-pages // 64), "little")


class Link:
    """One connection. next() gives what comes, one piece after the other."""

    def __init__(self, guest, sock, recovers=False):
        self.guest, self.sock, self.recovers = guest, sock, recovers
        guest.links += 1
        guest.forget_halves()
        self.file = sock.makefile("rb", buffering=1 << 16)
        self.in_ram = False
        self.block = None
        self.began = recovers
        self.asked = []             # blocks whose bitmaps are wanted
        self.pieces = 0
        self.host_page = None       # the larger page that is just coming: (block, first, next)

    def close(self):
        self.file.close()
        self.sock.close()

    def send(self, data):
        """What a source that went away does not hear, it does not hear."""
        try:
            self.sock.sendall(data)
        except OSError:
            pass

    def wait_taken(self):
        """The source has read all that was sent to it; a moment later it has seen to that."""
        deadline = time.monotonic() + PATIENCE_S
        while struct.unpack("i", fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4)))[0]:
            assert time.monotonic() < deadline, "the source does not read"
            time.sleep(0.001)
        time.sleep(0.02)

    def waiting(self):
        """Bytes that are there already."""
        self.sock.settimeout(0)
        try:
            return self.file.peek(1)
        finally:
            self.sock.settimeout(PATIENCE_S)

    def take(self, n):
        try:
            data = self.file.read(n)
        except ConnectionResetError:
            data = b""
        if len(data) < n:
            raise Ended(f"{len(data)} of {n} bytes")
        return data

    def number(self, n):
        return int.from_bytes(self.take(n), "big")

    def name(self):
        return self.take(self.number(1)).decode()

    def next(self):
        """("header",), ("command", number, payload), ("list", {name: page size}), ("package", bytes), ("page", block, page),
        ("part",), ("end",), ("eof",)"""
        self.pieces += 1
        if not self.began:
            return self._header()
        if self.in_ram:
            return self._record()
        kind = self.number(1)
        if kind == 8:
            return self._command()
        if kind in (2, 3):
            if self.number(4) != 1:
                raise Wrong("a section that was not started")
            self.in_ram = kind
            return self._record()
        if kind == 1:
            return self._list()
        if kind == 0:
            return ("eof",)
        raise Wrong(f"a section of type {kind}")

    def _header(self):
        self.began = True
        if self.take(8) != b"QEVM\0\0\0\3" or self.take(1) != b"\7":
            raise Wrong("no header")
        self.take(self.number(4))
        return ("header",)

    def _command(self):
        number, length = self.number(2), self.number(2)
        payload = self.take(length)
        if number == DISCARD:
            ranges = payload[3 + payload[1]:]
            if payload[0] or payload[2 + payload[1]] or not ranges or len(ranges) % 16:
                raise Wrong(f"DISCARD {payload.hex()}")
            self.guest.discard(payload[2:2 + payload[1]].decode(),
                               [(int.from_bytes(ranges[i:i + 8], "big"), int.from_bytes(ranges[i + 8:i + 16], "big"))
                                for i in range(0, len(ranges), 16)])
        if number == PACKAGED:
            self.guest.check_discards()
            return ("package", self.take(int.from_bytes(payload, "big")))
        if number == RECV_BITMAP:
            self.asked.append(payload[1:].decode())
        return ("command", number, payload)

    def _list(self):
        self.number(4)
        if self.name() != "ram" or self.take(8) != be(0, 4):
            raise Wrong("not a RAM section")
        left, sizes = self.number(8) - MEM_SIZE, {}
        while left > 0:
            block = self.name()
            used = self.number(8)
            sizes[block] = self.number(8) if block in self.guest.host_pages else PAGE
            if used != len(self.guest.blocks[block]) or sizes[block] != self.guest.host_pages.get(block, PAGE):
                raise Wrong(f"{block} has {used} bytes in pages of {sizes[block]}")
            left -= used
        if self.number(8) != EOS or self.take(5) != b"\x7e" + be(1):
            raise Wrong("no end of the list")
        return ("list", sizes)

    def _record(self):
        word = self.number(8)
        flags, offset = word & (PAGE - 1), word & ~(PAGE - 1)
        if word == EOS:
            end = self.in_ram == 3
            self.in_ram = False
            if self.take(5) != b"\x7e" + be(1):
                raise Wrong("no footer")
            return ("end",) if end else ("part",)
        return self._page(word, flags, offset)

    def _page(self, word, flags, offset):
        if flags & ~CONTINUE not in (ZERO, NORMAL):
            raise Wrong(f"a record {word:#x}")
        if not flags & CONTINUE:
            self.block = self.name()
        elif self.block is None:
            raise Wrong("CONTINUE first of all")
        if flags & ZERO:
            if self.take(1) != b"\0":
                raise Wrong("a fill byte that is not 0")
            content = bytes(PAGE)
        else:
            content = self.take(PAGE)
        self._in_order(offset // PAGE)
        self.guest.place(self.block, offset // PAGE, content)
        return ("page", self.block, offset // PAGE)

    def _in_order(self, page):
        size = self.guest.host_pages.get(self.block, PAGE) // PAGE
        if self.host_page:
            if (self.block, page) != self.host_page[:2]:
                raise Wrong(f"page {page} of {self.block} inside of a larger page, {self.host_page} is next")
        elif page % size:
            raise Wrong(f"page {page} of {self.block} first of its larger page")
        self.host_page = (self.block, page + 1) if (page + 1) % size else None


class Second(Link):
    """The preempt channel: page records with a CONTINUE of their own, and nothing else."""

    def __init__(self, guest, sock):
        super().__init__(guest, sock)
        guest.links -= 1

    def next(self):
        """("page", block, page), ("mark",), ("eof",)"""
        self.pieces += 1
        first = self.file.read(1)
        if not first:
            return ("eof",)
        word = int.from_bytes(first + self.take(7), "big")
        return ("mark",) if word == EOS else self._page(word, word & (PAGE - 1), word & ~(PAGE - 1))


class Server:
    """serve-tool towards a socket of ours. link(): its connection."""

    def __init__(self, tool, image, folder, *options):
        self.path = os.path.join(folder, "lazy.sock")
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen(2)
        self.listener.settimeout(PATIENCE_S)
        self.err = open(os.path.join(folder, "err"), "w+b")     # pylint: disable=consider-using-with
        self.out = open(os.path.join(folder, "out"), "w+b")     # pylint: disable=consider-using-with
        self.process = subprocess.Popen([tool, image, f"unix:{self.path}", *map(str, options)], stdin=subprocess.DEVNULL,
                                        stdout=self.out, stderr=self.err)
        self.recovers = "resume" in options

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()
        self.listener.close()
        self.err.close()
        self.out.close()

    def link(self, guest):
        sock = self.listener.accept()[0]
        sock.settimeout(PATIENCE_S)
        if not guest.packaged:
            guest.pages = {n: {} for n in guest.blocks}
        if not self.recovers:
            guest.begin()
        return Link(guest, sock, self.recovers)

    def second(self, guest):
        """The preempt channel, which has to come now."""
        sock = self.listener.accept()[0]
        sock.settimeout(PATIENCE_S)
        return Second(guest, sock)

    def no_second(self):
        """No other connection waits to be accepted."""
        self.listener.settimeout(0.2)
        try:
            self.listener.accept()
        except TimeoutError:
            self.listener.settimeout(PATIENCE_S)
            return
        raise Wrong("a second connection, too early")

    def wait(self):
        """(status, {key: value}, sentence, peak memory in KiB). It ends by itself, or that is an error."""

        def too_long(*_):
            raise AssertionError("serve-tool does not end")
        signal.signal(signal.SIGALRM, too_long)
        signal.alarm(2 * PATIENCE_S)
        try:
            _, status, usage = os.wait4(self.process.pid, 0)
        finally:
            signal.alarm(0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.out.seek(0)
        self.err.seek(0)
        said = self.err.read().decode()
        values = dict(line.split("=", 1) for line in self.out.read().decode().splitlines())
        assert self.process.returncode in (0, 1), f"status {self.process.returncode}: {said}"
        assert "Sanitizer" not in said and "runtime error" not in said, said
        return self.process.returncode, values, said, usage.ru_maxrss


# --- what a destination does ---

class Bench:
    def __init__(self, tool, image, folder, blocks):
        self.tool, self.image, self.folder, self.blocks = tool, image, folder, blocks

    def server(self, *options):
        return Server(self.tool, self.image, self.folder, *options)

    def guest(self, **keywords):
        return Guest(self.blocks, **keywords)


def answer(link, piece):
    """What an honest destination says to this piece; True at the end."""
    if piece[0] == "command" and piece[1] == PING:
        link.send(pong(int.from_bytes(piece[2], "big")))
    elif piece[0] == "command" and piece[1] == RECV_BITMAP:
        link.send(bitmap(link.asked[-1], link.guest.bits(link.asked[-1])))
    elif piece[0] == "command" and piece[1] == RESUME:
        link.send(resume_ack())
    elif piece[0] == "package":
        assert piece[1] == PACKAGE, piece[1].hex()
        link.send(pong(3) + pong(0x42))
    elif piece[0] == "eof":
        assert link.guest.whole(), f"the end came after {link.guest.count()} of {link.guest.total()} pages"
        link.send(shut())
    return piece[0] == "eof"


def play(link, pieces=None):
    """Be honest until the end, or for so many pieces."""
    while pieces is None or link.pieces < pieces:
        if answer(link, link.next()):
            return True
    return False


def until(link, kind, number=None):
    """Be honest up to this piece, which is not answered."""
    while True:
        piece = link.next()
        if piece[0] == kind and number in (None, *piece[1:2]):
            return piece
        answer(link, piece)


def drain(link):
    """Take what still comes, and answer nothing. What is in the pipe counts as placed."""
    try:
        while link.next()[0] != "eof":
            pass
        link.take(1)
    except Ended:
        pass
    link.close()


def completes(bench, guest, *options):
    """A connection to an honest destination, to the end."""
    with bench.server(*options) as server:
        link = server.link(guest)
        assert play(link)
        status, values, said, _ = server.wait()
        link.close()
    assert status == 0 and values["state"] == "completed", (status, values, said)
    assert guest.whole()
    return values


def resumes(bench, guest, *options):
    """The honest part that has to be possible after every failure that says so."""
    guest.forget_halves()
    before = guest.count()
    values = completes(bench, guest, "resume", *options)
    assert int(values["already_there"]) == before, (values, before)


def check_failed(ended, recoverable, *words):
    status, values, said, _ = ended
    assert status == 1 and said.count("\n") == 1 and len(said) > 10, ended
    assert values["recoverable"] == str(int(recoverable)), ended
    assert values["state"] == ("postcopy-paused" if recoverable else "failed"), ended
    for word in words:
        assert word in said, f"{word!r} expected: {ended}"
