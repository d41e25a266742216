# SPDX-License-Identifier: MIT
"""
Works about what protects more than memory: how long checkpoints pause a guest whose disks and network are protected too, whose epochs survive the standby, and
whose lease is renewed; what its clients wait; and what room epochs take. As in works.py.
"""
import contextlib
import os
import shutil
import socket
import time
from dataclasses import dataclass

from bench import NotRun
from colo import Protect, Standby
from coloworks import DELAY_MS, SKIPPED, measure
from diskstandby import DiskStandby, disk_args
from etcd import Etcd
from vm import Unavailable
from worker import Client, Working, net_args

TRIPS = 60


@dataclass(frozen=True)
class Guarded:
    """A Linux guest under godwit protect; from STOP to RESUME, by its QEMU's own events. It works with all of its devices a hundred times a second."""
    disks: int = 0
    network: bool = False
    commit: bool = True     # what the guest sends is held until its checkpoint is safe
    durable: bool = False
    lease: bool = False     # in an etcd of three members
    history: int = 0

    def title(self):
        has = [f"{self.disks} disks" * bool(self.disks), "a network" * self.network, "not held back" * (not self.commit), "durable epochs" * self.durable,
               "a lease" * self.lease, f"the last {self.history} epochs kept" * bool(self.history)]
        return f"checkpoints every {DELAY_MS} ms by godwit protect; " + (", ".join(h for h in has if h) or "memory alone")

    def run(self, bench):
        folder = os.path.join(bench.tmpfs, "guarded")
        os.makedirs(folder)
        try:
            with contextlib.ExitStack() as stack:
                return self.protected(folder, stack)
        except Unavailable as e:
            raise NotRun(str(e)) from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def protected(self, folder, stack):
        client, port = stack.enter_context(Client()), free_port()
        kept = ["--durable"] * self.durable + [f"--history={self.history}"] * bool(self.history)
        standby = stack.enter_context((DiskStandby if self.disks else Standby)(folder, "-q", *kept))
        vm = stack.enter_context(Working([*disk_args(folder, self.disks), *(net_args(client, port=port) if self.network else [])]))
        vm.booted()
        vm.qmp.events.clear()
        options = [f"--interval={DELAY_MS}", f"--dir={standby.dir}", *["--no-output-commit"] * (not self.commit)]
        if self.lease:
            options.append(f"--lease={stack.enter_context(Etcd(folder)).url('bench')}")
        if self.disks:
            options.append(f"--disks={standby.disks}")
        protect = stack.enter_context(Protect(vm, f"unix:{standby.socket}", *options))
        protect.wait_protected(SKIPPED)
        pauses = measure(vm)
        return {"seconds": sum(pauses) / 1e6, "bytes": vm.ram_bytes, "cpu": 0.0, "others": None, "p50_us": pauses[len(pauses) // 2],
                "p99_us": pauses[len(pauses) * 99 // 100], "trips": self.trips(client, port), "epoch_bytes": self.epoch_bytes(standby)}

    def trips(self, client, port):
        """Seconds from a frame of the client to the guest's answer, begun at any moment between two checkpoints."""
        if not self.network:
            return []
        found = []
        for n in range(TRIPS):
            found.append(client.ask(n, port))
            time.sleep(n % 10 * DELAY_MS / 10000)
        return sorted(found)

    def epoch_bytes(self, standby):
        """What the files of one older epoch take."""
        if not self.history:
            return 0
        files = [os.path.join(standby.folder, f) for f in os.listdir(standby.folder) if ".history." in f]
        sizes = []
        for path in files:
            with contextlib.suppress(FileNotFoundError):
                sizes.append(os.stat(path).st_blocks * 512)
        if not sizes:
            raise NotRun("no older epoch was kept")
        return sum(sizes) / len(sizes)


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
