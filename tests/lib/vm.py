# SPDX-License-Identifier: MIT
"""A QEMU process for tests: started in a folder of its own, driven by QMP, gone at the end of the with block.

Also where tests get their QEMU and guest from: the scripts get-qemu and get-guest, whose status 77 ("cannot be had
here") becomes Unavailable.
"""
import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

import godwit
from lost_pages import GuestDamaged
from qmp import Qmp, QmpClosed

SCRIPTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts")
SKIPPED = 77


class Unavailable(Exception):
    """Test material that this machine cannot have; the message says why."""


@functools.cache
def _ask(script, *args):
    """Asked once in a process: the script hashes all of that QEMU and starts it, which takes longer than the life of many a VM."""
    p = subprocess.run([os.path.join(SCRIPTS, script), *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if p.returncode == SKIPPED:
        raise Unavailable(p.stderr.strip().splitlines()[-1])
    if p.returncode:
        raise RuntimeError(f"{script} failed: {p.stderr.strip()}")
    return tuple(p.stdout.splitlines())


def get_qemu(version, target="x86_64"):
    """Path of QEMU 7.2, 10.0 or 11.1 for this target."""
    return _ask("get-qemu", version, "--target", target)[0]


def get_storage_daemon(version):
    return _ask("get-qemu", version, "--storage-daemon")[0]


def get_guest():
    """(kernel, initrd) of the Linux test guest."""
    return _ask("get-guest")


def skip(reason):
    print(f"SKIPPED: {reason}", file=sys.stderr)
    sys.exit(SKIPPED)


class Vm:
    """with Vm(qemu, args) as vm: vm.qmp, vm.dir (private folder), vm.console() (text of the first serial port)."""

    def __init__(self, qemu, args=(), console=True, timeout=60.0):
        self.dir = tempfile.mkdtemp(prefix="godwit-vm.")
        self.timeout = timeout * godwit.PATIENCE
        self.argv = [qemu, "-nodefaults", "-display", "none", "-accel", "tcg",
                     "-qmp", f"unix:{self.dir}/qmp,server=on,wait=off"]
        if console:
            self.argv += ["-serial", f"file:{self.dir}/console"]
        self.argv += [a.replace("{dir}", self.dir) for a in args]
        self.process = self.qmp = None

    def __enter__(self):
        try:
            with open(self.path("stderr"), "wb") as err:
                self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=err, stderr=err)
            self.qmp = Qmp.connect(self.path("qmp"), self.timeout, alive=lambda: self.process.poll() is None)
        except QmpClosed:
            text = self.stderr()
            self.__exit__()
            raise RuntimeError(f"QEMU did not start: {text}") from None
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.qmp:
            self.qmp.close()
        if self.process:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.dir, name)

    def stderr(self):
        return self._text("stderr")

    def console(self):
        return self._text("console")

    def _text(self, name):
        try:
            with open(self.path(name), "rb") as f:
                return f.read().decode("utf-8", "replace").replace("\r\n", "\n")
        except FileNotFoundError:
            return ""

    def wait_console(self, match, timeout=None):
        """Wait until match(console text) is true and return what it returned."""
        deadline = time.monotonic() + (timeout or self.timeout)
        while True:
            found = match(self.console())
            if found:
                return found
            if self.process.poll() is not None:
                raise RuntimeError(f"QEMU ended: {self.stderr()}")
            if time.monotonic() > deadline:
                raise GuestDamaged(f"the console did not say it: ...{self.console()[-500:]}")
            time.sleep(0.05)

    # --- what godwit may not change ---

    def state(self):
        """Run state and all migration settings."""
        q = self.qmp
        return {"run": q.command("query-status")["status"], "parameters": q.command("query-migrate-parameters"),
                "capabilities": {c["capability"]: c["state"] for c in q.command("query-migrate-capabilities")}}

    # --- its memory, from outside ---

    def blocks(self):
        """[(name, used bytes, address in the QEMU process or None)] as QEMU itself lists them."""
        line = re.compile(r"^\s*(\S.*?)\s+\d+ [KMG]iB\s+0x\w+ 0x(\w+) 0x\w+(?:\s+0x(\w+))?", re.M)
        return [(name, int(used, 16), int(at, 16) if at else None)
                for name, used, at in line.findall(self.qmp.human("info ramblock"))]

    @staticmethod
    def memfd(pid, size):
        """Path of the memfd of this size that a QEMU process has open."""
        fds = f"/proc/{pid}/fd"
        for fd in os.listdir(fds):
            path = os.path.join(fds, fd)
            if os.readlink(path).startswith("/memfd:") and os.stat(path).st_size == size:
                return path
        raise FileNotFoundError(f"no memfd of {size} bytes in process {pid}")
