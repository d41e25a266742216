#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Who else has a hand in a save: the user of its QEMU, who serves its monitor, who connects in its place. The guest, its settings and the old
image are as they should be.

test-save-trouble.py 7.2|10.0|11.1
"""
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
import images
from capture_guests import Kind, KindVm
from relay import Fake, Relay
from protected_guest import MIB, Victim
from vm import Unavailable, skip

SLOWLY = "--max-bandwidth=20M"      # about 1.5 s for the victim's memory
DIRECT = "--way=direct"
EVENT = b'{"event": "RTC_CHANGE", "data": {"offset": 1}, "timestamp": {"seconds": 1, "microseconds": 1}}\r\n'


def save(vm, *options, monitor=None, **popen):
    return godwit.Run("save", monitor or vm.monitor, vm.image, *options, **popen)


def kept(vm, result):
    """It is there and whole, and the guest as before."""
    result.ok()
    godwit.run("verify", vm.image).ok()
    vm.put_old_image()
    vm.wait_as_before()


def events_stay(vm):
    """libvirt needs the capability in every moment."""
    on = lambda: next(c["state"] for c in vm.qmp.command("query-migrate-capabilities") if c["capability"] == "events")
    assert on()
    with save(vm, SLOWLY) as r:
        while r.process.poll() is None:
            assert on(), "switched off during the save"
        kept(vm, r.wait())


def events_before_the_greeting(vm):
    class Eager(Relay):
        def pass_back(self, server, client):
            client.sendall(EVENT * 3)
            super().pass_back(server, client)
    path = vm.path("eager")
    with Eager(path, vm.monitor):
        kept(vm, godwit.run("save", path, vm.image))


class Served:
    """A monitor that is served by somebody who is started anew: nobody listens for a while."""

    def __init__(self, vm):
        self.vm, self.path = vm, vm.path("served")
        self.relay = Relay(self.path, vm.monitor)

    def stop(self):
        self.relay.__exit__()       # the socket goes, too
        self.relay.break_off()

    def start(self):
        self.relay = Relay(self.path, self.vm.monitor)


def monitor_starts_anew(vm, *options):
    """In the middle of a save, which outlives it; settings and guest are put back over the new one."""
    served = Served(vm)
    with save(vm, SLOWLY, *options, monitor=served.path) as r:
        vm.wait_moving(4 * MIB)
        served.stop()
        time.sleep(0.5)
        assert r.process.poll() is None, r.stderr
        served.start()
        kept(vm, r.wait())
    served.stop()


def monitor_starts_anew_at_the_end(vm, *options):
    """All has come when there is nobody to ask."""
    served = Served(vm)
    with save(vm, SLOWLY, *options, monitor=served.path) as r:
        vm.wait_moving(4 * MIB)
        served.stop()
        vm.qmp.command("migrate-set-parameters", max_bandwidth=1 << 40)     # its end comes at once
        vm.wait_run_state(("finish-migrate", "postmigrate"))
        assert r.process.poll() is None, r.stderr
        served.start()
        kept(vm, r.wait())
    served.stop()


def guard_waits_for_monitor(vm, *options):
    """Who dies together with it is put right over the next one."""
    served = Served(vm)
    with save(vm, SLOWLY, *options, monitor=served.path) as r:
        vm.wait_moving(4 * MIB)
        served.stop()
        r.kill()
        r.wait()
        time.sleep(0.5)
        served.start()
        r.wait_guard("the save was killed before it finished")
    vm.unharmed()
    served.stop()


def user_stopped_it(vm, *options):
    """In the middle of a save that is then killed: it stays stopped."""
    with save(vm, SLOWLY, *options) as r:
        vm.wait_moving(4 * MIB)
        vm.qmp.command("stop")
        r.kill()
        r.wait()
        r.wait_guard("the save was killed before it finished")
    now = vm.state()
    assert now.pop("run") in ("paused", "postmigrate" if vm.old else "paused")
    assert now == {k: v for k, v in vm.before.items() if k != "run"}, now
    before = vm.counter()
    time.sleep(0.2)
    assert vm.counter() == before, "it runs"
    vm.qmp.cont()
    vm.unharmed()


def user_let_it_run(vm):
    """The other way round."""
    if vm.old:
        return
    vm.qmp.command("stop")
    with save(vm, SLOWLY) as r:
        vm.wait_moving(4 * MIB)
        vm.qmp.cont()
        time.sleep(0.1)
        r.kill()
        r.wait()
        r.wait_guard("the save was killed before it finished")
    vm.unharmed()


def user_stops_it_for_good(vm):
    """Behind an image that QEMU writes itself a guest has no other run state than postmigrate: so another way is taken, or none."""
    if vm.old:
        return
    for way in ("auto", "direct"):
        with save(vm, SLOWLY, f"--way={way}") as r:
            vm.wait_moving(4 * MIB)
            vm.qmp.command("stop")
            result = r.wait()
        if way == "auto":
            result.ok()
            assert "written by QEMU" not in result.stderr and "stopped during the save" in result.stderr, result
            vm.put_old_image()
        else:
            result.fails(godwit.FAILED, "was stopped during the save")
            vm.image_untouched()
        assert vm.qmp.command("query-status")["status"] == "paused", vm.qmp.command("query-status")
        vm.qmp.cont()
        vm.unharmed()


def user_cancelled_it(vm, *options):
    """What happened comes first, and nothing of our stream."""
    with save(vm, SLOWLY, *options) as r:
        vm.wait_moving(4 * MIB)
        vm.qmp.command("migrate_cancel")
        result = r.wait().fails(godwit.FAILED, "^the migration was cancelled", "runs on")
        assert "offset" not in result.stderr and len(result.sentences[0]) < 300, result
    vm.unharmed()


def user_quit(version, *options):
    with Victim(version) as vm, save(vm, SLOWLY, *options) as r:
        vm.wait_moving(4 * MIB)
        vm.qmp.sock.sendall(b'{"execute": "quit"}\n')
        result = r.wait().fails(godwit.IN_DOUBT, "^the QEMU at .* quit during the save", "host-qmp-quit", "nothing was written")
        assert "offset" not in result.stderr, result
        vm.image_untouched()


def hold_until(vm, is_so):
    """A migration that is behind its first pass goes on until then, however slow its guest is."""
    deadline, now = time.monotonic() + 30 * godwit.PATIENCE, 0
    while not is_so():
        ram = vm.qmp.command("query-migrate").get("ram", {})
        want = 64 << 10 if ram.get("dirty-sync-count", 0) >= 2 else 4 * MIB if 0 < ram.get("remaining", 0) < 4 * MIB else 0
        if want and want != now and vm.qmp.command("query-migrate")["status"] == "active":
            vm.qmp.command("migrate-set-parameters", max_bandwidth=want)
            now = want
        assert time.monotonic() < deadline, ram
        time.sleep(0.005)
    vm.qmp.command("migrate-set-parameters", max_bandwidth=1 << 40, downtime_limit=2000)


def cannot_switch(vm):
    """`migrate-start-postcopy` is refused: why is said, once, and the save goes on without."""
    class Refuses(Relay):
        def pass_on(self, client, server):
            while data := client.recv(65536):
                if b"migrate-start-postcopy" in data:
                    asked.append(1)
                    ident = re.search(rb'"id": ?(\d+)', data)[1]
                    client.sendall(b'{"id": %s, "error": {"class": "GenericError", "desc": "Not today"}}\r\n' % ident)
                    continue
                server.sendall(data)
            client.shutdown(socket.SHUT_RDWR)
    asked, path = [], vm.path("refuses")
    vm.qmp.command("migrate-set-parameters", downtime_limit=1)      # so that it goes on until it is stopped
    vm.before = vm.state()
    with Refuses(path, vm.monitor), save(vm, "--postcopy", "--max-bandwidth=15M", "-v", monitor=path) as r:
        hold_until(vm, lambda: asked)
        result = r.wait(120)
        kept(vm, result)
    assert len(asked) == 1 and result.stderr.count("Not today") == 1, (len(asked), result)
    assert "is stopped, then the rest is sent" not in result.stderr, result


class TcpMonitor:
    """A monitor over tcp, without descriptors."""

    def __init__(self, vm):
        self.relay = Relay(None, vm.monitor)
        self.address = self.relay.address

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.relay.__exit__()


def stream_of(version, ram, path):
    """The guest of another QEMU, as it would come to whoever takes it."""
    with KindVm(version, Kind(ram=ram)) as other:
        other.qmp.migrate(f"exec:cat >{path}")
        while other.qmp.command("query-migrate")["status"] not in ("completed", "failed"):
            time.sleep(0.02)
        assert other.qmp.command("query-migrate")["status"] == "completed"


def pretend(s, stream):
    """It sends all, and waits for an end."""
    with s, open(stream, "rb") as f:
        try:
            s.sendall(f.read())
            s.shutdown(socket.SHUT_WR)
            while s.recv(4096):
                pass
        except OSError:
            pass


def strangers(vm):
    """Somebody is faster than the QEMU at the address where it is to come: the old image is not replaced by that one's guest."""
    for ram in (8 * MIB, 32 * MIB):      # another memory; the very same machine
        stream = vm.path("stream")
        stream_of(vm.version, ram, stream)
        first = threading.Event()

        class Late(Relay):
            """`migrate` reaches QEMU only when the stranger is there."""
            def pass_on(self, client, server):
                while data := client.recv(65536):
                    found = re.search(rb'"uri": ?"tcp:127\.0\.0\.1:(\d+)"', data)
                    if found:
                        s = socket.create_connection(("127.0.0.1", int(found[1])))
                        threading.Thread(target=pretend, args=(s, stream), daemon=True).start()
                        first.set()
                    server.sendall(data)
                client.shutdown(socket.SHUT_RDWR)
        with Late(None, vm.monitor) as late:
            r = godwit.run("save", late.address, vm.image, "--idle-timeout=10")
        assert first.is_set(), r
        if r.status == godwit.DONE:  # QEMU's own bytes were there before the stranger's: then it is QEMU's guest that was kept
            kept(vm, r)
            os.unlink(stream)
            continue
        assert r.status == godwit.FAILED, r
        assert re.search("another peer connected|QEMU ended the migration", r.stderr), r
        vm.unharmed()
        os.unlink(stream)
    with TcpMonitor(vm) as monitor:
        kept(vm, godwit.run("save", monitor.address, vm.image))


