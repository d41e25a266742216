#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""TLS between a real QEMU and ours, in both roles: migrations arrive, and whoever is refused is told why.

test-tls.py TLS-PIPE CERTS-TOOL 7.2|10.0|11.1. The guest never runs; its RAM is compared after it went to us and from us to
another QEMU. What a QEMU source sends, with what it is configured to, is what is given to a QEMU destination later.
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
import tinyguest
from qmp import QmpClosed
from refstream import is_whole
from vm import Unavailable, Vm, get_qemu, skip

RAM = 16 << 20
LIMIT = 60 * godwit.PATIENCE
HOST = "vm.example"                                             # of the good server certificate, see tests/support/certs.h
CLIENT = r"C=DE,O=Godwit\, Ltd,OU=Tests,CN=godwit client"       # and the name in the good client certificate
CHANNELS = 2
PLAIN = "-"


class Setup:
    """What all parts of the test share: programs, a folder, and the certificates in it."""

    def __init__(self, pipe, certs_tool, version, folder):
        self.pipe, self.version, self.qemu, self.folder = pipe, version, get_qemu(version), folder
        self.certs = os.path.join(folder, "certs")
        os.mkdir(self.certs)
        subprocess.run([certs_tool, self.certs], check=True)

    def dir(self, name):
        return name if name == PLAIN else os.path.join(self.certs, name)

    def file(self, name):
        return os.path.join(self.folder, name)


class Guest(Vm):
    """A guest that never runs; `creds`: a folder of certificates or keys, PLAIN: no TLS."""

    def __init__(self, setup, creds, endpoint, *args):
        objects = []
        if creds != PLAIN:
            kind = "psk" if "psk" in creds else "x509"
            objects = ["-object", f"tls-creds-{kind},id=tls,dir={setup.dir(creds)},endpoint={endpoint}"]
        super().__init__(setup.qemu, ["-machine", "pc,memory-backend=m0", "-m", f"{RAM >> 20}M", "-object",
                                      f"memory-backend-file,id=m0,size={RAM >> 20}M,mem-path={{dir}}/ram,share=on",
                                      "-bios", "{dir}/bios", "-S", *objects, *args], console=False)
        self.creds = creds
        with open(self.path("bios"), "wb") as f:
            f.write(tinyguest.bios())
        with open(self.path("ram"), "wb") as f:
            f.write(bytes(RAM) if endpoint == "server" else tinyguest.ram(RAM))

    def use(self, channels=0, **parameters):
        if self.creds != PLAIN:
            parameters["tls_creds"] = "tls"
        if channels:
            parameters["multifd_channels"] = channels
        if parameters:
            self.qmp.command("migrate-set-parameters", **parameters)
        if channels:
            self.qmp.command("migrate-set-capabilities", capabilities=[{"capability": "multifd", "state": True}])

    def memory(self):
        with open(self.path("ram"), "rb") as f:
            return f.read()

    def status(self):
        return self.qmp.command("query-migrate").get("status", "setup")

    def wait(self, *statuses):
        """What it came to, and why."""
        deadline = time.monotonic() + LIMIT
        while True:
            info = self.qmp.command("query-migrate")
            if info.get("status") in statuses:
                return info["status"], info.get("error-desc", "")
            assert time.monotonic() < deadline, (info, self.stderr())
            time.sleep(0.02)

    def wait_stderr(self, text):
        deadline = time.monotonic() + LIMIT
        while text not in self.stderr():
            assert time.monotonic() < deadline, f"{self.stderr()!r} does not say {text!r}"
            time.sleep(0.02)


