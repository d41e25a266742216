#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The link between the page server and a real QEMU is cut behind every message and inside of some, in both directions: in the
handshake, in the package, in the push, at the end; and in recoveries, in the bitmaps and in RESUME_ACK, again and again. Whenever
the guest is QEMU's, it gets every byte; and when godwit says that it is not, it is not.

test-lazy-cuts.py SERVE-TOOL 7.2|10.0|11.1. Of what there is much of some places are chosen by GODWIT_SEED; GODWIT_CUTS=all walks over
all: behind each page, in the middle of each message, at each byte of a bitmap. GODWIT_ONLY: names of tests.
"""
import os
import signal
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
from cuts import ALL, CRASHES, PAGES, SEED, Lab, chosen, end, listen, places, recovery_places, settled, some
from saved_guest import status
from qmp import QmpClosed, QmpTimeout
from vm import Unavailable, skip

STUCK_S = 5             # a main thread that waits for a page before RUN answers no more (postcopy.md, 3.4)
LATE = 6                # cuts of a first connection whose guest runs
RECOVERY_BYTES = 20000  # how far the recovery may come that is cut again and again
BREAK_BYTES = 200000    # behind devices that were loaded meanwhile


def has_guest(vm):
    """Whether this QEMU runs the guest or would. None: it does not say, and cannot."""
    try:
        state = vm.qmp.command("query-status", timeout=STUCK_S * godwit.PATIENCE)["status"]
        return state != "inmigrate" and status(vm).startswith(("postcopy", "completed"))
    except (QmpClosed, BrokenPipeError):
        return False
    except QmpTimeout:
        return None


def first_connection(lab):
    """The working set's beginning goes out before the guest runs."""
    ws = f"ws={lab.working_set}"
    with lab.destination() as vm:
        said, messages = lab.serve(listen(vm), ws)
        assert said["state"] == "completed", said
        lab.has_everything(vm)
    assert int(said["working_set_pages"]) > 10, said
    pages = [end(m) for m in messages if m["message"] in PAGES]
    late = chosen(pages[len(pages) // 2:-len(pages) // 10], LATE)   # the guest runs by then, however slow the machine is, and is not whole
    cuts = [f"{d}:{n}" for d in ("forward", "return") for n in sorted({*places(messages, d), *(late if d == "forward" else ())})]
    recovered = lost = 0
    for cut in cuts:
        with lab.destination() as vm:
            said, _ = lab.serve(listen(vm), ws, cut=cut)
            if not has_guest(vm):
                assert said["recoverable"] == "1" or said["state"] == "failed", f"{cut}: {said}"
                lost += 1
                continue
            assert said["recoverable"] == "1" or said["state"] == "completed", f"{cut}: it has the guest, and we said {said}"
            if settled(vm) == "postcopy-paused":
                again = lab.new_uri()
                vm.qmp.command("migrate-recover", uri=again)
                said, _ = lab.serve(again, "resume", ws)
                assert said["state"] == "completed", f"{cut}: {said}"
                recovered += 1
            lab.has_everything(vm)
    print(f"  first connection: {len(cuts)} cuts, {recovered} recovered, {lost} before the guest was there", flush=True)
    assert recovered >= LATE and lost > 10


def begin_broken(lab, vm):
    said, messages = lab.serve(listen(vm), "rate=1000000", cut=f"forward:{BREAK_BYTES}")
    assert said["recoverable"] == "1", said
    return messages


def recover(lab, vm, cut=None):
    settled(vm)
    uri = lab.new_uri()
    vm.qmp.command("migrate-recover", uri=uri)
    said, messages = lab.serve(uri, "resume", cut=cut)
    assert said["recoverable"] == "1" if cut else said["state"] == "completed", f"{cut}: {said}"
    return messages


def places_in_recovery(lab, vm):
    """Of this destination, whose recovery is cut for it."""
    return recovery_places(recover(lab, vm, cut=f"forward:{RECOVERY_BYTES}"), RECOVERY_BYTES)


def recoveries(lab):
    """One destination bears them all: each cut is one in the recovery from the cut before."""
    with lab.destination() as vm:
        begin_broken(lab, vm)
        found, resume = places_in_recovery(lab, vm)
        cuts = [f"{d}:{n}" for d, n in found if lab.version not in CRASHES or d == "forward" and n >= resume]
        for cut in cuts:
            recover(lab, vm, cut)
        recover(lab, vm)
        lab.has_everything(vm)
    print(f"  recoveries: {len(cuts)} cuts{', none before RESUME' if lab.version in CRASHES else ''}", flush=True)


def each_page(lab):
    """The link is cut behind each page, in the recovery from the cut behind the one before."""
    with lab.destination() as vm:
        _, messages = lab.serve(listen(vm))
    pages = [m for m in messages if m["message"] in PAGES]
    with lab.destination() as vm:
        passed = {(m["block"], m["start"]) for m in begin_broken(lab, vm) if m["message"] in PAGES and end(m) <= BREAK_BYTES}
        rest = [m for m in pages if (m["block"], m["start"]) not in passed]
        rest = rest[:-1] if ALL else rest[:10]
        for m in rest:
            messages = recover(lab, vm, cut=f"--cut-at=forward:{m['message'].lower()}")
            assert [p["start"] for p in messages if p["message"] in PAGES] == [m["start"]], messages
        recover(lab, vm)
        lab.has_everything(vm)
    print(f"  pages: {len(rest)} cuts", flush=True)


def crashes(lab):
    """QEMU 7.2 before RESUME: it dies of a segmentation fault, or it lives and is recovered. There is nothing between."""
    if lab.version not in CRASHES:
        return
    with lab.destination() as vm:
        begin_broken(lab, vm)
        found, resume = places_in_recovery(lab, vm)
    cuts = some([f"{d}:{n}" for d, n in found if d == "return" or n < resume], 3)
    dead = 0
    for cut in cuts:
        with lab.destination() as vm:
            begin_broken(lab, vm)
            recover(lab, vm, cut)
            try:
                settled(vm)
            except (QmpClosed, BrokenPipeError):
                code = vm.process.wait(30 * godwit.PATIENCE)
                assert code == -signal.SIGSEGV, f"{cut}: {code}: {vm.stderr()}"
                dead += 1
                continue
            recover(lab, vm)
            lab.has_everything(vm)
    print(f"  in the handshake of a recovery: {len(cuts)} cuts, of {dead} QEMU {lab.version} died by SIGSEGV in postcopy-recover", flush=True)


def main():
    tool, version = sys.argv[1:]
    wanted = os.environ.get("GODWIT_ONLY", "").split(",")
    try:
        with tempfile.TemporaryDirectory(prefix="godwit-cuts.") as folder:
            lab = Lab(tool, version, folder)
            lab.learn()
            print(f"  seed {SEED}{', all' if ALL else ''}", flush=True)
            for test in (recoveries, crashes, each_page, first_connection):
                if wanted == [""] or test.__name__ in wanted:
                    test(lab)
    except Unavailable as e:
        skip(str(e))


if __name__ == "__main__":
    main()
