#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Many channels between godwit and a real QEMU, in both roles: methods, numbers of channels, TLS, machine types, zero pages
in both places, live and paused guests. Memory is compared byte for byte each time.

test-multifd.py CERTS-TOOL 7.2|10.0|11.1 [PART...]. The matrix is thinned: no row is tried by all releases, each by at least one.
"""
import hashlib
import os
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
import images
import tinyguest
from linuxguest import MIB, LinuxGuest, Restored, check_continues, check_memory, machine_args, machine_name
from lost_pages import unless_lost
from vm import Unavailable, Vm, get_qemu, skip

TOOL, VERSION = sys.argv[1:3]
OLD = VERSION == "7.2"
OLD_MACHINE = "pc-i440fx-7.2"
HOST, CLIENT = "vm.example", "C=DE,O=Godwit\\, Ltd,OU=Tests,CN=godwit client"
UUID = "00112233-4455-6677-8899-aabbccddeeff"
RAM = 48 * MIB
certs = None        # folder of folders

# method, channels, tls, old machine type, zero-page-detection, number told to receive, transport
ROWS = [
    ("none", 1, None, False, "multifd", False, "unix"),
    ("none", 8, "x509", True, "legacy", True, "tcp"),
    ("none", 2, "psk", False, "none", False, "unix"),
    ("zlib", 2, "x509", False, "legacy", False, "unix"),
    ("zlib", 8, None, True, "multifd", True, "tcp"),
    ("zlib", 1, "psk", False, "none", True, "tcp"),
    ("zstd", 2, None, True, "legacy", True, "unix"),
    ("zstd", 8, "psk", False, "multifd", False, "tcp"),
    ("zstd", 1, "x509", True, "none", True, "unix"),
]
TRIED = {"7.2": (0, 2, 3, 4, 7), "10.0": (1, 2, 4, 5, 7, 8), "11.1": (0, 1, 3, 5, 6, 7)}


def content(salt):
    """Zero pages, noise, text, and runs that compress."""
    noise = hashlib.shake_128(str(salt).encode()).digest(3 * MIB)
    return tinyguest.ram(8 * MIB) + noise + bytes(5 * MIB) + (b"%d " % salt * 4096)[:8192] * 256


def tls_object(kind, endpoint, folder="good"):
    if kind == "psk":
        name = ",username=alice" if endpoint == "client" else ""      # whose key is used, not that of "qemu"
        return ["-object", f"tls-creds-psk,id=tls0,dir={certs}/psk,endpoint={endpoint}{name}"]
    return ["-object", f"tls-creds-x509,id=tls0,dir={certs}/{folder},endpoint={endpoint}"]


def creds(kind, folder="good"):
    return [f"--tls-creds={certs}/{'psk' if kind == 'psk' else folder}"] if kind else []


class Paused(Vm):
    """A guest that never runs; its memory is what the test puts there."""

    def __init__(self, machine, tls=None, endpoint="client", incoming=False, args=(), folder="good"):
        super().__init__(get_qemu(VERSION), [
            "-S", *machine_args(machine, ram_bytes=RAM), *(tls_object(tls, endpoint, folder) if tls else []),
            *(["-incoming", "defer"] if incoming else []), *args], console=False)
        self.tls = tls

    def fill(self, salt):
        with open(self.path("ram"), "r+b") as f:
            f.write(content(salt))
        return self.ram()

    def ram(self):
        with open(self.path("ram"), "rb") as f:
            return f.read()

    def set_up(self, method="none", channels=0, zeros=None, hostname=HOST, **parameters):
        set_up(self, self.tls, method, channels, zeros, hostname, **parameters)


def set_up(vm, tls, method="none", channels=0, zeros=None, hostname=HOST, return_path=True, **parameters):
    q = vm.qmp
    q.command("migrate-set-capabilities", capabilities=[
        {"capability": "multifd", "state": bool(channels)}, {"capability": "return-path", "state": return_path}])
    if zeros and not OLD:
        parameters["zero_page_detection"] = zeros
    if channels:
        parameters.update(multifd_channels=channels, multifd_compression=method)
    if tls:
        parameters = {"tls_creds": "tls0", "tls_hostname": hostname, **parameters}
    q.command("migrate-set-parameters", max_bandwidth=1 << 40, **parameters)


def status(vm):
    """What became of its migration: (status, error)."""
    deadline = time.monotonic() + 60 * godwit.PATIENCE
    while time.monotonic() < deadline:
        m = vm.qmp.command("query-migrate")
        if m.get("status") in ("completed", "failed", "cancelled"):
            return m["status"], m.get("error-desc", "")
        time.sleep(0.01)
    raise AssertionError(f"migration does not end: {m}")


class Receiver(godwit.Run):
    def __init__(self, transport, folder, image, *options):
        super().__init__("receive", f"unix:{folder}/in" if transport == "unix" else "tcp:127.0.0.1:0", image, "--json", "-q", *options)

    @property
    def uri(self):
        return self.wait_stdout('"listening",\\s*"uri":\\s*"([^"]+)"')[1]


def receive(vm, transport, image, *options):
    """What godwit made of this QEMU's migration; QEMU knows that it was kept."""
    with Receiver(transport, vm.dir, image, *options) as r:
        vm.qmp.migrate(r.uri)
        result = r.wait().ok()
    assert status(vm) == ("completed", ""), status(vm)
    return result.event("done")