GLOBAL_STATE = b"\x0bglobalstate" + (0).to_bytes(4, "big") + (1).to_bytes(4, "big")
WORD_BYTES = 32


def ends_in(state, data):
    """The same stream, as far as it is there, of a guest that stopped with this run state; and what has to wait for more."""
    at = data.find(GLOBAL_STATE)
    if at < 0:
        return data[:-len(GLOBAL_STATE)], data[-len(GLOBAL_STATE):], False
    at += len(GLOBAL_STATE)
    if len(data) < at + 4 + WORD_BYTES:
        return b"", data, False
    word = (len(state) + 1).to_bytes(4, "big") + state.encode().ljust(WORD_BYTES, b"\0")
    return data[:at] + word + data[at + len(word):], b"", True


class Teller(Relay):
    """The migration passes through here, and says of its guest at the end that it has this run state."""

    def __init__(self, real, state):
        super().__init__(None, real)
        self.state, self.told = state, False

    def pass_on(self, client, server):
        while data := client.recv(65536):
            found = re.search(rb'"tcp:127\.0\.0\.1:(\d+)"', data)
            if found:
                self.way = Fake(None, lambda s, port=int(found[1]): self.pass_stream(s, port))
                data = data.replace(found[0], f'"{self.way.address}"'.encode())
            server.sendall(data)
        client.shutdown(socket.SHUT_RDWR)

    def pass_stream(self, source, port):
        with socket.create_connection(("127.0.0.1", port)) as s:
            threading.Thread(target=self.pass_back, args=(s, source), daemon=True).start()
            rest = b""
            while data := source.recv(1 << 20):
                if self.told:
                    s.sendall(data)
                    continue
                out, rest, self.told = ends_in(self.state, rest + data)
                s.sendall(out)
            s.sendall(rest)
            s.shutdown(socket.SHUT_WR)


