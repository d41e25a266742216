# SPDX-License-Identifier: MIT
"""The guest of tinyguest.py that does what a test writes into its memory: it suspends, powers off, panics, and counts otherwise."""
import os
import time

import godwit
import tinyguest
from capture_guests import Kind, KindVm


class OrderedVm(KindVm):
    """version: of QEMU. More keywords: of its Kind."""

    def __init__(self, version, runs=True, args=(), **keywords):
        super().__init__(version, Kind(runs=runs, args=tuple(args), **keywords))
        with open(self.path("bios"), "wb") as f:
            f.write(tinyguest.ordered_bios())

    def __enter__(self):
        super().__enter__()
        if self.kind.runs:
            self.counts()
        self.image = self.path("image")
        return self

    def order(self, what):
        with open(self.ram_path(), "r+b") as f:
            f.seek(tinyguest.ORDER)
            f.write(what.to_bytes(2, "little"))

    def counter(self):
        with open(self.ram_path(), "rb") as f:
            return int.from_bytes(os.pread(f.fileno(), 4, tinyguest.COUNTER), "little")

    def counts(self):
        before = self.counter()
        self.wait(lambda: self.counter() != before, "it does not run")

    def run_state(self):
        return self.qmp.command("query-status")["status"]

    def wait_state(self, name):
        self.wait(lambda: self.run_state() == name, lambda: f"{self.run_state()}, not {name}")

    def wait(self, is_so, what):
        wait(is_so, what)


def wait(is_so, what):
    deadline = time.monotonic() + 20 * godwit.PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, what() if callable(what) else what
        time.sleep(0.01)
