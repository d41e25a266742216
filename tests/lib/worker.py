# SPDX-License-Identifier: MIT
"""Guests with the worker of tests/guest/worker.c, which counts to memory, to its disks and to the network, and a client that sees the latter."""
import re
import socket
import threading
import time

import godwit
from linuxguest import LinuxGuest, Restored

STEP_MS = 10
SO_RCVBUFFORCE = 33      # as root; the socket module has no name for it


class Client:
    """Who the guest speaks with: the numbers that arrive, in that order, each QEMU's by itself.

    UDP, with room for thousands of frames until this process gets a processor: a unix socket takes ten, and what a filter-buffer releases beyond
    that QEMU drops (docs/spec/colo.md 12)."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        self.socket.bind(("127.0.0.1", 0))
        self.host, self.port = self.socket.getsockname()
        self.lock = threading.Lock()
        self.numbers = []
        self.answers = {}       # when each came
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(b"", (self.host, self.port))
        self.thread.join()
        self.socket.close()

    def listen(self):
        while frame := self.socket.recv(65536):
            if frame[12:14] == b"\x88\xb5":
                word, number = frame[14:].split(b"\0")[0].split()
                with self.lock:
                    if word == b"ans":
                        self.answers[int(number)] = time.monotonic()
                    else:
                        self.numbers.append(int(number))

    def ask(self, number, port, timeout=60):
        """Seconds until the guest's answer is here; its netdev listens at this port."""
        frame = b"\xff" * 6 + b"\x02\0\0\0\0\x02" + b"\x88\xb5" + b"ask %d" % number
        asked = time.monotonic()
        self.socket.sendto(frame.ljust(64, b"\0"), ("127.0.0.1", port))
        while number not in self.answers:
            assert time.monotonic() < asked + timeout * godwit.patience(), f"no answer to {number}"
            time.sleep(0.0005)
        return self.answers[number] - asked

    def seen(self):
        with self.lock:
            return list(self.numbers)

    def take(self):
        """All that came until now, of a QEMU that is dead: what it sent is in our socket already."""
        count = -1
        while count != (count := len(self.seen())):
            time.sleep(0.05)
        with self.lock:
            numbers, self.numbers = self.numbers, []
        in_order(numbers)
        return numbers

    def wait_more(self, more, timeout=60):
        before, deadline = len(self.seen()), time.monotonic() + timeout * godwit.patience()
        while len(self.seen()) < before + more:
            assert time.monotonic() < deadline, f"only {len(self.seen()) - before} packets came"
            time.sleep(0.005)
        in_order(self.seen())


def in_order(numbers):
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True, f"not in a row: {numbers}"


def net_args(client, netdev=None, port=0):
    """-netdev and its device. port: where the guest can be asked; 0: anywhere."""
    netdev = netdev or f"dgram,id=n0,local.type=inet,local.host=127.0.0.1,local.port={port},remote.type=inet,remote.host={client.host},remote.port={client.port}"
    return ["-netdev", netdev, "-device", "virtio-net-pci,netdev=n0"]


class Working(LinuxGuest):
    """A guest that works with the devices of `args`."""

    def __init__(self, args, **keywords):
        super().__init__("11.1", args=["-name", "vm", *args], words=f"work={STEP_MS}", **keywords)


class FailedOver(Restored):
    """The same guest by godwit failover."""

    def __init__(self, folder, args, *options):
        super().__init__(folder, options, "11.1", command="failover", backend="memfd", args=["-name", "vm", *args], words=f"work={STEP_MS}")

    def wait_restored(self):
        """All of its memory is there, and the folder is free for another protection."""
        deadline = time.monotonic() + 60 * godwit.patience()
        while "godwit: restored" not in self.stderr():
            assert time.monotonic() < deadline, self.stderr()
            time.sleep(0.02)


def works(vm, passes=1):
    """All sectors were compared with the table in memory once more, from now on."""
    def count(text):
        assert "work BAD" not in text, text
        return len(re.findall(r"^work ok \d+$", text, re.M))
    before = count(vm.console())
    vm.wait_console(lambda t: count(t) > before + passes, timeout=60 * godwit.PATIENCE)