def check_kept(what, image, want):
    godwit.run("verify", image).ok()
    images.same_bytes(what, images.raw_ram(image, image + ".raw"), want)
    os.unlink(image + ".raw")


def listen(vm, transport):
    """Where this destination waits."""
    vm.qmp.command("migrate-incoming", uri=f"unix:{vm.path('out')}" if transport == "unix" else "tcp:127.0.0.1:0")
    if transport == "unix":
        return f"unix:{vm.path('out')}"
    return "tcp:127.0.0.1:" + vm.qmp.command("query-migrate")["socket-address"][0]["port"]


def try_row(folder, n, row):
    method, channels, tls, old_machine, zeros, told, transport = row
    machine = OLD_MACHINE if old_machine or OLD else machine_name(VERSION)
    told = told or OLD      # 7.2 speaks on its main channel before the others are there
    image = os.path.join(folder, "image")
    host = [f"--tls-hostname={HOST}"] if tls == "x509" and transport == "unix" else []
    with Paused(machine, tls) as vm:
        ram = vm.fill(n)
        vm.set_up(method, channels, zeros)
        done = receive(vm, transport, image, *([f"--channels={channels}"] if told else []), *creds(tls))
    if method == "none" and zeros != "none":      # over all channels together
        payload = 4096 * sum(1 for at in range(0, len(ram), 4096) if any(ram[at:at + 4096]))
        assert payload < done["stream_bytes"] < 1.1 * payload + MIB, (payload, done)
    check_kept(f"received {row}", image, ram)
    with Paused(machine, tls, "server", incoming=True) as vm:
        vm.set_up(method, channels, hostname="")
        godwit.run("send", image, listen(vm, transport), "-q", f"--channels={channels}", f"--compress={method}", *creds(tls), *host,
                   *(["--tls-username=alice"] if tls == "psk" else [])).ok()
        assert status(vm)[0] == "completed", status(vm)
        images.same_bytes(f"sent {row}", vm.ram(), ram)


def try_matrix(folder):
    for n in TRIED[VERSION]:
        row = ROWS[n]
        start = time.monotonic()
        try:
            try_row(folder, n, row)
        except AssertionError as e:
            raise AssertionError(f"{row}: {e}") from None
        print(f"{row}: {time.monotonic() - start:.1f} s", flush=True)


# --- what has a name ---

def try_uuid(folder):
    """Channels name the guest; a destination insists on its own."""
    machine, image = OLD_MACHINE if OLD else machine_name(VERSION), os.path.join(folder, "image-uuid")
    options = ["-uuid", UUID]
    with Paused(machine, args=options) as vm:
        ram = vm.fill(77)
        vm.set_up("zstd", 2)
        receive(vm, "unix", image, "--channels=2")
    check_kept("uuid", image, ram)
    for tell, fits in ((["--uuid=" + UUID], True), (["--uuid=" + UUID[:-1] + "0"], False), ([], False)):
        with Paused(machine, incoming=True, args=options) as vm:
            vm.set_up("none", 2)
            r = godwit.run("send", image, listen(vm, "unix"), "-q", "--channels=2", "--answer-timeout=10", *tell)
            if fits:
                r.ok()
                images.same_bytes("uuid", vm.ram(), ram)
                continue
            # A small guest fits into the sockets' buffers before the destination looks at the names.
            assert r.status in (godwit.FAILED, godwit.IN_DOUBT) and len(r.sentences) == 1, r
            assert vm.ram() != ram, "it took the guest"


