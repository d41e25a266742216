#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A real QEMU source that switches to post-copy, kept in an image: godwit receive and godwit save --postcopy, over any number of
deaths of ours and cuts of the link.

test-postcopy.py SOURCE [hugepage]: on pages of 2 MiB, which are borrowed from the whole machine. GODWIT_KILL_ROUNDS: how often
receive is killed (20, or 6), GODWIT_SEED: when. GODWIT_ONLY: names of tests.
"""
import os
import random
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from types import SimpleNamespace

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
import images
import pcsource
from capture_guests import HugePages
from linuxguest import MIB, RAM_BYTES, LinuxGuest, check_continues
from lost_pages import unless_lost
from relay import Relay
from traced_run import Stepped
from postcopy_source_vm import Receiver, come_back, migrate, status, wait_pages_follow, wait_status
from protected_guest import Victim
from vm import Unavailable, skip

ROUNDS = int(os.environ.get("GODWIT_KILL_ROUNDS", "20"))
HUGE_ROUNDS = int(os.environ.get("GODWIT_KILL_ROUNDS", "6"))
SEED = int(os.environ.get("GODWIT_SEED", "4"))
HANGS_AT_THE_END = ("7.2",)     # when the link breaks between its last page and our last word (docs/spec/postcopy.md 1.4)
UNDER_STRACE = {**os.environ, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}

def is_kept(vm, receiver, console=None):
    """The source stands and says that it is done; the image has its memory to the byte, and nothing else is left."""
    wait_status(vm, "completed")
    assert not vm.is_running()
    assert receiver.left() == ["image"], receiver.left()
    s = images.check_image(vm, receiver.image, vm.path("raw"))
    assert not [n for n, _ in s.commands if n != 11], s.commands
    assert console is None or vm.console() == console


class Source(LinuxGuest):
    def __init__(self, version, *args, **keywords):
        super().__init__(version, backend="memfd", args=args, **keywords)

    def on_huge_pages(self):
        self.argv = [a.replace("memory-backend-memfd,", "memory-backend-memfd,hugetlb=on,hugetlbsize=2M,") for a in self.argv]
        assert "hugetlb=on" in " ".join(self.argv)
        return self

    def is_running(self):
        return self.qmp.command("query-status")["running"]

    def goes_on(self):
        """What its user may do once the guest is kept."""
        self.qmp.command("cont")
        self.keeps_ticking()


def switched(version):
    """The image is an ordinary one: a stock QEMU loads it. The source may run its guest on."""
    with Source(version) as vm:
        vm.booted()
        for n, capabilities in enumerate(((), ("postcopy-preempt",))):
            receiver = Receiver(vm)
            with receiver.start(*(["--direct-io"] if n else [])) as g:
                migrate(vm, receiver.uri, *capabilities, bandwidth=60 * MIB, first_bytes=(10 - 9 * n) * MIB)
                done = g.wait().ok().event("done")
            assert done["source_notified"] and done["postcopy"] and not done["breaks"], done
            is_kept(vm, receiver)
            if n:
                continue
            vm.goes_on()
        stock_qemu_goes_on(vm, receiver.image, "11.1" if version == "11.1" else "10.0")
        vm.goes_on()


def stock_qemu_goes_on(source, image, version):
    before = source.console()
    with LinuxGuest(version, machine=source.machine, backend="memfd", incoming="defer") as vm:
        vm.qmp.command("migrate-set-capabilities", capabilities=[{"capability": "mapped-ram", "state": True}])
        vm.qmp.command("migrate-incoming", uri=f"file:{image}")
        vm.wait_console(lambda t: t.count("\ntick") >= 3)
        check_continues(before, vm.console())
        vm.stamped_again()


# --- deaths and cuts ---

class Killer:
    def __init__(self, version, rnd, huge=False):
        self.version, self.rnd, self.huge = version, rnd, huge
        self.kills = self.complete = self.too_late = 0

    def run(self, rounds):
        while self.kills < rounds or not self.complete:
            vm = Source(self.version)
            with vm.on_huge_pages() if self.huge else vm:
                vm.booted()
                while (self.kills < rounds or not self.complete) and self.wear_out(vm, Receiver(vm), rounds):
                    vm.goes_on()
        print(f"    {self.kills} kills, {self.complete} images, {self.too_late} killed after the source's last page", flush=True)

    def wear_out(self, vm, receiver, rounds):
        """One image, over as many deaths as it takes. False: the source is of no use any more."""
        options = ["--max-bandwidth=20M" if self.huge else "--max-bandwidth=60M"]
        vm.qmp.command("migrate-set-parameters", downtime_limit=1)     # or it may be done before it switches
        while True:
            with receiver.start(*options) as g:
                if options[-1] != "--resume":
                    migrate(vm, receiver.uri, bandwidth=30 * MIB)
                    options.append("--resume")
                else:
                    come_back(vm, receiver.uri)
                g.wait_stderr("-> postcopy-active|phase: done")
                time.sleep(self.rnd.uniform(0.0, 0.25))
                if self.kills < rounds and g.process.poll() is None and "phase: devices" not in g.stderr:
                    g.kill()
                    g.process.wait()
                    self.kills += 1
                    if self.is_paused(vm):
                        continue
                    return self.killed_at_the_end(vm, receiver)
                done = g.wait().ok().event("done")
            assert done["postcopy"], done
            is_kept(vm, receiver)
            os.unlink(receiver.image)
            self.complete += 1
            return True

    @staticmethod
    def is_paused(vm):
        deadline = time.monotonic() + 30 * godwit.PATIENCE
        while (now := status(vm)) == "postcopy-active" and time.monotonic() < deadline:
            if vm.version in HANGS_AT_THE_END and not vm.qmp.command("query-migrate")["ram"]["remaining"]:
                return False
            time.sleep(0.02)
        assert now in ("postcopy-paused", "completed", "failed"), now
        return now == "postcopy-paused"

    def killed_at_the_end(self, vm, receiver):
        """It had sent its last page just then: nothing is missing at the source, so it lets its guest run, or hangs."""
        self.too_late += 1
        for name in receiver.left():
            os.unlink(os.path.join(receiver.folder, name))
        if vm.version in HANGS_AT_THE_END:
            return False
        deadline = time.monotonic() + 30 * godwit.PATIENCE
        while not vm.is_running():
            assert time.monotonic() < deadline, status(vm)
            time.sleep(0.02)
        vm.qmp.command("stop")
        return True


def killed(version):
    print(f"    seed {SEED}", flush=True)
    Killer(version, random.Random(SEED)).run(ROUNDS)


def killed_huge(version):
    """A page of 2 MiB is there when all of its pieces are; of a half one, all are sent again."""
    with HugePages(RAM_BYTES // (2 * MIB)):
        Killer(version, random.Random(SEED), huge=True).run(HUGE_ROUNDS)


def cut(version):
    """The link breaks at seeded places, in the questions and answers of the way back too; receive waits, and is started again when
    nothing came of it too often."""
    rnd = random.Random(SEED)
    with Source(version) as vm:
        vm.booted()
        receiver = Receiver(vm)
        g = receiver.start()
        try:
            migrate(vm, receiver.uri, bandwidth=50 * MIB, postcopy_bandwidth=50 * MIB)
            g.wait_stderr("-> postcopy-active")
            wait_pages_follow(vm)
            vm.qmp.command("migrate-pause")
            for n in range(ROUNDS):
                if g.process.poll() is not None:
                    g = again(g, receiver)
                cut_once(vm, receiver, n, rnd)
            if g.process.poll() is not None:
                g = again(g, receiver)
            come_back(vm, receiver.uri)
            done = g.wait()
            if done.status == godwit.RECOVERABLE:       # it had given up just then
                g = again(g, receiver)
                wait_status(vm, "postcopy-paused")
                come_back(vm, receiver.uri)
                done = g.wait()
            done.ok()
        finally:
            g.__exit__()
        is_kept(vm, receiver)


def again(g, receiver):
    assert g.wait().status == godwit.RECOVERABLE, g.stderr
    g.__exit__()
    return receiver.start("--resume")


def cut_once(vm, receiver, n, rnd):
    way, least, most = rnd.choice((("forward", 1, 120), ("forward", 1, 2 * MIB), ("return", 1, 4000)))
    if vm.version in HANGS_AT_THE_END:      # and in the middle of a recovery; behind it, it does not
        way, least, most = "forward", 1000, 2 * MIB
    uri = f"unix:{receiver.folder}/sp{n}"
    with godwit.Run("proxy", uri, receiver.uri, "--json", f"--cut-after={way}:{rnd.randrange(least, most)}") as p:
        p.wait_stdout('"listening"')
        come_back(vm, uri)
        p.process.wait(60 * godwit.PATIENCE)
    wait_status(vm, "postcopy-paused")


# --- godwit save --postcopy ---

class Busy(Victim):
    """A guest that pre-copy never catches up with."""

    def __init__(self, version, **keywords):
        super().__init__(version, backend="memfd", spins=True, **keywords)

    def fill(self):
        """Zeros, so that the first pass is short and all that is left behind it is what the guest writes."""

    def change_settings(self):
        super().change_settings()
        self.qmp.command("migrate-set-parameters", downtime_limit=1)

    def ram(self):
        with open(self.ram_path(), "rb") as f:
            return f.read()

    def save(self, *options):
        return godwit.Run("save", self.monitor, self.image, "--postcopy", "-v", *options, env={**os.environ, "GODWIT_TRACE": "1"})

    def is_kept(self):
        """It stands: its memory is that of the image."""
        images.is_tidy(self.folder, "image")
        images.check_image(self, self.image, self.path("raw"))


def saved(version):
    """The switch is made after one pass; the guest runs on, with its settings, or stands."""
    with Busy(version) as vm:
        with vm.save("--max-bandwidth=500K", "--json") as g:
            said = g.wait().ok()
        assert "after one pass" in said.stderr and "postcopy-active -> " in said.stderr, said
        assert said.event("saved")["running"] and said.event("saved")["paused_ms"] > 0, said
        vm.wait_as_before()
        godwit.run("verify", vm.image).ok()
        with vm.save("--max-bandwidth=500K", "--stop") as g:
            g.wait().ok()
        vm.is_kept()
        vm.qmp.command("cont")
        vm.wait_as_before()


def unplugged(version):
    """Memory that virtio-mem has not plugged is in QEMU's total and never sent: the switch does not wait for it."""
    with Busy(version, args=("-m", "32M,slots=2,maxmem=1G", "-object", "memory-backend-memfd,id=vm0,size=256M", "-device",
            "virtio-mem-pci,memdev=vm0,requested-size=0")) as vm:
        if version == "7.2":    # which does not say in time that it has such memory
            godwit.run("save", vm.monitor, vm.image, "--postcopy").fails(godwit.FAILED, "virtio-mem", "nothing was changed")
            vm.unharmed()
            return
        with vm.save("--max-bandwidth=500K") as g:
            assert "after one pass" in g.wait().ok().stderr
        vm.wait_as_before()


