#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The page server dies by kill -9 at seeded moments of its work, again and again, and is started again until the guest is whole:
in a paused destination every byte of RAM is compared, in a running one the guest checks its own stamped memory.

test-lazy-kills.py DESTINATION [SOURCE]: QEMU versions.
GODWIT_ROUNDS: kills (20), half of them with a paused destination. GODWIT_SEED: when.
"""
import collections
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
from saved_guest import Kept, wait_status
from qmp import QmpClosed, QmpTimeout
from traced_run import LONGEST_S, Stepped
from vm import Unavailable, skip

ROUNDS = int(os.environ.get("GODWIT_ROUNDS", "20"))
SEED = int(os.environ.get("GODWIT_SEED", "4"))
RATE = 30 << 20

# When to kill: a line of the trace, how often it comes at most, how much later at most; and whether the server is to be slow.
Moment = collections.namedtuple("Moment", "name pattern times later slow", defaults=(1, 0.0005, True))
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


def is_held_up(vm):
    """No monitor gets an answer, in band; not even one that was open before. QEMU takes eight commands at most without answering."""
    try:
        if not vm.qmp.owed:
            vm.qmp.command("query-status", timeout=0.1)
        return vm.qmp.owed > 0
    except QmpTimeout:
        return True
    except QmpClosed as e:
        raise AssertionError(f"{e}: {vm.stderr()}") from None


class Killer:
    """Wears out destinations, and counts what it met. A guest that waits for a page can hold QEMU up, and no new monitor is
    answered then: that each server gets through to it all the same is the work of the broker its first one started."""

    def __init__(self, kept, version):
        self.kept, self.version, self.rnd = kept, version, random.Random(SEED)
        self.at = collections.Counter()     # kills by moment
        self.resumes = self.early = self.destinations = self.complete = self.held_up = 0
        self.history = []

    @property
    def kills(self):
        return sum(self.at.values())

    def run(self, rounds, *args):
        """Until so many more kills are done and a guest is whole; each that can be is completed and looked at."""
        goal, complete = self.kills + rounds, self.complete
        while self.kills < goal or self.complete == complete:
            self.destinations += 1
            self.history = []
            with self.kept.destination(self.version, *args) as vm:
                if self.wear_out(vm, goal):
                    self.finish(vm, paused="-S" in args)
                    self.complete += 1

    def report(self):
        print(f"    {self.kills} kills, {self.resumes} resumed, {self.destinations} destinations of which {self.complete} completed "
              f"and {self.early} gave up before they had the guest, {self.held_up} times held up")
        for name, n in self.at.most_common():
            print(f"      {n} {name}")
        sys.stdout.flush()

    def choose(self, has_guest):
        if self.rnd.randrange(ONE_IN) == 0:
            return END
        return self.rnd.choice((AGAIN if has_guest else FIRST) + PUSH)

    def wear_out(self, vm, goal):
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
                    if moment is END:
                        return True
                    self.held_up += has_guest and is_held_up(vm)
                    continue
                result = g.wait()
            if result.status == godwit.DONE:
                return True
            self.look_at(vm, result, has_guest)
            if not has_guest:
                self.early += 1
                return False
            raise AssertionError(f"behind {self.history[-4:]}: {result}\nQEMU: {vm.stderr()}")
        return has_guest or not self.history

    def check_alive(self, vm, has_guest):
        """A QEMU that has the guest lives on, whatever we do."""
        code = vm.process.poll()
        assert code is None or not has_guest, f"status {code}, server killed {self.history[-4:]}: {vm.stderr()}"

    def look_at(self, vm, result, has_guest):
        """A QEMU that dies closes its monitor a moment before it is gone."""
        if result.status == godwit.FAILED:
            with contextlib.suppress(subprocess.TimeoutExpired):
                vm.process.wait(5 * godwit.PATIENCE)
        self.check_alive(vm, has_guest)

    def finish(self, vm, paused):
        with Stepped("serve", self.kept.image, f"--qmp={vm.monitor}", "-v") as g:
            result = g.wait(120)
            self.resumes += g.text.count("RESUME_ACK")
        self.look_at(vm, result, True)
        assert result.status == godwit.DONE, f"behind {self.history[-4:]}: {result}\nQEMU: {vm.stderr()}"
        wait_status(vm, "completed")
        if paused:
            self.kept.is_in(vm)
            vm.qmp.cont()
        self.kept.goes_on_in(vm)


def main(argv):
    version, source = argv[1], argv[2] if len(argv) > 2 else argv[1]
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="godwit-kills.") as folder:
            killer = Killer(Kept(source, folder), version)
            print(f"  {version}, seed {SEED}", flush=True)
            for args in (("-S",), ()):
                killer.run(max(1, ROUNDS // 2), *args)
                print(f"  {' '.join(args) or 'running'}: {killer.kills} kills after {time.monotonic() - began:.1f} s", flush=True)
            killer.report()
    except Unavailable as e:
        skip(str(e))


if __name__ == "__main__":
    main(sys.argv)
