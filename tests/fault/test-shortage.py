#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A proxy without descriptors for another connection: what is connected goes on, and the one that waits gets its turn. No QEMU. (A receiver is in tests/unit/test_accept.c.)"""
import contextlib
import os
import re
import resource
import socket
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
from proxy_run import Proxy

HEAD = b"QEVM" + bytes((0, 0, 0, 3)) + b"\x07\0\0\0\x02pc"
HELLO = b"\x11\x22\x33\x44" + bytes((0, 0, 0, 1)) + bytes(56)
WAITS = "Too many open files; connections wait until another one ends"
LIMIT = 700     # more than those of the soft limit that the commands are started with


def limit_to_open(pid):
    """From now on it gets no descriptor; those that it has stay. What it was before."""
    used = {int(n) for n in os.listdir(f"/proc/{pid}/fd")}
    free = min(n for n in range(len(used) + 1) if n not in used)
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, before[1]))
    return before


def connect(path):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(30 * godwit.patience())
    s.connect(path)
    return s


def take(listener):
    s = listener.accept()[0]
    s.settimeout(30 * godwit.patience())
    return s


def read(s, n):
    got = b""
    while len(got) < n:
        data = s.recv(n - len(got))
        assert data, f"it ended behind {got}"
        got += data
    return got


def of_a_proxy(folder):
    """The migration that passes goes on, and so does the next one when there are descriptors again. It is told once."""
    with contextlib.ExitStack() as held:
        listener = held.enter_context(socket.socket(socket.AF_UNIX))
        listener.settimeout(30 * godwit.patience())
        listener.bind(os.path.join(folder, "out"))
        listener.listen(8)
        p = held.enter_context(Proxy(f"unix:{folder}/out"))
        first = held.enter_context(connect(p.uri[5:]))
        first.sendall(HEAD)
        first_end = held.enter_context(take(listener))
        read(first_end, len(HEAD))
        before = limit_to_open(p.run.process.pid)
        second = held.enter_context(connect(p.uri[5:]))
        p.wait_said(re.escape(WAITS))
        first_end.sendall(b"\0\2\0\4\0\0\0\1")
        assert read(first, 8) == b"\0\2\0\4\0\0\0\1"
        resource.prlimit(p.run.process.pid, resource.RLIMIT_NOFILE, before)
        second.sendall(HELLO)
        second_end = held.enter_context(take(listener))
        assert read(second_end, len(HELLO)) == HELLO
        for s in first, first_end, second, second_end:
            s.close()
        p.wait()
        assert p.result.stdout.count(WAITS) == 1, p


def limits(folder):
    """Commands to which many connect raise their soft limit."""
    prefix = ["prlimit", f"--nofile=64:{LIMIT}"]
    for args in (["proxy", f"unix:{folder}/a", f"unix:{folder}/b"], ["receive", f"unix:{folder}/c", f"{folder}/image2"]):
        with godwit.Run(*args, "--json", prefix=prefix) as g:
            g.wait_stdout('"event": ?"listening"')
            assert resource.prlimit(g.process.pid, resource.RLIMIT_NOFILE) == (LIMIT, LIMIT), args


def main():
    for case in of_a_proxy, limits:
        with tempfile.TemporaryDirectory(prefix="godwit-short.") as folder:
            print(f"  {case.__name__}", flush=True)
            case(folder)


if __name__ == "__main__":
    main()
