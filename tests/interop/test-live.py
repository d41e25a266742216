#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A guest of another program than QEMU, RAM only, sent by libgodwit to a real QEMU: its memory there is what it was when it left, and the QEMU cannot run it
before the very end. And the same guest, with a device, kept by `godwit receive`, and protected by `godwit standby`.

test-live.py GUEST_TOOL LIVE_OUT LIVE_IN 7.2|10.0|11.1
"""
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import colo
import godwit
import images
from vm import Unavailable, Vm, get_qemu, skip

MIB = 1 << 20
LOW = MIB                       # below it are the places of the firmware, which is other memory
MEMORY = 64
LOADED = b"\0\x02\0\x04" + (0x676F6477).to_bytes(4, "big")      # PONG: everything but the end has been loaded
GONE, HERE_AGAIN, IN_DOUBT = 0, 1, 4
COMPRESSION = {"none": 0, "zlib": 1, "zstd": 2}


class Waiting(Vm):
    """A QEMU that waits for a guest, and will not run it by itself."""

    def __init__(self, version, machine, channels=0, compression="none", colo=False):
        self.machine = machine
        super().__init__(get_qemu(version), ["-machine", machine, "-m", str(MEMORY), "-S", "-incoming", "defer"])
        self.channels, self.compression, self.colo = channels, compression, colo

    def __enter__(self):
        super().__enter__()
        capabilities = ["return-path", *(["multifd"] if self.channels else []), *(["x-colo"] if self.colo else [])]
        self.qmp.command("migrate-set-capabilities", capabilities=[{"capability": c, "state": True} for c in capabilities])
        if self.channels:
            self.qmp.command("migrate-set-parameters", multifd_channels=self.channels, multifd_compression=self.compression)
        self.uri = f"unix:{self.path('in')}"
        self.qmp.command("migrate-incoming", uri=self.uri)
        return self

    def status(self):
        return self.qmp.command("query-status")["status"]

    def wait_over(self):
        deadline = time.monotonic() + self.timeout
        while self.status() == "inmigrate" and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.status()

    def memory(self):
        self.qmp.command("pmemsave", val=LOW, size=MEMORY * MIB - LOW, filename=self.path("memory"))
        with open(self.path("memory"), "rb") as f:
            return f.read()


def send(tool, uri, ram, **options):
    p = subprocess.run([tool, uri, ram, *(f"{k}={v}" for k, v in options.items())], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       text=True, timeout=60 * godwit.PATIENCE)
    print(p.stdout.strip(), p.stderr.strip())
    return p.returncode


def into_qemu(tool, version, machine, channels, compression):
    with Waiting(version, machine, channels, compression) as vm:
        ram = vm.path("ram")
        got = send(tool, vm.uri, ram, machine=machine, block="pc.ram", mib=MEMORY, devices=0, channels=channels,
                   compression=COMPRESSION[compression], seed=channels + 1)
        assert got == GONE, got
        assert vm.wait_over() in ("paused", "prelaunch"), vm.status()
        with open(ram, "rb") as f:
            images.same_bytes(f"memory in QEMU {version}, {machine}, {channels} channels, {compression}", vm.memory(), f.read()[LOW:])


class Relay(threading.Thread):
    """Between the two. `on_loaded` is called when the destination said that it has loaded everything, before its source hears it; after that so many bytes
    of the source pass, None: all."""

    def __init__(self, folder, to, on_loaded, end_bytes):
        super().__init__(daemon=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.path = os.path.join(folder, "relay")
        self.listener.bind(self.path)
        self.listener.listen(1)
        self.to, self.on_loaded, self.left = to, on_loaded, end_bytes
        self.loaded = False
        self.start()

    def run(self):
        source = self.listener.accept()[0]
        destination = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        destination.connect(self.to)
        while self.pass_on(source, destination):
            pass
        source.close()
        destination.close()

    def pass_on(self, source, destination):
        for end in select.select([source, destination], [], [])[0]:
            data = end.recv(1 << 20)
            if end is destination and LOADED in data:
                self.on_loaded()
                self.loaded = True
            elif end is source and self.loaded and self.left is not None:
                destination.sendall(data[:self.left])
                return False
            if not data:
                return False
            (destination if end is source else source).sendall(data)
        return True


def not_before_the_end(tool, version, machine):
    """PING is answered behind the last section, and the destination still waits; nothing but the end lets it go."""
    with Waiting(version, machine) as vm:
        seen = []

        def look():
            time.sleep(0.3)
            seen.append(vm.status())

        relay = Relay(vm.dir, vm.path("in"), look, None)
        assert send(tool, f"unix:{relay.path}", vm.path("ram"), machine=machine, block="pc.ram", mib=MEMORY, devices=0) == GONE
        assert seen == ["inmigrate"], seen
        assert vm.wait_over() != "inmigrate"


def cut_in_the_end(tool, version, machine):
    """The end mark without the description, and the link breaks: a QEMU takes that for a whole guest, so the source may not run it."""
    with Waiting(version, machine) as vm:
        relay = Relay(vm.dir, vm.path("in"), lambda: None, 1)
        got = send(tool, f"unix:{relay.path}", vm.path("ram"), machine=machine, block="pc.ram", mib=MEMORY, devices=0)
        try:
            state = vm.wait_over()
        except Exception as e:  # it may end
            state = f"it has ended: {e}"
        print(f"QEMU {version}, the end mark alone: {state}")
        assert state in ("paused", "prelaunch"), state      # what it would run without -S
        assert got == IN_DOUBT, got


def cut_before_the_end(tool, version, machine):
    """Everything is loaded, and the link breaks before the end: the source runs it on, and nobody else does."""
    with Waiting(version, machine) as vm:
        relay = Relay(vm.dir, vm.path("in"), lambda: None, 0)
        got = send(tool, f"unix:{relay.path}", vm.path("ram"), machine=machine, block="pc.ram", mib=MEMORY, devices=0)
        # The source had written the end into the relay, which dropped it.
        assert got == IN_DOUBT, got
        try:
            state = vm.wait_over()
        except Exception as e:
            state = f"it has ended: {e}"
        print(f"QEMU {version}, no end: {state}")
        assert state not in ("running", "paused", "prelaunch"), state


def into_an_image(tool, folder):
    image, ram = os.path.join(folder, "image"), os.path.join(folder, "ram")
    for channels, compression in ((0, "none"), (2, "zstd")):
        r = godwit.Run("receive", f"unix:{folder}/in", image, "--json", *([f"--channels={channels}"] if channels else []))
        r.wait_stdout('"event":"listening"')
        assert send(tool, f"unix:{folder}/in", ram, channels=channels, compression=COMPRESSION[compression]) == GONE
        r.wait().ok()
        godwit.run("verify", image).ok()
        inspected = godwit.run("inspect", image, "--json").ok()
        devices = [e["name"] for e in inspected.events if e["event"] == "device"]
        assert devices == ["mem"], devices
        with open(ram, "rb") as f:
            images.same_bytes("memory in the image", images.raw_ram(image, os.path.join(folder, "raw"), "ram0"), f.read())
        os.unlink(image)


def in_step_with_qemu(tool, version, machine, channels):
    """A QEMU as the secondary: after its last checkpoint it has the memory of the primary, and takes over."""
    with Waiting(version, machine, channels, colo=True) as vm:
        ram = vm.path("ram")
        assert send(tool, vm.uri, ram, machine=machine, block="pc.ram", mib=MEMORY, devices=0, channels=channels, epochs=4,
                    old_dialect=int(version == "10.0")) == 0
        vm.qmp.command("x-colo-lost-heartbeat")
        assert vm.wait_over() in ("running", "paused", "prelaunch"), vm.status()
        with open(ram, "rb") as f:
            images.same_bytes(f"memory of the last checkpoint in QEMU {version}, {channels} channels", vm.memory(), f.read()[LOW:])


def protected(tool, folder):
    """By a godwit standby, which keeps an image of the last checkpoint."""
    ram = os.path.join(folder, "ram")
    for channels, compression in ((0, "none"), (2, "none"), (8, "zstd")):
        with colo.Standby(folder, name=f"vm{channels}") as standby:
            assert send(tool, f"unix:{standby.socket}", ram, epochs=4, channels=channels, compression=COMPRESSION[compression]) == 0
            ended = standby.wait_event("ended")
            assert ended["epoch"] == 4, ended
            godwit.run("verify", standby.image).ok()
            with open(ram, "rb") as f:
                images.same_bytes("memory of the last epoch", images.raw_ram(standby.image, os.path.join(folder, "raw"), "ram0"), f.read())
            standby.kill(signal.SIGTERM)
            standby.wait()


def examples(live_out, live_in, folder):
    """The two VMMs of examples/, one to the other."""
    uri = f"unix:{folder}/example"
    with subprocess.Popen([live_in, uri], stdout=subprocess.PIPE, text=True) as destination:
        assert destination.stdout.readline().startswith("listening")
        source = subprocess.run([live_out, uri], stdout=subprocess.PIPE, text=True, timeout=60 * godwit.PATIENCE)
        said = destination.communicate(timeout=60 * godwit.PATIENCE)[0]
    print(source.stdout, said)
    assert not source.returncode and source.stdout.startswith("gone:"), source
    assert not destination.returncode and said.startswith("here:") and " 0 pages were wrong" in said, said


def main():
    tool, live_out, live_in, version = sys.argv[1:]
    try:
        get_qemu(version)
    except Unavailable as e:
        skip(e)
    old, new = "pc-i440fx-7.2", {"10.0": "pc-i440fx-10.0", "11.1": "pc-i440fx-11.1"}.get(version)
    into_qemu(tool, version, old, 0, "none")
    into_qemu(tool, version, old, 2, "none")
    if new:
        into_qemu(tool, version, new, 2, "zstd")
        into_qemu(tool, version, new, 8, "none")
    not_before_the_end(tool, version, old)
    cut_in_the_end(tool, version, old)
    cut_before_the_end(tool, version, old)
    if version == "10.0":
        in_step_with_qemu(tool, version, new, 0)
    if version == "11.1":
        for channels in 0, 2:
            in_step_with_qemu(tool, version, new, channels)
        with tempfile.TemporaryDirectory(prefix="godwit-live.") as folder:
            into_an_image(tool, folder)
            protected(tool, folder)
            examples(live_out, live_in, folder)


if __name__ == "__main__":
    main()