def try_direct_io(folder):
    """Past the page cache, on a file system that can."""
    machine, image = OLD_MACHINE if OLD else machine_name(VERSION), os.path.join(folder, "image-direct")
    try:
        os.close(os.open(os.path.join(folder, "probe"), os.O_CREAT | os.O_WRONLY | os.O_DIRECT))
    except OSError as e:
        print(f"direct I/O not tried: {folder}: {e.strerror}", file=sys.stderr)
        return
    for method, channels in (("none", 8), ("zstd", 2)):
        with Paused(machine) as vm:
            ram = vm.fill(channels)
            vm.set_up(method, channels)
            receive(vm, "unix", image, f"--channels={channels}", "--direct-io")
        check_kept("direct I/O", image, ram)


# --- TLS that must fail, and that must not ---

def refused_source(vm, options, *patterns):
    """A QEMU source that godwit does not let in; its guest is where it was."""
    with Receiver("tcp", vm.dir, vm.path("refused"), "--connect-timeout=4", *options) as r:
        vm.qmp.migrate(r.uri)
        result = r.wait(30).fails(godwit.FAILED, *patterns)
    assert result.seconds < 20 * godwit.PATIENCE, result
    assert status(vm)[0] == "failed", status(vm)
    assert not os.path.exists(vm.path("refused"))


def tls_source(folder):
    machine, image = OLD_MACHINE if OLD else machine_name(VERSION), os.path.join(folder, "image-tls")
    refusals = [({}, [*creds("x509"), "--tls-authz=CN=somebody else"], "somebody else|godwit client"),
                ({}, [], "speaks TLS and we do not", "--tls-creds"),
                ({}, creds("x509", "other-ca"), "TLS|certificate|closed"),
                ({}, creds("psk"), "TLS|shared keys"),
                ({"tls_creds": ""}, creds("x509"), "does not speak TLS", "tls-creds at the source"),
                ({"hostname": "elsewhere.example"}, creds("x509"), "may not have accepted our certificate")]      # its own decision
    # A QEMU that was refused may hang in its own clean-up for good (channels.md), so each has a QEMU of its own.
    for set_up, options, *patterns in refusals:
        with Paused(machine, "x509") as vm:
            vm.set_up("none", 2, **set_up)
            refused_source(vm, ["--channels=2", *options], *patterns)
    with Paused(machine, "x509") as vm:
        ram = vm.fill(5)
        vm.set_up("none", 2)
        with Receiver("tcp", vm.dir, image, "--channels=2", *creds("x509"), f"--tls-authz={CLIENT}") as r:
            vm.qmp.migrate(r.uri)
            r.wait().ok()
        assert status(vm)[0] == "completed"
    check_kept("authz", image, ram)
    with Paused(machine, "x509", folder="no-client") as vm:
        vm.set_up("none", 2)
        refused_source(vm, ["--channels=2", *creds("x509")], "certificate")
    return image, ram


def refused_send(image, vm, uri, options, *patterns):
    godwit.run("send", image, uri, "-q", "--channels=2", *options).fails(godwit.FAILED, *patterns)
    assert vm.process.poll() is None


