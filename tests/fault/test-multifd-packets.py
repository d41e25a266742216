#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A multifd source that lies: every field of a packet out of its range, packets that are cut, payloads that do not unpack
to their pages, syncs that do not match. Each ends godwit receive soon, with one sentence that names channel and packet,
and without an image.
"""
import functools
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
import mfdsource
from mfdsource import DEVICE_STATE, PAGE, SYNC, ZLIB, ZSTD, be, offsets, packet, page_bytes, sync
from receiver import IDLE_S, Receiver

RSS_MAX = 128 << 20
TWO_PAGES = b"".join(page_bytes(p) for p in (4, 5))
FULL = 2 * 524288


def zlib_sync(data, c=None):
    c = c or zlib.compressobj(1)
    return c.compress(data) + c.flush(zlib.Z_SYNC_FLUSH)


@functools.lru_cache(None)
def zstd_whole(data):
    return subprocess.run(["zstd", "-qc", "-1", "--no-check", "--no-content-size"], input=data, stdout=subprocess.PIPE, check=True,
                          timeout=30 * godwit.PATIENCE).stdout


def zstd_window(log):
    """A frame that asks for 2^log bytes of window, with one raw block."""
    return b"\x28\xb5\x2f\xfd\x00" + bytes([log - 10 << 3]) + be(0) * 8


def device_state(idstr=b"0000:00:02.0/vfio", instance=0, size=64, flags=DEVICE_STATE):
    return be(mfdsource.MAGIC, 1, flags) + idstr.ljust(256, b"\0") + be(instance, size) + bytes(min(size, 64))


def bad(pattern, *packets, number=None):
    """Sent on channel 1; the last packet is the bad one."""
    return pattern, packets, len(packets) if number is None else number


ONE = offsets(4, 1)
TWO = offsets(4, 2)
FIELDS = {
    "magic": bad("magic is 11223345, expected 11223344", packet(TWO, magic=0x11223345)),
    "magic of main": bad("magic 5145564d is that of a main channel", packet(TWO, magic=0x5145564D)),
    "version": bad("version is 2, expected 1", packet(TWO, version=2)),
    "unknown flag": bad("flags are 00000080", packet(TWO, flags=0x80)),
    "highest flag": bad("flags are 80000000", packet(TWO, flags=1 << 31)),
    "two methods at once": bad("compression method 06", packet(TWO, flags=6)),
    "method qpl": bad("qpl, which is not supported", packet(TWO, flags=8)),
    "method uadk": bad("uadk, which is not supported", packet(TWO, flags=0x10)),
    "method qatzip": bad("qatzip, which is not supported", packet(TWO, flags=0x20)),
    "pages_alloc one too many": bad("pages_alloc is 129, expected at most 128", packet(TWO, alloc=129)),
    "pages_alloc huge": bad("pages_alloc is 4294967295", packet(TWO, alloc=0xFFFFFFFF)),
    "normal above alloc": bad("normal_pages is 3, expected at most the 2", packet(TWO, alloc=2, normal_n=3, size=3 * PAGE)),
    "normal huge": bad("normal_pages is 4294967295", packet(TWO, normal_n=0xFFFFFFFF)),
    "zero above the rest": bad("zero_pages is 127, expected at most 126", packet(TWO, zero_n=127)),
    "sum wraps": bad("zero_pages is 4294967295, expected at most 126", packet(TWO, zero_n=0xFFFFFFFF)),
    "payload longer than its pages": bad("next_packet_size is 8193, expected 8192", packet(TWO, size=8193)),
    "payload shorter": bad("next_packet_size is 4096, expected 8192", packet(TWO, size=4096)),
    "payload none": bad("next_packet_size is 0, expected 8192", packet(TWO, size=0)),
    "payload huge": bad(f"next_packet_size is 4294967295, expected at most {FULL}", packet(TWO, size=0xFFFFFFFF)),
    "packed payload too large": bad(f"next_packet_size is {FULL + 1}", packet(TWO, size=FULL + 1, flags=ZLIB)),
    "packed payload none": bad("next_packet_size is 0, expected some bytes of zlib", packet(TWO, size=0, flags=ZLIB)),
    "block unknown": bad('block "nobody", which is not in the block list', packet(TWO, name="nobody")),
    "block half a name": bad('block "ram", which', packet(TWO, name="ram")),
    "block without a name": bad("block name has 0 unusable bytes", packet(TWO, name="")),
    "block name not printable": bad("block name has 5 unusable bytes", packet(TWO, name=b"\x1b[31m")),
    "block name without end": bad("block name does not end within its 256", packet(TWO, name="r" * 256)),
    "block name as long as can be": bad("which is not in the block list", packet(TWO, name="r" * 255)),
    "offset inside a page": bad("offset 4001 of normal page 0", packet([0x4001], payload=bytes(PAGE))),
    "second offset inside a page": bad("offset 5008 of normal page 1", packet([0x4000, 0x5008], payload=bytes(2 * PAGE))),
    "zero page inside a page": bad("offset 6800 of zero page 1", packet(ONE, [0x6800])),
    "offset at the end": bad('page 0 of the packet, at offset 400000, lies outside block "ram0"', packet([1 << 22], payload=bytes(PAGE))),
    "offset far out": bad("offset fffffffffffff000, lies outside", packet([(1 << 64) - PAGE], payload=bytes(PAGE))),
    "zero page outside": bad("page 1 of the packet, at offset 8000000000000000, lies outside", packet(ONE, [1 << 63])),
    "last of 128 outside": bad("page 127 of the packet", packet(offsets(0, 127) + [1 << 40], payload=bytes(128 * PAGE))),
    "device state": bad('"0000:00:02.0/vfio" instance 0 sends its state over multifd', device_state()),
    "device state with SYNC": bad("flags are 41, expected 40 alone", device_state(flags=DEVICE_STATE | SYNC)),
    "device state without end of name": bad("idstr does not end", device_state(idstr=b"x" * 256)),
    "device state of nothing": bad("payload of 0 bytes", device_state(size=0)),
    "device state of 4 GiB": bad("not supported", device_state(size=0xFFFFFFFF)),
    "a second packet": bad("pages_alloc is 129", packet(TWO), packet(TWO, alloc=129)),
    "none, then zlib": bad("compression method 02 after 00", packet(TWO), packet(TWO, payload=zlib_sync(TWO_PAGES), flags=ZLIB)),
    "zlib, then none": bad("compression method 00 after 02", packet(TWO, payload=zlib_sync(TWO_PAGES), flags=ZLIB), packet(TWO)),
    "zlib, then zstd": bad("compression method 04 after 02", packet(TWO, payload=zlib_sync(TWO_PAGES), flags=ZLIB),
                           packet(TWO, payload=b"x" * 9, flags=ZSTD)),
    "bad in a SYNC": bad("normal_pages is 200", packet(TWO, flags=SYNC, normal_n=200)),
}
BOMB = bytes(64 << 20)


def packed(flags, *payloads):
    return [packet(TWO, payload=p, flags=flags) for p in payloads]


def unpacking():
    """What does not become two pages; made late, because a bomb takes a moment."""
    c = zlib.compressobj(1)
    first, short = zlib_sync(TWO_PAGES, c), zlib_sync(TWO_PAGES[:-1])
    whole, frame = zlib.compress(TWO_PAGES), zstd_whole(TWO_PAGES)
    bomb, zstd_bomb = zlib_sync(BOMB), zstd_whole(BOMB)
    return {
        "zlib bomb": bad("zlib: a payload of .* gives more than the 8192", *packed(ZLIB, bomb)),
        "zlib, a page too many": bad("gives more than the 8192", *packed(ZLIB, zlib_sync(TWO_PAGES + bytes(PAGE)))),
        "zlib, a byte too few": bad("gives 8191 bytes, expected the 8192", *packed(ZLIB, short)),
        "zlib garbage": bad("does not continue the channel's stream", *packed(ZLIB, b"\xa5" * 500)),
        "zlib starts anew": bad("does not continue the channel's stream", *packed(ZLIB, first, zlib_sync(TWO_PAGES))),
        "zlib finished": bad("the stream ends inside a payload", *packed(ZLIB, whole)),
        "zlib, payload cut": bad("gives \\d+ bytes, expected the 8192", *packed(ZLIB, first[:len(first) // 2])),
        "zlib, flush missing, then more": bad("zlib", *packed(ZLIB, first[:-200], first), number=1),
        "zstd bomb": bad("zstd: a payload of .* (gives more than the 8192|ends inside)", *packed(ZSTD, zstd_bomb)),
        "zstd garbage": bad("begins with a5a5a5a5", *packed(ZSTD, b"\xa5" * 500)),
        "zstd garbage in the frame": bad("does not continue", *packed(ZSTD, frame[:6] + b"\xff" * 400)),
        "zstd finished": bad("the stream ends inside a payload", *packed(ZSTD, frame)),
        "zstd, window of 2 GiB": bad("window of more than", *packed(ZSTD, zstd_window(31))),
        "zstd, two bytes": bad("first payload has 2 bytes", *packed(ZSTD, frame[:2])),
        "zstd, payload cut": bad("gives \\d+ bytes, expected the 8192", *packed(ZSTD, frame[:len(frame) // 2])),
    }


def send_bad(s, packets):
    try:
        for p in packets:
            s.channel[1].sendall(p)
    except OSError:     # it has closed, as it should
        pass


def check_packet(folder, name, case):
    pattern, packets, number = case
    with Receiver(folder, name, "--channels=2") as r, mfdsource.Source(r.path) as s:
        s.begin()
        send_bad(s, packets)
        r.refuses(f"multifd channel 1, packet {number}: ", pattern)
        assert s.answers().endswith(mfdsource.SHUT_BAD), f"{name}: the source was not told"


# --- packets that are cut, channels that end, syncs that do not match ---

def cut(n):
    def send(s):
        send_bad(s, [packet(TWO)[:n]])
        s.channel[1].close()
    return send


def fall_silent(n):
    def send(s):
        send_bad(s, [packet(TWO)[:n]])
        for _ in range(8):      # the main channel is not silent
            s.main.sendall(mfdsource.part())
            time.sleep(IDLE_S / 4)
    return send


def close_channel(s):
    s.channel[1].close()
    s.channel[0].sendall(sync())
    s.main.sendall(mfdsource.end() + mfdsource.tail())


def leave_out_sync(s):
    s.pages()
    s.channel[0].sendall(sync())
    s.main.sendall(mfdsource.end() + mfdsource.tail())


def sync_too_often(s):
    s.pages()
    s.channel[0].sendall(sync())
    s.each(sync())
    s.main.sendall(mfdsource.end())
    time.sleep(0.3)     # it is found out while the devices come
    s.main.sendall(mfdsource.tail())


def page_behind_last_sync(s):
    s.pages()
    s.each(sync())
    s.main.sendall(mfdsource.end())
    time.sleep(0.2)
    s.channel[1].sendall(packet(TWO))
    time.sleep(0.2)
    s.main.sendall(mfdsource.tail())


def cut_main(s):
    s.pages()
    s.main.sendall(mfdsource.part(mfdsource.zero_record(1))[:-3])
    s.main.close()
    s.main = None


ENDS = {
    "cut in a header": (cut(700), ["channel 1, packet 1: the channel ends inside a packet header \\(700 of 1344"]),
    "cut in the magic": (cut(2), ["channel 1, packet 1: the channel ends inside a packet header \\(2 of"]),
    "cut behind a header": (cut(1344), ["channel 1, packet 1: the channel ends between a packet's header and its 8192"]),
    "cut in a page": (cut(1344 + 5000), ["channel 1, packet 1: the channel ends inside the pages of a packet \\(5000 of 8192"]),
    "silent in a header": (fall_silent(700), ["channel 1, packet 1", f"nothing came for {IDLE_S * 1000} ms"]),
    "silent in a page": (fall_silent(1344 + 5000), ["channel 1, packet 1", f"nothing came for {IDLE_S * 1000} ms"]),
    "closed between packets": (close_channel, ["sync 2", "channel 1", "closed|ended"]),
    "no SYNC on one": (leave_out_sync, ["sync 2", "channel 1"]),
    "one SYNC too many": (sync_too_often, ["channel 0", "a SYNC after the"]),
    "a page behind the last SYNC": (page_behind_last_sync, ["channel 1, packet \\d+: pages after the end of RAM"]),
    "main channel cut": (cut_main, ["stream offset|cut short|closed|reset by peer"]),
}


def check_end(folder, name, case):
    send, patterns = case
    with Receiver(folder, name, "--channels=2", idle=IDLE_S) as r, mfdsource.Source(r.path) as s:
        s.begin()
        try:
            send(s)
        except OSError:
            pass
        r.refuses(*patterns)


# --- what looks odd and is right ---

def check_odd_but_right(folder):
    want = mfdsource.ram()
    with Receiver(folder, "empty packets, old size, reserved bytes", "--channels=2") as r, mfdsource.Source(r.path) as s:
        s.begin()
        s.each(packet(number=1 << 63) + packet(size=4096, payload=b""))     # as 7.2 does
        s.pages()
        s.each(packet(flags=SYNC | ZLIB))
        s.main.sendall(mfdsource.end())
        s.each(packet(size=4096, payload=b""))
        s.main.sendall(mfdsource.tail())
        r.keeps(want, s)
    with Receiver(folder, "one sync per section", "--channels=2") as r, mfdsource.Source(r.path) as s:
        s.begin(mark=False)
        s.each(sync())
        s.pages()
        s.each(sync())
        s.main.sendall(mfdsource.part())
        s.each(packet([PAGE], payload=page_bytes(1)))
        s.each(sync())
        s.main.sendall(mfdsource.end(mark=False) + mfdsource.tail())
        r.keeps(want, s)


def check_slow_main(folder):
    """Zero pages on the main channel for longer than the idle limit, while the channels have nothing to do."""
    with Receiver(folder, "channels without work", "--channels=2", idle=IDLE_S) as r, mfdsource.Source(r.path) as s:
        s.begin()
        s.pages()
        for page in range(10):
            s.main.sendall(mfdsource.part(mfdsource.zero_record(96 + page)))
            time.sleep(IDLE_S / 4)
        s.finish()
        r.keeps(mfdsource.ram(), s)


def check_later_page_wins(folder):
    """Before and behind a sync the same page on different channels: the later one is kept, however fast the channels are."""
    new = page_bytes(7, salt=1)
    with Receiver(folder, "two versions of a page", "--channels=2") as r, mfdsource.Source(r.path) as s:
        s.begin()
        s.channel[1].sendall(sync() + packet([7 * PAGE], payload=new))
        time.sleep(0.1)
        s.channel[0].sendall(packet(offsets(0, 96)) + sync())
        s.main.sendall(mfdsource.part(be(mfdsource.FLUSH, size=8)))
        s.channel[1].sendall(packet([], [9 * PAGE]) + sync())
        s.channel[0].sendall(sync())
        s.main.sendall(mfdsource.end() + mfdsource.tail())
        want = bytearray(mfdsource.BLOCK_PAGES * PAGE)
        for p in range(96):
            want[p * PAGE:(p + 1) * PAGE] = page_bytes(p)
        want[7 * PAGE:8 * PAGE], want[9 * PAGE:10 * PAGE] = new, bytes(PAGE)
        r.keeps(bytes(want), s)


def main():
    folder = tempfile.mkdtemp(prefix="godwit-packets.")
    if not shutil.which("zstd"):
        print("SKIPPED: no zstd command", file=sys.stderr)
        sys.exit(77)
    try:
        jobs = [(check_packet, folder, n, c) for n, c in {**FIELDS, **unpacking()}.items()]
        jobs += [(check_end, folder, n, c) for n, c in ENDS.items()]
        jobs += [(f, folder) for f in (check_odd_but_right, check_slow_main, check_later_page_wins)]
        with ThreadPoolExecutor(6) as pool:
            faults = [str(e) for e in [f.exception() for f in [pool.submit(*j) for j in jobs]] if e]
        assert not faults, f"{len(faults)} of {len(jobs)}:\n" + "\n".join(faults)
        rss = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        assert godwit.SANITIZED or rss < RSS_MAX, f"a process took {rss} bytes of memory"
        print(f"{len(jobs)} cases, at most {rss >> 20} MiB of memory")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
