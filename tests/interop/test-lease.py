#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Who may run a guest, by a file, and with a real etcd of three members: never two, whatever becomes of its members and of who has the lease.

test-lease.py LEASE-TOOL CERTS-TOOL [CASE...]. GODWIT_ROUNDS: how many accidents happen to the keepers of a lease, and by hand all cases.
"""
import contextlib
import fcntl
import glob
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import etcd
import godwit
from colo import Protect, Standby
from etcd import Etcd, record
from linuxguest import LinuxGuest, Restored
from private_mounts import mounts_possible
from relay import Relay
from vm import Unavailable, skip

TOOL, CERTS_TOOL = sys.argv[1:3]
ROUNDS = int(os.environ.get("GODWIT_ROUNDS", "0"))
TERM_MS = int(4000 * min(3, godwit.patience()))     # a busy etcd answers late, and a lease that is lost for that is lost rightly

DISKS = mounts_possible() and bool(shutil.which("mkfs.ext4")) and os.path.exists("/dev/loop-control")
LONG_TERM_MS = 30000    # where nobody waits for its end


class Keepers:
    """Two hosts that want to run one guest, again and again. Each writes when its guest ran, by itself."""

    def __init__(self, folder, cluster):
        self.folder, self.cluster, self.url = folder, cluster, cluster.url("guest")
        self.hosts = [etcd.another_host(folder, n) for n in (1, 2)]
        self.process, self.log, self.runs = [None, None], [None, None], 0
        self.ends = False

    def start(self, n):
        self.runs += 1
        self.log[n] = os.path.join(self.folder, f"run-{self.runs}-{n}")
        with open(self.words(self.runs), "wb") as said:
            self.process[n] = subprocess.Popen([*self.hosts[n], TOOL, self.url, str(TERM_MS), self.log[n]], stdout=said, stderr=said)

    def words(self, run):
        return os.path.join(self.folder, f"words-{run}")

    def story(self):
        """What the last of them said, and which of them are there."""
        said = []
        for run in range(max(1, self.runs - 7), self.runs + 1):
            with open(self.words(run), encoding="utf-8", errors="replace") as f:
                said.append(f"  run {run}: {f.read().strip() or 'nothing said'}")
        there = ", ".join(f"host {n + 1}: {'gone' if p.poll() is not None else os.path.basename(log)}"
                          for n, (p, log) in enumerate(zip(self.process, self.log)) if p)
        return f"{self.runs} runs; {there}; {self.cluster.story()}; the lease: {self.cluster.get('guest')}\n" + "\n".join(said)

    def keep_up(self):
        """Whoever was refused, or lost it, asks again."""
        for n, p in enumerate(self.process):
            if p is None or p.poll() is not None:
                self.start(n)

    def spans(self):
        """(from, to, host) of each guest that ran, in the order of time; a last line that was cut short by its death is left out."""
        found = []
        for path in glob.glob(os.path.join(self.folder, "run-*")):
            with open(path, encoding="ascii") as f:
                times = [int(line) for line in f.read().split("\n")[:-1] if line]
            if times:
                found.append((times[0], times[-1], path))
        return sorted(found)

    def now(self):
        """The log of the guest that runs, or None; it has grown within 50 ms."""
        grown = [(max(os.stat(p).st_mtime, 0), p) for p in glob.glob(os.path.join(self.folder, "run-*")) if os.stat(p).st_size]
        if not grown or time.time() - max(grown)[0] > 0.05 * godwit.patience():
            return None
        return max(grown)[1]

    def wait_runs(self, other_than=None):
        """The log of the guest that runs; not that one."""
        deadline = time.monotonic() + 60 * godwit.patience()
        while (now := self.now()) is None or now == other_than:
            self.keep_up()
            assert time.monotonic() < deadline, f"nobody runs the guest{' but ' + other_than if now else ''}; {self.story()}"
            time.sleep(0.01)
        return now

    def holder(self):
        """The process that has the lease, and its guest's log. One that has just lost it has a successor with another log. Until the first beat a
        lease has no limit: who is hit before that keeps it, and nobody may run the guest."""
        while (log := self.wait_runs()) not in self.log or record(self.cluster.get("guest") or "::0+forever")[3] == "forever":
            time.sleep(0.01)
        return self.process[self.log.index(log)], log

    def wait_ended(self, process):
        """It ends when its guest is dead, and has ended it before its term was over."""
        deadline = time.monotonic() + 3 * TERM_MS / 1e3 * godwit.patience()
        while process.poll() is None or self.now() is not None:
            assert time.monotonic() < deadline, f"the guest runs on without its lease; {self.story()}"
            time.sleep(0.01)

    def check(self):
        spans = self.spans()
        for (_, end, a), (begin, _, b) in zip(spans, spans[1:]):
            assert end < begin, f"two guests ran at once: {a} until {end}, {b} from {begin}"
        return spans

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for p in self.process:
            if p and p.poll() is None:
                p.send_signal(signal.SIGCONT)
                p.kill()
                p.wait()


class Accidents:
    KINDS = ["holder_frozen", "holder_killed", "leader_disk_frozen", "leader_frozen", "leader_killed", "two_frozen", "all_killed"]

    def __init__(self, cluster, keepers):
        self.cluster, self.keepers = cluster, keepers

    def holder_frozen(self):
        """The keeper cannot act any more; the deadman does. Later it comes back, and finds that it is over."""
        frozen, log = self.keepers.holder()
        frozen.send_signal(signal.SIGSTOP)
        self.keepers.wait_runs(other_than=log)
        frozen.send_signal(signal.SIGCONT)

    def holder_killed(self):
        killed, log = self.keepers.holder()
        killed.kill()
        self.keepers.wait_runs(other_than=log)

    def leader_frozen(self):
        leader = self.cluster.leader()
        self.keepers.wait_runs()
        self.cluster.freeze(leader)
        time.sleep(2 * TERM_MS / 1e3)
        self.cluster.thaw(leader)
        self.keepers.wait_runs()

    def leader_disk_frozen(self):
        """Its network and its memory are well, and nothing that it takes is ever safe. etcd's own leases were seen to let two owners live here."""
        leader = self.cluster.leader()
        self.keepers.wait_runs()
        if not self.cluster.disks:
            print("not tried: a disk that can be frozen is not possible")
            return
        self.cluster.disks[leader].freeze(2 * TERM_MS / 1e3)
        deadline = time.monotonic() + TERM_MS / 1e3
        while self.cluster.ask(leader, "kv/put", {"key": "eA==", "value": "eA=="}) is not None:
            assert time.monotonic() < deadline, "the disk was not frozen"
        self.cluster.disks[leader].thaw()
        self.keepers.wait_runs()

    def leader_killed(self):
        leader = self.cluster.leader()
        self.keepers.wait_runs()
        self.cluster.kill(leader)
        time.sleep(TERM_MS / 1e3)
        self.cluster.start(leader)
        self.keepers.wait_runs()

    def two_frozen(self):
        """No majority: nobody's swap is confirmed, and the guest ends."""
        holder, log = self.keepers.holder()
        for i in 0, 1:
            self.cluster.freeze(i)
        self.keepers.wait_ended(holder)
        for i in 0, 1:
            self.cluster.thaw(i)
        self.keepers.wait_runs(other_than=log)

    def all_killed(self):
        holder, log = self.keepers.holder()
        for i in range(3):
            self.cluster.kill(i)
        self.keepers.wait_ended(holder)
        for i in range(3):
            self.cluster.start(i)
        self.keepers.wait_runs(other_than=log)


