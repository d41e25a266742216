#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Destinations that do not fit, die or are something else, and images that are damaged. The image stays as it is.

test-destination.py 7.2|10.0|11.1 [SEED]
"""
import os
import random
import re
import shutil
import signal
import socket
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
import images
import private_mounts
import refstream
from linuxguest import machine_args
from protected_guest import MIB, Victim
from vm import Unavailable, get_qemu, skip

RAM = 32 * MIB
RNG = ["-device", "virtio-rng-pci"]
ISA = ["-device", "isa-serial,chardev=c0", "-chardev", "null,id=c0"]
BRIDGED = ["-device", "pci-bridge,id=br,chassis_nr=2,addr=5", "-device", "e1000,bus=br,addr=3", "-device", "qemu-xhci,id=x,addr=8",
           "-device", "usb-hub,bus=x.0,port=1", "-device", "usb-kbd,bus=x.0,port=1.2"]


class Kept:
    """An image of a victim, and one with a device more."""

    def __init__(self, version, folder):
        self.version, self.folder = version, folder
        self.image, self.richer = os.path.join(folder, "image"), os.path.join(folder, "richer")
        for path, args in ((self.image, []), (self.richer, RNG)):
            with Victim(version, args=args) as vm:
                godwit.run("save", vm.monitor, path, "--stop").ok()
                self.bios = vm.path("bios")
                shutil.copy(self.bios, os.path.join(folder, "bios"))
        with open(self.image, "rb") as f:
            self.bytes = f.read()

    def untouched(self):
        with open(self.image, "rb") as f:
            assert f.read() == self.bytes, "the image has changed"

    def qemu(self, *args, machine=None, ram=RAM, name="m0"):
        """A command line that fits, but for what is said."""
        return [get_qemu(self.version), "-nodefaults", "-display", "none", "-accel", "tcg", "-bios", os.path.join(self.folder, "bios"),
                *machine_args(machine or f"pc-i440fx-{self.version}", ram_bytes=ram, ram_name=name, backend="ram"), *args]

    def restore(self, *options, image=None, command=None, timeout=60):
        return godwit.run("restore", image or self.image, *options, "--", *(command or self.qemu()), timeout=timeout)


# --- images -----------------------------------------------------------------------------------------------------------

def damaged_images(kept, rng):
    """Seen before anything is started, so with the images of one QEMU."""
    if kept.version != "10.0":
        return
    s = refstream.decode_file(kept.image)
    m0, bad, marker = s.blocks["m0"], os.path.join(kept.folder, "bad"), os.path.join(kept.folder, "started")
    size = len(kept.bytes)
    tail = max(b.pages_offset + b.used for b in s.blocks.values())
    command = ["sh", "-c", f"touch {marker}"]

    def refuse(what, data):
        with open(bad, "wb") as f:
            f.write(data)
        r = kept.restore(image=bad, command=command)
        assert r.status == godwit.FAILED and len(r.sentences) == 1, f"{what}: {r}"
        assert "nothing was started" in r.stderr and not os.path.exists(marker), f"{what}: {r}"

    for cut in (0, 1, 4, 8, 9, 50, m0.bitmap_offset - 1, m0.bitmap_offset + 3, m0.pages_offset, m0.pages_offset + 5000, tail - 1, tail,
                tail + 1, tail + 100, size - 1, *(rng.randrange(size) for _ in range(8))):
        refuse(f"cut at {cut}", kept.bytes[:cut])
    head = [*range(0, 5), 7, 12, m0.bitmap_offset - 28, m0.bitmap_offset - 17, m0.bitmap_offset - 1]
    for at in head:
        data = bytearray(kept.bytes)
        data[at] ^= 0x41
        refuse(f"byte {at} changed", data)
    refuse("the device part zeroed", kept.bytes[:tail] + bytes(size - tail))
    refuse("memory's end gone", kept.bytes[:tail - 8192] + kept.bytes[tail:])
    refuse("text", images.earlier_bytes(100000))
    refuse("noise", rng.randbytes(100000))
    refuse("an ELF file", open("/proc/self/exe", "rb").read(200000))
    for path, pattern in ((os.path.join(kept.folder, "none"), "no such file"), (kept.folder, "folder|directory"),
                          ("/dev/null", "null|ends|empty|device")):
        kept.restore(image=path, command=command).fails(godwit.FAILED, pattern, "nothing was started")
    kept.restore(f"--offset={4096}", command=command).fails(godwit.FAILED, "nothing was started")
    nobody = private_mounts.as_nobody(godwit.PROGRAM, "--version")
    if nobody:
        os.chmod(kept.folder, 0o711)
        os.chmod(kept.image, 0o600)
        godwit.run("restore", kept.image, "--", *command, prefix=nobody).fails(godwit.FAILED, "permission denied", "nothing was started")
    assert not os.path.exists(marker)


# --- what does not fit ------------------------------------------------------------------------------------------------

def misfits(kept):
    """Refused by the plan, with both names; the QEMU that was started ends again."""
    for command, *patterns in (
            (kept.qemu(machine=f"pc-q35-{kept.version}"), f"pc-i440fx-{kept.version}", f"pc-q35-{kept.version}", "-machine"),
            (kept.qemu(ram=64 * MIB), "m0", "32 MiB", "64 MiB"), (kept.qemu(ram=16 * MIB), "m0", "32 MiB", "16 MiB"),
            (kept.qemu(name="other"), '"m0"', "other", "memory-backend"), (kept.qemu("-smp", "2"), "1 CPU,", "has 2", "-smp 1")):
        for way in ("auto", "stream"):
            r = kept.restore(f"--way={way}", command=command).fails(godwit.REFUSED, *patterns)
            assert r.seconds < 10 * godwit.PATIENCE, r
    kept.untouched()


def misfits_by_qmp(kept):
    """The same for one that waits already, by every command that reaches it: it goes on waiting, and then takes a guest that fits."""
    video = ["-device", "VGA,addr=9,vgamem_mb="]
    fancy = os.path.join(kept.folder, "fancy")
    with Victim(kept.version, args=[*BRIDGED, video[0], video[1] + "8"]) as vm:
        godwit.run("save", vm.monitor, fancy, "--stop").ok()
    for image, misfit, *patterns in (
            (kept.image, {"ram": 16 * MIB}, "32 MiB", "16 MiB"), (kept.image, {"ram": 16 * MIB, "backend": "memfd"}, "32 MiB", "16 MiB"),
            (kept.image, {"ram": 64 * MIB, "backend": "memfd"}, "32 MiB", "64 MiB"),
            (kept.image, {"machine_version": "7.2" if kept.version != "7.2" else "7.1"}, f"pc-i440fx-{kept.version}", "-machine"),
            (kept.image, {"args": ["-smp", "2"]}, "1 CPU,", "-smp 1"), (kept.richer, {}, "virtio-rng", "0000:00:02.0", "none"),
            (kept.richer, {"args": ["-device", "e1000,addr=2"]}, "virtio-rng", "0000:00:02.0", "e1000"),
            (fancy, {"args": [*BRIDGED, video[0], video[1] + "16"]}, "vga.vram", "8 MiB", "16 MiB", "vgamem_mb"),
            (fancy, {"args": [x.replace("addr=3", "addr=4") for x in BRIDGED] + [video[0], video[1] + "8"]}, "e1000", "0000:00:05.0:03.0"),
            (fancy, {"args": [x.replace("port=1.2", "port=1.3") for x in BRIDGED] + [video[0], video[1] + "8"]}, "usb-kbd", "/1.2"),
            (fancy, {"args": [x + ",romfile=" if "e1000" in x else x for x in BRIDGED] + [video[0], video[1] + "8"]}, "e1000.rom",
             "KiB", "romfile")):
        with Victim(kept.version, incoming="defer", **misfit) as vm:
            before = vm.state()
            for command in ("restore", "serve"):
                godwit.run(command, image, f"--qmp={vm.monitor}").fails(godwit.REFUSED, *patterns)
                assert vm.state() == before, f"{command}: its settings have changed"
            godwit.run("restore", image, "--lazy", f"--qmp={vm.monitor}").fails(godwit.REFUSED, *patterns)
            r = godwit.run("plan", image, vm.monitor)
            assert r.status == godwit.REFUSED and all(p in r.stdout for p in patterns), r
            assert vm.process.poll() is None and vm.state() == before
    with Victim(kept.version, incoming="defer", args=[*BRIDGED, video[0], video[1] + "8"]) as vm:
        godwit.run("restore", fancy, f"--qmp={vm.monitor}").ok()
    with Victim(kept.version, incoming="defer") as vm:
        godwit.run("restore", os.path.join(kept.folder, "none"), f"--qmp={vm.monitor}").fails(godwit.FAILED)
        godwit.run("restore", kept.image, f"--qmp={vm.monitor}").ok()
        vm.qmp.cont()
        assert vm.counts()
    kept.untouched()


def limited(kept):
    """A limit holds, or the way that cannot hold it is refused."""
    for options in (["-v"], ["-v", "--way=stream"]):
        with Victim(kept.version, incoming="defer") as vm:
            r = godwit.run("restore", kept.image, f"--qmp={vm.monitor}", "--max-bandwidth=12M", *options).ok()
            assert r.seconds > 1.5, r       # 28 MiB of noise
            assert "stream" in r.stderr, r
    with Victim(kept.version, incoming="defer") as vm:
        godwit.run("restore", kept.image, f"--qmp={vm.monitor}", "--max-bandwidth=12M", "--way=direct").fails(godwit.REFUSED, "direct")


def device_missing(kept):
    """One with a PCI address is missed beforehand; of others QEMU finds out, and its words are passed on."""
    other = os.path.join(kept.folder, "other")
    with Victim(kept.version, args=ISA) as vm:
        godwit.run("save", vm.monitor, other, "--stop").ok()
    for way in ("auto", "stream"):
        kept.restore(f"--way={way}", image=kept.richer).fails(godwit.REFUSED, "virtio-rng", "0000:00:02.0")
        r = kept.restore(f"--way={way}", image=other)
        assert r.status == godwit.FAILED and "serial" in r.stderr, r
    with Victim(kept.version, incoming="defer") as vm:      # and takes no other guest then, where it lives on
        godwit.run("restore", other, f"--qmp={vm.monitor}")
        if kept.version != "7.2":
            for command in ("restore", "serve"):
                r = godwit.run(command, kept.image, f"--qmp={vm.monitor}")
                assert r.status != godwit.DONE and "failed to load a guest" in r.stderr and "start a new one" in r.stderr, r
    kept.restore(image=kept.richer, command=kept.qemu(*RNG, "-S", "-daemonize", "-pidfile", os.path.join(kept.folder, "pid"))).ok()
    with open(os.path.join(kept.folder, "pid"), encoding="ascii") as f:
        os.kill(int(f.read()), signal.SIGKILL)


def not_waiting(kept):
    """A QEMU that runs a guest of its own, or waits elsewhere, is left in peace."""
    with Victim(kept.version) as vm:
        godwit.run("restore", kept.image, f"--qmp={vm.monitor}").fails(godwit.REFUSED, "does not wait", "running|incoming defer")
        vm.unharmed()
    with Victim(kept.version, incoming="tcp:127.0.0.1:0") as vm:
        godwit.run("restore", kept.image, f"--qmp={vm.monitor}").fails(godwit.REFUSED, "elsewhere|already", "send|defer")
        assert vm.qmp.command("query-status")["status"] == "inmigrate"


# --- what is started --------------------------------------------------------------------------------------------------

def no_qemu(kept):
    """Programs that are no QEMU, or end at once."""
    for command, *patterns in (
            (["/no/such/qemu"], "qemu"), (["false"], "status 1"), (["true"], "true"), (["sh", "-c", "exit 3"], "status 3"),
            (["sh", "-c", "kill -9 $$"], "signal 9|killed"), (kept.qemu("-no-such-option"), "status 1"),
            (kept.qemu("-device", "no-such-device"), "status 1")):
        r = kept.restore(command=command)
        assert r.status == godwit.FAILED, r
        for p in patterns:
            assert godwit.re.search(p, r.sentences[-1]), f"{p!r}: {r}"
        assert r.seconds < 10 * godwit.PATIENCE, r
    for option in (["-incoming", "defer"], ["-loadvm", "x"]):
        r = kept.restore(command=kept.qemu(*option))
        assert r.status in (godwit.FAILED, godwit.USAGE) and "leave" in r.stderr, r
    kept.untouched()


NO_ROOM = """
import os, resource, signal, socket, sys, time
before = resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE)
resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (3, before[1]))
def told_to_end(*_):    # by then it is said; who looks for leaks at the end needs descriptors
    resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, before)
    sys.exit()
