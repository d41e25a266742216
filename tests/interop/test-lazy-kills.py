#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The page server dies by kill -9 at seeded moments of its work, again and again, and is started again until the guest is whole:
in a paused destination every byte of RAM is compared, in a running one the guest checks its own stamped memory.

test-lazy-kills.py SERVE-TOOL DESTINATION [SOURCE]: QEMU versions.
GODWIT_ROUNDS: kills (20), half of them with a paused destination. GODWIT_SEED: when.
"""
import collections
import contextlib
import fcntl
import json
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
from kept import Kept, wait_status
from vm import Unavailable, skip

ROUNDS = int(os.environ.get("GODWIT_ROUNDS", "20"))
SEED = int(os.environ.get("GODWIT_SEED", "4"))
RATE = 30 << 20
CRASHES = ("7.2",)      # of itself, when the link breaks while it recovers (postcopy.md, 6.4)
LONGEST_S = 0.4                 # where the moment itself does not come
F_SETPIPE_SZ = 1031

# When to kill: a line of the trace, how often it comes at most, how much later at most; and whether the server is to be slow.
Moment = collections.namedtuple("Moment", "name pattern times later slow", defaults=(1, 0.002, True))
FIRST = [
    Moment("before it connects", None, later=0.02),
    Moment("in the handshake", r"setup -> active"),
    Moment("while devices load", r"active -> postcopy-device"),
    Moment("when the guest runs", r"postcopy-device -> postcopy-active"),
]
AGAIN = [
    Moment("before it connects again", None, later=0.02),
    Moment("before the bitmaps", r"postcopy-paused -> postcopy-recover"),
    Moment("in the bitmaps", r"RECV_BITMAP", 8),
    Moment("behind RESUME", r"RESUME_ACK"),
]
PUSH = [
    Moment("at a request", r"REQ_PAGES", 30),
    Moment("in the push", None, later=LONGEST_S),
]
END = Moment("at the end", r"active -> postcopy-active \(ending\)", slow=False)
ONE_IN = 12         # how often it is the end, which wears out a destination


class Stepped(godwit.Run):
    """godwit with a trace that goes into a pipe of one line: it stands still until what it did last was read."""

    def __init__(self, *args):
        self.text = ""
        self.pipe, stderr = os.pipe2(os.O_DIRECT | os.O_CLOEXEC)
        fcntl.fcntl(stderr, F_SETPIPE_SZ, 4096)
        super().__init__(*args, stderr=stderr, env={**os.environ, "GODWIT_TRACE": "1"})
        os.close(stderr)

    def __exit__(self, *_):
        super().__exit__()
        os.close(self.pipe)

    @property
    def stderr(self):
        return self.text

    def kill_at(self, moment, times, later):
        """True: killed at its moment. False: it came to its end before."""
        deadline = time.monotonic() + (LONGEST_S if moment.pattern and moment.slow else later if moment.slow else 60 * godwit.PATIENCE)
        while select.select([self.pipe], [], [], max(0, deadline - time.monotonic()))[0]:
            said = os.read(self.pipe, 65536).decode("utf-8", "replace")
            if not said:
                return False
            self.text += said
            if moment.pattern and re.search(moment.pattern, said):
                times -= 1
                if times == 0:
                    deadline = time.monotonic() + later
        self.kill()
        return True

    def wait(self, timeout=60):
        """Also reads what it says meanwhile."""
        deadline = time.monotonic() + timeout * godwit.PATIENCE
        while select.select([self.pipe], [], [], max(0, deadline - time.monotonic()))[0]:
            said = os.read(self.pipe, 65536).decode("utf-8", "replace")
            if not said:
                break
            self.text += said
        return super().wait(timeout)


class OpenMonitor:
    """A monitor that was negotiated, with oob, while QEMU was free to do so. A vCPU that waits for a page can hold QEMU's lock;
    no new monitor is answered then, and godwit serve cannot ask for a recovery. This one still can."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(30 * godwit.PATIENCE)
        self.sock.connect(path)
        self.file = self.sock.makefile("r")
        self.file.readline()
        self.call({"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}})

    def call(self, command):
        self.sock.sendall(json.dumps(command).encode() + b"\n")
        while True:
            answer = json.loads(self.file.readline())
            if "event" not in answer:
                assert "return" in answer, f"{command}: {answer}"
                return

    def recover(self, uri):
        self.call({"exec-oob": "migrate-recover", "arguments": {"uri": uri}, "id": 1})

    def close(self):
        self.file.close()
        self.sock.close()


class Crashed(Exception):
    """QEMU itself ended by a signal nobody sent."""


class Killer:
    """Wears out destinations, and counts what it met."""

    def __init__(self, kept, version):
        self.kept, self.version, self.rnd = kept, version, random.Random(SEED)
        self.at = collections.Counter()     # kills by moment
        self.resumes = self.early = self.destinations = self.complete = self.held_up = 0
        self.history, self.crashes = [], []

    @property
    def kills(self):
        return sum(self.at.values())

    def run(self, rounds, *args):
        """Until so many more kills are done and a guest is whole; each that can be is completed and looked at."""
        goal, complete = self.kills + rounds, self.complete
        while self.kills < goal or self.complete == complete:
            self.destinations += 1
            self.history = []
            with self.kept.destination(self.version, *args, "-qmp", "unix:{dir}/open,server=on,wait=off") as vm:
                monitor = OpenMonitor(vm.path("open"))
                try:
                    if self.wear_out(vm, monitor, goal):
                        self.finish(vm, monitor, paused="-S" in args)
                        self.complete += 1
                except Crashed as e:
                    self.crashes.append(str(e))
                    print(f"    a QEMU crashed {e}", flush=True)
                    assert self.version in CRASHES and len(self.crashes) <= 1 + self.kills // 5, vm.stderr()
                monitor.close()

    def report(self):
        print(f"    {self.kills} kills, {self.resumes} resumed, {self.destinations} destinations of which {self.complete} completed "
              f"and {self.early} gave up before they had the guest, {self.held_up} monitors held up, "
              f"{len(self.crashes)} QEMUs that crashed")
        for name, n in self.at.most_common():
            print(f"      {n} {name}")
        sys.stdout.flush()

    def choose(self, has_guest):
        if self.rnd.randrange(ONE_IN) == 0:
            return END
        return self.rnd.choice((AGAIN if has_guest else FIRST) + PUSH)

    def wear_out(self, vm, monitor, goal):
        """True: it has the guest, whole or not. False: a kill came before that, and QEMU gave up as it must."""
        has_guest = False
        while self.kills < goal:
            moment = self.choose(has_guest)
            self.history.append(moment.name)
            rate = [f"--max-bandwidth={RATE}"] if moment.slow else []
            with Stepped("serve", self.kept.image, f"--qmp={vm.monitor}", "-v", *rate) as g:
                killed = g.kill_at(moment, self.rnd.randint(1, moment.times), self.rnd.uniform(0, moment.later))
                self.resumes += g.text.count("RESUME_ACK")
                has_guest = has_guest or "-> postcopy-active" in g.text
                if killed:
                    g.process.wait()
                    self.at[moment.name] += 1
                    self.check_alive(vm, has_guest)
                    continue
                result = g.wait()
            if result.status == godwit.DONE:
                return True
            self.look_at(vm, result, has_guest)
            if not has_guest:
                self.early += 1
                return False
            self.rescue(vm, monitor, result, RATE)
        return has_guest or not self.history

    def check_alive(self, vm, has_guest):
        """A QEMU that has the guest lives on, whatever we do."""
        code = vm.process.poll()
        if code in (-signal.SIGSEGV, -signal.SIGABRT):
            raise Crashed(f"by signal {-code}, {'with' if has_guest else 'before it had'} the guest, server killed "
                          f"{', '.join(self.history[-4:])}")
        assert code is None or not has_guest, f"status {code}, server killed {self.history[-4:]}: {vm.stderr()}"

    def look_at(self, vm, result, has_guest):
        """A QEMU that dies closes its monitor a moment before it is gone."""
        if result.status == godwit.FAILED:
            with contextlib.suppress(subprocess.TimeoutExpired):
                vm.process.wait(5 * godwit.PATIENCE)
        self.check_alive(vm, has_guest)

    def rescue(self, vm, monitor, result, rate):
        """What serve could not ask for is asked for by the monitor that was open; a page server without one is killed again."""
        assert result.status == godwit.IN_DOUBT and "did not answer" in result.stderr, \
            f"behind {self.history[-4:]}: {result}\nQEMU ({vm.process.poll()}): {vm.stderr()}"
        self.held_up += 1
        uri = f"unix:{vm.path(f'again{self.held_up}')}"
        monitor.recover(uri)
        with open(vm.path("tool"), "wb") as said, \
                subprocess.Popen([self.kept.tool, self.kept.image, uri, "resume", f"rate={rate}"], stdout=said, stderr=said) as p:
            try:
                p.wait(self.rnd.uniform(0.1, LONGEST_S) if rate else 60 * godwit.PATIENCE)
            except subprocess.TimeoutExpired:
                p.kill()
                self.at["with a monitor held up"] += 1
        with open(vm.path("tool"), encoding="ascii") as said:
            text = said.read()
        assert p.returncode in (0, -signal.SIGKILL), text
        return p.returncode == 0

    def finish(self, vm, monitor, paused):
        with Stepped("serve", self.kept.image, f"--qmp={vm.monitor}", "-v") as g:
            result = g.wait(120)
            self.resumes += g.text.count("RESUME_ACK")
        self.look_at(vm, result, True)
        if result.status == godwit.IN_DOUBT:
            assert self.rescue(vm, monitor, result, 0)
        else:
            assert result.status == godwit.DONE, f"behind {self.history[-4:]}: {result}\nQEMU: {vm.stderr()}"
        wait_status(vm, "completed")
        if paused:
            self.kept.is_in(vm)
            vm.qmp.cont()
        self.kept.goes_on_in(vm)


def main(argv):
    tool, version, source = argv[1], argv[2], argv[3] if len(argv) > 3 else argv[2]
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="godwit-kills.") as folder:
            killer = Killer(Kept(tool, source, folder), version)
            print(f"  {version}, seed {SEED}", flush=True)
            for args in (("-S",), ()):
                killer.run(max(1, ROUNDS // 2), *args)
                print(f"  {' '.join(args) or 'running'}: {killer.kills} kills after {time.monotonic() - began:.1f} s", flush=True)
            killer.report()
    except Unavailable as e:
        skip(str(e))


if __name__ == "__main__":
    main(sys.argv)
