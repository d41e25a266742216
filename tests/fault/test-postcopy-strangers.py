#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Whoever stands in the way of a post-copy source that comes back to godwit receive: with many connections, silent or talkative, and how soon the
source is taken although. No QEMU.
"""
import contextlib
import itertools
import os
import re
import resource
import ssl
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
from pcreceiver import *

HELD = (b"", b"\x08", b"GET / HTTP/1.1\r\n\r\n", b"QEVM", b"\x16\x03\x01\x02\0\x01", bytes(range(128, 228))) * 2


def others_in_the_way(folder):
    """Who holds a connection, leaves at once or asks for what is not there neither ends nor delays the wait for the source."""
    r = Receiver(folder)
    with contextlib.ExitStack() as held, r.start() as g:
        with Link(r.path) as s:
            have = s.switch()
            s.pages(have, limit=20)
        for data in HELD:
            held.enter_context(Link(r.path)).send(data)
        for _ in range(6):
            Link(r.path).sock.close()
        for _ in range(6):
            with Link(r.path) as s:
                s.send(question("nope"))
                s.is_closed()
        taken_soon(r, g, have)
        assert g.stderr.count("speaks TLS and we do not; give --tls-creds") == 1, g.stderr
    r.has_it()


def asks_and_falls_silent(folder):
    """Who knows the name of a block is heard, but not for as long as a source that was believed."""
    r = Receiver(folder)
    with r.start("--idle-timeout=none") as g, Link(r.path) as s:
        have = s.switch()
        s.pages(have, limit=20)
        s.__exit__()
        with Link(r.path) as asker:
            asker.send(question(BLOCK))
            begin = time.monotonic()
            with Link(r.path) as s:
                s.recover(have)
                assert time.monotonic() - begin < 20 * godwit.PATIENCE
                s.pages(have)
                s.finish()
                s.__exit__()
                g.wait().ok()
    r.has_it()


class Stranger:
    """Sends pieces of these bytes one after the other, on one connection after the other, and never stops by itself."""

    def __init__(self, path, data, piece):
        self.path, self.over = path, threading.Event()
        self.pieces = [data[i:i + piece] for i in range(0, len(data), piece)]
        self.link = Link(path)
        self.thread = threading.Thread(target=self.run)

    def run(self):
        pieces = itertools.cycle(self.pieces)
        while not self.over.wait(0.1):
            try:
                self.link.send(next(pieces))
            except (Closed, OSError):
                with contextlib.suppress(OSError):      # nobody listens any more
                    self.link.sock.close()
                    self.link = Link(self.path)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        self.link.sock.close()


STEADY = {"PINGs": (ping(9), 9), "bytes of PINGs": (ping(9), 2), "the return path": (command(1), 5), "a question, then PINGs": (question(BLOCK) + ping(9) * 500, 9)}


def source_finishes(r, g, have):
    """The true one comes back, and all of it arrives."""
    with Link(r.path, timeout=60) as s:
        s.recover(have)
        s.pages(have)
        s.finish()
        s.__exit__()
        g.wait().ok()
    r.has_it()


def speaks_for_ever(folder):
    """Whoever goes on and on without a new question does not keep the source from being taken."""
    with contextlib.ExitStack() as stack:
        runs = []
        for data, piece in STEADY.values():
            r = Receiver(folder)
            g = stack.enter_context(r.start("--idle-timeout=none"))
            with Link(r.path) as s:
                have = s.switch()
                s.pages(have, limit=20)
            g.wait_stdout("paused")
            stack.enter_context(Stranger(r.path, data, piece))
            runs.append((r, g, have))
        for r, g, have in runs:
            source_finishes(r, g, have)


def told_of_strangers(folder):
    """Of those who are not the source not everyone is told, until the source has been there."""
    r = Receiver(folder)
    with r.start() as g:
        with Link(r.path) as s:
            have = s.switch()
            s.pages(have, limit=20)
        for n in (1, 2):
            for _ in range(40):
                with Link(r.path) as s:
                    s.send(question("nope"))
                    s.is_closed()
            with Link(r.path) as s:
                s.recover(have)
                s.pages(have, limit=3)
            told = g.stdout.count('"paused"')
            assert n < told <= n * 12, f"{told} times after {40 * n} strangers"
        source_finishes(r, g, have)


def strangers_and_a_limit(folder):
    """The limit of the wait is one of the whole wait: it does not begin anew with each of those who are not the source."""
    r, have = paused_with(folder)
    with r.start("--resume", "--connect-timeout=2") as g:
        begin = time.monotonic()
        while g.process.poll() is None and time.monotonic() - begin < 60 * godwit.PATIENCE:
            with contextlib.suppress(OSError, Closed), Link(r.path) as s:
                s.send(question("nope"))
                s.is_closed()
        assert g.process.poll() is not None, "it waits for as long as strangers come"
        result = g.wait()
        assert result.status == godwit.RECOVERABLE and "nobody connected" in result.stderr, result
    finish_later(r, have)


def taken_soon(r, g, have, link=None):
    """A silent one would be waited for for ten seconds."""
    begin = time.monotonic()
    with link() if link else Link(r.path) as s:
        s.recover(have)
        seconds = time.monotonic() - begin
        s.pages(have)
        s.finish()
        s.__exit__()
        g.wait().ok()
    assert seconds < 5 * godwit.PATIENCE, f"{seconds:.1f} s until the source was taken"


CLIENT = "C=DE,O=Godwit\\, Ltd,OU=Tests,CN=godwit client"


class TlsLink(Link):
    def __init__(self, path, certs, name):
        super().__init__(path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if name:
            context.load_cert_chain(f"{certs}/{name}-cert.pem", f"{certs}/{name}-key.pem")
        self.sock = context.wrap_socket(self.sock)


def others_under_tls(folder):
    """The same with certificates: who has none, or one that names somebody else, is not counted, and silence is not waited for."""
    certs = os.path.join(folder, "certs")
    os.mkdir(certs)
    subprocess.run([sys.argv[1], certs], check=True)
    good = os.path.join(certs, "good")
    r = Receiver(folder)
    with contextlib.ExitStack() as held, r.start(f"--tls-creds={good}", f"--tls-authz={CLIENT}") as g:
        with TlsLink(r.path, good, "client") as s:
            have = s.switch()
            s.pages(have, limit=20)
        for data in HELD:
            held.enter_context(Link(r.path)).send(data)
        held.enter_context(TlsLink(r.path, good, "client"))
        for name in ("", "server") * 6:
            try:
                with TlsLink(r.path, good, name) as s:
                    s.is_closed()
            except OSError:     # refused within the handshake, or by an alert behind it
                pass
        taken_soon(r, g, have, lambda: TlsLink(r.path, good, "client"))
        assert re.search("CN=server", g.stderr) and re.search("no certificate|did not send", g.stderr), g.stderr
    r.has_it()


def few_descriptors(folder):
    """500 silent connections, and 256 descriptors to hold them with: the source is taken, the first time and when it comes back."""
    r = Receiver(folder)
    with r.start() as g:
        resource.prlimit(g.process.pid, resource.RLIMIT_NOFILE, (256, 256))
        with contextlib.ExitStack() as held:
            for _ in range(500):
                held.enter_context(Link(r.path))
            with Link(r.path) as s:
                have = s.switch()
                s.pages(have, limit=20)
        with contextlib.ExitStack() as held:
            for _ in range(500):
                held.enter_context(Link(r.path))
            taken_soon(r, g, have)
    r.has_it()


def main():
    wanted = os.environ.get("GODWIT_ONLY", "").split(",")
    with tempfile.TemporaryDirectory(prefix="godwit-pc.") as folder:
        for test in (others_in_the_way, asks_and_falls_silent, speaks_for_ever, told_of_strangers,
            strangers_and_a_limit, others_under_tls, few_descriptors):
            if wanted == [""] or test.__name__ in wanted:
                print(f"  {test.__name__}", flush=True)
                test(folder)


if __name__ == "__main__":
    main()