class Pipe:
    """A running tls-pipe; finish() gives its status and what it said."""

    def __init__(self, setup, *args):
        self.process = subprocess.Popen([setup.pipe, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def finish(self):
        err = self.process.communicate(timeout=LIMIT)[1]
        return self.process.returncode, err.strip()


def check(what, got, want):
    status, text = got
    assert status == want[0] and re.search(want[1], text), f"{what}: {status}, \"{text}\", expected {want}"


# --- they come to us ------------------------------------------------------------------------------------------------

def take(setup, vm, ours, options=(), listen="tcp:127.0.0.1:0", name="stream"):
    """A migration of this QEMU to our server. Its outcome and ours."""
    with Pipe(setup, "take", listen, setup.dir(ours), setup.file(name), *options) as pipe:
        uri = pipe.process.stdout.readline().strip()
        assert uri, pipe.finish()
        vm.qmp.migrate(uri)
        outcome = vm.wait("completed", "failed")
        return outcome, pipe.finish()


def take_good(setup, theirs, ours, options=(), listen="tcp:127.0.0.1:0", channels=0, **parameters):
    with Guest(setup, theirs, "client") as vm:
        vm.use(channels, **parameters)
        outcome, result = take(setup, vm, ours, [*options, f"many={channels + 1 if channels else 0}"], listen)
        check("source", outcome, ("completed", ""))
        check("we", result, (0, "^$"))
    names = [f"stream.{i}" for i in range(channels + 1)] if channels else ["stream"]
    for i, name in enumerate(names):
        with open(setup.file(name), "rb") as f:
            data = f.read()
        assert is_whole(data) if i == 0 else data.startswith(b"\x11\x22\x33\x44\0\0\0\1"), f"{name}: {data[:16]!r}"
    print(f"  taken: {theirs} at our {ours} {listen.split(':')[0]}, {channels} channels {' '.join(options)}")


def take_all_kinds(setup):
    take_good(setup, "good", "good", [f"authz={CLIENT}"], channels=CHANNELS)
    take_good(setup, "good", "chain", listen="tcp:127.0.0.1:0", tls_hostname=HOST)
    take_good(setup, "good", "good", listen=f"unix:{setup.file('socket')}", tls_hostname=HOST)
    take_good(setup, "no-client", "good", ["no-verify"])
    take_good(setup, "psk", "psk", channels=CHANNELS)
    if setup.version == "11.1":
        take_good(setup, "numbered", "numbered")
    take_good(setup, "good", "good")


def refuse_sources(setup):
    """Rows: their credentials, ours, our options, tls-hostname, what the source says, what we say: None if a QEMU that
    checks only after the handshake just goes."""
    done = ("completed|failed", "")     # without a return path a source may be done before it is refused
    for theirs, ours, options, hostname, source, we in (
            ("good", "wrong-host", [], "", ("failed", "does not match the hostname 127.0.0.1"), None),
            ("good", "good", [], "b.example", ("failed", "does not match the hostname b.example"), None),
            ("good", "other-ca", [], "", ("failed", "known issuer|not trusted"), "refused us|no certificate|closed the connection"),
            ("no-client", "good", [], "", done, "the client showed no certificate"),
            ("bundle-of-other", "good", [], "", done, "the client showed no certificate"),
            ("good", "revoked-client", [], "", done, "the client is revoked by our ca-crl.pem"),
            ("good", "good", ["authz=CN=godwit client"], "", done, re.escape(f'the client is "{CLIENT}"')),
            ("psk", "psk-other", [], "", ("failed", ""), 'calls itself "qemu", but seems to have another key'),
            ("psk", "good", [], "", ("failed", ""), "certificates"),
            ("good", "psk", [], "", ("failed", ""), "certificates|shared keys"),
            (PLAIN, "good", [], "", done, "does not speak TLS: it sent a migration stream at once")):
        with Guest(setup, theirs, "client") as vm:
            vm.use(**({"tls_hostname": hostname} if hostname else {}))
            outcome, result = take(setup, vm, ours, options, name="refused")
            assert re.fullmatch(source[0], outcome[0]) and re.search(source[1], outcome[1]), (theirs, ours, outcome)
            check(f"we, {ours}, of {theirs}", result, (1, we) if we else (0, "^$"))
            assert os.path.getsize(setup.file("refused")) == 0
            print(f"  {theirs} refused by {ours}: \"{result[1].split(': ', 2)[-1][-100:]}\" / {outcome[0]} \"{outcome[1]}\"")


def tls_at_a_plain_listener(setup):
    with Guest(setup, "good", "client") as vm:
        vm.use()
        with Pipe(setup, "take", "tcp:127.0.0.1:0", PLAIN, setup.file("hello")) as pipe:
            vm.qmp.migrate(pipe.process.stdout.readline().strip())
            deadline = time.monotonic() + LIMIT
            while os.path.getsize(setup.file("hello")) < 3 if os.path.exists(setup.file("hello")) else True:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        with open(setup.file("hello"), "rb") as f:
            assert f.read(3) == b"\x16\x03\x01"
        vm.wait("failed")


# --- we come to them ------------------------------------------------------------------------------------------------

def listen(vm, setup, uri="tcp:127.0.0.1:0"):
    """Make it wait; where it does."""
    keep = {} if setup.version == "7.2" else {"exit_on_error": False}
    vm.qmp.command("migrate-incoming", uri=uri, **keep)
    if not uri.startswith("tcp"):
        return uri
    return f"tcp:127.0.0.1:{vm.qmp.command('query-migrate')['socket-address'][0]['port']}"


def give(setup, uri, ours, *options):
    with Pipe(setup, "give", uri, setup.dir(ours), setup.file("stream"), *options) as pipe:
        return pipe.finish()


def destination(setup, theirs, *args):
    return Guest(setup, theirs, "server", "-incoming", "defer", *args)


def give_good(setup, theirs, ours, *options, to="tcp:127.0.0.1:0", channels=0, authz=None):
    with destination(setup, theirs, *(["-object", f"authz-simple,id=who,identity={authz}"] if authz else [])) as vm:
        vm.use(channels, **({"tls_authz": "who"} if authz else {}))
        many = [f"many={channels + 1}", "clean-end"] if channels else []
        result = give(setup, listen(vm, setup, to), ours, *many, *options)
        check("we", result, (0, "^$"))
        check("destination", vm.wait("completed", "failed"), ("completed", ""))
        assert vm.memory() == tinyguest.ram(RAM), "RAM differs"
    print(f"  given: our {ours} to {theirs} {to.split(':')[0]}, {channels} channels {' '.join(options)}")


def give_all_kinds(setup):
    """The stream that was taken last; with many channels, those that were taken first."""
    comma = CLIENT.replace(",", ",,")       # as QEMU wants it on its command line
    give_good(setup, "good", "good", "keep-open", authz=comma)
    give_good(setup, "good", "good", f"host={HOST}", to=f"unix:{setup.file('there')}")
    give_good(setup, "wrong-host", "good", "no-verify")
    give_good(setup, "psk", "psk")
    give_good(setup, "psk", "psk", "user=alice", "priority=NORMAL:-VERS-ALL:+VERS-TLS1.2")
    give_good(setup, "good", "good", "priority=NORMAL:-VERS-ALL:+VERS-TLS1.2")
    if setup.version == "11.1":
        give_good(setup, "numbered", "numbered")
    give_good(setup, "good", "good", channels=CHANNELS)
    give_good(setup, "psk", "psk", channels=CHANNELS)


# Before a client of TLS 1.3 can hear it, it may have sent all it has.
LATE = "may not have accepted who we are|refused us|closed the connection|^$"


def refuse_us(setup):
    """Rows: their credentials and authz, ours, our options, what we say, what they say. They keep listening; then we succeed."""
    for theirs, authz, ours, options, we, they in (
            ("wrong-host", None, "good", [], 'is not for "127.0.0.1"', ""),
            ("good", None, "good", ["host=b.example"], 'is not for "b.example"', ""),
            ("other-ca", None, "good", [], "the server was not signed by a CA of our ca-cert.pem", ""),
            ("good", None, "revoked-server", [], "the server is revoked by our ca-crl.pem", ""),
            ("good", None, "no-client", ["keep-open"], LATE, "No certificate was found"),
            ("good", "CN=x", "good", ["keep-open"], LATE, f"TLS x509 authz check for {CLIENT} is denied"),
            ("psk", None, "psk-other", [], "do both sides .* the same key|closed the connection", "illegal parameter"),
            ("psk", None, "good", [], "as we do|same kind of credentials", ""),
            ("good", None, "psk", [], "as we do|same kind of credentials", ""),
            ("good", None, PLAIN, ["keep-open"], "closed the connection|^$|reset", "TLS handshake failed")):
        with destination(setup, theirs, *(["-object", f"authz-simple,id=who,identity={authz}"] if authz else [])) as vm:
            vm.use(**({"tls_authz": "who"} if authz else {}))
            uri = listen(vm, setup)
            status, text = give(setup, uri, ours, *options)
            assert re.search(we, text) and (status or re.search(we, "")), (theirs, ours, status, text)
            if they:
                vm.wait_stderr(they)
            print(f"  our {ours} refused by {theirs}: \"{text.split(': ', 2)[-1][-120:]}\"")
            if ours == "no-client":
                assert vm.status() == "setup"
                check("another try", give(setup, uri, "good"), (0, "^$"))
                check("another try", vm.wait("completed", "failed"), ("completed", ""))


def tls_to_a_plain_destination(setup):
    with destination(setup, PLAIN) as vm:
        result = give(setup, listen(vm, setup), "good")
        check("we", result, (1, "in the TLS handshake; does (it|the peer) use TLS, and with certificates"))
        try:
            check("destination", vm.wait("failed"), ("failed", ""))
        except (QmpClosed, OSError):        # 7.2 always exits
            assert setup.version == "7.2" and vm.process.wait(LIMIT) == 1
        print(f"  TLS to a plain destination: {result[1].split(': ', 2)[-1]}")


def main():
    pipe, certs_tool, version = sys.argv[1:]
    sys.stdout.reconfigure(line_buffering=True)
    try:
        with tempfile.TemporaryDirectory(prefix="godwit-tls.") as folder:
            setup = Setup(pipe, certs_tool, version, folder)
            for part in (take_all_kinds, refuse_sources, tls_at_a_plain_listener, give_all_kinds, refuse_us,
                         tls_to_a_plain_destination):
                print(part.__name__.replace("_", " "))
                part(setup)
    except Unavailable as e:
        skip(str(e))


if __name__ == "__main__":
    main()
