# SPDX-License-Identifier: MIT
"""COLO between a real primary and godwit standby: the primary's settings, and a wire between the two that knows the messages of the standby, so
that a test can hold one back, look at a primary that stands still meanwhile, and cut the link there."""
import contextlib
import json
import os
import socket
import threading
import time

import godwit
import refmultifd
from samebytes import differing_pages

READY, REQUEST, REPLY, SEND, SIZE, RECEIVED, LOADED = range(7)
NAMES = ["CHECKPOINT_READY", "CHECKPOINT_REQUEST", "CHECKPOINT_REPLY", "VMSTATE_SEND", "VMSTATE_SIZE", "VMSTATE_RECEIVED", "VMSTATE_LOADED"]
SHUT = bytes.fromhex("0001000400000000")
MULTIFD = refmultifd.MAGIC.to_bytes(4, "big")
PAGE = refmultifd.PAGE
# For a test that holds the wire and looks meanwhile at all that was sent: on a busy machine that takes longer than a standby waits for a word.
PATIENT = ("--idle-timeout=600", "--checkpoint-timeout=600")


def protect(vm, uri, delay_ms=100, channels=0, compression="none", tls=None):
    """Make this QEMU a primary of the standby at `uri`. tls: the id of its credentials object."""
    states = {"x-colo": True, "return-path": True, "multifd": channels > 0}
    vm.qmp.command("migrate-set-capabilities", capabilities=[{"capability": c, "state": on} for c, on in states.items()])
    vm.qmp.command("migrate-set-parameters", x_checkpoint_delay=delay_ms, multifd_channels=channels or 2,
                   multifd_compression=compression, tls_creds=tls or "")
    vm.qmp.migrate(uri)


def release(vm):
    """A primary whose standby is gone runs its guest on, whatever it was doing (docs/spec/colo.md 8)."""
    with contextlib.suppress(Exception):    # nothing to yank: its link has ended already
        vm.qmp.command("yank", instances=[{"type": "migration"}])
    vm.qmp.command("x-colo-lost-heartbeat")
    deadline = time.monotonic() + 30 * godwit.patience()
    while (status := vm.qmp.command("query-status")["status"]) != "running":
        assert time.monotonic() < deadline, status
        time.sleep(0.005)


class Telling(godwit.Run):
    """A command that tells events as JSON lines while it runs."""

    def __init__(self, *args, **popen):
        self.told = 0
        self.parsed, self.parsed_bytes = [], 0
        super().__init__(*args, "--json", **popen)

    def __exit__(self, kind=None, *_):
        text = self.stderr
        super().__exit__(kind)
        assert kind or not godwit.SANITIZER.search(text), text

    def events(self):
        """Of whole lines. It is asked every few milliseconds, and each line is taken apart once."""
        size = os.fstat(self.out.fileno()).st_size
        new = os.pread(self.out.fileno(), size - self.parsed_bytes, self.parsed_bytes)
        new = new[:new.rfind(b"\n") + 1]
        self.parsed += map(json.loads, new.splitlines())
        self.parsed_bytes += len(new)
        return self.parsed[self.told:]

    def forget(self):
        """What was told so far is over: another guest comes."""
        self.told += len(self.events())

    def wait_event(self, name, timeout=60, match=lambda e: True):
        deadline = time.monotonic() + timeout * godwit.patience()
        while True:
            ended = self.process.poll() is not None
            found = [e for e in self.events() if e["event"] == name and match(e)]
            if found:
                return found[0]
            assert not ended, f"{self} ended with {self.process.returncode}: {self.stderr}"
            assert time.monotonic() < deadline, f"no event {name}: {self.stdout} {self.stderr}"
            time.sleep(0.005)


class Standby(Telling):
    """godwit standby at a socket in this folder, with one guest or many."""

    def __init__(self, folder, *options, name="vm", **popen):
        self.socket, self.dir = os.path.join(folder, "standby"), os.path.join(folder, "guests")
        os.makedirs(self.dir, exist_ok=True)
        named = [f"--name={name}"] if name else []
        super().__init__("standby", f"unix:{self.socket}", self.dir, "-v", *named, *options, **popen)
        self.folder = os.path.join(self.dir, name or "vm-1")
        self.image = os.path.join(self.folder, "guest.img")
        self.wait_event("listening")

    def wait_epoch(self, number):
        return self.wait_event("epoch", match=lambda e: e["epoch"] >= number)


class Protect(Telling):
    """godwit protect of this guest."""

    def __init__(self, vm, uri, *options, **popen):
        super().__init__("protect", vm.monitor, uri, *options, **popen)

    def wait_unprotected(self):
        """The event; what comes is told after it."""
        found = self.wait_event("unprotected")
        self.told += self.events().index(found) + 1
        return found

    def wait_protected(self, checkpoints=1):
        """By what was told since forget() or wait_unprotected()."""
        self.wait_event("checkpoint", match=lambda e: e["checkpoints"] >= checkpoints)
        return self

    def ends(self, status):
        result = self.wait()
        assert result.status == status, result
        return result


