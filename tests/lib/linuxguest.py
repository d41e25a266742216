# SPDX-License-Identifier: MIT
"""A Linux guest whose memory and console prove themselves (tests/guest), as source or as destination of a migration.

The guest counts on its console and stamps its memory; Linux knows how to read both. Its RAM is a file or a memfd, so
it can be looked at from outside. Two monitors: vm.qmp is the test's, vm.monitor is the path of one for godwit.
"""
import contextlib
import os
import re
import signal
import subprocess
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "guest"))
import booted
import check_stamp
import godwit
from godwit import PROGRAM
from lost_pages import GuestDamaged
from qmp import Qmp, QmpClosed
from vm import Vm, get_guest, get_qemu

MIB = 1 << 20
RAM_BYTES = 128 * MIB
STAMP_MIB = 4
TICK = re.compile(r"^tick (\d+) uptime ([\d.]+)$", re.M)
# The guest's own clock stands still while it is not running; this much may pass between two ticks on a busy machine.
LONGEST_TICK_S = 15
# The clocks of two processors under TCG on a busy machine are apart by up to this, and the counter may go from one to the other.
CLOCKS_APART_S = 1
# Guests with these are no common kind, and boot each time.
OF_ITS_OWN = ("-device", "-drive", "-blockdev", "-netdev", "-S")
# What its kernel need not do at each boot, which takes a processor for seconds under TCG: self-tests of its ciphers, and subsystems that nobody here asks.
LESS_TO_BOOT = "no_timer_check cryptomgr.notests initcall_blacklist=init_kprobe_trace,crypto_kdf108_init,cubictcp_register"


def machine_name(version):
    return f"pc-i440fx-{version}"


def machine_args(machine, cpus=1, backend="file", ram_bytes=RAM_BYTES, ram_name="m0"):
    """Everything that must be the same at both ends. backend: "file", "memfd" or "ram" (anonymous memory)."""
    size = f"size={ram_bytes // MIB}M"
    backends = {"file": f"file,mem-path={{dir}}/ram,share=on,{size}", "memfd": f"memfd,share=on,{size}", "ram": f"ram,{size}"}
    return ["-machine", f"{machine},memory-backend={ram_name}", "-m", f"{ram_bytes // MIB}M", "-smp", str(cpus),
            "-object", f"memory-backend-{backends[backend]},id={ram_name}"]


class LinuxGuest(Vm):
    """version: of QEMU. words: more for the guest's kernel. machine: pc of that version unless given. incoming: QEMU's -incoming, for a destination.
    is_first_life: its QEMU has never migrated anything."""

    def __init__(self, version, machine=None, cpus=1, backend="file", incoming=None, args=(), stamp=STAMP_MIB, **keywords):
        self.version, self.cpus, self.backend = version, cpus, backend
        self.ram_bytes = keywords.pop("ram_bytes", RAM_BYTES)
        ram_name = keywords.pop("ram_name", "m0")
        stamp_rate = keywords.pop("stamp_rate", 64)
        words = keywords.pop("words", "")
        is_first_life = keywords.pop("is_first_life", False)
        self.machine = machine or machine_name(version)
        kernel, initrd = get_guest()
        self.kind = None if incoming or is_first_life else {"machine": self.machine, "cpus": cpus, "stamp": stamp, "stamp_rate": stamp_rate, "words": words,
                                           "ram_bytes": self.ram_bytes, "ram_name": ram_name}
        super().__init__(get_qemu(version), [
            *machine_args(self.machine, cpus, backend, self.ram_bytes, ram_name), "-kernel", kernel, "-initrd", initrd,
            "-append", f"console=ttyS0 quiet {LESS_TO_BOOT} stamp={stamp} stamp_rate={stamp_rate} {words}".strip(),
            "-qmp", "unix:{dir}/monitor,server=on,wait=off", "-pidfile", "{dir}/pid",
            *(["-incoming", incoming] if incoming else []), *args], **keywords)
        self.monitor = self.path("monitor")

    def __enter__(self):
        """Where a guest of this kind was booted before, it goes on from there."""
        if not booted.FOLDER or not self.kind or any(a in OF_ITS_OWN for a in self.argv):
            return super().__enter__()
        path = booted.find((self.argv[0], get_guest(), LESS_TO_BOOT, self.kind), self._booted_of_this_kind)
        plain, self.argv = self.argv, booted.argv(path, self)
        super().__enter__()
        self.argv = plain
        try:
            booted.load(path, self)
        except BaseException:
            self.__exit__()
            raise
        return self

    @contextlib.contextmanager
    def _booted_of_this_kind(self):
        first = LinuxGuest(self.version, **self.kind)
        first.kind = None
        with first:
            yield first.booted()

    @property
    def pid(self):
        with open(self.path("pid"), encoding="ascii") as f:
            return int(f.read())

    # --- the console ---

    def ticks(self):
        """[(number, uptime)] of all whole lines."""
        text = self.console()
        return ticks_of(text[:text.rfind("\n") + 1])

    def booted(self):
        """Wait until the guest counts and every stamp has been through its memory."""
        self.wait_console(lambda t: len(passes(t)) >= self.cpus and len(ticks_of(t)) > 3)
        return self

    def keeps_ticking(self, more=3):
        """It runs: the counter goes on from where it is now, and nothing in its memory is bad."""
        before = len(self.ticks())
        self.wait_console(lambda t: len(ticks_of(t)) >= before + more, timeout=30 * godwit.PATIENCE)
        assert "BAD" not in self.console(), self.console()

    def stamped_again(self):
        """Every stamp process verifies all of its memory once more."""
        before = len(passes(self.console(), every=True))
        self.wait_console(lambda t: len(passes(t, every=True)) >= before + 2 * self.cpus, timeout=60 * godwit.PATIENCE)
        assert "BAD" not in self.console(), self.console()

    # --- its memory ---

    def ram_path(self):
        return self.path("ram") if self.backend == "file" else self.memfd(self.pid, self.ram_bytes)

    def ram(self):
        with open(self.ram_path(), "rb") as f:
            return f.read()


