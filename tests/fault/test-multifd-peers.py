#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Connections as no QEMU makes them: in another order, too few, too many, silent, not a migration; and destinations that
close, refuse or say nothing while godwit sends over several channels. What can go on goes on; all else ends soon, with a
sentence.

test-multifd-peers.py CERTS-TOOL
"""
import contextlib
import os
import random
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
import images
import mfdsource
import peer
import refmultifd
from mfdsource import PAGE, Source, be, hello
from receiver import IDLE_S, Receiver

ALL = {}        # name -> function(folder)
CERTS = None


def case(f):
    ALL[f.__name__.replace("_", " ")] = f
    return f


@contextlib.contextmanager
def receiver(folder, name, *options, **keywords):
    """(Receiver, Source without connections)."""
    with Receiver(folder, name, *options, **keywords) as r, Source(r.path, connect=False) as s:
        yield r, s


def go(r, s):
    """The connections are there: everything else."""
    s.begin()
    s.pages()
    s.finish()
    return r.keeps(mfdsource.ram(), s)


# --- receive: connections in any order ---

@case
def main_comes_last(folder):
    for options in (["--channels=3"], []):
        with receiver(folder, f"main last {options}", *options) as (r, s):
            for n in range(3):
                s.open_channel(n)
            time.sleep(0.1)
            s.main = s.open()
            go(r, s)


@case
def any_order(folder):
    for seed in range(4):
        with receiver(folder, f"seed {seed}", "--channels=8") as (r, s):
            order = [*range(8), "main"]
            random.Random(seed).shuffle(order)
            by_id = {}
            for n in order:
                by_id[n] = s.open(b"" if n == "main" else hello(n))
            s.main, s.channel = by_id.pop("main"), [by_id[n] for n in range(8)]
            go(r, s)


@case
def hello_in_pieces(folder):
    with receiver(folder, "bytes one by one", "--channels=1") as (r, s):
        s.channel = [s.open()]
        for byte in hello(0):
            s.channel[0].sendall(be(byte, size=1))
            time.sleep(0.002)
        s.main = s.open()
        s.each(mfdsource.sync())
        for byte in mfdsource.head() + mfdsource.start():
            s.main.sendall(be(byte, size=1))
        s.pages()
        s.finish()
        r.keeps(mfdsource.ram(), s)


@case
def as_many_as_come(folder):
    for n in (1, 2, 5):
        with receiver(folder, f"{n} channels", idle=10) as (r, s):
            s.n = n
            s.connect()
            go(r, s)


@case
def most_channels(folder):
    with receiver(folder, "255 channels", "--channels=255", idle=10) as (r, s):
        s.n = 255
        s.connect()
        go(r, s)


# --- receive: who else connects ---

@case
def silent_one_first(folder):
    """It holds up nobody where the number of channels is known, and not for long otherwise."""
    for options, idle, soon in ((["--channels=2"], 60, 10), ([], 4, 12)):
        with receiver(folder, f"silent {options}", *options, idle=idle) as (r, s):
            s.open()
            time.sleep(0.05)
            s.connect()
            result = go(r, s)
            assert result.seconds < soon * godwit.PATIENCE, result


@case
def one_that_drips(folder):
    """A byte now and then for ever, first and beside the real ones."""
    for options in (["--channels=2"], []):
        with receiver(folder, f"dripping {options}", *options, idle=4) as (r, s):
            over = threading.Event()
            slow = s.open(b"\x11\x22\x33")

            def drip():
                with contextlib.suppress(OSError):
                    while not over.wait(0.3):
                        slow.sendall(b"\x44")
            thread = threading.Thread(target=drip)
            thread.start()
            try:
                s.connect()
                result = go(r, s)
                assert result.seconds < 15 * godwit.PATIENCE, result
            finally:
                over.set()
                thread.join()


@case
def silence_alone_is_waited_out(folder):
    with receiver(folder, "silence", idle=2) as (r, s):
        s.open()
        s.open()
        time.sleep(3)
        s.connect()
        go(r, s)


@case
def one_that_comes_and_goes(folder):
    with receiver(folder, "comes and goes", "--channels=2") as (r, s):
        s.open().close()
        s.open(hello(0)[:2]).close()
        time.sleep(0.2)
        s.connect()
        go(r, s)


@case
def garbage_among_others(folder):
    with receiver(folder, "garbage among others", "--channels=2") as (r, s):
        s.connect()
        s.open(b"GET / HTTP/1.1\r\n\r\n")
        time.sleep(0.1)
        go(r, s)


@case
def second_main(folder):
    with receiver(folder, "two main channels", "--channels=2") as (r, s):
        s.open(mfdsource.head()[:4])
        s.open(mfdsource.head()[:9])
        time.sleep(0.2)
        s.main = s.open(mfdsource.head())
        time.sleep(0.2)
        s.open(mfdsource.head())
        time.sleep(0.2)
        for n in range(2):
            s.open_channel(n)
        s.each(mfdsource.sync())
        s.main.sendall(mfdsource.start())
        s.pages()
        s.finish()
        r.keeps(mfdsource.ram(), s)


@case
def others_come_late(folder):
    """After the last of the expected ones nobody is let in."""
    with receiver(folder, "late", "--channels=2") as (r, s):
        s.connect()
        s.begin()
        time.sleep(0.3)
        try:
            late = s.open(hello(2))
            assert late.recv(1) == b"", "it was taken in"
        except OSError:
            pass
        s.pages()
        s.finish()
        r.keeps(mfdsource.ram(), s)


# --- receive: what must be refused ---

def refused(name, options, hellos, *patterns, main=b"QEVM\0\0\0\3\7", idle=IDLE_S):
    def run(folder):
        with receiver(folder, name, *options, idle=idle) as (r, s):
            with contextlib.suppress(OSError):      # it may have seen enough
                for h in hellos:
                    s.open(h)
                    time.sleep(0.03)
                if main is not None:
                    s.open(main)
            r.refuses(*patterns)
    ALL[name] = run


UUID = bytes(range(16))
LIMIT = "--connect-timeout=3"      # strangers do not end the wait
PACKET = b"\x11\x22\x33\x44"
refused("wrong uuid", ["--channels=2"], [hello(0, UUID), hello(1)], "1 multifd channels came, expected 2")
refused("duplicate id", ["--channels=3"], [hello(0), hello(1), hello(0)], "2 multifd channels came, expected 3")
refused("id just too large", ["--channels=2"], [hello(0), hello(2)], "1 multifd channels came, expected 2")
refused("id far too large", ["--channels=2"], [hello(0), hello(255)], "1 multifd channels came, expected 2")
refused("one missing", ["--channels=3"], [hello(0), hello(1)], "2 multifd channels came, expected 3", "multifd-channels to 3")
refused("all missing", ["--channels=2"], [], "0 multifd channels came, expected 2")
refused("no main channel", ["--channels=2", LIMIT], [hello(0), hello(1)], "2 multifd channels came", "no main channel", main=None)
refused("gap without --channels", [], [hello(0) + PACKET, hello(2) + PACKET], "2 multifd channels came, but none has the id 1")
refused("partial hello", ["--channels=2"], [hello(0), hello(1)[:30]], "1 multifd channels came, expected 2")
refused("version of a hello", ["--channels=1", LIMIT], [hello(0, version=2)], "version is 2, expected 1", main=None)
refused("garbage alone", ["--channels=2", LIMIT], [b"GRAB a quick look"], "not a migration", "47524142", main=None)
refused("garbage alone, any number", [LIMIT], [b"\0" * 64], "not a migration", "00000000", main=None)
refused("TLS towards a plain receiver, bytes", [LIMIT], [b"\x16\x03\x01\x02\0\x01"], "speaks TLS and we do not", "--tls-creds", main=None)


@case
def channels_after_main(folder):
    """A source before 8.1 speaks on its main channel before the others are there; without --channels that cannot be known."""
    with receiver(folder, "main speaks first", idle=5) as (r, s):
        s.main = s.open(mfdsource.head() + mfdsource.start())
        r.refuses("none of them had come", "--channels")


@case
def channels_after_main_of_an_old_source(folder):
    """7.2 has no mark by which multifd could be known: it waits for its channels to be read, and so do we."""
    with receiver(folder, "main of 7.2 speaks first", idle=1) as (r, s):
        s.main = s.open(mfdsource.head() + mfdsource.start(mark=False))
        r.refuses("nothing came", "no page|not one page", "--channels")


@case
def tls_client_towards_plain(folder):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with receiver(folder, "TLS source", "--channels=2", LIMIT, idle=20) as (r, s):
        try:
            context.wrap_socket(s.open(), server_hostname="vm.example")
            raise AssertionError("a handshake succeeded")
        except OSError:
            pass
        r.refuses("speaks TLS and we do not", "--tls-creds", soon=10)


@case
def our_certificate_is_not_liked(folder):
    """A source looks at it when the handshake is over, and goes without a word."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(f"{CERTS}/good/client-cert.pem", f"{CERTS}/good/client-key.pem")
    with receiver(folder, "certificate refused", "--channels=2", LIMIT, f"--tls-creds={CERTS}/good", idle=20) as (r, s):
        context.wrap_socket(s.open(), server_hostname="vm.example").close()
        r.refuses("closed by the peer before it said what it is", "it may not have accepted our certificate: see its log", soon=10)


