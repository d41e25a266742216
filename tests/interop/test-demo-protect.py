#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The part of `make demo` that protects a guest: a TCP client of it goes on over the death of its QEMU, and misses nothing.

Left out where no tap device can be made."""
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
from vm import SCRIPTS, SKIPPED, Unavailable, get_guest, get_qemu, skip


def main():
    try:
        command = [os.path.join(SCRIPTS, "demo-protect"), godwit.PROGRAM, get_qemu("11.1"), *get_guest()]
    except Unavailable as e:
        skip(str(e))
    r = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=180 * godwit.PATIENCE, check=False)
    print(r.stdout, flush=True)
    if r.returncode == SKIPPED:
        skip(r.stdout.strip().splitlines()[-1])
    assert r.returncode == 0, r.returncode
    assert "none missing, none twice" in r.stdout


if __name__ == "__main__":
    main()
