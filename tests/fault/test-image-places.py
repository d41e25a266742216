#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Images with something behind them: zeros, other bytes, the rest of a block device. And what a sparse one becomes as a stream. No QEMU."""
import os
import resource
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
from mfdsource import BLOCK, be, end, footer, head, page_bytes, part, str8, tail
from vm import skip

MIB = 1 << 20
PAGE = 4096


def start(used):
    return b"\1" + be(1) + str8("ram") + be(0, 4) + be(used | 4, size=8) + str8(BLOCK) + be(used, size=8) + be(0x10, size=8) + footer()


def make_image(folder, name="image", used=4 * MIB, pages=64):
    """A guest with one block, of which some pages have content."""
    stream, image = os.path.join(folder, name + ".stream"), os.path.join(folder, name)
    with open(stream, "wb") as f:
        f.write(head() + start(used) + part(*[be(p * PAGE | 8, size=8) + str8(BLOCK) + page_bytes(p) for p in range(pages)]))
        f.write(end(mark=False) + tail())
    godwit.run("convert", stream, image, "-q").ok()
    return image


def cheaply(*args):
    """As godwit.run, with little processor time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = godwit.run(*args)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert seconds < 2, f"{seconds:.1f} s of processor time: {done}"
    return done


def same_guest(a, b):
    done = cheaply("verify", a, b).ok()
    assert "the same guest" in done.stdout, done


def longer(folder, image, name, size, fill=None):
    path = os.path.join(folder, name)
    subprocess.run(["cp", "--sparse=always", image, path], check=True)
    with open(path, "r+b") as f:
        if fill:
            f.seek(0, os.SEEK_END)
            f.write(fill)
    os.truncate(path, os.stat(path).st_size + size)
    return path


def zeros_behind(folder):
    image = make_image(folder)
    for size in (1, MIB, 255 * MIB, 257 * MIB, 1 << 40):
        same_guest(image, longer(folder, image, "longer", size))


def others_behind(folder):
    """What stood there before: another image, longer than this one, and noise."""
    image, before = make_image(folder), make_image(folder, "before", 24 * MIB, 6000)
    with open(before, "rb") as f:
        old = f.read()
    at = os.stat(image).st_size
    same_guest(image, longer(folder, image, "longer", 0, old[at:]))
    same_guest(image, longer(folder, image, "longer", 300 * MIB, b"\xa5" * 17 * MIB))


def sparse_as_stream(folder):
    image = make_image(folder, used=64 << 30, pages=4)
    with godwit.Run("convert", image, os.path.join(folder, "stream"), "--to=stream", "--json") as g:
        done = g.wait(60).ok()
    assert "144.0 MiB of records" in done.stderr and "9 bytes" in done.stderr, done


class Loop:
    """A block device, over a file."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        self.path = subprocess.run(["losetup", "-f", "--show", self.file], check=True, capture_output=True, text=True).stdout.strip()
        return self.path

    def __exit__(self, *_):
        subprocess.run(["losetup", "-d", self.path], check=True)


def check_loop(folder):
    """Why there can be no block device here, or None."""
    probe = os.path.join(folder, "probe")
    with open(probe, "wb") as f:
        f.truncate(MIB)
    try:
        with Loop(probe):
            return None
    except (OSError, subprocess.CalledProcessError) as e:
        return f"no loop device can be set up here: {getattr(e, 'stderr', '') or e}".strip()


def block_device(folder):
    image = make_image(folder)
    disk = os.path.join(folder, "disk")
    with open(disk, "wb") as f:
        f.write(os.urandom(64 * MIB))
        f.truncate(1 << 30)
    with Loop(disk) as device:
        subprocess.run(["dd", f"if={image}", f"of={device}", "bs=1M", "conv=fsync,notrunc", "status=none"], check=True)
        same_guest(image, device)
        godwit.run("inspect", device).ok()
        copy = os.path.join(folder, "copy")
        cheaply("convert", device, copy).ok()
        same_guest(image, copy)
        stream = os.path.join(folder, "stream")
        godwit.run("send", device, f"file:{stream}").ok()
        same_guest(image, stream)
        godwit.run("convert", image, device).fails(godwit.FAILED, "is a block device", "dd conv=fsync")
        same_guest(image, device)
        with open(device, "r+b") as f:
            f.write(b"\0" * 4096)
        godwit.run("verify", device).fails(godwit.FAILED, "magic")


def main():
    wanted = os.environ.get("GODWIT_ONLY", "").split(",")
    with tempfile.TemporaryDirectory(prefix="godwit-places.") as folder:
        tests = [zeros_behind, others_behind, sparse_as_stream]
        missing = check_loop(folder)
        for test in [*tests, *([] if missing else [block_device])]:
            if wanted == [""] or test.__name__ in wanted:
                print(f"  {test.__name__}", flush=True)
                test(folder)
    if missing:
        skip("block_device: " + missing + "; all others passed")


if __name__ == "__main__":
    main()
