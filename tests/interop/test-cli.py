#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""receive, send and plan beside a real QEMU that is driven by its own monitor: who runs the guest at each end.

test-cli.py GODWIT 7.2|10.0|11.1. The guest stands still or runs its firmware; save and restore have tests of their own.
"""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
from godwit import patience
from vm import Unavailable, Vm, get_qemu, skip

GODWIT, VERSION = sys.argv[1:]


def vm(qemu, ram="16M", *more):
    return Vm(qemu, ["-machine", "pc", "-m", ram, "-qmp", "unix:{dir}/qmp2,server=on,wait=off", *more], console=False)


def godwit(*args):
    """(status, stdout lines as JSON, stderr)"""
    p = subprocess.run([GODWIT, *args, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120 * patience())
    return p.returncode, [json.loads(line) for line in p.stdout.splitlines()], p.stderr


def expect(what, wanted, got, *context):
    if wanted != got:
        raise AssertionError(f"{what}: expected {wanted!r}, got {got!r}; {context}")


class Receiver:
    def __init__(self, uri, image, *options, **popen):
        self.process = subprocess.Popen([GODWIT, "receive", uri, image, "--json", *options], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, **popen)
        event = json.loads(self.process.stdout.readline())
        expect("first event", "listening", event["event"])
        self.uri = event["uri"]

    def end(self):
        out, err = self.process.communicate(timeout=60 * patience())
        return self.process.returncode, [json.loads(line) for line in out.splitlines()], err


def migrate(source, uri, **capabilities):
    if capabilities:
        source.qmp.command("migrate-set-capabilities", capabilities=[
            {"capability": name.replace("_", "-"), "state": state} for name, state in capabilities.items()])
    source.qmp.migrate(uri)


def wait_status(machine, *wanted):
    deadline = time.monotonic() + 60 * patience()
    while True:
        status = machine.qmp.command("query-migrate").get("status")
        if status in wanted:
            return status
        if time.monotonic() > deadline:
            raise AssertionError(f"migration is {status}, not {wanted}")
        time.sleep(0.02)


def test_receive(qemu, folder):
    """With and without a return path; over unix and TCP."""
    for uri, return_path in ((f"unix:{folder}/in", True), ("tcp:127.0.0.1:0", False)):
        image = os.path.join(folder, f"kept-{return_path}")
        with vm(qemu) as source:
            r = Receiver(uri, image)
            migrate(source, r.uri, return_path=return_path)
            status, events, err = r.end()
            expect("receive", 0, status, err)
            expect("event", "done", events[-1]["event"])
            expect("source was told", return_path, events[-1]["source_notified"])
            wait_status(source, "completed")
            expect("source", "postmigrate", source.qmp.command("query-status")["status"])
        expect("verify", 0, godwit("verify", image)[0])
    return image


def test_stopped_receive(qemu, folder):
    """Whoever stops godwit in the middle does not stop the guest."""
    image = os.path.join(folder, "stopped")
    with vm(qemu) as source:
        source.qmp.command("migrate-set-parameters", max_bandwidth=65536)
        said, progress = os.pipe()
        with os.fdopen(said, encoding="ascii") as lines:
            r = Receiver(f"unix:{folder}/stop", image, f"--progress={progress}", pass_fds=[progress])
            os.close(progress)
            migrate(source, r.uri, return_path=True)
            next(line for line in lines if "phase=ram" in line)     # QEMU is "active" before anybody has accepted
        r.process.send_signal(signal.SIGTERM)
        status, events, err = r.end()
        expect("receive", 1, status, err)
        expect("event", "failed", events[-1]["event"])
        assert "stopped by SIGTERM" in err and "still runs its guest" in err, err
        wait_status(source, "failed", "cancelled")
        expect("source", "running", source.qmp.command("query-status")["status"])
    assert not os.path.exists(image)


def test_send(qemu, image, folder):
    uri = f"unix:{folder}/out"
    with vm(qemu, "16M", "-incoming", uri) as destination:
        status, events, err = godwit("send", image, uri)
        expect("send", 0, status, err)
        expect("event", "done", events[-1]["event"])
        deadline = time.monotonic() + 30 * patience()
        while destination.qmp.command("query-status")["status"] == "inmigrate" and time.monotonic() < deadline:
            time.sleep(0.02)
        expect("destination", "running", destination.qmp.command("query-status")["status"])
    with vm(qemu, "32M", "-incoming", uri) as destination: # a size that does not fit: it says so, or dies of it
        status, events, err = godwit("send", image, uri)
        # A small guest may be in the sockets' buffers whole before the destination looks at its size.
        assert (status, "does not have the guest" in err) == (1, True) or (status, "everything was sent" in err) == (4, True), (status, err)
    expect("verify", 0, godwit("verify", image)[0])


def test_plan(qemu, image):
    def ask(ram, *more, options=()):
        with vm(qemu, ram, *more) as destination:
            status, events, err = godwit("plan", image, destination.path("qmp2"), *options)
            expect("lines", 1, len(events), events, err)
            return status, events[0]["way"], events[0]["why"]
    waiting = ("-incoming", "defer")
    reads = VERSION != "7.2"
    expect("plan", (0, "direct" if reads else "stream"), ask("16M", *waiting)[:2])
    expect("plan, remote", (0, "stream"), ask("16M", *waiting, options=["--remote"])[:2])
    # Memory that never migrates is no difference.
    expect("plan, spare memory", (0, "direct" if reads else "stream"),
           ask("16M", *waiting, "-object", "memory-backend-ram,id=spare,size=4M")[:2])
    status, way, why = ask("32M", *waiting)
    expect("plan, wrong size", (3, "refused"), (status, way))
    assert "pc.ram" in why and "32 MiB" in why, why
    status, way, why = ask("16M", "-S")
    expect("plan, not waiting", (3, "refused"), (status, way))
    assert "does not wait" in why, why
    status, way, why = ask("16M", *waiting, "-machine", "q35")
    expect("plan, other machine", (3, "refused"), (status, way))
    assert "q35" in why, why


def main():
    qemu = get_qemu(VERSION)
    with tempfile.TemporaryDirectory(prefix="godwit-cli.") as folder:
        image = test_receive(qemu, folder)
        test_stopped_receive(qemu, folder)
        test_send(qemu, image, folder)
        test_plan(qemu, image)


try:
    main()
except Unavailable as reason:
    skip(reason)
