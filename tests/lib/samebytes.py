# SPDX-License-Identifier: MIT
"""Where two memories differ, without a copy of either: Python's own comparison of parts copies them, and new memory costs more than reading it."""
import ctypes

_libc = ctypes.CDLL(None)
_libc.memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
MIB, PAGE = 1 << 20, 4096


def _address(memory):
    if isinstance(memory, bytearray):
        return ctypes.addressof(ctypes.c_char.from_buffer(memory))
    return ctypes.cast(ctypes.c_char_p(memory), ctypes.c_void_p).value


def differing_pages(a, b):
    """Offsets of the pages of two bytes or bytearrays, equally long."""
    assert len(a) == len(b), (len(a), len(b))
    at_a, at_b = _address(a), _address(b)

    def differs(off, n):
        return _libc.memcmp(at_a + off, at_b + off, min(n, len(a) - off)) != 0
    return [at for big in range(0, len(a), MIB) if differs(big, MIB) for at in range(big, min(big + MIB, len(a)), PAGE) if differs(at, PAGE)]