def members(folder):
    """Members killed and frozen, the leader too, holders killed and frozen: the guests that ran, by what they wrote, never overlap."""
    with Etcd(folder, disks=DISKS) as cluster, Keepers(folder, cluster) as keepers:
        accidents = Accidents(cluster, keepers)
        kinds = Accidents.KINDS * (1 + ROUNDS // len(Accidents.KINDS)) if ROUNDS else ["holder_frozen", "leader_disk_frozen" if DISKS else "leader_frozen", "two_frozen"]
        for n, kind in enumerate(kinds[:ROUNDS or None]):
            started = time.monotonic()
            getattr(accidents, kind)()
            keepers.check()
            print(f"accident {n + 1}: {kind}, {time.monotonic() - started:.1f} s", flush=True)
        generation = record(cluster.get("guest"))[1]
        print(f"{len(keepers.check())} guests ran, generation {generation}, never two", flush=True)


class Watch:
    """From outside: is the primary's QEMU dead whenever the lease has another generation than the primary's?"""

    def __init__(self, cluster, key, pid):
        self.cluster, self.key, self.pid = cluster, key, pid
        self.dead_at = self.taken_at = None
        self.ended, self.wrong = False, None
        self.first = record(cluster.get(key))[1]
        self.threads = [threading.Thread(target=f, daemon=True) for f in (self.watch_process, self.watch_lease)]
        for t in self.threads:
            t.start()

    def lives(self):
        return is_alive(self.pid)

    def watch_process(self):
        while not self.ended and self.lives():
            time.sleep(0.002)
        self.dead_at = time.monotonic()

    def watch_lease(self):
        while not self.ended and not self.taken_at:
            now = record(self.cluster.get(self.key))
            if now and now[1] > self.first:
                self.taken_at = time.monotonic()
                if self.lives():
                    self.wrong = f"the lease is {now}, and the primary lives"
            time.sleep(0.005)

    def check(self):
        self.ended = True
        for t in self.threads:
            t.join()
        assert not self.wrong, self.wrong
        assert self.taken_at, "the lease was never taken"
        return self.taken_at - self.dead_at


class FailedOver(Restored):
    def __init__(self, folder, *options):
        super().__init__(folder, options, "11.1", command="failover", backend="memfd", args=["-name", "vm"])


def primary_of(stack, folder, url, prefix, term_ms=TERM_MS):
    """A guest that is protected with a lease which is beaten."""
    standby = stack.enter_context(Standby(folder))
    vm = stack.enter_context(LinuxGuest("11.1", args=["-name", "vm"])).booted()
    protect = stack.enter_context(Protect(vm, f"unix:{standby.socket}", f"--lease={url}", f"--lease-term={term_ms}", "--timeout=60000", "--interval=500",
                                          prefix=prefix, start_new_session=True))
    protect.wait_protected(2)
    return standby, vm, protect


def wait_record(cluster, key, match):
    deadline = time.monotonic() + 30 * godwit.patience()
    while not ((now := record(cluster.get(key))) and match(now)):
        assert time.monotonic() < deadline, now
        time.sleep(0.02)
    return now


def guard_killed(cluster, protect, stack):
    os.killpg(protect.process.pid, signal.SIGKILL)


def guard_stopped(cluster, protect, stack):
    os.killpg(protect.process.pid, signal.SIGSTOP)
    stack.callback(os.killpg, protect.process.pid, signal.SIGCONT)


def etcd_gone(cluster, protect, stack):
    """And back, when the primary has ended."""
    for i in 0, 1:
        cluster.kill(i)
    time.sleep(1.2 * TERM_MS / 1e3)
    for i in 0, 1:
        cluster.start(i)


def fails_over(accident, folder):
    key = accident.__name__
    with Etcd(folder) as cluster, contextlib.ExitStack() as stack:
        url = cluster.url(key)
        standby, vm, protect = primary_of(stack, folder, url, etcd.another_host(folder))
        wait_record(cluster, key, lambda r: r[2] >= 2)
        godwit.run("failover", standby.folder, f"--lease={url}", "--", "/bin/false").fails(godwit.REFUSED, "only its term would show", "--accept-split-brain")
        refused = godwit.run("failover", standby.folder, f"--lease={url}", "--accept-split-brain", "--", "/bin/false")
        refused.fails(godwit.REFUSED, "which prolongs it: the guest runs there")
        watch = Watch(cluster, key, vm.pid)
        accident(cluster, protect, stack)
        with FailedOver(standby.folder, f"--lease={url}", "--accept-split-brain") as after:
            gap = watch.check()
            after.wait_console(lambda t: "tick" in t)
            owner, generation, _, term = wait_record(cluster, key, lambda r: r[3] == "forever" and r[1] >= 3)
            assert f"/{after.pid}." in owner, (owner, after.pid)
        print(f"{key}: the primary was dead {gap:.2f} s before its lease was taken; generation {generation}, {term}", flush=True)


def killed_guards(folder):
    fails_over(guard_killed, folder)


def stopped_guards(folder):
    fails_over(guard_stopped, folder)


def gone_etcds(folder):
    fails_over(etcd_gone, folder)


def ends(folder):
    """By TLS. --stop: held without a limit, and no failover without somebody's word. A QEMU that dies: nobody's at once. A fence that fails, an etcd that is another's or to
    which we are strangers: in doubt."""
    certs = os.path.join(folder, "certs")
    os.mkdir(certs)
    subprocess.run([CERTS_TOOL, certs], check=True)
    with Etcd(folder, certs=certs) as cluster, contextlib.ExitStack() as stack:
        url = cluster.url("ends")
        standby, vm, protect = primary_of(stack, folder, url, [], LONG_TERM_MS)
        wait_record(cluster, "ends", lambda r: r[2] >= 2)
        godwit.run("protect", "--stop", vm.monitor).ok()
        protect.ends(godwit.DONE)
        owner, _, _, term = record(cluster.get("ends"))
        assert term == "forever" and f"/{vm.pid}." in owner
        vm.keeps_ticking()
        command = "failover", standby.folder, f"--lease={url}"
        godwit.run(*command, "--", "/bin/false").fails(godwit.REFUSED, "without a limit", "--primary-is-dead")
        standby.forget()
        with Protect(vm, f"unix:{standby.socket}", f"--lease={url}", f"--lease-term={LONG_TERM_MS}", "--timeout=60000", "--interval=500") as again:
            again.wait_protected(2)
            wait_record(cluster, "ends", lambda r: r[3] == str(LONG_TERM_MS))
            vm.process.kill()
            again.wait()
            assert record(cluster.get("ends"))[3] == "0", cluster.get("ends")
        godwit.run(*command, "--fence=exec:exit 7; #", "--", "/bin/false").fails(godwit.IN_DOUBT, "the fence .* ended with status 7", "nothing was started")
        fence = os.path.join(folder, "fenced")
        godwit.run(*command, f"--fence=exec:echo >{fence}", "--", "/bin/false").fails(godwit.FAILED)
        with open(fence, encoding="ascii") as f:
            assert int(f.read()) >= 3
        strangers = [(url.replace("/good/ca-cert", "/other-ca/ca-cert"), "certificate"), (url.replace("/good/client-", "/other-ca/client-"), "etcd at")]
        asking = [(stack.enter_context(godwit.Run("failover", standby.folder, f"--lease={u}", "--", "/bin/false")), why) for u, why in strangers]
        for run, why in asking:
            run.wait().fails(godwit.IN_DOUBT, "the owner of the lease is unknown", why)
        print("; ".join(run.stderr.strip() for run, _ in asking))


# --- on one host, by a file ---


OWN_SOCKET = "use a QMP socket that QEMU itself opened"


def file_record(path):
    with open(path, encoding="ascii") as f:
        fcntl.flock(f, fcntl.LOCK_SH)
        return record(f.readline().strip())


def proxies(folder):
    """Who listens at a monitor is not always the QEMU, and is not watched, or taken for its owner, in the place of it."""
    lease = os.path.join(folder, "lease")
    with contextlib.ExitStack() as stack:
        standby = stack.enter_context(Standby(folder))
        vm = stack.enter_context(LinuxGuest("11.1", args=["-name", "vm"])).booted()
        proxy = stack.enter_context(Relay(os.path.join(folder, "proxy"), vm.monitor))
        for option in f"--lease=file:{lease}", f"--dir={standby.dir}":
            godwit.run("protect", proxy.address, f"unix:{standby.socket}", option).fails(godwit.REFUSED, OWN_SOCKET, "nothing was changed")
        assert not os.path.exists(lease)
        with Protect(vm, f"unix:{standby.socket}", f"--lease=file:{lease}", f"--dir={standby.dir}", "--timeout=60000", "--interval=500") as protect:
            protect.wait_protected()
            vm.process.kill()
            protect.ends(godwit.RECOVERABLE)
        after = stack.enter_context(LinuxGuest("11.1", incoming="defer", backend="memfd", args=["-name", "vm"]))
        proxy = stack.enter_context(Relay(os.path.join(folder, "another"), after.monitor))
        for options in [f"--lease=file:{lease}"], []:
            godwit.run("failover", standby.folder, *options, f"--qmp={proxy.address}").fails(godwit.REFUSED, OWN_SOCKET, "is untouched")
        assert after.qmp.command("query-status")["status"] == "inmigrate"
        godwit.run("failover", standby.folder, f"--lease=file:{lease}", f"--qmp={after.monitor}").ok()
        owner, _, _, term = file_record(lease)
        assert term == "forever" and f"/{after.pid}." in owner, (owner, term, after.pid)


def deadmen(parent):
    """The process numbers of those that live."""
    found = set()
    for path in glob.glob("/proc/[0-9]*/stat"):
        with contextlib.suppress(OSError), open(path, encoding="ascii", errors="replace") as f:
            head, rest = f.read().rsplit(")", 1)
            state, ppid = rest.split()[:2]
            if head.endswith("(godwit-deadman") and int(ppid) == parent and state not in "ZX":
                found.add(int(head.split()[0]))
    return found


def wait_deadman(parent, but=frozenset()):
    deadline = time.monotonic() + 30 * godwit.patience()
    while not (found := deadmen(parent) - but):
        assert time.monotonic() < deadline, "there is no deadman"
        time.sleep(0.02)
    return found.pop()


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def kill(pid, number):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def slow_deadmen(folder):
    """A deadman that had no processor for a while is replaced. When it goes on, it must not kill: the lease was prolonged since."""
    lease, term_ms = os.path.join(folder, "lease"), int(6000 * min(3, godwit.patience()))
    with contextlib.ExitStack() as stack:
        _, vm, protect = primary_of(stack, folder, f"file:{lease}", [], term_ms)
        slow = wait_deadman(protect.process.pid)
        stack.callback(kill, slow, signal.SIGKILL)
        kill(slow, signal.SIGSTOP)
        wait_deadman(protect.process.pid, but={slow})
        kill(slow, signal.SIGCONT)
        first = file_record(lease)
        deadline = time.monotonic() + 10 * term_ms / 1e3 * godwit.patience()
        while (now := file_record(lease))[2] < first[2] + 6:    # beats, of which a term has five
            assert vm.process.poll() is None, "a deadman that was replaced has killed the guest"
            assert now[:2] == first[:2] and time.monotonic() < deadline, (first, now)
            time.sleep(0.02)
        assert deadmen(protect.process.pid) - {slow}
        vm.keeps_ticking()


def unsettled(folder):
    """A store that does not answer at the end: in doubt, and the guest ends with the term of its lease. Until then nobody else protects it, as he would lose it."""
    lease = os.path.join(folder, "lease")
    with contextlib.ExitStack() as stack:
        _, vm, protect = primary_of(stack, folder, f"file:{lease}", [], 2 * LONG_TERM_MS)
        deadline = time.monotonic() + 30 * godwit.patience()
        while file_record(lease)[3] == "forever":
            assert time.monotonic() < deadline, file_record(lease)
            time.sleep(0.02)
        deadman = wait_deadman(protect.process.pid)
        with open(lease, encoding="ascii") as store:
            fcntl.flock(store, fcntl.LOCK_EX)
            protect.process.send_signal(signal.SIGTERM)
            protect.ends(godwit.IN_DOUBT)
        vm.keeps_ticking()
        godwit.run("protect", vm.monitor, f"unix:{folder}/nobody").fails(godwit.REFUSED, "another protection of the QEMU .* is not over yet", "nothing was changed")
        vm.process.kill()
        vm.process.wait()
        deadline = time.monotonic() + 30 * godwit.patience()
        while is_alive(deadman):
            assert time.monotonic() < deadline, "the deadman of a QEMU that is dead lives on"
            time.sleep(0.02)


def second_monitors(folder):
    """One protection per QEMU, over whichever of its monitors, also while the standby is away: another one would take the lease from it, and the guest would be killed."""
    lease = os.path.join(folder, "lease")
    options = f"--lease=file:{lease}", "--timeout=60000", "--interval=500"
    with contextlib.ExitStack() as stack:
        standby = stack.enter_context(Standby(folder))
        vm = stack.enter_context(LinuxGuest("11.1", args=["-name", "vm", "-qmp", "unix:{dir}/second,server=on,wait=off"])).booted()
        protect = stack.enter_context(Protect(vm, f"unix:{standby.socket}", *options))
        protect.wait_protected()
        standby.kill()
        protect.wait_unprotected()
        first = file_record(lease)
        godwit.run("protect", vm.path("second"), f"unix:{standby.socket}", *options).fails(
            godwit.REFUSED, f"process {protect.process.pid} already protects the QEMU", "nothing was changed")
        assert file_record(lease)[:2] == first[:2], (first, file_record(lease))
        vm.keeps_ticking()
        godwit.run("protect", "--stop", vm.path("second")).ok()
        protect.ends(godwit.DONE)
        vm.keeps_ticking()
        for device in "/dev/null", vm.monitor:
            godwit.run("protect", vm.monitor, f"unix:{standby.socket}", *options, f"--watchdog={device}").fails(
                godwit.REFUSED, f"{device} is not a watchdog", "nothing was changed")
        takes_its_own(vm, lease, f"unix:{standby.socket}", options)


def takes_its_own(vm, lease, uri, options):
    """A QEMU that was protected with a watchdog before, and is without one now, has the same lease."""
    owner, generation, beat, _ = file_record(lease)
    with open(lease, "w", encoding="ascii") as f:
        f.write(f"{owner}/watchdog:{generation}:{beat}+forever")
    with Protect(vm, uri, *options) as protect:
        deadline = time.monotonic() + 30 * godwit.PATIENCE
        while file_record(lease)[:2] != (owner, generation + 1):
            assert time.monotonic() < deadline and protect.process.poll() is None, (file_record(lease), protect.stderr)
            time.sleep(0.01)


CASES = ["proxies", "slow_deadmen", "unsettled", "second_monitors", "members", *(["killed_guards"] if ROUNDS else []), "stopped_guards", "gone_etcds", "ends"]


def main():
    only = sys.argv[3:]
    for case in [proxies, slow_deadmen, unsettled, second_monitors, members, killed_guards, stopped_guards, gone_etcds, ends]:
        if case.__name__ not in (only or CASES):
            continue
        print(f"--- {case.__name__}", flush=True)
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="godwit-lease.") as folder:
            case(folder)
        print(f"{time.monotonic() - started:.1f} s", flush=True)


if __name__ == "__main__":
    try:
        main()
    except Unavailable as e:
        skip(str(e))
