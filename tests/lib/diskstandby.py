# SPDX-License-Identifier: MIT
"""A standby that has the disks of its guests too, and the arguments of QEMUs with such disks."""
import contextlib
import glob
import os

from colo import Protect, Standby
from vm import get_storage_daemon

DISK_BYTES = 2 << 20


def disk_args(folder, n=2):
    """Disks of a first primary, d0 and d1."""
    args = []
    for i in range(n):
        path = os.path.join(folder, f"d{i}")
        with open(path, "wb") as f:
            f.truncate(DISK_BYTES)
        args += ["-drive", f"if=none,id=d{i},file={path},format=raw,discard=unmap", "-device", f"virtio-blk-pci,drive=d{i}"]
    return args


def given_args(n=2):
    """Those of a successor."""
    return [a for i in range(n) for a in
            ("-drive", f"if=none,id=d{i},file={{disk:d{i}}},format=qcow2,discard=unmap", "-device", f"virtio-blk-pci,drive=d{i}")]


class DiskStandby(Standby):
    def __init__(self, folder, *options, **popen):
        self.disks = f"unix:{folder}/disks"
        super().__init__(folder, f"--disks={self.disks}", f"--storage-daemon={get_storage_daemon('11.1')}", *options, **popen)

    def protect(self, vm, *options):
        return Protect(vm, f"unix:{self.socket}", f"--dir={self.dir}", f"--disks={self.disks}", *options)

    def engine(self):
        """The process that serves the disks."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as f:
            own = f.read().split()
        for task in glob.glob(f"/proc/{self.process.pid}/task/*/children"):
            with contextlib.suppress(OSError), open(task, encoding="ascii") as f:
                own += f.read().split()
        return int(own[0])
