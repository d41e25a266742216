#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A guest of a process of ours is sent while it writes, and every byte of it is proved where it arrives: in another process of ours, or in a QEMU.

test-guest-command.py own|7.2|10.0|11.1

GODWIT_ROUNDS: how often the guest goes back and forth between two processes (default: 6).
"""
import json
import os
import random
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
from memguest import MemGuest
from relay import Relay
from vm import Unavailable, Vm, get_qemu, skip

WORKLOADS = ["uniform", "hot", "sweep", "burst", "discard", "sparse", "told"]
WAYS = [[], ["--channels=2"], ["--channels=2", "--compression=zstd"], ["--channels=8", "--compression=zlib"]]
MIB = 1 << 20


# --- own to own -----------------------------------------------------------------------------------------------------

def moved(folder, n, *options, way=(), shared=False):
    """The guest arrived: what `check` says there, and the result of the send."""
    to = ["--shared"] if shared else []
    with MemGuest(folder, f"to{n}", "--memory=16M", *to, incoming=f"unix:{folder}/{n}") as b, \
            MemGuest(folder, f"from{n}", "--memory=16M", "--writers=2", "--rate=20000", *options) as a:
        sent = a.send(b.uri, *way).ok()
        b.wait_stdout('"event":"running"')
        checked = b.check()
        a.stop()
        b.stop()
        return checked, sent


def check_workloads(folder):
    for n, workload in enumerate(WORKLOADS):
        for report in [[], ["--report"]]:
            way = WAYS[(n + len(report)) % len(WAYS)]
            checked, _ = moved(folder, f"{n}{len(report)}", f"--workload={workload}", f"--seed={n + 1}", *report, way=way, shared=n % 2 or workload == "told")
            checked.ok()
            print(f"ok: {workload}, {' '.join(report + way) or 'noticed, plain'}", flush=True)
    checked, _ = moved(folder, "untold", "--workload=untold", shared=True)
    checked.fails(godwit.DIFFERENT, "stale")
    print("ok: what nobody told is found to be missing", flush=True)


def check_back_and_forth(folder, rounds):
    """The same guest, again and again: whoever had it last waits for it next. It never stops writing."""
    here = MemGuest(folder, "0", "--memory=16M", "--workload=burst", "--rate=30000")
    steps = 0
    try:
        for n in range(1, rounds + 1):
            there = MemGuest(folder, str(n), "--memory=16M", incoming=f"unix:{folder}/m{n}")
            here.send(there.uri, *random.choice(WAYS)).ok()
            here.stop()
            here.__exit__()
            here = there
            here.wait_stdout('"event":"running"')
            right = here.right()
            assert right["steps"] > steps, (right, steps)
            steps = right["steps"]
        here.stop()
    finally:
        here.__exit__()
    print(f"ok: {rounds} moves of one guest, {steps} steps; its longest standstill was {right['largest_gap_us'] / 1000:.0f} ms", flush=True)


def check_postcopy(folder):
    """It runs before its pages are here; a link that breaks is made anew, and what came before is not sent again."""
    for n, way in enumerate(["--postcopy=at-once", "--postcopy=after-round"]):
        with MemGuest(folder, f"late{n}", "--memory=16M", "--lazy", incoming=f"unix:{folder}/late{n}") as b, \
                MemGuest(folder, f"early{n}", "--memory=16M", "--writers=2", "--rate=20000") as a, \
                Relay(os.path.join(folder, f"relay{n}"), f"{folder}/late{n}") as relay:
            sent = {}
            sender = threading.Thread(target=lambda: sent.update(first=a.send(relay.address, way, "--max-bandwidth=4M")))
            sender.start()
            b.wait_stdout('"event":"partial"')
            relay.break_off()
            sender.join()
            answer = json.loads(sent["first"].stdout)
            assert sent["first"].status in (godwit.RECOVERABLE, godwit.IN_DOUBT) and answer["where"] in ("held", "in-doubt"), answer
            b.wait_stdout('"event":"paused"')
            answer = json.loads(a.send(b.uri, "--resume").ok().stdout)
            assert answer["where"] == "gone" and answer["postcopy"], answer
            b.wait_stdout('"event":"running"')
            b.right()
            a.stop()
            b.stop()
        print(f"ok: {way} into a process of ours, over a link that breaks, {answer['already_there']} pages were there", flush=True)


def check_refusals(folder):
    """A destination that is not there, or does not fit: the guest runs on, and goes elsewhere later."""
    with MemGuest(folder, "a", "--memory=16M", "--workload=burst") as a, \
            MemGuest(folder, "small", "--memory=8M", incoming=f"unix:{folder}/small") as small, \
            MemGuest(folder, "b", "--memory=16M", incoming=f"unix:{folder}/b") as b:
        assert a.send(f"unix:{folder}/nobody").status == godwit.FAILED
        before = a.right()["steps"]
        assert a.send(small.uri).status == godwit.FAILED
        assert small.wait().status in (godwit.FAILED, godwit.REFUSED)
        while a.right()["steps"] == before:
            time.sleep(0.01)
        a.send(b.uri).ok()
        b.wait_stdout('"event":"running"')
        b.right()
        assert a.send(b.uri).status != godwit.DONE
        a.stop()
        b.stop()
    print("ok: refused, the guest runs on, and goes elsewhere", flush=True)


# --- own to QEMU ----------------------------------------------------------------------------------------------------

def check_qemu(folder, version):
    """RAM alone, into a QEMU that waits: what pmemsave finds there is what the formula says."""
    machine = {"7.2": "pc-i440fx-7.2", "10.0": "pc-i440fx-10.0", "11.1": "pc-i440fx-11.0"}[version]
    for n, way in enumerate([[], ["--channels=2"]]):
        args = ["-machine", machine, "-m", "64", "-S", "-incoming", "defer"]
        with Vm(get_qemu(version), args, console=False) as vm, \
                MemGuest(folder, f"q{n}", "--memory=64M", "--workload=uniform", "--rate=20000", "--block=pc.ram", f"--machine={machine}",
                         "--ram-only") as a:
            if way:
                vm.qmp.command("migrate-set-capabilities", capabilities=[{"capability": "multifd", "state": True}])
                vm.qmp.command("migrate-set-parameters", **{"multifd-channels": 2})
            vm.qmp.command("migrate-incoming", uri=f"unix:{vm.path('in')}")
            a.send(f"unix:{vm.path('in')}", *way).ok()
            deadline = time.monotonic() + 30 * godwit.PATIENCE
            while vm.qmp.command("query-migrate").get("status") != "completed":
                assert time.monotonic() < deadline, vm.qmp.command("query-migrate")
                time.sleep(0.05)
            copy = vm.path("ram")
            vm.qmp.command("pmemsave", val=MIB, size=62 * MIB, filename=copy)
            assert a.right(f"--copy={copy}", f"--offset={MIB}")["pages"] == 62 * 256
            with open(copy, "r+b") as f:
                f.seek(7 * MIB + 123)
                byte = f.read(1)[0]
                f.seek(7 * MIB + 123)
                f.write(bytes([byte ^ 1]))
            a.check(f"--copy={copy}", f"--offset={MIB}").fails(godwit.DIFFERENT, "0x800000")
            a.stop()
        print(f"ok: into QEMU {version}, {' '.join(way) or 'plain'}", flush=True)


def query(vm):
    return vm.qmp.command("query-migrate").get("status")


def await_status(vm, *wanted):
    deadline = time.monotonic() + 30 * godwit.PATIENCE
    while query(vm) not in wanted:
        assert time.monotonic() < deadline, vm.qmp.command("query-migrate")
        time.sleep(0.05)


def send_with_requests(vm, a, *way):
    """Slow enough that a reader at the other end finds pages missing: it waits for the last page of the RAM, and so requests it."""
    sent = {}
    sender = threading.Thread(target=lambda: sent.update(result=a.send(f"unix:{vm.path('in')}", *way, "--max-bandwidth=16M")))
    sender.start()
    await_status(vm, "postcopy-active", "completed")
    vm.qmp.command("human-monitor-command", command_line=f"xp /1xw {64 * MIB - 4096:#x}")
    sender.join()
    assert json.loads(sent["result"].ok().stdout)["requests"] > 0, sent["result"].stdout
    return sent["result"]


def cut_and_recover(vm, a, relay_uri, n, *options):
    """The QEMU breaks its link in the middle of a post-copy that is slow; it lacks most pages then, and gets them over another one."""
    sent = {}
    sender = threading.Thread(target=lambda: sent.update(first=a.send(relay_uri, "--postcopy=at-once", "--max-bandwidth=16M", *options)))
    sender.start()
    await_status(vm, "postcopy-active")
    vm.qmp.command("human-monitor-command", command_line=f"xp /1xw {64 * MIB - 4096:#x}")      # now it has a page at least
    vm.qmp.command("migrate-pause")
    sender.join()
    await_status(vm, "postcopy-paused")
    answer = json.loads(sent["first"].stdout)
    assert sent["first"].status == godwit.RECOVERABLE and answer["where"] == "held", answer
    assert godwit.run("guest", "stop", a.control).status == godwit.REFUSED
    again = f"unix:{vm.path(f'again{n}')}"
    vm.qmp.command("migrate-recover", uri=again)
    return a.send(again, "--resume", *options)


def check_qemu_postcopy(folder, version):
    """The same by post-copy: a monitor that reads memory requests the page, and a link that breaks is made anew."""
    machine = {"7.2": "pc-i440fx-7.2", "10.0": "pc-i440fx-10.0", "11.1": "pc-i440fx-11.0"}[version]
    ways = [("--postcopy=at-once",), ("--postcopy=after-round",), ()]
    if version != "7.2":        # which wants the second connection before the stream begins
        ways += [("--postcopy=at-once", "--preempt"), ("--postcopy=after-round", "--preempt"), ("--preempt",)]
    for n, way in enumerate(ways):
        args = ["-machine", machine, "-m", "64", "-S", "-incoming", "defer"]
        with Vm(get_qemu(version), args, console=False) as vm, \
                MemGuest(folder, f"p{n}", "--memory=64M", "--workload=uniform", "--rate=20000", "--block=pc.ram", f"--machine={machine}",
                         "--ram-only") as a:
            on = ["postcopy-ram"] + ["postcopy-preempt"] * ("--preempt" in way)
            vm.qmp.command("migrate-set-capabilities", capabilities=[{"capability": c, "state": True} for c in on])
            vm.qmp.command("migrate-incoming", uri=f"unix:{vm.path('in')}")
            breaks = not any(w.startswith("--postcopy") for w in way)
            if "--postcopy=at-once" in way:
                answer = json.loads(send_with_requests(vm, a, *way).ok().stdout)
            elif not breaks:
                answer = json.loads(a.send(f"unix:{vm.path('in')}", *way).ok().stdout)
            else:
                answer = json.loads(cut_and_recover(vm, a, f"unix:{vm.path('in')}", n, *way).ok().stdout)
                assert answer["already_there"] > 0, answer
            assert answer["where"] == "gone" and answer["postcopy"], answer
            await_status(vm, "completed")
            copy = vm.path("ram")
            vm.qmp.command("pmemsave", val=MIB, size=62 * MIB, filename=copy)
            assert a.right(f"--copy={copy}", f"--offset={MIB}")["pages"] == 62 * 256
            a.stop()
        print(f"ok: into QEMU {version}, {'a link that breaks in post-copy ' * breaks}{' '.join(way)}, {answer['requests']} requests"
              + f", {answer['already_there']} pages were there" * breaks, flush=True)


def main():
    what = sys.argv[1]
    with tempfile.TemporaryDirectory(prefix="godwit-live.") as folder:
        if what != "own":
            check_qemu(folder, what)
            check_qemu_postcopy(folder, what)
            return
        check_workloads(folder)
        check_postcopy(folder)
        check_refusals(folder)
        check_back_and_forth(folder, int(os.environ.get("GODWIT_ROUNDS", "6")))


if __name__ == "__main__":
    try:
        main()
    except Unavailable as why:
        skip(why)