def guest_fails(vm):
    """A guest that QEMU stops on an error of its own is not saved, nor is one that has no run state to put back; the old image stays."""
    for state in ("internal-error", "debug"):
        with Teller(vm.monitor, state) as monitor:
            r = godwit.run("save", monitor.address, vm.image, "--way=stream")
        assert monitor.told, r
        r.fails(godwit.FAILED, "not saved", f"state {state}")
        vm.unharmed()


def guard_cannot_begin(vm):
    """Its first word is lost: the save says so instead of waiting for it."""
    assert shutil.which("strace"), "no strace here; scripts/setup installs it"
    with save(vm, prefix=("strace", "-D", "-f", "-qq", "-o", vm.path("trace"), "-e", "inject=sendto:error=ENOMEM:when=1"),
              env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}) as r:
        result = r.wait(20)
    assert result.status == godwit.FAILED, result
    vm.unharmed()


def bandwidth_holds(version):
    """Where QEMU's own limit does not: a background snapshot, and several channels."""
    for options in (("--at=start",), ("--channels=4",)):
        with Victim(version, ram=64 * MIB, backend="memfd") as vm:
            started = time.monotonic()
            kept(vm, godwit.run("save", vm.monitor, vm.image, "--max-bandwidth=16M", *options))
            took = time.monotonic() - started
            rate = 60 / took
            print(f"  {options[0]}: {rate:.1f} MiB/s for 16", flush=True)
            assert rate < 18, f"{options}: {rate:.1f} MiB/s"


def main():
    version = sys.argv[1]
    try:
        start = time.monotonic()
        with Victim(version) as vm:
            vm.old = version == "7.2"
            vm.version = version
            vm.wait_run_state = lambda names: wait_run_state(vm, names)
            for step in (events_stay, events_before_the_greeting, monitor_starts_anew, monitor_starts_anew_at_the_end, guard_waits_for_monitor,
                         user_stopped_it, user_let_it_run, user_stops_it_for_good, user_cancelled_it, cannot_switch, strangers, guest_fails,
                         guard_cannot_begin):
                step(vm)
                print(f"{step.__name__}: {time.monotonic() - start:.1f} s", flush=True)
            for step in () if vm.old else (monitor_starts_anew, monitor_starts_anew_at_the_end, guard_waits_for_monitor, user_cancelled_it):
                step(vm, DIRECT)
                print(f"{step.__name__}, direct: {time.monotonic() - start:.1f} s", flush=True)
            vm.can_be_saved()
        user_quit(version)
        if version != "7.2":
            user_quit(version, DIRECT)
        bandwidth_holds(version)
        print(f"all: {time.monotonic() - start:.1f} s", flush=True)
    except Unavailable as e:
        skip(str(e))


def wait_run_state(vm, names):
    deadline = time.monotonic() + 20 * godwit.PATIENCE
    while vm.qmp.command("query-status")["status"] not in names:
        assert time.monotonic() < deadline, vm.qmp.command("query-status")
        time.sleep(0.005)


if __name__ == "__main__":
    main()
