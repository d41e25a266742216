# SPDX-License-Identifier: MIT
"""A QEMU source that switches to post-copy towards godwit receive, and comes back after every break."""
import os
import time

import godwit

MIB = 1 << 20


def status(vm):
    return vm.qmp.command("query-migrate").get("status", "")


def wait_status(vm, *wanted, timeout=30):
    deadline = time.monotonic() + timeout * godwit.PATIENCE
    while (now := status(vm)) not in wanted:
        assert time.monotonic() < deadline, f"{now}, {' or '.join(wanted)} expected: {vm.qmp.command('query-migrate')}"
        time.sleep(0.01)
    return now


def migrate(vm, uri, *capabilities, bandwidth=1 << 40, postcopy_bandwidth=0, first_bytes=0):
    """Send, and switch once so many bytes went the pre-copy way."""
    on = {"postcopy-ram", *capabilities}
    vm.qmp.command("migrate-set-capabilities", capabilities=[{"capability": c, "state": True} for c in on])
    vm.qmp.command("migrate-set-parameters", max_bandwidth=bandwidth, max_postcopy_bandwidth=postcopy_bandwidth)
    before = vm.qmp.command("query-migrate").get("ram", {}).get("transferred", 0)     # of an earlier one
    vm.qmp.migrate(uri)
    deadline = time.monotonic() + 30 * godwit.PATIENCE
    while True:
        m = vm.qmp.command("query-migrate")
        sent = m.get("ram", {}).get("transferred", 0)
        if m.get("status") == "active" and (sent > first_bytes and sent != before or not first_bytes):
            break
        assert m.get("status") != "failed" and time.monotonic() < deadline, m
        time.sleep(0.005)
    vm.qmp.command("migrate-start-postcopy")


def wait_behind_the_switch(vm):
    """Until pages go out the post-copy way. A source of 7.2 is "postcopy-active" before it is done with the switch itself, and if the
    link breaks in between it is not paused but "failed"."""
    wait_status(vm, "postcopy-active")
    deadline = time.monotonic() + 30 * godwit.PATIENCE
    while not (m := vm.qmp.command("query-migrate")).get("ram", {}).get("postcopy-bytes"):
        assert m["status"] == "postcopy-active" and time.monotonic() < deadline, m
        time.sleep(0.005)


def wait_pages_follow(vm):
    """The same, of a source whose package was taken in full, and which may be done with its pages before it counts them."""
    def sent():
        return vm.qmp.command("query-migrate")["ram"]["transferred"]
    wait_status(vm, "postcopy-active")      # 11.1 is "postcopy-device" before
    before, deadline = sent(), time.monotonic() + 30 * godwit.PATIENCE
    while sent() < before + (64 << 10) and status(vm) == "postcopy-active":
        assert time.monotonic() < deadline, before
        time.sleep(0.005)


def come_back(vm, uri):
    """What the operator types."""
    wait_status(vm, "postcopy-paused")
    vm.qmp.command("migrate", uri=uri, resume=True)


class Receiver:
    """godwit receive, resumed as often as the test wants, in a folder of its own of the VM's."""

    def __init__(self, vm, name="image"):
        self.folder = vm.path(name + ".d")
        os.makedirs(self.folder, exist_ok=True)
        self.image = os.path.join(self.folder, name)
        self.runs = 0

    def start(self, *options, **popen):
        """Returns the Run, which listens, and sets self.uri."""
        self.runs += 1
        self.uri = f"unix:{self.folder}/s{self.runs}"
        env = {**os.environ, "GODWIT_TRACE": "1"}
        run = godwit.Run("receive", self.uri, self.image, "--json", *options, env=env, **popen)
        run.wait_stdout('"listening"')
        return run

    def left(self):
        return sorted(n for n in os.listdir(self.folder) if not n.startswith("s"))
