# SPDX-License-Identifier: MIT
"""Comparing mapped-ram files: what two of them may differ in and still be the same image.

Uses the second reader (refstream), which knows nothing of Godwit's code.
"""
import refstream

PAGE = 4096


def _bits(data, block):
    return int.from_bytes(data[block.bitmap_offset:block.bitmap_offset + 8 * -(-block.used // PAGE // 64)], "little")


def differences(original, copy, start=0):
    """Places where the bytes of a rewritten image differ, except under bits that are clear in both.

    Returns (places, bits): places are texts; bits counts pages whose bit is set in the original only, over zeros.
    """
    stream = refstream.Stream(original, start).decode()
    if len(original) != len(copy):
        return [f"length {len(copy)}, expected {len(original)}"], 0
    a, b = bytearray(original), bytearray(copy)
    dropped = 0
    for block in stream.blocks.values():
        if not block.pages_offset:
            continue
        old, new = _bits(original, block), _bits(copy, block)
        for i in range(block.used // PAGE):
            at = block.pages_offset + i * PAGE
            if not new >> i & 1:
                if old >> i & 1 and not any(original[at:at + PAGE]):
                    old ^= 1 << i       # zeros with their bit set: legal, and left out by Godwit
                    dropped += 1
                a[at:at + PAGE] = b[at:at + PAGE] = bytes(PAGE)
        size = 8 * -(-block.used // PAGE // 64)
        a[block.bitmap_offset:block.bitmap_offset + size] = old.to_bytes(size, "little")
    parts = [at for at in range(0, len(a), PAGE) if a[at:at + PAGE] != b[at:at + PAGE]]
    places = [f"{i:#x}: {a[i]:02x}, copy {b[i]:02x}" for at in parts for i in range(at, min(at + PAGE, len(a))) if a[i] != b[i]]
    return places, dropped