def tls_destination(image, ram):
    machine = OLD_MACHINE if OLD else machine_name(VERSION)
    authz = ["-object", "authz-simple,id=authz0,identity=" + CLIENT.replace(",", ",,")]
    with Paused(machine, "x509", "server", incoming=True, args=authz) as vm:
        vm.set_up("zlib", 2, hostname="", tls_authz="authz0")
        uri = listen(vm, "tcp")
        refused_send(image, vm, uri, [*creds("x509"), "--tls-hostname=elsewhere.example"], "elsewhere.example")
        refused_send(image, vm, uri, creds("x509", "other-ca"), "certificate|issuer")
        refused_send(image, vm, uri, creds("psk"), "TLS|shared keys")
        godwit.run("send", image, uri, "-q", "--channels=2", "--compress=zlib", *creds("x509")).ok()
        assert status(vm)[0] == "completed"
        images.same_bytes("to authz", vm.ram(), ram)
    with Paused(machine, "x509", "server", incoming=True) as vm:
        vm.set_up("none", 2, hostname="")
        uri = listen(vm, "tcp")
        r = godwit.run("send", image, uri, "-q", "--channels=2", *creds("x509", "no-client"))
        assert r.status in (godwit.FAILED, godwit.IN_DOUBT) and len(r.sentences) == 1, r
    with Paused(machine, incoming=True) as vm:
        vm.set_up("none", 2)
        r = godwit.run("send", image, listen(vm, "tcp"), "-q", "--channels=2", "--idle-timeout=5", *creds("x509"))
        r.fails(godwit.FAILED, "TLS", "nothing was sent")


def try_tls(folder):
    tls_destination(*tls_source(folder))


# --- a guest that runs ---

def save_live(vm, folder):
    """While it runs, over several channels; afterwards its settings are what they were."""
    image = os.path.join(folder, "live")
    for method, channels, tls in (("none", 2, None), ("zstd", 8, "tls"), ("zlib", 1, None)):
        vm.qmp.command("migrate-set-parameters", multifd_channels=5, tls_creds="tls0" if tls else "", tls_hostname=HOST)
        before = vm.state()
        options = [f"--channels={channels}", f"--compress={method}", *creds("x509" if tls else None)]
        saved = godwit.run("save", vm.monitor, image, "--json", *options).ok().event("saved")
        assert saved["running"], saved
        assert vm.state() == before, f"{vm.state()} was {before}"
        vm.keeps_ticking()
        godwit.run("verify", image).ok()
        images.raw_ram(image, image + ".raw")
        check_memory(image + ".raw", vm.cpus)
    return image


def try_live(folder):
    machine = None if not OLD else OLD_MACHINE
    with LinuxGuest(VERSION, machine=machine, cpus=2, args=tls_object("x509", "client")) as vm:
        vm.booted()
        save_live(vm, folder)
        image = os.path.join(folder, "stopped")
        godwit.run("save", vm.monitor, image, "-q", "--stop", "--channels=3", "--compress=zstd", "--level=3").ok()
        check_kept("save --stop", image, vm.ram())
        console = vm.console()
    restore(image, console, folder)
    with LinuxGuest(VERSION, machine=machine, cpus=2, incoming="defer") as vm:
        set_up(vm, None, "zlib", 2)
        godwit.run("send", image, listen(vm, "unix"), "-q", "--channels=2", "--compress=zlib").ok()
        vm.keeps_ticking()
        vm.stamped_again()
        check_continues(console, vm.console())
        receive_live(vm, folder)


def restore(image, console, folder):
    """By QEMU itself, with threads of its own, and without."""
    for options in ([["--channels=4", "--way=direct"], ["--way=stream"]] if not OLD else [[]]):
        with Restored(image, options, VERSION, machine=None if not OLD else OLD_MACHINE, cpus=2) as vm:
            vm.keeps_ticking()
            check_continues(console, vm.console())


def receive_live(vm, folder):
    """Migrated away while it runs; what is kept is what it has."""
    image = os.path.join(folder, "left")
    set_up(vm, None, "zstd", 2)
    receive(vm, "unix", image, "--channels=2")
    check_kept("left", image, vm.ram())
    check_memory(vm.ram_path(), vm.cpus)


def main():
    global certs
    try:
        get_qemu(VERSION)
        with tempfile.TemporaryDirectory(prefix="godwit-multifd.") as folder:
            certs = os.path.join(folder, "certs")
            os.mkdir(certs)
            subprocess.run([TOOL, certs], check=True, timeout=60)
            for part in (globals()[n] for n in sys.argv[3:]) if sys.argv[3:] else (try_matrix, try_uuid, try_direct_io, try_tls, try_live):
                start = time.monotonic()
                unless_lost(VERSION, part, folder)
                print(f"{part.__name__}: {time.monotonic() - start:.1f} s", flush=True)
    except Unavailable as e:
        skip(str(e))


if __name__ == "__main__":
    main()
