# SPDX-License-Identifier: MIT
"""A small guest in an image, destinations for it, and the places at which the link to them can be cut."""
import os
import random
import subprocess
import time
from dataclasses import replace

import godwit
import images
import tinyguest
from saved_guest import status, wait_status
from capture_guests import KINDS, KindVm, migrate

KIND = replace(KINDS["plain"], backend="memfd")
PAGE = 4096
ALL = os.environ.get("GODWIT_CUTS") == "all"
SEED = int(os.environ.get("GODWIT_SEED", "4"))
FEW = 20 if ALL else 3  # of pages, where not each is walked behind
CRASHES = ("7.2",)      # of every link that ends before RESUME (postcopy.md, 6.4)
PAGES = ("PAGE", "ZERO")


class Lab:
    """An image of a small guest, and what is needed to give it to destinations."""

    def __init__(self, tool, version, folder):
        self.tool, self.version, self.folder = tool, version, folder
        self.image, self.working_set, self.n = os.path.join(folder, "image"), os.path.join(folder, "working-set"), 0
        with KindVm(version, KIND) as vm:
            vm.ready()
            with open(vm.ram_path(), "r+b") as f:   # what the guest is going to touch costs a page each, and is not brought in passing
                f.seek(tinyguest.FIRST * PAGE)
                f.write(b"".join(bytes([n]) * PAGE for n in range(1, tinyguest.PAGES + 1)))
            self.ram, self.others = vm.main_ram(), vm.other_blocks()
            with godwit.Run("receive", self.new_uri(), self.image, "--json") as r:
                uri = r.wait_stdout('"uri":"(unix:[^"]*)"')[1]
                migrate(vm, KIND, uri)
                r.wait().ok()

    def new_uri(self):
        self.n += 1
        return f"unix:{self.folder}/{self.n}"

    def destination(self, *args):
        vm = KindVm(self.version, KIND, incoming="defer", args=["-S", *args])
        vm.uri = self.new_uri()
        return vm

    def learn(self):
        """What a guest asks for goes first from now on."""
        with self.destination() as vm:
            uri = listen(vm)
            with subprocess.Popen([self.tool, self.image, uri, f"ws={self.working_set}", "rate=1000000"], stdout=subprocess.DEVNULL) as served:
                try:
                    vm.qmp.cont()
                    assert served.wait(60 * godwit.PATIENCE) == 0
                finally:
                    served.kill()
        assert os.path.getsize(self.working_set) > 0

    def serve(self, uri, *options, cut=None):
        """Through a proxy; cut: "forward:1234" or "--cut-at=...". (serve-tool's words, messages that passed)"""
        at = self.new_uri()
        with proxy(at, uri, cut) as p:
            done = subprocess.run([self.tool, self.image, at, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                  timeout=90 * godwit.PATIENCE, check=False)
            passed = messages(p)
        values = dict(line.split("=", 1) for line in done.stdout.splitlines())
        assert done.returncode == 0 or done.stderr, values
        return {**values, "said": done.stderr}, passed

    def has_everything(self, vm):
        wait_status(vm, "completed")
        images.same_bytes("m0", vm.main_ram(), self.ram)
        others = dict(vm.other_blocks())
        for name, want in self.others:
            images.same_bytes(name, others[name], want)


def listen(vm, *capabilities):
    vm.qmp.command("migrate-set-capabilities", capabilities=[{"capability": c, "state": True} for c in ("postcopy-ram", *capabilities)])
    vm.qmp.command("migrate-incoming", uri=vm.uri)
    return vm.uri


def settled(vm):
    """Until it knows of the break."""
    deadline = time.monotonic() + 30 * godwit.PATIENCE
    while (now := status(vm)) not in ("postcopy-paused", "completed"):
        assert time.monotonic() < deadline, now
        time.sleep(0.01)
    return now


# --- the link ---

def proxy(at, uri, cut=None):
    """Waits at `at`; cut: "forward:1234" or "--cut-at=..."."""
    how = [] if not cut else [cut] if cut.startswith("--") else [f"--cut-after={cut}"]
    p = godwit.Run("proxy", at, uri, "--json", "-v", *how)
    p.wait_stdout('"listening"')
    return p


def messages(p):
    """What passed, once it is over."""
    return [e for e in p.wait().events if e["event"] == "message" and e["direction"]]


# --- places ---

def some(places, n):
    """All of them in the whole walk, else as many, the same ones for the same seed."""
    return sorted(set(places)) if ALL else chosen(places, n)


def chosen(places, n):
    places = sorted(set(places))
    return random.Random(SEED).sample(places, min(n, len(places)))


def end(m):
    return m["offset"] + m["bytes"]


def inside_bitmap(m):
    """Its head, its size, its end mark, and the bits between."""
    size = m["offset"] + 4 + 1 + len(m["block"])
    return {m["offset"] + 2, m["offset"] + 6, size + 4, end(m) - 8, *some(range(size + 8, end(m) - 8), 1), end(m) - 4, end(m) - 1}


def places(messages, direction):
    """Behind each message but pages, and in the middle of each; inside bitmaps, devices and some pages."""
    mine = [m for m in messages if m["direction"] == direction and m["bytes"]]
    few = [m for m in mine if m["message"] not in (*PAGES, "DEVICE")]
    found = {end(m) for m in few}
    found.update(some((m["offset"] + m["bytes"] // 2 for m in few if m["bytes"] > 1), 4))
    found.update(some((end(m) for m in mine if m["message"] == "DEVICE"), 2))
    pages = [m for m in mine if m["message"] in PAGES]
    for kind in PAGES:
        found.update(chosen((end(m) for m in pages if m["message"] == kind), FEW))
    found.update(chosen((m["offset"] + m["bytes"] // 2 for m in pages if m["message"] == "PAGE"), FEW))
    for m in mine:
        if m["message"] == "RECV_BITMAP" and direction == "return":
            found |= inside_bitmap(m)
        if m["message"] == "PACKAGED":
            found.update((end(m) + 3, end(m) + m["length"] // 2, end(m) + m["length"] - 1))
    return sorted(found)


def recovery_places(messages, most):
    """Those inside the beginning of a recovery of which as much as this may pass, and where RESUME ends."""
    resume = next(end(m) for m in messages if m["message"] == "POSTCOPY_RESUME")
    return [(d, n) for d in ("forward", "return") for n in places(messages, d) if n < most or d == "return"], resume