class Restored(LinuxGuest):
    """godwit restore IMAGE OPTIONS -- QEMU ...: godwit is the process, QEMU its child. command: another one of this form."""

    def __init__(self, image, options, version, command="restore", **keywords):
        super().__init__(version, **keywords)
        self.kind = None
        self.argv = [PROGRAM, command, image, *options, "--", *self.argv]

    def __enter__(self):
        try:
            return super().__enter__()
        except RuntimeError as e:
            raise AssertionError(str(e).replace("QEMU", "godwit restore", 1)) from None

    def __exit__(self, *_):
        try:
            if self.qmp:
                self.qmp.command("quit")
                self.process.wait(30 * godwit.PATIENCE)
        except (QmpClosed, OSError, subprocess.TimeoutExpired):
            self.kill_qemu()
        finally:
            super().__exit__()

    def kill_qemu(self):
        try:
            os.kill(self.pid, signal.SIGKILL)
        except OSError:     # gone, or never there
            pass


def passes(text, every=False):
    """Seeds of the stamp processes that have verified their memory; every: with all generations."""
    found = {(int(s), int(g)) for g, s in re.findall(r"^stamp ok gen (\d+) pages \d+ seed (\d+)$", text, re.M)}
    return found if every else {s for s, _ in found}


def ticks_of(text):
    return [(int(n), float(up)) for n, up in TICK.findall(text)]


def check_ticks(ticks):
    """Counted without gap or restart, by clocks that do not jump."""
    numbers = [n for n, _ in ticks]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), f"not in a row: {ticks}"
    for (a, before), (b, after) in zip(ticks, ticks[1:]):
        assert before - CLOCKS_APART_S <= after <= before + LONGEST_TICK_S, f"tick {a} at {before}, tick {b} at {after}"


def check_continues(before, after):
    """One console, then that of the guest's second life from the very byte where the first was stopped."""
    text = before + after
    assert "BAD" not in text, text
    ticks = ticks_of(text[:text.rfind("\n") + 1])
    check_ticks(ticks)
    assert len(ticks) > len(ticks_of(before)), "no tick in the second life"


def check_goes_on(before, after, epoch):
    """A guest that failed over goes on from the moment of its last epoch, which may be older than the last line of the primary, and never newer."""
    last, ticks = ticks_of(before)[-1][0], ticks_of(after[:after.rfind("\n") + 1])
    check_ticks(ticks)
    assert last - 20 <= ticks[0][0] <= last + 2, f"{ticks[0]} after {last}, {epoch}"
    assert "BAD" not in after, after


def check_memory(path, cpus=1, stamp=STAMP_MIB):
    """The stamps in a raw RAM file are those of one moment."""
    writers, faults = check_stamp.check_file(path)
    if faults:
        raise GuestDamaged("\n".join(faults[:20]), len(faults))
    assert sorted(writers) == list(range(1, cpus + 1)), sorted(writers)
    assert sum(len(w.pages) + len(w.torn) for w in writers.values()) == stamp * MIB // check_stamp.PAGE
