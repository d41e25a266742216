#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A hardware watchdog ends a host whose deadman is frozen, and no other. A Linux guest is that host: Godwit's own deadman runs in it (fenced_guest.c), with the
kernel's softdog.

test-watchdog.py [CASE...]
"""
import os
import re
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
from vm import Unavailable, Vm, get_guest, get_qemu, skip

SOURCES = ["tests/interop/fenced_guest.c", "src/qemu/deadman.c", "src/qemu/hw_watchdog.c", "src/qemu/descriptors.c", "src/base/error.c"]
TERM_S = 4      # of fenced_guest.c
SAID = re.compile(r"^fenced ([\d.]+) (.*)$", re.M)


def make_initrd(folder):
    """The program is its PID 1; the kernel's modules of a watchdog are with it."""
    kernel, _ = get_guest()
    program = os.path.join(folder, "init")
    subprocess.run(["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-static", "-O2", "-Isrc", "-Iinclude", *SOURCES, "-o", program], cwd=godwit.ROOT, check=True)
    names = ["init"]
    for module in ("watchdog.ko", "softdog.ko"):
        with open(os.path.join(os.path.dirname(kernel), module), "rb") as f, open(os.path.join(folder, module), "wb") as to:
            to.write(f.read())
        names.append(module)
    for name in ("dev", "proc", "sys"):
        os.mkdir(os.path.join(folder, name))
        names.append(name)
    path = os.path.join(folder, "initrd")
    with open(path, "wb") as f:
        busybox = os.path.join(os.path.dirname(kernel), "busybox")
        subprocess.run([busybox, "cpio", "-o", "-H", "newc"], cwd=folder, input="\n".join(names).encode(), stdout=f, stderr=subprocess.DEVNULL, check=True)
    return kernel, path


class Host(Vm):
    def __init__(self, kernel, initrd, what):
        super().__init__(get_qemu("11.1"), ["-machine", "pc", "-m", "128M", "-kernel", kernel, "-initrd", initrd, "-append", f"console=ttyS0 quiet {what}",
                                            "-action", "reboot=shutdown,shutdown=pause"])

    def said(self):
        return [(float(at), text) for at, text in SAID.findall(self.console())]

    def wait_said(self, text):
        self.wait_console(lambda _: any(t == text for _, t in self.said()))

    def lives(self):
        """Nothing has reset it, until the program is through."""
        self.wait_said("over")
        assert self.qmp.command("query-status")["running"], self.console()
        assert not [t for _, t in self.said() if t.startswith(("the moment", "the end", "it could", "cannot"))], self.console()
        return self.said()


def beats(host):
    """The watchdog's time passes twice while beats go on, and again when it was stopped."""
    said = host.lives()
    assert all(t == "host and child live" for _, t in said[-1 - 3 * TERM_S:-1]), said


def stops(host):
    """The deadman kills the child before the host is reset, and stops the watchdog then."""
    said = host.lives()
    ended = next(at for at, t in said if t == "no more beats")
    dead = next(at for at, t in said if t == "the child is dead, the host lives")
    assert dead - ended <= TERM_S, said


def frozen(host):
    """Nobody kills the child: the host is reset when its time is over, and at most a second later."""
    host.wait_said("no more beats")
    reason = host.qmp.wait_event("SHUTDOWN", timeout=60 * godwit.PATIENCE)["data"]["reason"]
    assert reason == "guest-reset", reason
    said = host.said()
    last, text = said[-1]
    ended = next(at for at, t in said if t == "no more beats")
    assert text == "host and child live" and TERM_S - 2.5 <= last - ended <= TERM_S + 1, said


def main():
    try:
        with tempfile.TemporaryDirectory(prefix="godwit-watchdog.") as folder:
            kernel, initrd = make_initrd(folder)
            for case in (beats, stops, frozen):
                if sys.argv[1:] and case.__name__ not in sys.argv[1:]:
                    continue
                begin = time.monotonic()
                with Host(kernel, initrd, case.__name__) as host:
                    case(host)
                print(f"{case.__name__}: {time.monotonic() - begin:.0f} s", flush=True)
    except Unavailable as e:
        skip(str(e))


if __name__ == "__main__":
    main()