def left_behind(vm, *options):
    """A save that was killed behind the switch, with most of the rest still to come."""
    with vm.save("--max-bandwidth=500K", *options) as g:
        g.wait_stderr("-> postcopy-active")
        vm.qmp.command("migrate-set-parameters", max_postcopy_bandwidth=50000)
        wait_pages_follow(vm)
        wait_status(vm, "postcopy-active")  # an 11.1 that has not read our PONG yet would fail, and run its guest on
        g.kill()
        g.process.wait()
        g.wait_guard(f"is paused .*--postcopy --resume {vm.monitor} {vm.image}")
    vm.qmp.command("migrate-set-parameters", max_postcopy_bandwidth=0)


def saved_again(version):
    """Killed, it leaves a guest that stands and a sentence; --resume brings the rest, and all is as before."""
    with Busy(version) as vm:
        for stop in (["--stop"], []):
            left_behind(vm, *stop)
            assert status(vm) == "postcopy-paused"
            images.is_tidy(vm.folder, "image", "image.partial", "image.partial.state")
            godwit.run("receive", f"unix:{vm.path('other')}", vm.image).fails(godwit.REFUSED, "--resume")
            with vm.save("--resume", *stop) as g:
                g.wait().ok()
            if stop:
                vm.is_kept()
                vm.qmp.command("cont")
            vm.wait_as_before()
            images.is_tidy(vm.folder, "image")
        godwit.run("save", vm.monitor, vm.image, "--postcopy", "--resume").fails(godwit.FAILED, "nothing was begun")
        vm.can_be_saved()


