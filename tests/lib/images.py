# SPDX-License-Identifier: MIT
"""What a test asks of an image, by two readers: godwit's own commands and refstream.py."""
import os

import godwit
import refstream
from lost_pages import GuestDamaged

EARLIER = b"The owner of the file keeps its own header here.\n"


def earlier_bytes(n):
    return (EARLIER * (n // len(EARLIER) + 1))[:n]


def raw_ram(image, to, block="m0", offset=0):
    """The block's content as godwit gives it."""
    godwit.run("convert", image, to, "--to=raw", f"--block={block}", f"--offset={offset}").ok()
    with open(to, "rb") as f:
        return f.read()


def same_bytes(what, got, want):
    """Equal, or the first page that is not is named."""
    assert len(got) == len(want), f"{what}: {len(got)} bytes, {len(want)} expected"
    if got == want:
        return
    pages = [at for at in range(0, len(want), 4096) if got[at:at + 4096] != want[at:at + 4096]]
    raise GuestDamaged(f"{what}: {len(pages)} pages differ, the first at {pages[0]:#x}", len(pages))


def check_image(vm, image, raw, offset=0, block="m0", refstream_too=True):
    """Whole by verify, and its RAM is the stopped guest's, byte for byte. Returns the second reader's result."""
    godwit.run("verify", image, f"--offset={offset}").ok()
    want = vm.ram()
    same_bytes(f"{block} by godwit convert", raw_ram(image, raw, block, offset), want)
    if not refstream_too:
        return None
    s = refstream.decode_file(image, offset)
    same_bytes(f"{block} by refstream.py", s.blocks[block].ram, want)
    return s


def is_tidy(folder, *names):
    """Nothing is in the folder but these."""
    left = sorted(os.listdir(folder))
    assert left == sorted(names), f"{folder} holds {left}, {sorted(names)} expected"