signal.signal(signal.SIGTERM, told_to_end)
monitor = socket.socket(socket.AF_UNIX)
monitor.connect(sys.argv[-1].removeprefix("unix:").split(",")[0])
time.sleep(1000)
"""


def monitor_not_taken(kept):
    """The monitor is opened, but godwit may have no descriptor more."""
    kept.restore(command=[sys.executable, "-c", NO_ROOM]).fails(godwit.FAILED, "cannot take the monitor of .*python.*Too many open files")


def stopped_while_waiting(kept):
    """A program that never opens a monitor: godwit can be stopped, and ends it."""
    pid_file = os.path.join(kept.folder, "sleeper")
    with godwit.Run("restore", kept.image, "--", "sh", "-c", f"echo $$ >{pid_file}; exec sleep 1000") as r:
        pid = wait_for_pid(pid_file)
        r.kill(signal.SIGTERM)
        r.wait(15).fails(godwit.FAILED, "stopped by", "ended")
    assert_gone(pid)


def stopped_while_it_runs(kept):
    """godwit waits for the QEMU that it started. A signal to godwit alone ends that QEMU too, and each of several clones."""
    numbers = [[]] if kept.version == "7.2" else [[], ["--clone", "-n", "2"]]
    for options in numbers:
        files = [os.path.join(kept.folder, f"runs{n}") for n in ("12" if options else "0")]
        command = kept.qemu("-S", "-pidfile", os.path.join(kept.folder, "runs{n}" if options else "runs0"))
        with godwit.Run("restore", kept.image, *options, "--json", "--", *command) as r:
            r.wait_stdout('"restored"(?s:.*)' * len(files))
            pids = [wait_for_pid(f) for f in files]
            r.kill(signal.SIGTERM)
            r.wait(15).ok()
            assert r.stderr.count("stopped by SIGTERM") == len(files), r.stderr
        for pid in pids:
            assert_gone(pid)
    kept.untouched()


def wait_for_pid(path):
    deadline = time.monotonic() + 20 * godwit.PATIENCE
    while time.monotonic() < deadline:
        try:
            with open(path, encoding="ascii") as f:
                return int(f.read())
        except (FileNotFoundError, ValueError):
            time.sleep(0.01)
    raise AssertionError(f"{path} does not appear")


def assert_gone(pid):
    deadline = time.monotonic() + 10 * godwit.PATIENCE
    while os.path.exists(f"/proc/{pid}"):
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            if f.read().rsplit(")", 1)[1].split()[0] == "Z":
                return
        assert time.monotonic() < deadline, f"process {pid} lives on"
        time.sleep(0.02)


def killed_while_loading(kept):
    """The QEMU dies, or godwit is told to stop, in the middle of memory."""
    pid_file = os.path.join(kept.folder, "qemu")
    for who, number, patterns in (("qemu", signal.SIGKILL, ["signal 9|gone|closed|quit|crashed"]), ("godwit", signal.SIGTERM, ["SIGTERM"]),
                                  ("godwit", signal.SIGINT, ["SIGINT"])):
        if os.path.exists(pid_file):
            os.unlink(pid_file)
        command = kept.qemu("-pidfile", pid_file)
        with godwit.Run("restore", kept.image, "--way=stream", "--max-bandwidth=8M", "--", *command) as r:
            pid = wait_for_pid(pid_file)
            time.sleep(0.7)
            if who == "qemu":
                os.kill(pid, number)
            else:
                r.kill(number)
            r.wait(20).fails(godwit.FAILED, "untouched", *patterns)
        assert_gone(pid)
    with Victim(kept.version, incoming="defer") as vm:
        with godwit.Run("restore", kept.image, f"--qmp={vm.monitor}", "--way=stream", "--max-bandwidth=8M") as r:
            time.sleep(1)
            vm.process.kill()
            r.wait(20).fails(godwit.FAILED, "untouched")
    kept.untouched()


def outputs_closed(kept):
    """QEMU inherits stdin, stdout and stderr; closed ones do not become something else."""
    pid_file = os.path.join(kept.folder, "closed")
    for fds in ((1,), (0, 1, 2)):
        with godwit.Run("restore", kept.image, "--detach", "--json", "--", *kept.qemu("-S", "-pidfile", pid_file),
                        preexec_fn=lambda fds=fds: [os.close(fd) for fd in fds]) as r:
            r.process.wait(30 * godwit.PATIENCE)
            pid = wait_for_pid(pid_file)
            links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)]
            os.kill(pid, signal.SIGKILL)
            assert r.process.returncode in (godwit.DONE, godwit.FAILED), (fds, r.process.returncode, r.stderr)
            assert not any(link.startswith("socket:") for link in links), (fds, links)
        os.unlink(pid_file)


# --- send ---------------------------------------------------------------------------------------------------------------

class Listener:
    """Takes one connection and treats it as told."""

    def __init__(self, folder, treat):
        self.path = os.path.join(folder, "listener")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(1)
        self.treat = treat
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        try:
            with self.listener.accept()[0] as s:
                self.treat(s)
        except OSError:
            pass

    def __enter__(self):
        return f"unix:{self.path}"

    def __exit__(self, *_):
        self.listener.close()
        os.unlink(self.path)


def read_some_and_go(s):
    s.recv(100000)


def read_all_and_stay(s):
    while s.recv(1 << 20):
        pass


def read_nothing(s):
    time.sleep(20)


def answer(*messages):
    def treat(s):
        got = 0
        while got < 10 * MIB and (chunk := s.recv(1 << 20)):
            got += len(chunk)
        for m in messages:
            s.sendall(m)
        read_all_and_stay(s)
    return treat


def sent_to_nobody(kept):
    """Destinations of send that are no QEMU."""
    def send(treat, *patterns, options=(), within=10, status=godwit.FAILED):
        with Listener(kept.folder, treat) as uri:
            r = godwit.run("send", kept.image, uri, *options).fails(status, *patterns)
            assert r.seconds < within * godwit.PATIENCE, r

    send(read_some_and_go, "closed|broken pipe|reset", "does not have the guest")
    send(read_nothing, "1000 ms", options=["--idle-timeout=1"])
    send(read_all_and_stay, "did not say within 1 s", "did not confirm", options=["--answer-timeout=1"], status=godwit.IN_DOUBT)
    send(answer(bytes.fromhex("0001000400000001")), "1|failed|could not|error")
    send(answer(b"HTTP/1.1 200 OK\r\n\r\n"), "return path", "did not confirm", status=godwit.IN_DOUBT)
    send(lambda s: s.sendall(b"\0" * 1000), "closed|reset|broken", "does not have the guest|nothing was sent")
    missing = os.path.join(kept.folder, "missing")
    godwit.run("send", kept.image, f"unix:{missing}", "--connect-timeout=1").fails(godwit.FAILED, "no such file|nobody|not there|listens")
    godwit.run("send", kept.image, "tcp:127.0.0.1:1", "--connect-timeout=1").fails(godwit.FAILED, "refused|nobody")
    godwit.run("send", kept.image, "tcp:no-such-host.invalid:1", "--connect-timeout=2").fails(godwit.FAILED, "no-such-host")
    kept.untouched()


def sent_to_a_misfit(kept):
    """A QEMU of another kind: it says so or dies of it, and godwit does not call that success."""
    for misfit in ({"ram": 16 * MIB}, {"machine_version": "7.2" if kept.version != "7.2" else "7.1"}):
        with Victim(kept.version, incoming="defer", **misfit) as vm:
            vm.qmp.command("migrate-incoming", uri=f"unix:{vm.path('in')}")
            godwit.run("send", kept.image, f"unix:{vm.path('in')}").fails(godwit.FAILED, "does not have the guest|could not")
    kept.untouched()


def other_multifd_settings(kept):
    """Neither side says so, and it looks like a dead peer: the sentence names the settings. Nobody looks for a network in a unix socket."""
    two = {"multifd_channels": 2}
    for kind, params, options, *patterns in (
            ("unix", two, [], "multifd on", "--channels=N"), ("tcp", two, [], "multifd on", "--channels=N"),
            ("unix", None, ["--channels=2"], "multifd on, with 2", "--compress"),
            ("unix", two, ["--channels=8", "--connect-timeout=1"], "channel . of 8|closed|Broken pipe", "multifd on, with 8"),
            ("unix", {"multifd_channels": 4}, ["--channels=2"], "multifd on, with 2"),
            ("unix", {**two, "multifd_compression": "zstd"}, ["--channels=2"], "--compress"),
            ("unix", two, ["--channels=2", "--compress=zlib"], "--compress"),
            ("unix", two, ["--channels=2", "--uuid=11111111-1111-1111-1111-111111111111"], "--uuid")):
        with Victim(kept.version, incoming="defer") as vm:
            vm.qmp.command("migrate-set-capabilities", capabilities=[{"capability": "multifd", "state": params is not None}])
            vm.qmp.command("migrate-set-parameters", **(params or {}))
            vm.qmp.command("migrate-incoming", uri=f"unix:{vm.path('in')}" if kind == "unix" else "tcp:127.0.0.1:0")
            uri = f"unix:{vm.path('in')}"
            if kind == "tcp":
                uri = f"tcp:127.0.0.1:{vm.qmp.command('query-migrate')['socket-address'][0]['port']}"
            r = godwit.run("send", kept.image, uri, "--idle-timeout=1", *options)
            assert r.status == godwit.FAILED and all(re.search(p, r.stderr) for p in patterns), f"{kind} {params}: {r}"
            assert kind == "tcp" or not re.search("network|firewall", r.stderr), r
    kept.untouched()


def doctor(vm):
    """The row about that QEMU."""
    return [o for o in godwit.run("doctor", f"--qmp={vm.monitor}", "--json").ok().events if o["name"] == "qemu-userfaultfd"][0]


def no_userfaultfd(kept):
    """QEMU says that its kernel cannot, where its user may not: the cure is named."""
    with open("/proc/sys/vm/unprivileged_userfaultfd", encoding="ascii") as f:
        if f.read() != "0\n":
            return "every user here may use userfaultfd (sysctl vm.unprivileged_userfaultfd)"
    cure = ("user 65534", "vm.unprivileged_userfaultfd=1", "/dev/userfaultfd", "CAP_SYS_PTRACE")
    vm = Victim(kept.version, incoming="defer", backend="memfd")
    vm.argv = private_mounts.run_as_nobody(vm.argv, vm.path("qemu"), "dac_read_search")
    os.chmod(vm.dir, 0o777)
    with vm:
        before = vm.state()
        for command in (["restore", "--lazy"], ["serve"]):
            godwit.run(*command, kept.image, f"--qmp={vm.monitor}").fails(godwit.FAILED, *cure)
            assert vm.state() == before, "its settings have changed"
        said = doctor(vm)
        assert said["finding"] == "missing" and "user 65534" in said["text"], said
        assert all(c in said["advice"] for c in cure[1:]), said
        assert vm.state() == before, "its settings have changed"
    with Victim(kept.version, incoming="defer") as vm:
        assert doctor(vm)["finding"] == "ok", doctor(vm)        # root's
    kept.untouched()
    return None


def main():
    version = sys.argv[1]
    seed = int(sys.argv[2]) if sys.argv[2:] else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    try:
        start = time.monotonic()
        with Victim(version) as home:       # only for a folder that goes away
            kept, not_run = Kept(version, home.dir), None
            for step, *args in ((damaged_images, random.Random(seed)), (sent_to_nobody,), (sent_to_a_misfit,), (other_multifd_settings,), (no_userfaultfd,), (misfits,), (misfits_by_qmp,), (limited,), (device_missing,), (not_waiting,),
                                (no_qemu,), (monitor_not_taken,), (stopped_while_waiting,), (stopped_while_it_runs,), (killed_while_loading,), (outputs_closed,)):
                not_run = step(kept, *args) or not_run
                print(f"{step.__name__}: {time.monotonic() - start:.1f} s", flush=True)
        if not_run:
            raise Unavailable(f"{not_run}; all other steps passed")
    except Unavailable as e:
        skip(str(e))


if __name__ == "__main__":
    main()
