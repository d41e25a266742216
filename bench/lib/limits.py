# SPDX-License-Identifier: MIT
"""The physical limits of this machine, measured in the same run: what no program can be faster than."""
import json
import os
import time

from bench import NotRun, output_of, remove

DIRECT_STEP = 4 << 20
NAMES = {
    "memory_read": "reading memory",
    "memcpy": "copying memory",
    "new_file": "writing a new file in tmpfs",
    "socket_pair": "passing through a unix socket pair",
    "disk_direct": "dd oflag=direct bs=4M to disk",
}


def measure(bench):
    """Bytes per second by name; a sentence where a limit could not be measured."""
    mib = str(min(bench.size, 1 << 30) >> 20)
    bench.warm(2 * int(mib) << 20)
    found = json.loads(output_of([bench.program("bench/machine"), mib, bench.tmpfs], 300))
    found["memory_read"] = json.loads(output_of([bench.program("bench/zero-scan"), mib, "3"], 300))["read"]
    found["disk_direct"] = disk_direct(bench, int(mib) << 20)
    return {name: found[name] for name in NAMES}


def disk_direct(bench, size):
    """Random bytes, so that neither holes nor compression help, from memory to the disk past the page cache."""
    source, target = bench.guest("random", size), os.path.join(bench.disk, "direct")
    start = time.monotonic()
    try:
        output_of(["dd", f"if={source}", f"of={target}", f"bs={DIRECT_STEP}", "oflag=direct", "conv=fsync"], 600)
        return size / (time.monotonic() - start)
    except NotRun as e:     # a file system without it
        return str(e)
    finally:
        bench.drop_material()
        remove(target)


def value(rate):
    return rate if isinstance(rate, str) else f"{rate / 1e9:6.2f} GB/s"


def text(measured):
    width = max(len(name) for name in NAMES.values())
    lines = [f"  {NAMES[key]:{width}}  {value(rate)}" for key, rate in measured.items()]
    return "\n".join(["this machine at its best:", *lines])
