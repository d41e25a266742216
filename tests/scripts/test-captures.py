#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every golden capture, read by the reference reader, gives exactly what its JSON says; and the set is complete.

This is what makes the JSON files trustworthy for the tests of Godwit's own decoders.
"""
import glob
import hashlib
import json
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
CAPTURES = os.path.join(HERE, "..", "captures")
LIMIT_BYTES = 3 << 20
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import refmultifd
import refstream
from vm import skip


def unpack(path):
    return subprocess.run(["zstd", "-dqc", path], stdout=subprocess.PIPE, check=True).stdout


def check_content(s, expected):
    for b in expected["blocks"]:
        got = s.blocks[b["name"]]
        assert got.used == b["used"], (b, got.used)
        if b["name"] == "m0" and not expected["main_block"]["in_stream"]:
            assert not got.sent, f"{len(got.sent)} pages of an ignored block"
        elif b["sha256"] and not expected["damage"]:
            assert got.sha256() == b["sha256"], f"content of {b['name']}"
    assert len(s.blocks) == len(expected["blocks"]), list(s.blocks)


def read_part(part):
    data = unpack(os.path.join(CAPTURES, part["file"]))
    assert len(data) == part["size"], len(data)
    assert hashlib.sha256(data).hexdigest() == part["sha256"]
    return data


def check_capture(expected):
    data = read_part(expected)
    channels = [read_part(c) for c in expected.get("channels", [])]
    if channels:
        s = refmultifd.MultifdStream(data, channels, expected["sync"], reverse=True).decode()
        check_content(s, expected)
        s = refmultifd.MultifdStream(data, channels, expected["sync"]).decode()
    else:
        s = refstream.Stream(data, expected["start"]).decode()
    assert s.machine == expected["machine"], s.machine
    assert (1 in [n for n, _ in s.commands]) == expected["return_path"], s.commands
    assert sum(d[0] == "cpu" for d in s.devices) == expected["vcpus"]
    if expected["devices"] is not None:
        assert [list(d[:2]) for d in s.devices] == expected["devices"]
    check_content(s, expected)


def check_every_cut(expected):
    """No prefix of a stream with a description is taken for a whole one."""
    data = unpack(os.path.join(CAPTURES, expected["file"]))
    assert refstream.is_whole(data)
    for cut in list(range(1, 3000)) + list(range(3000, len(data), 997)):
        assert not refstream.is_whole(data[:-cut]), cut


def main():
    if not shutil.which("zstd"):
        skip("no zstd command to unpack the captures")
    sys.stdout.reconfigure(line_buffering=True)
    paths = sorted(glob.glob(os.path.join(CAPTURES, "*.json")))
    names = {os.path.basename(p).split("-", 1)[1][:-5] for p in paths}
    assert len(names) >= 20, names
    total = sum(os.path.getsize(p) for p in glob.glob(os.path.join(CAPTURES, "*")))
    assert total <= LIMIT_BYTES, f"{total} bytes of captures"
    packed = {os.path.basename(p) for p in glob.glob(os.path.join(CAPTURES, "*.zst"))}
    for path in paths:
        with open(path, encoding="ascii") as f:
            expected = json.load(f)
        packed -= {expected["file"], *(c["file"] for c in expected.get("channels", []))}
        try:
            check_capture(expected)
        except (AssertionError, refstream.Bad) as e:
            print(f"FAILED: {expected['file']}: {e}", file=sys.stderr)
            return 1
        print(f"ok: {expected['file']}")
        if path.endswith("10.0-uuid.json"):
            check_every_cut(expected)
    assert not packed, f"captures without expectation: {packed}"
    return 0


if __name__ == "__main__":
    sys.exit(main())
