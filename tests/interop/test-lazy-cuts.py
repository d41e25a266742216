#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The link between the page server and a real QEMU is cut behind every message and inside of some, in both directions: in the
handshake, in the package, in the push, at the end; and in recoveries, in the bitmaps and in RESUME_ACK, again and again. Whenever
the guest is QEMU's, it gets every byte; and when godwit says that it is not, it is not.

test-lazy-cuts.py SERVE-TOOL 7.2|10.0|11.1
"""
import os
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
import images
from dataclasses import replace
from kinds import KINDS, KindVm, migrate
from kept import status, wait_status
from qmp import QmpClosed, QmpTimeout
from vm import Unavailable, skip

KIND = replace(KINDS["plain"], backend="memfd")
STUCK_S = 5             # a main thread that waits for a page before RUN answers no more (postcopy.md, 3.4)
CRASHES = ("7.2",)      # of every link that ends before RESUME (postcopy.md, 6.4)
PIECES = 4              # of one run of pages
RECOVERY_BYTES = 20000  # how far the recovery may come that is cut again and again


class Lab:
    """An image of a small guest, and what is needed to give it to destinations."""

    def __init__(self, tool, version, folder):
        self.tool, self.version, self.folder = tool, version, folder
        self.image, self.n = os.path.join(folder, "image"), 0
        with KindVm(version, KIND) as vm:
            vm.ready()
            self.ram, self.others = vm.main_ram(), vm.other_blocks()
            with godwit.Run("receive", self.new_uri(), self.image, "--json") as r:
                uri = r.wait_stdout('"uri":"(unix:[^"]*)"')[1]
                migrate(vm, KIND, uri)
                r.wait().ok()

    def new_uri(self):
        self.n += 1
        return f"unix:{self.folder}/{self.n}"

    def destination(self):
        vm = KindVm(self.version, KIND, incoming="defer", args=["-S"])
        vm.uri = self.new_uri()
        return vm

    def serve(self, uri, *options, cut=None):
        """Through a proxy. (serve-tool's words, messages that passed)"""
        at = self.new_uri()
        with godwit.Run("proxy", at, uri, "--json", *([f"--cut-after={cut}"] if cut else [])) as p:
            p.wait_stdout('"listening"')
            done = subprocess.run([self.tool, self.image, at, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                  timeout=90 * godwit.PATIENCE, check=False)
            passed = [e for e in p.wait().events if e["event"] == "message" and e["direction"]]
        values = dict(line.split("=", 1) for line in done.stdout.splitlines())
        assert done.returncode == 0 or done.stderr, values
        return {**values, "said": done.stderr}, passed

    def has_everything(self, vm):
        wait_status(vm, "completed")
        images.same_bytes("m0", vm.main_ram(), self.ram)
        others = dict(vm.other_blocks())
        for name, want in self.others:
            images.same_bytes(name, others[name], want)


def listen(vm):
    vm.qmp.command("migrate-set-capabilities", capabilities=[{"capability": "postcopy-ram", "state": True}])
    vm.qmp.command("migrate-incoming", uri=vm.uri)
    return vm.uri


def places(messages, direction):
    """Behind each message, and inside of those that are long: runs of pages, bitmaps, the package."""
    found = set()
    for m in messages:
        if m["direction"] != direction or m["message"] == "DEVICE":
            continue
        begin, end = m["offset"], m["offset"] + m["bytes"]
        found.add(end)
        if m["message"] == "PAGES":
            found.update(begin + (end - begin) * i // PIECES + 3 for i in range(1, PIECES))
        if m["message"] == "RECV_BITMAP" and direction == "return":
            found.update((begin + 2, begin + 6, end - 8 - 4, end - 8, end - 1))
        if m["message"] == "PACKAGED":
            found.update((end + 3, end + m["length"] // 2, end + m["length"] - 1))
    return sorted(found)


def has_guest(vm):
    """Whether this QEMU runs the guest or would. None: it does not say, and cannot."""
    try:
        state = vm.qmp.command("query-status", timeout=STUCK_S * godwit.PATIENCE)["status"]
        return state != "inmigrate" and status(vm).startswith(("postcopy", "completed"))
    except (QmpClosed, BrokenPipeError):
        return False
    except QmpTimeout:
        return None


def settled(vm):
    """Until it knows of the break."""
    deadline = time.monotonic() + 30 * godwit.PATIENCE
    while (now := status(vm)) not in ("postcopy-paused", "completed"):
        assert time.monotonic() < deadline, now
        time.sleep(0.01)
    return now


def first_connection(lab):
    with lab.destination() as vm:
        said, messages = lab.serve(listen(vm))
        assert said["state"] == "completed", said
        lab.has_everything(vm)
    cuts = [f"{d}:{n}" for d in ("forward", "return") for n in places(messages, d)]
    recovered = lost = 0
    for cut in cuts:
        with lab.destination() as vm:
            said, _ = lab.serve(listen(vm), cut=cut)
            it_has = has_guest(vm)
            if not it_has:
                assert said["recoverable"] == "1" or said["state"] == "failed", f"{cut}: {said}"
                lost += 1
                continue
            assert said["recoverable"] == "1" or said["state"] == "completed", f"{cut}: it has the guest, and we said {said}"
            if settled(vm) == "postcopy-paused":
                again = lab.new_uri()
                vm.qmp.command("migrate-recover", uri=again)
                said, _ = lab.serve(again, "resume")
                assert said["state"] == "completed", f"{cut}: {said}"
                recovered += 1
            lab.has_everything(vm)
    print(f"  first connection: {len(cuts)} cuts, {recovered} recovered, {lost} before the guest was there", flush=True)
    assert recovered > 5 and lost > 10


def recover(lab, vm, cut=None):
    settled(vm)
    uri = lab.new_uri()
    vm.qmp.command("migrate-recover", uri=uri)
    said, messages = lab.serve(uri, "resume", cut=cut)
    assert said["recoverable"] == "1" if cut else said["state"] == "completed", f"{cut}: {said}"
    return messages


def recoveries(lab):
    """One destination bears them all."""
    with lab.destination() as vm:
        said, _ = lab.serve(listen(vm), "rate=1000000", cut="forward:200000")
        assert said["recoverable"] == "1", said
        messages = recover(lab, vm, cut=f"forward:{RECOVERY_BYTES}")
        resume = next(m["offset"] + m["bytes"] for m in messages if m["message"] == "POSTCOPY_RESUME")
        cuts = [f"{d}:{n}" for d in ("forward", "return") for n in places(messages, d)
                if n < RECOVERY_BYTES and (lab.version not in CRASHES or d == "forward" and n >= resume)]
        for cut in cuts:
            recover(lab, vm, cut)
        recover(lab, vm)
        lab.has_everything(vm)
    print(f"  recoveries: {len(cuts)} cuts{', none before RESUME' if lab.version in CRASHES else ''}", flush=True)


def main():
    tool, version = sys.argv[1:]
    try:
        with tempfile.TemporaryDirectory(prefix="godwit-cuts.") as folder:
            lab = Lab(tool, version, folder)
            recoveries(lab)
            first_connection(lab)
    except Unavailable as e:
        skip(str(e))


if __name__ == "__main__":
    main()