def hangs(version):
    """The save dies behind the last page. An old QEMU never ends then; its image can be ended without it."""
    if version not in HANGS_AT_THE_END:
        return
    with Busy(version) as vm:
        with Stepped("save", vm.monitor, vm.image, "--postcopy", "--max-bandwidth=500K") as g:
            assert g.kill_at(SimpleNamespace(pattern=r"-> postcopy-active \(ending\)", slow=False))
            said = g.wait().sentences[-1]       # its guard's
        rest = re.search(f"hangs .* godwit (receive .*--without-source .*{vm.image}),", said)
        assert rest and status(vm) == "postcopy-active", said
        godwit.run(*rest[1].split()).ok()
        vm.is_kept()


def mended(version):
    """A link that breaks is made anew while save lives; SIGINT leaves what --resume needs."""
    with Busy(version) as vm:
        with vm.save("--max-bandwidth=500K") as g:
            for n in range(3):
                g.wait_stderr("(?s)" + ("postcopy-recover -> postcopy-active.*" * n or "-> postcopy-active"))
                vm.qmp.command("migrate-set-parameters", max_postcopy_bandwidth=50000)
                wait_status(vm, "postcopy-active")
                vm.qmp.command("migrate-pause")
            g.wait_stderr("(?s)" + "postcopy-recover -> postcopy-active.*" * 3)
            g.kill(signal.SIGINT)
            r = g.wait()
            assert r.status == godwit.RECOVERABLE, r
            assert re.search("SIGINT.*is paused.*--postcopy --resume", r.sentences[-1]), r
        vm.qmp.command("migrate-set-parameters", max_postcopy_bandwidth=0)
        with vm.save("--resume", "--stop") as g:
            g.wait().ok()
        vm.is_kept()
        vm.qmp.command("cont")
        vm.wait_as_before()