@case
def plain_towards_tls(folder):
    for first in (hello(0), mfdsource.head()):
        with receiver(folder, "plain source", "--channels=2", LIMIT, f"--tls-creds={CERTS}/good", idle=20) as (r, s):
            s.open(first)
            r.refuses("does not speak TLS", "tls-creds at the source", soon=10)


@case
def silence_towards_tls(folder):
    with receiver(folder, "handshake never comes", "--channels=2", f"--tls-creds={CERTS}/good", idle=1) as (r, s):
        s.open()
        s.open(b"\x16\x03\x01")
        time.sleep(1.5)
        r.run.kill(15)
        r.run.wait().fails(godwit.FAILED, "SIGTERM")


@case
def stopped_while_they_come(folder):
    with receiver(folder, "stopped", "--channels=2", idle=20) as (r, s):
        s.open()
        s.open_channel(0)
        time.sleep(0.2)
        r.run.kill(15)
        result = r.run.wait()
        result.fails(godwit.FAILED, "SIGTERM")
        assert result.seconds < 10 * godwit.PATIENCE, result


# --- send: destinations ---

IMAGE = BIG = None
BIG_PAGES = 8192        # more than the sockets of all channels hold
SEND_CHANNELS = 3


def make_image(folder, machine="pc-i440fx-11.1", pages=mfdsource.BLOCK_PAGES):
    with Receiver(folder, "image", "--channels=2") as r, Source(r.path, channels=2) as s:
        s.begin(machine=machine, pages=pages)
        s.pages(pages)
        s.finish()
        r.keeps(mfdsource.ram(pages), s)
        return r.image


