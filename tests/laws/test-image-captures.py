#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Images written by QEMU, read by our reader and written again by our writer: the same guest, the same bytes.

test-image-captures.py IMAGE-TOOL
"""
import glob
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
CAPTURES = os.path.join(HERE, "..", "captures")
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
from imagefile import differences
from vm import skip


def tool(*args):
    p = subprocess.run([sys.argv[1], *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return p.returncode, p.stdout, p.stderr.decode()


def check_content(path, expected):
    for b in expected["blocks"]:
        status, content, said = tool("dump", path, expected["start"], b["name"])
        if b["name"] == "m0" and not expected["main_block"]["in_stream"]:
            assert status == 1 and "no pages of a block" in said, (status, said)
            continue
        assert status == 0 and not said, said
        assert len(content) == b["used"], (b, len(content))
        if b["sha256"]:
            assert hashlib.sha256(content).hexdigest() == b["sha256"], f"content of {b['name']}"


def check_comparison(data, written, start):
    """It would have seen one byte of a header, of a page and of the tail."""
    in_a_page = next(i for i in range(2 << 20, len(data), 256) if data[i])
    for at in (start + 9, in_a_page, len(data) - 1):
        wrong = bytearray(written)
        wrong[at] ^= 1
        assert differences(data, wrong, start)[0], f"{at:#x} does not count"


def check_copy(path, data, expected):
    start, copy = expected["start"], path + ".copy"
    with open(copy, "wb") as f:
        f.write(data[:start] + b"what was there before")
    status, _, said = tool("rewrite", path, start, copy, start)
    assert status == 0 and not said, said
    with open(copy, "rb") as f:
        written = f.read()
    places, dropped = differences(data, written, start)
    assert not places, f"{len(places)} bytes differ, first {places[:5]}"
    assert dropped == 0, f"{dropped} pages of zeros had their bit set"
    if expected["file"].startswith("10.0-mapped-offset"):
        check_comparison(data, written, start)
    moved = path + ".moved"
    status, _, said = tool("rewrite", copy, start, moved, start + 4097)
    assert status == 0 and not said, said
    check_content(moved, expected | {"start": start + 4097})
    os.unlink(copy)
    os.unlink(moved)


def check_damaged(path, expected):
    status, _, said = tool("dump", path, expected["start"], "m0")
    assert status == 1 and "background-snapshot" in said and path in said, (status, said)


def check_plain_stream(folder):
    path = os.path.join(folder, "stream")
    subprocess.run(["zstd", "-dqo", path, os.path.join(CAPTURES, "11.1-plain.stream.zst")], check=True)
    status, _, said = tool("dump", path, 0, "m0")
    assert status == 1 and "plain migration stream" in said and "godwit convert" in said, (status, said)


def main():
    if not shutil.which("zstd"):
        skip("no zstd command to unpack the captures")
    paths = sorted(glob.glob(os.path.join(CAPTURES, "*mapped*.json")))
    assert len(paths) >= 11, paths
    for p in paths:
        with open(p, encoding="ascii") as f:
            expected = json.load(f)
        data = subprocess.run(["zstd", "-dqc", os.path.join(CAPTURES, expected["file"])], stdout=subprocess.PIPE,
                              check=True).stdout
        with tempfile.TemporaryDirectory(prefix="godwit-captures.") as folder:
            path = os.path.join(folder, "image")
            with open(path, "wb") as f:
                f.write(data)
            if expected["damage"]:
                check_damaged(path, expected)
            else:
                check_content(path, expected)
                check_copy(path, data, expected)
        print(f"ok: {expected['file']}")
    with tempfile.TemporaryDirectory(prefix="godwit-captures.") as folder:
        check_plain_stream(folder)


if __name__ == "__main__":
    main()