def abandoned(version):
    """The operator wants the guest, not the image."""
    with Busy(version) as vm:
        left_behind(vm)
        godwit.run("save", vm.monitor, vm.image, "--postcopy", "--abandon", "-q").ok()
        vm.unharmed()
        godwit.run("save", vm.monitor, vm.image, "--postcopy", "--abandon").fails(godwit.FAILED, "nothing was begun")


def other_qemu(version):
    """--resume and --abandon with the monitor of a QEMU that has given its guest to another one: it does not run it too."""
    with Busy(version) as vm, Victim(version) as other, Victim(version, incoming="defer") as destination:
        uri = f"unix:{destination.path('in')}"
        destination.qmp.command("migrate-incoming", uri=uri)
        other.qmp.command("migrate-set-capabilities", capabilities=[{"capability": "xbzrle", "state": False}])
        other.qmp.command("migrate-set-parameters", max_bandwidth=1 << 40, downtime_limit=2000)
        other.qmp.migrate(uri)
        wait_status(other, "completed")
        left_behind(vm)
        for option in ("--resume", "--abandon"):
            godwit.run("save", other.monitor, vm.image, "--postcopy", option).fails(godwit.FAILED, "is not the one whose guest", "nothing was changed")
            assert not other.qmp.command("query-status")["running"]
            assert status(vm) == "postcopy-paused"
            images.is_tidy(vm.folder, "image", "image.partial", "image.partial.state")
        godwit.run("save", vm.monitor, vm.image, "--postcopy", "--resume").ok()
        vm.wait_as_before()


def partial_away(version):
    """A part that cannot be opened for a moment does not make --resume give the guest back."""
    with Busy(version) as vm:
        left_behind(vm)
        os.rename(vm.image + ".partial", vm.image + ".away")
        r = godwit.run("save", vm.monitor, vm.image, "--postcopy", "--resume")
        assert r.status == godwit.RECOVERABLE and re.search("is still paused.*--postcopy --resume", r.sentences[-1]), r
        assert status(vm) == "postcopy-paused"
        os.rename(vm.image + ".away", vm.image + ".partial")
        godwit.run("save", vm.monitor, vm.image, "--postcopy", "--resume").ok()
        vm.wait_as_before()
        images.is_tidy(vm.folder, "image")


def given_back(version):
    """What fails between package and the first page to go on with leaves a QEMU that waits for nobody; it gets its guest back."""
    with Busy(version) as vm:
        with vm.save("--max-bandwidth=500K", "--memory-limit=5000") as g:
            r = g.wait()
        assert r.status == godwit.FAILED, r
        assert re.search("package with .* at most 5000 .*the guest runs on", r.sentences[-1]), r
        vm.unharmed()
        vm.can_be_saved()