class Wire:
    """Between a primary and its standby. hold(message, nth): that word of the standby waits, until go_on() or cut(). records: what the primary
    says is kept, so that was_sent() can tell."""

    def __init__(self, path, to, records=False):
        self.path, self.to = path, to
        self.records = [] if records else None      # a bytearray for each connection
        self.uri = f"unix:{path}"
        self.sockets, self.threads = [], []
        self.at = None
        self.is_cut = False
        self.left = None                # bytes of the primary that still pass before `then` is called
        self.then = self.cut
        self.lock = threading.Lock()
        self.held, self.go = threading.Event(), threading.Event()
        self.sent = [0] * len(NAMES)    # words of the standby that were passed on
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(32)
        self.start(self.accept)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()
        for t in self.threads:
            t.join()
        os.unlink(self.path)

    def start(self, function, *args):
        t = threading.Thread(target=function, args=args, daemon=True)
        self.threads.append(t)
        t.start()

    def accept(self):
        while True:
            try:
                primary = self.listener.accept()[0]
            except OSError:
                return
            standby = socket.socket(socket.AF_UNIX)
            try:
                standby.connect(self.to)
            except OSError:     # nobody is there just now
                primary.close()
                standby.close()
                continue
            self.sockets += [primary, standby]
            self.start(self.forward, primary, standby)
            self.start(self.back, standby, primary)

    def forward(self, a, b):
        record = bytearray()
        if self.records is not None:
            self.records.append(record)
        with contextlib.suppress(OSError):
            while data := a.recv(1 << 16):
                if self.records is not None:
                    record += data
                with self.lock:
                    last = self.left is not None and self.left <= len(data)
                    if self.left is not None:
                        data = data[:self.left]
                        self.left -= len(data)
                b.sendall(data)
                if last:
                    self.then()
                    return
            b.shutdown(socket.SHUT_WR)

    def back(self, standby, primary):
        """Return path messages up to SHUT, which have 8 bytes here, then COLO messages of 4."""
        data, colo = b"", False
        with contextlib.suppress(OSError):
            while more := standby.recv(65536):
                data += more
                while len(data) >= (4 if colo else 8):
                    word, data = data[:4 if colo else 8], data[4 if colo else 8:]
                    if colo:
                        self.pass_word(word, primary)
                    else:
                        primary.sendall(word)
                    colo = colo or word == SHUT
            primary.shutdown(socket.SHUT_WR)

    def pass_word(self, word, primary):
        number = int.from_bytes(word, "big")
        if self.at and self.at[0] == number and self.sent[number] + 1 >= self.at[1]:
            with self.lock:
                self.at = None
                if not self.is_cut:
                    self.go.clear()
            self.held.set()
            self.go.wait()
        primary.sendall(word)
        self.sent[number] += 1

    def hold(self, message, nth=1):
        """Wait until the nth such word is there, or the next one if there were more. It is not passed on yet."""
        self.held.clear()
        self.at = (message, nth)
        assert self.held.wait(60 * godwit.patience()), f"no {NAMES[message]}"

    def hold_next(self, message):
        """While one is held: the next such word will be held too, which nobody waits for."""
        self.held.clear()
        self.at = (message, 0)

    def go_on_to(self, message):
        """What is held is passed on, and the next such word is held in its place."""
        self.held.clear()
        self.at = (message, 0)
        self.go.set()
        assert self.held.wait(60 * godwit.patience()), f"no {NAMES[message]}"

    def go_on(self):
        self.go.set()

    def cut_after(self, n):
        """The link breaks when the primary has sent so many bytes more, over all connections."""
        self.when_sent(n, self.cut)

    def when_sent(self, n, action):
        """When the primary has sent so many bytes more, what this connection has to say ends, and the action is taken."""
        with self.lock:
            self.left, self.then = n, action

    def cut(self):
        """The link breaks for both ends."""
        for s in self.sockets:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
        with self.lock:
            self.is_cut = True
            self.go.set()

    def was_sent(self, block, pages):
        """{offset of a page: contents that it may have had}. Which of them the primary has sent last, for each; None: none of them."""
        channels = [refmultifd.Channel(bytes(r)) for r in self.records if r[:4] == MULTIFD]
        return {at: self.sent_in_channels(channels, block, at, page) if channels else self.sent_in_stream(page) for at, page in pages.items()}

    @staticmethod
    def sent_in_channels(channels, block, off, pages):
        last = max((p for c in channels for p in c.packets if p.block == block and off in p.normal + p.zero), key=lambda p: p.number)
        at = last.normal.index(off) * PAGE if off in last.normal else None
        found = bytes(PAGE) if at is None else last.pages[at:at + PAGE]
        return next((i for i, p in enumerate(pages) if p == found), None)

    def sent_in_stream(self, pages):
        last = [max((r.rfind(p) for r in self.records), default=-1) for p in pages]
        return last.index(max(last)) if max(last) >= 0 else None

    def check_kept(self, ram, kept, counts=lambda page: True):
        """The primary's RAM is what was kept, but for pages that this QEMU did not send though its guest wrote them (docs/spec/colo.md 12): those are as
        they were sent last. Returns whether there were none of them."""
        wrong = [at for at in differing_pages(ram, kept) if counts(ram[at:at + PAGE])]
        if not wrong:
            return True
        for at, which in self.was_sent("m0", {at: [p[at:at + PAGE] for p in (ram, kept)] for at in wrong}).items():
            assert which == 1, f"{len(wrong)} pages differ, that at {at:#x} from what was sent"
        print(f"{len(wrong)} pages were never sent by the primary, the first at {wrong[0]:#x}")
        return False
