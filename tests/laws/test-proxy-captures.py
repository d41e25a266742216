#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every captured stream goes through godwit proxy: it comes out as it went in, all of it is explained, and the devices and pages
it names are those godwit inspect finds in the same bytes.
"""
import glob
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
CAPTURES = os.path.join(HERE, "..", "captures")
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
from proxy_run import Proxy
from vm import skip

PONG, SHUT = b"\0\2\0\4\0\0\0\1", b"\0\1\0\4\0\0\0\0"
LIMIT_S = 60


def unpacked(name):
    return subprocess.run(["zstd", "-dqc", os.path.join(CAPTURES, name)], stdout=subprocess.PIPE, check=True).stdout


class Pipe:
    """One connection through the proxy: what went in at the source's end comes out at the destination's."""

    def __init__(self, proxy, listener, data, answers=b""):
        self.data, self.answers, self.got = data, answers, b""
        self.source = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.source.settimeout(LIMIT_S)
        self.source.connect(proxy.uri[5:])
        self.threads = [threading.Thread(target=self.send), threading.Thread(target=self.receive)]
        self.threads[0].start()     # the proxy connects for whom has said what he is
        self.destination = listener.accept()[0]
        self.destination.settimeout(LIMIT_S)

    def send(self):
        self.source.sendall(self.data)
        self.source.shutdown(socket.SHUT_WR)

    def receive(self):
        got = []
        while data := self.destination.recv(1 << 20):
            got.append(data)
        self.got = b"".join(got)
        self.destination.sendall(self.answers)
        self.destination.close()

    def run(self):
        self.threads[1].start()
        return self

    def check(self):
        for t in self.threads:
            t.join(LIMIT_S)
        answers = b""
        while data := self.source.recv(4096):
            answers += data
        self.source.close()
        assert self.got == self.data, f"{len(self.got)} bytes came, {len(self.data)} were sent"
        assert answers == self.answers


def inspected(path, data):
    with open(path, "wb") as f:
        f.write(data)
    return godwit.run("inspect", path, "--json").ok().events


def compare(proxy, path, data):
    """Devices in order with their places, and the pages of each block."""
    found = inspected(path, data)
    devices = [(e["name"], e["instance"], e["version"], e["bytes"], e["offset"]) for e in found if e["event"] == "device"]
    seen = []
    for e in proxy.messages("DEVICE"):
        body = e["offset"] + e["bytes"] - 5 - e["length"]
        seen.append((e["device"], e["instance"], e["version"], e["length"], body))
    assert seen == devices, f"devices\n{seen}\nby inspect\n{devices}"
    for kind in ("pages", "zero_pages", "xbzrle_pages"):
        by_block = {e["name"]: e[kind] for e in found if e["event"] == "block" and e[kind]}
        runs = {}
        for e in proxy.messages("PAGES"):
            runs[e["block"]] = runs.get(e["block"], 0) + e[kind]
        assert {k: v for k, v in runs.items() if v} == by_block, f"{kind}: {runs}, by inspect {by_block}"


def push(proxy, listener, expected):
    main = unpacked(expected["file"])
    channels = [unpacked(c["file"]) for c in expected.get("channels") or []]
    pipes = [Pipe(proxy, listener, main, PONG + SHUT if expected["return_path"] else b"")]
    pipes += [Pipe(proxy, listener, c) for c in channels]
    for p in [p.run() for p in pipes]:
        p.check()
    return main


def check(folder, expected):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(os.path.join(folder, "out"))
        listener.listen(8)
        listener.settimeout(LIMIT_S)
        with Proxy(f"unix:{folder}/out") as proxy:
            main = push(proxy, listener, expected)
            proxy.wait().result.ok()
            assert proxy.outcome == ("arrived" if expected["return_path"] else "unconfirmed"), proxy.outcome
            proxy.is_explained()
            if not expected.get("channels"):
                compare(proxy, os.path.join(folder, "stream"), main)
            else:
                numbers = {e["id"] for e in proxy.messages("HELLO")}
                assert numbers == set(range(len(expected["channels"]))), numbers
    os.unlink(os.path.join(folder, "out"))


def main():
    if not shutil.which("zstd"):
        skip("no zstd command to unpack the captures")
    names = sorted(glob.glob(os.path.join(CAPTURES, "*.json")))
    with tempfile.TemporaryDirectory(prefix="godwit-captures.") as folder:
        for name in names:
            with open(name, encoding="utf-8") as f:
                expected = json.load(f)
            if not expected["file"].endswith(".stream.zst"):
                continue
            try:
                check(folder, expected)
            except AssertionError as e:
                raise AssertionError(f"{expected['file']}: {e}") from None
            print(f"  {expected['file']}", flush=True)


if __name__ == "__main__":
    main()
