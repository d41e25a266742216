#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""godwit proxy between two real QEMUs: every kind of migration goes through, all of it is explained, the guest goes on; cuts fall where
they are to, and a recovery goes through as well.

test-proxy.py 7.2|10.0|11.1. GODWIT_ONLY: names of tests.
"""
import os
import socket
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
import linuxguest
from linuxguest import MIB, LinuxGuest, check_memory
from lost_pages import unless_lost
from proxy_run import Proxy, tapped
from qmp import OpenMonitor
from vm import Unavailable, skip

VERSION = sys.argv[1]
OLD = VERSION == "7.2"      # no SWITCHOVER_START
KEY = "qemu:0123456789abcdef0123456789abcdef"
# A guest that waits for a page has not been stopped: its clock goes on.
linuxguest.LONGEST_TICK_S = 180


def guest(*args, **keywords):
    return LinuxGuest(VERSION, backend="memfd", args=args, **keywords)


def set_up(vm, capabilities=(), **parameters):
    """Exactly these capabilities of those that tests use."""
    known = {"return-path", "multifd", "postcopy-ram", "postcopy-preempt"}
    vm.qmp.command("migrate-set-capabilities",
                   capabilities=[{"capability": c, "state": c in capabilities} for c in sorted(known, key=lambda c: c in capabilities)])
    vm.qmp.command("migrate-set-parameters", **{"max_bandwidth": 1 << 40, "max_postcopy_bandwidth": 0, **parameters})


def status(vm):
    return vm.qmp.command("query-migrate").get("status", "none")


def wait_status(vm, *wanted, proxy=""):
    deadline = time.monotonic() + 60 * godwit.PATIENCE
    while (now := status(vm)) not in wanted:
        assert time.monotonic() < deadline, f"{now}, {wanted} expected; {vm.stderr()}\n{proxy}"
        time.sleep(0.01)
    return now


def listen(vm, transport="unix"):
    """Where this destination waits."""
    if transport == "unix":
        vm.qmp.command("migrate-incoming", uri=f"unix:{vm.path('in')}")
        return f"unix:{vm.path('in')}"
    vm.qmp.command("migrate-incoming", uri="tcp:127.0.0.1:0")
    return "tcp:127.0.0.1:" + vm.qmp.command("query-migrate")["socket-address"][0]["port"]


def goes_on(vm):
    """The guest runs here, and its memory is right."""
    vm.keeps_ticking()
    vm.qmp.command("stop")
    check_memory(vm.ram_path())


def run_again(source):
    """The source has given its guest away; for the next test it takes it back as it was."""
    source.qmp.command("cont")
    source.keeps_ticking()


class Migration:
    """with Migration(source, capabilities, options of the proxy) as m: m.dst, m.proxy."""

    def __init__(self, source, capabilities, *options, transport="unix", args=(), listen_at=None, before=None, **parameters):
        self.source, self.capabilities, self.options, self.transport = source, capabilities, options, transport
        self.parameters, self.listen_at, self.before = parameters, listen_at, before
        self.dst = guest(*args, "-qmp", "unix:{dir}/open,server=on,wait=off", incoming="defer")
        self.proxy = self.monitor = None

    def __enter__(self):
        self.dst.__enter__()
        try:
            self.monitor = OpenMonitor(self.dst.path("open"))
            for vm in (self.source, self.dst):
                set_up(vm, self.capabilities, **self.parameters)
            self.proxy = Proxy(listen(self.dst, self.transport), *self.options, listen=self.listen_at)
            self.proxy.__enter__()
            if self.before:
                self.before(self.proxy)
            self.source.qmp.migrate(self.proxy.uri)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.proxy:
            self.proxy.__exit__()
        if self.monitor:
            self.monitor.close()
        self.dst.__exit__()

    def completes(self):
        wait_status(self.source, "completed", "failed", proxy=self.proxy)
        assert status(self.source) == "completed", self.proxy.wait()
        wait_status(self.dst, "completed", proxy=self.proxy)

    def arrived(self, outcome="arrived"):
        self.proxy.wait().result.ok()
        assert self.proxy.outcome == outcome, self.proxy
        self.proxy.is_explained()
        goes_on(self.dst)

    def postcopy(self):
        """Once the first pages have gone."""
        try:
            self.proxy.wait_said('"message":"PAGES"')
        except AssertionError as e:
            raise AssertionError(f"{status(self.source)} at the source, {status(self.dst)} at the destination; {self.dst.stderr()}\n{e}") from e
        self.source.qmp.command("migrate-start-postcopy")

    def order(self, *names, **wanted):
        """These messages come in this order."""
        said = [e["message"] for e in self.proxy.messages(**wanted)]
        at = -1
        for name in names:
            assert name in said[at + 1:], f"{name} does not follow {said[:at + 1]}\n{self.proxy}"
            at = said.index(name, at + 1)


def plain(source):
    with Migration(source, [], transport="tcp", listen_at="tcp:127.0.0.1:0") as m:
        m.completes()
        m.arrived("unconfirmed")
        m.order("CONFIGURATION", "START", "BLOCKS", "FOOTER", "PAGES", *([] if OLD else ["SWITCHOVER_START"]), "END", "DEVICE", "EOF",
                "DESCRIPTION", channel="main", direction="forward")
        assert not m.proxy.messages(direction="return", channel="main")[:-1]        # CLOSED
        assert len(m.proxy.messages("DEVICE")) == m.proxy.said("DESCRIPTION")["devices"]
    run_again(source)


def return_path(source):
    with Migration(source, ["return-path"]) as m:
        m.completes()
        m.arrived()
        m.order("OPEN_RETURN_PATH", "PING", "START", channel="main", direction="forward")
        m.order("PONG", "SHUT", channel="main", direction="return")
    run_again(source)


STRANGERS = 50


def strangers(source):
    """Who connects and says nothing is no source: a destination that heard of it would end, or stand still. It keeps no proxy waiting either."""
    held = []

    def knock(proxy):
        for _ in range(STRANGERS + 1):
            held.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            held[-1].connect(proxy.uri[5:])
        held.pop().close()
        proxy.wait_said('"message":"REFUSED"')

    for capabilities in (["return-path"], PREEMPT):
        with Migration(source, capabilities, before=knock) as m:
            if capabilities == PREEMPT:
                m.postcopy()
            m.completes()
            m.arrived()
            ended = m.proxy.result.event("ended")
            assert (ended["connections"], ended["strangers"]) == (len(capabilities), STRANGERS + 1), ended
        while held:
            held.pop().close()
        run_again(source)


def multifd(source, method="none"):
    with Migration(source, ["multifd", "return-path"], multifd_channels=4, multifd_compression=method) as m:
        m.completes()
        m.arrived()
        channels = sorted(c["channel"] for c in m.proxy.channels().values())
        assert channels == ["main", "multifd0", "multifd1", "multifd2", "multifd3"], channels
        packets = m.proxy.messages("PACKET")
        assert {e["compression"] for e in packets if e["length"]} == {method}, packets[0]
        assert len(packets) + len(m.proxy.messages("SYNC")) == sum(c["packets"] for c in m.proxy.channels().values())
        assert OLD or m.proxy.messages("MULTIFD_FLUSH")
    run_again(source)


def zstd(source):
    multifd(source, "zstd")


PREEMPT = ["postcopy-ram", "postcopy-preempt"]


def preempt(source):
    with Migration(source, PREEMPT, max_bandwidth=60 * MIB, max_postcopy_bandwidth=20 * MIB) as m:
        m.postcopy()
        m.completes()
        m.arrived()
        m.order("POSTCOPY_ADVISE", "BLOCKS", "PAGES", "POSTCOPY_RAM_DISCARD", "PACKAGED", "POSTCOPY_LISTEN", "DEVICE", "POSTCOPY_RUN",
                "PAGES", "EOF", channel="main", direction="forward")
        m.order("REQ_PAGES_ID", "SHUT", channel="main", direction="return")
        package = m.proxy.said("PACKAGED")
        run = m.proxy.said("POSTCOPY_RUN")
        assert run["offset"] + run["bytes"] == package["offset"] + package["bytes"] + package["length"]
        asked, brought = m.proxy.messages(channel="main", direction="return"), m.proxy.channel("preempt")
        requests = {(e["block"], e["start"]) for e in asked if e["message"].startswith("REQ_PAGES")}
        assert 0 < brought["pages"] + brought["zero_pages"] <= len(requests), (brought, len(requests))
    run_again(source)


def recovery(source):
    """The network goes in the middle of post-copy, and again in the middle of the recovery, which 7.2 does not survive
    (docs/spec/postcopy.md 6.4). A source writes ten PARTs in a second; it has long switched when the thirtieth is there, and 11.1 has long
    left postcopy-device, in which it would take its guest back (3.4)."""
    cuts = ["main:forward:part:30", *([] if OLD else ["recovery:return:recv-bitmap:2"])]
    options = ["--keep", "--cut-all", *(f"--cut-at={c}" for c in cuts)]
    with Migration(source, PREEMPT, *options, max_bandwidth=20 * MIB, max_postcopy_bandwidth=20 * MIB) as m:
        m.postcopy()
        for _ in cuts:
            wait_status(m.source, "postcopy-paused", proxy=m.proxy)
            m.monitor.recover_once_paused(f"unix:{m.dst.path('in')}")   # its guest may wait for a page already
            m.source.qmp.command("migrate", uri=m.proxy.uri, resume=True)
        m.completes()
        m.proxy.stop().result.ok()
        assert m.proxy.outcome == "arrived", m.proxy
        m.proxy.is_explained(but=("INCOMPLETE",))
        assert m.proxy.result.event("ended")["cuts"] == len(cuts)
        *cut, last = [n for n, c in sorted(m.proxy.channels().items()) if c["channel"] == "recovery"]
        m.order("RECV_BITMAP", "POSTCOPY_RESUME", "PART", "PAGES", "EOF", connection=last, direction="forward")
        m.order("RECV_BITMAP", "RESUME_ACK", "SHUT", connection=last, direction="return")
        assert all(len(m.proxy.messages("RECV_BITMAP", connection=n, direction="return")) == 2 for n in cut)
        # What the destination says it has is what came.
        received = sum(e["received"] for e in m.proxy.messages("RECV_BITMAP", connection=last, direction="return"))
        pages = m.proxy.said("BLOCKS")["length"] // 4096
        later = sum(c["pages"] + c["zero_pages"] for n, c in m.proxy.channels().items() if n >= last)
        assert received + later == pages, f"{received} were there, {later} followed, of {pages}"
        goes_on(m.dst)
    run_again(source)


def cut_at_a_message(source):
    """Exactly what was explained up to the cut has arrived, and not a byte more. A destination that has got everything may run the
    guest, although the source has heard nothing of it."""
    for message in ("return:PONG", "BLOCKS", "device:3", "description"):
        with tempfile.TemporaryDirectory(prefix="godwit-tap.") as folder:
            with Migration(source, ["return-path"], f"--cut-at={message}", f"--tap={folder}") as m:
                wait_status(source, "failed", proxy=m.proxy)
                result = m.proxy.wait().result
                where = (godwit.IN_DOUBT, "in-doubt") if message == "description" else (godwit.FAILED, "source")
                assert (result.status, m.proxy.outcome) == where, result
                direction = "return" if message.startswith("return") else "forward"
                name = message.split(":")[1 if direction == "return" else 0].upper()
                last = m.proxy.messages(name, direction=direction)[-1]
                end = last["offset"] + last["bytes"]
                assert m.proxy.said("CUT", direction=direction)["offset"] == end, m.proxy
                assert len(tapped(folder, 1, "main", direction)) == end
                assert m.proxy.channel("main")[direction + "_bytes"] == end
            deadline = time.monotonic() + 30 * godwit.PATIENCE
            while not source.qmp.command("query-status")["running"]:
                if OLD and source.qmp.command("query-status")["status"] == "postmigrate":
                    source.qmp.command("cont")
                assert time.monotonic() < deadline
                time.sleep(0.01)
            source.keeps_ticking(1)


def encrypted(source):
    """TLS goes through unread: nobody can tell where the guest is, and the proxy says so."""
    secret = ["-object", f"tls-creds-psk,id=tls0,dir={source.dir},endpoint=server"]
    with Migration(source, ["return-path"], transport="tcp", args=secret, tls_creds="tls0") as m:
        m.completes()
        result = m.proxy.wait().result
        assert result.status == godwit.IN_DOUBT and m.proxy.outcome == "in-doubt", result
        assert "TLS" in m.proxy.said("UNINTERPRETED")["text"]
        assert m.proxy.channel("tls")["forward_bytes"] > 10 * MIB
        goes_on(m.dst)


def from_one_source(keys):
    tests = [cut_at_a_message, plain, return_path, strangers, multifd, zstd, preempt, recovery, encrypted]
    wanted = os.environ.get("GODWIT_ONLY", "").split(",")
    with guest("-object", f"tls-creds-psk,id=tls0,dir={keys},endpoint=client") as source:
        with open(source.path("keys.psk"), "w", encoding="ascii") as f:
            f.write(KEY + "\n")
        source.booted()
        for test in tests:
            if wanted == [""] or test.__name__ in wanted:
                print(f"  {VERSION}: {test.__name__}", flush=True)
                test(source)


def main():
    try:
        with tempfile.TemporaryDirectory(prefix="godwit-keys.") as keys:
            with open(os.path.join(keys, "keys.psk"), "w", encoding="ascii") as f:
                f.write(KEY + "\n")
            unless_lost(VERSION, from_one_source, keys)
    except Unavailable as e:
        skip(str(e))


if __name__ == "__main__":
    main()