class Destination:
    """A listener, and godwit send towards it. accept(n): the next n connections."""

    def __init__(self, folder, *options, channels=SEND_CHANNELS, image=None, answer_s=20):
        self.dir = tempfile.mkdtemp(dir=folder)
        self.path = os.path.join(self.dir, "s")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen(300)
        self.listener.settimeout(20 * godwit.PATIENCE)
        self.socks = []
        self.run = godwit.Run("send", image or IMAGE, f"unix:{self.path}", "-q", f"--idle-timeout={IDLE_S}", f"--channels={channels}",
                              f"--answer-timeout={answer_s}", *options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.run.__exit__()
        for s in [self.listener, *self.socks]:
            s.close()

    def accept(self, n=1 + SEND_CHANNELS):
        for _ in range(n):
            s = self.listener.accept()[0]
            s.settimeout(20 * godwit.PATIENCE)
            self.socks.append(s)
        return self.socks[-n:]

    def fails(self, status, *patterns, soon=15):
        with open(IMAGE, "rb") as f:
            before = f.read()
        r = self.run.wait()
        r.fails(status, *patterns)
        assert r.seconds < soon * godwit.PATIENCE, r
        with open(IMAGE, "rb") as f:
            assert f.read() == before
        return r


def drain(sock, n=None):
    """Read n bytes, or all; how many came."""
    got = 0
    with contextlib.suppress(OSError):
        while n is None or got < n:
            piece = sock.recv(min(1 << 16, n - got if n else 1 << 16))
            if not piece:
                break
            got += len(piece)
    return got


def drain_all(sock):
    """Of a sender that waits for an answer then: until it says no more."""
    drain(sock, 150)
    sock.settimeout(godwit.PATIENCE)
    drain(sock)


@case
def destination_closes_at_once(folder):
    with Destination(folder, image=BIG) as d:   # of a small one everything may be sent before they are closed
        for s in d.accept():
            s.close()
        d.fails(godwit.FAILED, "closed", "does not have the guest|nothing was sent")


@case
def destination_takes_one_connection_only(folder):
    with Destination(folder, image=BIG) as d:   # more than the connections hold that nobody takes: not all of it can be sent before the listener goes
        d.accept(1)
        d.listener.close()
        os.unlink(d.path)
        d.fails(godwit.FAILED, "multifd channel [012]|closed|connect")


@case
def destination_takes_none(folder):
    with Destination(folder, image=BIG) as d:
        d.listener.close()
        d.fails(godwit.FAILED, "nobody listens|multifd channel|closed")


@case
def destination_reads_nothing(folder):
    with Destination(folder, image=BIG) as d:
        d.accept()
        d.fails(godwit.FAILED, "does not have the guest")


@case
def destination_closes_a_channel(folder):
    for which in range(1 + SEND_CHANNELS):
        with Destination(folder, image=BIG) as d:
            socks = d.accept()
            for n, s in enumerate(socks):
                drain(s, 64 if n else 30)
            time.sleep(0.1)
            socks[which].close()
            # The others read no more either: which of them is noticed first is open.
            d.fails(godwit.FAILED, "closed|took nothing", "does not have the guest")


@case
def destination_refuses_midway(folder):
    """SHUT 1 while pages are on their way, and then it goes."""
    with Destination(folder, image=BIG) as d:
        socks = d.accept()
        drain(socks[0], 60)
        for s in socks[1:]:
            drain(s, 100000)
        socks[0].sendall(mfdsource.SHUT_BAD)
        for s in socks[1:]:
            s.close()
        drain(socks[0])
        d.fails(godwit.FAILED, "does not have the guest")


def swallow(socks):
    threads = [threading.Thread(target=drain, args=(s,), daemon=True) for s in socks]
    for t in threads:
        t.start()


@case
def destination_refuses_at_the_end(folder):
    with Destination(folder) as d:
        socks = d.accept()
        swallow(socks)
        time.sleep(0.5)
        socks[0].sendall(mfdsource.SHUT_BAD)
        d.fails(godwit.FAILED, "could not load the guest", "error 1", "does not have the guest")


@case
def destination_says_nothing_at_the_end(folder):
    with Destination(folder, answer_s=1) as d:
        swallow(d.accept())
        d.fails(godwit.IN_DOUBT, "did not say within 1 s", "did not confirm")


@case
def destination_leaves_at_the_end(folder):
    with Destination(folder, answer_s=300) as d:
        socks = d.accept()
        swallow(socks[1:])
        drain_all(socks[0])
        for s in socks:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
        d.fails(godwit.IN_DOUBT, "closed", "did not confirm")


@case
def destination_talks_nonsense(folder):
    for words in (b"\xff" * 64, be(9, 4, size=2) + be(0), be(1, 9, size=2) + bytes(9), be(3, 0xFFFF, size=2) + bytes(100)):
        with Destination(folder) as d:
            socks = d.accept()
            socks[0].sendall(words)
            swallow(socks)
            d.fails(godwit.IN_DOUBT, "return path|message|destination", "did not confirm")


@case
def tls_towards_plain_destination(folder):
    with Destination(folder, f"--tls-creds={CERTS}/good", "--tls-hostname=vm.example") as d:
        s, = d.accept(1)
        drain(s, 5)
        s.sendall(b"\0\2\0\4\0\0\0\1")
        d.fails(godwit.FAILED, "does not speak TLS", "nothing was sent")


@case
def tls_towards_silence(folder):
    with Destination(folder, f"--tls-creds={CERTS}/good", "--tls-hostname=vm.example") as d:
        d.accept(1)
        d.fails(godwit.FAILED, "handshake", "nothing was sent")


@case
def what_is_sent_is_right(folder):
    """By the second reader: styles of sync, zero pages in both places, methods, uneven numbers of channels."""
    for machine, style in (("pc-i440fx-11.1", "round"), ("pc-i440fx-7.2", "section")):
        image = make_image(folder, machine)
        for method, n in (("none", 1), ("none", 7), ("zlib", 2), ("zstd", 3)):
            path = os.path.join(tempfile.mkdtemp(dir=folder), "s")
            p = peer.Peer(path, channels=n)
            godwit.run("send", image, p.uri, "-q", f"--channels={n}", f"--compress={method}").ok()
            for backwards in (False, True):
                s = refmultifd.MultifdStream(p.finish(), p.channels, style, backwards).decode()
                images.same_bytes(f"{machine} {method} {n}", bytes(s.blocks[mfdsource.BLOCK].ram), mfdsource.ram())
            assert {m for c in s.channels for m in c.methods} == {method}, [c.methods for c in s.channels]
            assert s.counts["channel_normal"] == 768 and s.counts["normal"] == 0, s.counts
            zeros = ("channel_zero", "zero") if style == "round" else ("zero", "channel_zero")
            assert s.counts[zeros[0]] == 256 and s.counts[zeros[1]] == 0, s.counts
            assert {c.syncs for c in s.channels} == {s.counts["marks"]}


@case
def send_options_that_cannot_be(folder):
    godwit.run("send", IMAGE, "unix:/nowhere", "--compress=zlib").fails(godwit.REFUSED, "compression needs multifd channels")
    godwit.run("send", IMAGE, "unix:/nowhere", "--channels=256").fails(godwit.USAGE, "255|channels")
    godwit.run("send", IMAGE, f"file:{folder}/x", "--channels=2").fails(godwit.REFUSED, "several channels need an address")
    godwit.run("receive", f"file:{IMAGE}", f"{folder}/y", "--channels=2").fails(godwit.REFUSED, "several channels need an address")
    godwit.run("receive", f"unix:{folder}/z", f"{folder}/y", "--channels=256", "-q").fails(godwit.USAGE, "255|channels")


def main():
    global CERTS, IMAGE, BIG
    folder = tempfile.mkdtemp(prefix="godwit-peers.")
    if not shutil.which("zstd"):
        print("SKIPPED: no zstd command", file=sys.stderr)
        sys.exit(77)
    try:
        CERTS = os.path.join(folder, "certs")
        os.mkdir(CERTS)
        subprocess.run([sys.argv[1], CERTS], check=True, timeout=60 * godwit.PATIENCE)
        IMAGE = make_image(folder)
        BIG = make_image(folder, pages=BIG_PAGES)
        with ThreadPoolExecutor(6) as pool:
            running = {name: pool.submit(f, folder) for name, f in ALL.items() if len(sys.argv) < 3 or name in sys.argv[2:]}
            faults = [f"{name}: {f.exception()}" for name, f in running.items() if f.exception()]
        assert not faults, f"{len(faults)} of {len(running)}:\n" + "\n".join(faults)
        print(f"{len(running)} cases")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
