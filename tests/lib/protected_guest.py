# SPDX-License-Identifier: MIT
"""A running guest that must survive what is done to godwit, and an image that must too.

The guest is the loop of tinyguest.py in a memory full of noise, so that a save takes a while; a counter in its memory
tells from outside that it runs.
"""
import functools
import os
import random
import time

import godwit
import images
from capture_guests import Kind, KindVm

MIB = 1 << 20
NOISE_FROM = 4 * MIB                # above what the loop writes
COUNTER = 0x10000
SETTLED_S = 10                      # "within some seconds"


@functools.cache
def noise(size):
    return random.Random(1).randbytes(size)


class Victim(KindVm):
    """version: of QEMU. The folder images/ holds an old image, which is not an image but a text."""

    def __init__(self, version, ram=32 * MIB, args=(), **keywords):
        kind = Kind(ram=ram, runs=True, backend=keywords.pop("backend", "file"), spins=keywords.pop("spins", False))
        super().__init__(version, kind, args=args, **keywords)
        self.folder = self.path("images")
        self.image = os.path.join(self.folder, "image")

    def __enter__(self):
        super().__enter__()
        os.mkdir(self.folder)
        self.put_old_image()
        if not self.incoming:
            self.fill()
            self.change_settings()
            self.before = self.state()
        return self

    def fill(self):
        with open(self.ram_path(), "r+b") as f:
            f.seek(NOISE_FROM)
            f.write(noise(self.kind.ram - NOISE_FROM))

    def put_old_image(self):
        with open(self.image, "wb") as f:
            f.write(images.earlier_bytes(5000))

    def change_settings(self):
        """Not the defaults, so that putting them back can be seen."""
        self.qmp.command("migrate-set-capabilities", capabilities=[
            {"capability": "xbzrle", "state": True}, {"capability": "events", "state": True}])
        self.qmp.command("migrate-set-parameters", max_bandwidth=7 * MIB, downtime_limit=123)

    def counter(self):
        with open(self.ram_path(), "rb") as f:
            return int.from_bytes(os.pread(f.fileno(), 4, COUNTER), "little")

    def counts(self):
        """It runs: seen in its memory, not only said by QEMU."""
        before, deadline = self.counter(), time.monotonic() + SETTLED_S * godwit.PATIENCE
        while self.counter() == before:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def moved(self):
        """Bytes of the migration that is under way."""
        return self.qmp.command("query-migrate").get("ram", {}).get("transferred", 0)

    def wait_moving(self, more_than=0):
        """Until that many bytes of a migration that has just been started are sent."""
        before = self.moved()       # of an earlier one, and QEMU says them for a while
        deadline = time.monotonic() + 20 * godwit.PATIENCE
        while True:
            moved = self.moved()
            active = self.qmp.command("query-migrate").get("status") in ("active", "device")
            if active and more_than < moved != before:
                return
            assert time.monotonic() < deadline, self.qmp.command("query-migrate")
            time.sleep(0.005)

    def wait_as_before(self, changed=()):
        """Run state and settings are those of the beginning, soon. `changed`: keys the test itself has changed."""
        want = {k: v for k, v in self.before.items() if k not in changed}
        deadline = time.monotonic() + SETTLED_S * godwit.PATIENCE
        while True:
            now = {k: v for k, v in self.state().items() if k in want}
            if now == want:
                break
            assert time.monotonic() < deadline, f"not as before: {difference(want, now)}"
            time.sleep(0.05)
        if "run" not in changed and self.before["run"] == "running":
            assert self.counts(), "QEMU says that it runs, its memory does not"

    def unharmed(self):
        """The guest runs, all is set as before, the old image is as it was and alone in its folder."""
        self.wait_as_before()
        self.image_untouched()

    def is_kept(self):
        with open(self.image, "rb") as f:
            return f.read(4) == b"QEVM"

    def unharmed_unless_kept(self, stopped=False):
        """For a moment that is not known: the save may just have been complete. Then the new image is whole, and a guest that was to be
        `stopped` is stopped, or runs if QEMU had not been told."""
        if stopped and self.is_kept():
            self.wait_as_before(changed=["run"])
            self.qmp.cont()
        self.wait_as_before()
        if not self.is_kept():
            return self.image_untouched()
        godwit.run("verify", self.image).ok()
        images.is_tidy(self.folder, "image")
        return self.put_old_image()

    def image_untouched(self):
        images.is_tidy(self.folder, "image")
        with open(self.image, "rb") as f:
            assert f.read() == images.earlier_bytes(5000), "the old image has changed"

    def can_be_saved(self):
        """And a save from it works: nothing of the accident is left."""
        image = self.path("afterwards")
        godwit.run("save", self.monitor, image).ok()
        godwit.run("verify", image).ok()
        os.unlink(image)
        self.wait_as_before()


def difference(want, got):
    """Only what differs, for a message."""
    out = []
    for key in want:
        if isinstance(want[key], dict):
            out += [f"{key} {k}: {got[key].get(k)}, before {v}" for k, v in want[key].items() if got[key].get(k) != v]
        elif want[key] != got[key]:
            out.append(f"{key}: {got[key]}, before {want[key]}")
    return "; ".join(out)