class Far(Relay):
    """The monitor of a QEMU that reaches no socket of this host's /tmp."""

    def __init__(self, real):
        super().__init__(None, real)
        self.uris = []

    def pass_on(self, client, server):
        while data := client.recv(65536):
            self.uris += re.findall(rb'"uri": ?"([^"]*)"', data)
            server.sendall(data.replace(b"unix:/tmp/", b"unix:/nowhere/"))
        client.shutdown(socket.SHUT_RDWR)


def not_held_far(version):
    """The same of a QEMU of another host: one that waits then (7.2) gets its guest back at the address that it came to."""
    assert shutil.which("strace"), "no strace here; scripts/setup installs it"
    with Busy(version) as vm, Far(vm.monitor) as far:
        strace = ("strace", "-D", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=2")
        with godwit.Run("save", far.address, vm.image, "--postcopy", "--listen=tcp:127.0.0.1:0", "--max-bandwidth=500K",
                        prefix=strace, env=UNDER_STRACE) as g:
            r = g.wait()
        assert r.status == godwit.FAILED and re.search("cannot make .* safe.*the guest runs on", r.sentences[-1]), r
        assert (len(far.uris) == 2 or version != "7.2") and all(u.startswith(b"tcp:127.0.0.1:") for u in far.uris), far.uris
        vm.unharmed()


def nobody_left(version):
    """Save and guard are both killed in the switch: the list that was written before it has what --abandon takes."""
    with Busy(version) as vm:
        with Stepped("save", vm.monitor, vm.image, "--postcopy", "--max-bandwidth=500K") as g:
            g.reach(r"-> active \(discards\)")
            guards = [int(p) for p in open(f"/proc/{g.process.pid}/task/{g.process.pid}/children").read().split()]
            assert len(guards) == 1, guards
            os.kill(guards[0], signal.SIGKILL)
            g.kill()
            g.process.wait()
        now = wait_status(vm, "postcopy-paused", "failed", "completed")
        assert "image.partial.state" in os.listdir(vm.folder), os.listdir(vm.folder)
        godwit.run("save", vm.monitor, vm.image, "--postcopy", "--abandon", "-q").ok()
        print(f"    {now}", flush=True)
        vm.unharmed()


def not_held(version):
    """What has to survive us cannot be made safe: the guest runs on, and nothing is left of it."""
    assert shutil.which("strace"), "no strace here; scripts/setup installs it"
    with Busy(version) as vm:
        for call in ("fsync:error=EIO:when=2", "fdatasync:error=EIO:when=5"):     # of the folder; of the state, or, with 7.2, of its new head
            strace = ("strace", "-D", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", f"trace={call.split(':')[0]}", "-e", f"inject={call}")
            with godwit.Run("save", vm.monitor, vm.image, "--postcopy", "--max-bandwidth=500K", prefix=strace, env=UNDER_STRACE) as g:
                r = g.wait()
            assert r.status == godwit.FAILED and re.search("cannot make .* safe.*the guest runs on", r.sentences[-1]), f"{call}: {r}"
            vm.unharmed()


def not_made_safe(version):
    """All came and the image cannot be ended: QEMU is asked, has its guest again, and only then goes what came of it."""
    with Busy(version) as vm:
        old = vm.path("old")
        with Stepped("save", vm.monitor, vm.image, "--postcopy", "--max-bandwidth=500K") as g:
            g.reach(r"-> postcopy-active \(ending\)")
            os.rename(vm.image, old)
            os.mkdir(vm.image)
            vm.process.send_signal(signal.SIGSTOP)      # so that it is not asked too early
            g.reach("SHUT 1")
            os.rmdir(vm.image)
            os.rename(old, vm.image)
            images.is_tidy(vm.folder, "image", "image.partial", "image.partial.state")
            vm.process.send_signal(signal.SIGCONT)
            r = g.wait()
        assert r.status == godwit.FAILED and "the guest runs on" in r.sentences[-1], r
        vm.unharmed()
        vm.can_be_saved()


def refused(version):
    """What can be foreseen is refused before the switch, and the guest runs on; behind it nobody is told that it does."""
    with Busy(version) as vm:
        vm.qmp.command("migrate-set-capabilities", capabilities=[{"capability": "xbzrle", "state": False}])
        receiver = Receiver(vm)
        stray = receiver.image + ".partial"
        open(stray, "w").close()
        with receiver.start() as g:
            vm.qmp.command("migrate-set-capabilities", capabilities=[
                {"capability": c, "state": True} for c in ("postcopy-ram", "return-path")])
            vm.qmp.command("migrate", uri=receiver.uri)
            r = g.wait()
        assert r.status == godwit.FAILED and "is there already" in r.stderr and "still runs its guest" in r.stderr, r
        assert wait_status(vm, "failed", "completed") == "failed"
        assert vm.qmp.command("query-status")["running"] and receiver.left() == ["image.partial"]
        os.unlink(stray)
        with receiver.start() as g:     # and who comes second loses its own migration, not the first one's
            vm.qmp.command("migrate-set-parameters", max_bandwidth=100000)
            vm.qmp.command("migrate", uri=receiver.uri)
            g.wait_stderr("POSTCOPY_ADVISE(?s:.*)phase: ram")
            vm.wait_moving(1)
            assert receiver.left() == ["image.partial.state"], receiver.left()
            godwit.run("receive", f"unix:{vm.path('other')}", receiver.image).fails(godwit.REFUSED, "--resume")
            vm.qmp.command("migrate_cancel")
            g.wait()
        wait_status(vm, "cancelled")
        assert receiver.left() == []
        with receiver.start("--memory-limit=8K") as g:
            migrate(vm, receiver.uri, bandwidth=MIB, first_bytes=100000)
            r = g.wait()
        assert r.status == godwit.IN_DOUBT and "check its query-migrate" in r.stderr, r
        assert "still runs its guest" not in r.stderr and receiver.left() == ["image.partial.state"], r
        if wait_status(vm, "failed", "postcopy-paused") == "postcopy-paused":   # what QEMU makes of it differs; then it gets its guest back
            with receiver.start("--abandon") as g:
                come_back(vm, receiver.uri)
                g.wait().ok()
            wait_status(vm, "failed")
            assert receiver.left() == []
            if version == "7.2":
                vm.qmp.command("cont")
            assert vm.counts()
            print("    given back", flush=True)


def stranger(path):
    """Knows the protocol, and nothing of the guest."""
    with pcsource.Link(path) as s:
        s.send(pcsource.command(pcsource.RESUME), pcsource.end())
        s.is_closed()


def abandoned_huge(version):
    """What the source is known by is asked for in pages of 2 MiB then."""
    with HugePages(RAM_BYTES // (2 * MIB)):
        abandoned_after_strangers(version, huge=True)


def abandoned_after_strangers(version, huge=False):
    """The guest rather than its image, where receive began: nobody but its source is believed, and that runs it on."""
    vm = Source(version)
    with vm.on_huge_pages() if huge else vm:
        vm.booted()
        receiver = Receiver(vm)
        vm.qmp.command("migrate-set-parameters", downtime_limit=1)     # or it may be done before it switches
        with receiver.start() as g:
            migrate(vm, receiver.uri, bandwidth=30 * MIB, postcopy_bandwidth=8 * MIB, first_bytes=MIB)
            g.wait_stderr("-> postcopy-active")
            wait_pages_follow(vm)
            g.kill()
            g.process.wait()
        wait_status(vm, "postcopy-paused")
        assert receiver.left() == ["image.partial", "image.partial.state"], receiver.left()
        with receiver.start("--abandon") as g:
            path = receiver.uri.split(":", 1)[1]
            for _ in range(2):
                stranger(path)
            assert len(receiver.left()) == 2
            come_back(vm, receiver.uri)
            g.wait().ok()
        wait_status(vm, "failed")
        assert receiver.left() == [], receiver.left()
        if version == "7.2":
            vm.qmp.command("cont")
        vm.keeps_ticking()


def main(argv):
    version, huge = argv[1], argv[2:] == ["hugepage"]
    tests = [killed_huge, abandoned_huge] if huge else [switched, killed, cut, saved, unplugged, saved_again, hangs, mended, abandoned, abandoned_after_strangers, other_qemu, partial_away, given_back, nobody_left, not_held, not_held_far, not_made_safe, refused]
    wanted = os.environ.get("GODWIT_ONLY", "").split(",")
    try:
        for test in tests:
            if wanted == [""] or test.__name__ in wanted:
                print(f"  {version}: {test.__name__}", flush=True)
                begin = time.monotonic()
                unless_lost(version, test, version)
                print(f"    {time.monotonic() - begin:.1f} s", flush=True)
    except Unavailable as e:
        skip(str(e))


if __name__ == "__main__":
    main(sys.argv)
