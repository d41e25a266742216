#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Pages of zeros that are never sent. A guest touches new pages all the time, half of them through a device, while its destination
reads END: it goes on, and each byte is right, those that were never sent too. And a link that breaks when only zeros are missing.

test-lazy-zeros.py SERVE-TOOL 7.2|10.0|11.1. GODWIT_ROUNDS: how often END is read (default 12). GODWIT_ONLY: names of tests.
"""
import mmap
import os
import random
import struct
import sys
import tempfile
import time
from dataclasses import replace

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import cuts
import godwit
import images
import tinyguest
from cuts import NO_ZEROS, PAGE, SEED, listen, settled
from kept import wait_status
from kinds import KINDS, KindVm, migrate
from vm import Unavailable, skip

MIB = 1 << 20
KIND = replace(KINDS["plain"], backend="memfd", ram=32 * MIB)
RUNS = replace(KIND, paused=True)
ROUNDS = int(os.environ.get("GODWIT_ROUNDS", "12"))
CONTENT = range(0x20, 0xA0)     # pages; zeros are all others, but the few that the guest keeps its own things in
OWN = (8, 9)


class Toucher(KindVm):
    def __init__(self, *args, **keywords):
        super().__init__(*args, **keywords)
        with open(self.path("bios"), "wb") as f:
            f.write(tinyguest.bios(tinyguest.TOUCH))


class Lab:
    def __init__(self, version, folder):
        self.version, self.image = version, os.path.join(folder, "touched")
        with Toucher(version, KIND) as vm:
            with open(vm.ram_path(), "r+b") as f, mmap.mmap(f.fileno(), KIND.ram) as m:
                for page in CONTENT:
                    m[page * PAGE:(page + 1) * PAGE] = page.to_bytes(8, "little") * (PAGE // 8)
                self.ram = bytearray(m)
            uri = f"unix:{folder}/touched.sock"
            with godwit.Run("receive", uri, self.image, "--json") as r:
                r.wait_stdout('"uri"')
                migrate(vm, KIND, uri)
                r.wait().ok()
        for at in range(tinyguest.TOUCH_FIRST, tinyguest.TOUCH_END, 2 * PAGE):      # what the guest makes of it
            self.ram[at:at + 4] = struct.pack("<I", at + 1)
            self.ram[at + PAGE:at + PAGE + 4] = tinyguest.SIGNATURE

    def check(self, vm):
        """It has been through all of its memory, found zeros where nothing was, and left what it should."""
        deadline = time.monotonic() + 60 * godwit.PATIENCE
        while not struct.unpack_from("<I", vm.main_ram(), OWN[0] * PAGE)[0]:
            assert time.monotonic() < deadline, "the guest stands still"
            time.sleep(0.05)
        vm.qmp.command("stop")
        ram = bytearray(vm.main_ram())
        assert not struct.unpack_from("<I", ram, OWN[0] * PAGE + 8)[0], "the guest found bytes in pages of zeros"
        for page in OWN:
            ram[page * PAGE:(page + 1) * PAGE] = bytes(PAGE)
        images.same_bytes("m0", bytes(ram), bytes(self.ram))


def touched_at_the_end(folder, _, version):
    lab, rnd = Lab(version, folder), random.Random(SEED)
    left_out = 0
    for _ in range(ROUNDS):
        with Toucher(version, RUNS, incoming="defer") as vm:
            rate = rnd.randrange(4, 40)
            with godwit.Run("serve", lab.image, f"--qmp={vm.monitor}", "--json", "--working-set=off", f"--max-bandwidth={rate}M") as g:
                done = g.wait(90).ok().event("served")
            wait_status(vm, "completed")
            left_out += done["left_out_pages"]
            assert bool(done["left_out_pages"]) == (version in NO_ZEROS), done
            lab.check(vm)
    print(f"  {ROUNDS} ENDs, {left_out // ROUNDS} pages left out of {KIND.ram // PAGE}", flush=True)


def only_zeros_missing(folder, tool, version):
    """Cut just before END, where everything with content is there; in the recovery again; then it is resumed, and needs nothing."""
    if version not in NO_ZEROS:
        return
    lab = cuts.Lab(tool, version, folder)
    with lab.destination() as vm:
        whole, messages = lab.serve(listen(vm), "no-zeros")
        assert whole["state"] == "completed" and int(whole["left_out_pages"]) > 1000, whole
        lab.has_everything(vm)
    end = next(m["offset"] for m in messages if m["message"] == "END" and m["direction"] == "forward")
    with lab.destination() as vm:
        said, _ = lab.serve(listen(vm), "no-zeros", cut=f"forward:{end}")
        for again in (["--cut-at=return:resume_ack"], [None]):
            assert said["recoverable"] == "1" and settled(vm) == "postcopy-paused", said
            uri = lab.new_uri()
            vm.qmp.command("migrate-recover", uri=uri)
            said, _ = lab.serve(uri, "resume", "no-zeros", cut=again[0])
        assert said["state"] == "completed" and said["pushed_pages"] == "0", said
        assert said["left_out_pages"] == whole["left_out_pages"], (said, whole)
        lab.has_everything(vm)


def main():
    tool, version = sys.argv[1:]
    wanted = os.environ.get("GODWIT_ONLY", "").split(",")
    try:
        with tempfile.TemporaryDirectory(prefix="godwit-zeros.") as folder:
            for test in (touched_at_the_end, only_zeros_missing):
                if wanted == [""] or test.__name__ in wanted:
                    print(f"  {test.__name__}, seed {SEED}", flush=True)
                    test(folder, tool, version)
    except Unavailable as e:
        skip(str(e))


if __name__ == "__main__":
    main()
