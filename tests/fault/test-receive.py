#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Sources that are no good, played from captures: silent, early gone, lying, late. No QEMU is needed.

test-receive.py [SEED]
"""
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
import images
from vm import skip

CAPTURES = os.path.join(HERE, "..", "captures")
OLD = images.earlier_bytes(5000)
IDLE = "--idle-timeout=1"
PONG_1, SHUT_0, SHUT_1 = bytes.fromhex("0002000400000001"), bytes.fromhex("0001000400000000"), bytes.fromhex("0001000400000001")


def capture(name):
    return subprocess.run(["zstd", "-dqc", os.path.join(CAPTURES, f"{name}.stream.zst")], stdout=subprocess.PIPE, check=True).stdout


class Place:
    """A folder with an old image, and godwit receiving into it."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="godwit-receive.")
        self.folder = os.path.join(self.dir, "images")
        os.mkdir(self.folder)
        self.image = os.path.join(self.folder, "image")
        self.socket = os.path.join(self.dir, "socket")
        self.put_old()

    def put_old(self):
        with open(self.image, "wb") as f:
            f.write(OLD)

    def receive(self, *options, uri=None, **popen):
        r = godwit.Run("receive", uri or f"unix:{self.socket}", self.image, *options, **popen)
        r.uri = r.wait_stderr(r"listening at (\S+)")[1]
        return r

    def untouched(self):
        images.is_tidy(self.folder, "image")
        with open(self.image, "rb") as f:
            assert f.read() == OLD, "the old image has changed"
        assert not os.path.exists(self.socket), "the socket is left behind"

    def kept(self):
        images.is_tidy(self.folder, "image")
        godwit.run("verify", self.image).ok()
        self.put_old()


def connect(uri):
    if uri.startswith("unix:"):
        s = socket.socket(socket.AF_UNIX)
        s.connect(uri[5:])
        return s
    host, port = uri[4:].rsplit(":", 1)
    return socket.create_connection((host.strip("[]"), int(port)))


def play(uri, data):
    """Send as much as is taken: godwit may have closed long ago."""
    s = connect(uri)
    try:
        s.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        pass
    return s


def drain(s):
    """All the return path says until godwit closes."""
    s.settimeout(20 * godwit.PATIENCE)
    got = b""
    try:
        while chunk := s.recv(4096):
            got += chunk
    except ConnectionResetError:
        pass
    return got


def failing(r, *patterns, within=None, status=godwit.FAILED):
    """The status and one sentence, beside the one that says where it listens."""
    result = r.wait()
    assert result.status == status, result
    said = [s for s in result.sentences if not s.startswith("listening at")]
    assert len(said) == 1, result
    for p in patterns:
        assert godwit.re.search(p, said[0], godwit.re.I), f"{p!r} expected: {result}"
    assert within is None or result.seconds < within * godwit.PATIENCE, result
    return said[0]


# --- silence ------------------------------------------------------------------------------------------------------

def nobody_comes(place):
    with place.receive("--connect-timeout=1") as r:
        failing(r, "nobody|no source|connect", within=4)
    place.untouched()


def strangers_first(place, stream):
    """Who says nothing, or goes at once, is no source: the real one is waited for."""
    with place.receive("--json") as r, connect(r.uri):
        connect(r.uri).close()
        play(r.uri, stream[:3]).close()
        time.sleep(0.2)
        assert r.process.poll() is None, r.stderr
        play(r.uri, stream).close()
        assert r.wait().status == godwit.DONE
    place.kept()


def strangers_only(place):
    """And not longer than was asked for."""
    with place.receive("--connect-timeout=1") as r, connect(r.uri):
        failing(r, "nobody|no source|connect", within=12)
    with place.receive("--connect-timeout=1") as r:
        connect(r.uri).close()
        failing(r, "nobody|no source|connect", within=5)
    place.untouched()


def silent_in_the_middle(place, stream):
    for share in (0.001, 0.3, 0.999):
        with place.receive(IDLE) as r, play(r.uri, stream[:int(len(stream) * share)]):
            failing(r, "nothing came", within=8)
        place.untouched()


def slow_is_not_silent(place, stream):
    """Drops that come more often than the limit are no silence, however few; and then it ends."""
    limit = godwit.PATIENCE     # here the test must not be late itself
    with place.receive(f"--idle-timeout={limit:.0f}") as r, connect(r.uri) as s:
        for i in range(12):
            s.sendall(stream[i:i + 1])
            time.sleep(limit / 8)
        assert r.process.poll() is None, r.stderr
        s.sendall(stream[12:])
        assert r.wait().status == godwit.DONE
    place.kept()


# --- cut ----------------------------------------------------------------------------------------------------------

