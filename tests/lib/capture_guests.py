# SPDX-License-Identifier: MIT
"""The guests of the golden captures (scripts/make-captures), alive: one for each kind of stream a QEMU writes.

KindVm is such a guest as source; with incoming= it is the destination that fits.
"""
import importlib.machinery
import importlib.util
import os
import sys
import time

from vm import SCRIPTS, get_qemu

sys.dont_write_bytecode = True      # a script is not a module: nothing is to appear beside it
_loader = importlib.machinery.SourceFileLoader("make_captures", os.path.join(SCRIPTS, "make-captures"))
_spec = importlib.util.spec_from_loader("make_captures", _loader)
captures = importlib.util.module_from_spec(_spec)
sys.modules["make_captures"] = captures
_loader.exec_module(captures)
sys.dont_write_bytecode = False

Kind, KINDS, HugePages, Failed = captures.Kind, captures.KINDS, captures.HugePages, captures.Failed
migrate, wait_status = captures.migrate, captures.wait_status


class KindVm(captures.CaptureVm):
    def __init__(self, version, kind, machine_version=None, incoming=None, args=()):
        super().__init__(get_qemu(version), kind, machine_version or version)
        self.version = version
        self.argv += ["-qmp", f"unix:{self.dir}/monitor,server=on,wait=off", *(a.replace("{dir}", self.dir) for a in args)]
        if incoming:
            self.argv += ["-incoming", incoming]
        self.monitor = self.path("monitor")
        self.incoming = incoming

    def ready(self):
        """As a source: with content. A guest that runs has begun to dirty its memory."""
        if self.kind.runs:
            time.sleep(2 if self.kind.firmware else 0.3)
            return self
        self.qmp.command("stop")
        self.fill_ram()
        return self

    def is_running(self):
        return self.qmp.command("query-status")["running"]

    def other_blocks(self):
        """[(name, content)] of the blocks beside the main one, where this release tells where they are."""
        found = [(name, self.rom(name, used, at)) for name, used, at in self.blocks() if name != "m0"]
        return [(name, content) for name, content in found if content is not None]