def cut_anywhere(place, stream, rng):
    """Closed at seeded places: an error each time that names the place, never an image."""
    for at in (4, 7, 8, 9):        # no stream yet: a stranger, who does not end the wait
        with place.receive("--connect-timeout=1") as r:
            play(r.uri, stream[:at]).close()
            failing(r, "nobody connected", within=8)
        place.untouched()
    for at in sorted([40, len(stream) - 1, *(rng.randrange(10, len(stream) - 1) for _ in range(25))]):
        with place.receive() as r:
            play(r.uri, stream[:at]).close()
            failing(r, r"\d|closed the connection|reset by peer", "no image was written", within=8)
        place.untouched()


def reset(place, stream):
    """A TCP connection that is reset, as by a host that went away and came back."""
    with place.receive(uri="tcp:127.0.0.1:0") as r:
        s = play(r.uri, stream[:len(stream) // 2])
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes.fromhex("0100000000000000"))
        s.close()
        failing(r, "reset|ends|cut", within=8)
    place.untouched()


# --- lies ---------------------------------------------------------------------------------------------------------

def not_a_stream(place, rng):
    for data, pattern in ((b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "not a migration"),
                          (bytes.fromhex("1603010200010001fc0303") + rng.randbytes(500), "tls"),
                          (rng.randbytes(100000), "not a migration"), (bytes(100000), "not a migration"),
                          (b"QEVM\0\0\0\2" + bytes(1000), "version"), (b"QEVM\0\0\0\3" + b"\x27" * 1000, "begins with 27"), (b'{"execute": "qmp_capabilities"}\n', "not a migration")):
        with place.receive(IDLE, "--connect-timeout=1") as r, play(r.uri, data):
            failing(r, pattern, within=6)
        place.untouched()


def damaged(place, stream, rng):
    """One byte changed in the records around memory: refused, or (in a page or a field) kept as it came; never a crash. Not in the magic, the version
    or the first section's type: without those it is a stranger, who is not waited for but does not end the wait either (strangers_first)."""
    kept = 0
    for _ in range(30):
        at = max(9, rng.choice([rng.randrange(len(stream)), rng.randrange(400), len(stream) - 1 - rng.randrange(20000)]))
        bad = bytearray(stream)
        bad[at] ^= 1 << rng.randrange(8)
        with place.receive(IDLE) as r:
            play(r.uri, bytes(bad)).close()
            result = r.wait()
            assert result.status in (godwit.DONE, godwit.FAILED), (at, str(result))
        if result.status == godwit.DONE:
            kept += 1
            place.kept()
        else:
            place.untouched()
    print(f"  {kept} of 30 damaged streams were kept", flush=True)


def told_of_damage(place, stream):
    """A source with a return path hears of it, and only of that."""
    footer = bytes.fromhex("00000000000000107e")
    bad = stream.replace(footer, footer[:-1] + b"\x7f", 1)
    with place.receive() as r, connect(r.uri) as s:
        heard = []
        listener = threading.Thread(target=lambda: heard.append(drain(s)))
        listener.start()
        try:
            s.sendall(bad)
        except OSError:
            pass
        failing(r, "footer|7f", "no image was written", within=5)
        listener.join()
    assert heard[0] == PONG_1 + SHUT_1, heard
    place.untouched()


# --- the end ------------------------------------------------------------------------------------------------------

def stays_open(place, stream, quiet):
    """All is there, and the source never closes: it is not waited for."""
    with place.receive("--idle-timeout=none") as r, play(r.uri, stream):
        result = r.wait(30).ok()
        assert result.seconds < (9 if quiet else 4) * godwit.PATIENCE, result
    place.kept()


def talks_on(place, stream):
    """Bytes behind the end are said and ignored."""
    with place.receive("--json") as r:
        play(r.uri, stream + b"and another thing").close()
        result = r.wait().ok()
        assert 0 <= result.event("done")["trailing_bytes"] <= 17, result
    place.kept()


def told_of_success(place, stream):
    """PONG, then SHUT 0 once the image is there under its name, then godwit waits for the source to close."""
    with place.receive() as r, play(r.uri, stream) as s:
        s.settimeout(20 * godwit.PATIENCE)
        got = b""
        while len(got) < 16:
            got += s.recv(16 - len(got))
        assert got == PONG_1 + SHUT_0, got
        with open(place.image, "rb") as f:
            assert f.read(4) == b"QEVM", "the source was told before the image was there"
        s.close()
        r.wait().ok()
    place.kept()


def closes_without_listening(place, stream):
    """A source that opened a return path and then does not wait for the answer. Whatever the status is, it is true."""
    for shut in (socket.SHUT_RDWR, None):
        with place.receive("--json") as r:
            s = play(r.uri, stream)
            if shut is not None:
                s.shutdown(shut)
            s.close()
            result = r.wait()
        with open(place.image, "rb") as f:
            kept = f.read(4) == b"QEVM"
        if kept:
            assert result.status in (godwit.DONE, godwit.IN_DOUBT), f"the image was replaced: {result}"
            assert "no image was written" not in result.stderr and result.status == godwit.DONE or "kept" in result.stderr, result
            place.kept()
        else:
            assert result.status == godwit.FAILED, result
            place.untouched()


def one_only(place, stream):
    """The second one is turned away and disturbs nobody."""
    with place.receive(uri="tcp:127.0.0.1:0") as r, connect(r.uri) as s:
        s.sendall(stream[:1000])
        time.sleep(0.2)
        try:
            with connect(r.uri) as other:
                other.sendall(b"garbage")
        except OSError:
            pass
        s.sendall(stream[1000:])
        s.close()
        r.wait().ok()
    place.kept()


# --- godwit itself --------------------------------------------------------------------------------------------------

def stopped(place, stream):
    for number, status in ((signal.SIGTERM, godwit.FAILED), (signal.SIGINT, godwit.FAILED), (signal.SIGKILL, -9)):
        for before_source in (True, False):
            with place.receive() as r:
                s = None if before_source else play(r.uri, stream[:len(stream) // 2])
                time.sleep(0.1)
                r.kill(number)
                result = r.wait(10)
                assert result.status == status, result
                if number != signal.SIGKILL:
                    assert signal.Signals(number).name in result.stderr, result
                    place.untouched()
                if s:
                    s.close()
            images.is_tidy(place.folder, "image")
            if os.path.exists(place.socket):
                os.unlink(place.socket)     # kill -9 leaves it
            place.untouched()


def told_when_stopped(place, stream):
    """SIGTERM with a return path: the source hears that it is to run on."""
    with place.receive() as r, play(r.uri, stream[:len(stream) // 2]) as s:
        time.sleep(0.2)
        r.kill(signal.SIGTERM)
        assert r.wait().status == godwit.FAILED
        assert drain(s) == PONG_1 + SHUT_1
    place.untouched()


def place_taken(place):
    """Addresses that belong to somebody else stay theirs; one that was left behind by a dead program is taken over."""
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(place.socket)
        other.listen(1)
        godwit.run("receive", f"unix:{place.socket}", place.image).fails(godwit.FAILED, "another program", place.socket)
        assert os.path.exists(place.socket)
    with place.receive("--connect-timeout=1") as r:     # nobody listens there any more
        failing(r, "nobody|no source|connect")
    place.untouched()
    with open(place.socket, "w", encoding="ascii") as f:
        f.write("mine")
    godwit.run("receive", f"unix:{place.socket}", place.image).fails(godwit.FAILED, place.socket)
    with open(place.socket, encoding="ascii") as f:
        assert f.read() == "mine", "a file was taken for a socket"
    os.unlink(place.socket)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        godwit.run("receive", f"tcp:127.0.0.1:{port}", place.image).fails(godwit.FAILED, "in use|another program", str(port))
    godwit.run("receive", f"unix:{place.dir}/no/socket", place.image).fails(godwit.FAILED, "no such file|does not exist")
    godwit.run("receive", f"unix:{place.dir}/{'x' * 108}", place.image).fails(godwit.USAGE, "at most 107")
    for uri in ("tcp:", "tcp:127.0.0.1", "tcp:127.0.0.1:99999", "nonsense:x", "", "vsock:a:b", "fd:99", "fd:x", "unix:"):
        r = godwit.run("receive", uri, place.image)
        assert r.status in (godwit.USAGE, godwit.FAILED) and len(r.sentences) == 1, r
    place.untouched()


def main():
    if not shutil.which("zstd"):
        skip("no zstd command to unpack the captures")
    seed = int(sys.argv[1]) if sys.argv[1:] else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    rng = random.Random(seed)
    plain, answered, quiet = capture("10.0-plain"), capture("10.0-return-path"), capture("11.1-suppress-vmdesc")
    place = Place()
    try:
        for step, *args in (
                (nobody_comes,), (strangers_first, plain), (strangers_only,), (silent_in_the_middle, plain), (slow_is_not_silent, plain),
                (cut_anywhere, plain, rng), (cut_anywhere, answered, rng), (reset, plain),
                (not_a_stream, rng), (damaged, plain, rng), (told_of_damage, answered), (stays_open, plain, False),
                (stays_open, quiet, True), (talks_on, plain), (told_of_success, answered),
                (closes_without_listening, answered), (one_only, plain), (stopped, plain), (told_when_stopped, answered),
                (place_taken,)):
            start = time.monotonic()
            step(place, *args)
            print(f"{step.__name__}: {time.monotonic() - start:.1f} s", flush=True)
    finally:
        shutil.rmtree(place.dir)


if __name__ == "__main__":
    main()
