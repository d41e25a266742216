#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The link of a page server: unix and tcp, TLS with certificates and with shared keys, addresses of the user's choosing; each also
after the death of the page server. And what is refused before a QEMU is asked for anything.

test-lazy-links.py CERTS-TOOL DESTINATION [SOURCE]: QEMU versions.
"""
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
from saved_guest import Kept, is_done, serve, status, wait_status
from linuxguest import Restored
from vm import Unavailable, skip

HOST = "vm.example"         # of the good server certificate, see tests/support/certs.h
SLOW = "--max-bandwidth=10M"
NO_PORT = "tcp:127.0.0.1:0"
PRIVATE, UNIX, TCP = None, "unix", NO_PORT
PLAIN, X509, PSK = None, "x509", "psk"
# Where QEMU listens, and TLS. Every version has every kind of each once; what crosses them is thinned.
ROWS = {
    "7.2": [(UNIX, PLAIN), (TCP, PSK), (PRIVATE, X509)],
    "10.0": [(TCP, PLAIN), (UNIX, X509), (PRIVATE, PSK)],
    "11.1": [(TCP, X509), (UNIX, PSK), (TCP, PLAIN)],
}


class Certs:
    def __init__(self, tool, folder):
        self.folder = os.path.join(folder, "certs")
        os.mkdir(self.folder)
        subprocess.run([tool, self.folder], check=True)

    def dir(self, tls):
        return os.path.join(self.folder, "psk" if tls == PSK else "good")

    def object(self, tls, name="tls0", endpoint="server"):
        return ["-object", f"tls-creds-{tls},id={name},dir={self.dir(tls)},endpoint={endpoint}"] if tls else []

    def options(self, tls, uri):
        """A unix socket has no host, by which a certificate could be checked."""
        name = [f"--tls-hostname={HOST}"] if tls == X509 and not (uri or "").startswith("tcp:") else []
        whose = ["--tls-username=alice"] if tls == PSK else []      # another key of the file than that of "qemu"
        return [f"--tls-creds={self.dir(tls)}", *name, *whose] if tls else []


def listen_at(vm, listen):
    uri = f"unix:{vm.path('pages')}" if listen == UNIX else listen
    return uri, [f"--listen={uri}"] if uri else []


def killed_at_work(kept, vm, *options):
    with serve(kept, vm, SLOW, *options) as g:
        wait_status(vm, "postcopy-active")
        g.kill()
        g.process.wait()


def once(kept, vm, *options):
    """Without -v: what fails is one sentence."""
    return godwit.run("serve", kept.image, f"--qmp={vm.monitor}", *options)


def one_row(kept, version, certs, listen, tls):
    """Killed twice, resumed, with all that was said the first time: where it listened need not be said again."""
    print(f"    {listen or 'private'}, {tls or 'plain'}", flush=True)
    with kept.destination(version, "-S", *certs.object(tls), *certs.object(tls and X509, "other", "client")) as vm:
        before = vm.state()
        uri, where = listen_at(vm, listen)
        creds = certs.options(tls, uri)
        killed_at_work(kept, vm, *where, *creds)
        if tls:
            once(kept, vm).fails(godwit.RECOVERABLE, "speaks TLS", "--tls-creds", "still waits")
        if not tls or version != "7.2":     # which does not survive the end of a link between handshake and RESUME
            with serve(kept, vm, SLOW, "--resume", *creds) as g:
                g.wait_stderr("was kept")
                g.kill()
                g.process.wait()
        with serve(kept, vm, "--resume", *where, *creds) as g:
            g.wait(90).ok()
        is_done(vm, before)
        kept.is_in(vm)


def rows(kept, version, certs):
    for listen, tls in ROWS[version]:
        one_row(kept, version, certs, listen, tls)


def from_elsewhere(kept, version, certs):
    """QEMU has another name for the place than we: as in a mount namespace of its own. And one that listens from the start."""
    with kept.destination(version, "-S") as vm:
        here = f"unix:/proc/{vm.pid}/root{vm.path('pages')}"
        killed_at_work(kept, vm, f"--listen=unix:{vm.path('pages')}", f"--connect={here}")
        with serve(kept, vm) as g:
            g.wait(90).ok()
        wait_status(vm, "completed")
    with kept.destination(version, "-S", incoming=NO_PORT) as vm:
        at = vm.qmp.command("query-migrate")["socket-address"][0]
        uri = f"tcp:{at['host']}:{at['port']}"
        killed_at_work(kept, vm, f"--listen={uri}")
        with serve(kept, vm, f"--listen={uri}") as g:
            g.wait(90).ok()
        wait_status(vm, "completed")


def restored(kept, version, certs):
    options = ["--lazy", "-v", f"--listen={NO_PORT}", *certs.options(X509, NO_PORT)]
    with Restored(kept.image, options, version, machine=kept.machine, backend="memfd", args=certs.object(X509)) as vm:
        wait_status(vm, "completed")
        kept.goes_on_in(vm)


def refused(kept, version, certs):
    """QEMU is as it was, and can still be served."""
    good, psk = certs.options(X509, NO_PORT), certs.options(PSK, NO_PORT)
    with kept.destination(version, "-S", *certs.object(X509), *certs.object(PSK, "tls1")) as vm:
        before = vm.state()
        for options, code, words in (
                (["--resume"], godwit.REFUSED, ["nothing to --resume"]),
                (good, godwit.REFUSED, ["--tls-hostname"]),
                (["--tls-hostname=x"], godwit.USAGE, ["needs --tls-creds"]),
                (["--tls-username=x"], godwit.USAGE, ["needs? --tls-creds"]),
                (["--connect=unix:/x"], godwit.USAGE, ["needs --listen"]),
                (["--listen=exec:cat"], godwit.USAGE, ["exec:cat"]),
                (["--listen=/x"], godwit.USAGE, ["not at /x"]),
                ([f"--listen={NO_PORT}", *good], godwit.FAILED, ["2 credentials", "migrate-set-parameters"])):
            once(kept, vm, *options).fails(code, *words)
            assert vm.state() == before, options
        vm.qmp.command("migrate-set-parameters", tls_creds="tls1")   # its user has decided
        with serve(kept, vm, f"--listen={NO_PORT}", *psk) as g:
            g.wait(90).ok()
        assert vm.state()["parameters"]["tls-creds"] == "tls1"
    with kept.destination(version, "-S", *certs.object(X509, endpoint="client")) as vm:
        before = vm.state()
        once(kept, vm, f"--listen={NO_PORT}", *good).fails(godwit.FAILED, "no credentials for a server", "endpoint=server")
        assert vm.state() == before
        once(kept, vm, "--listen=unix:/nonexistent/x").fails(godwit.FAILED, "/nonexistent/x")   # 10.0 and 11.1 cannot be asked again
        assert vm.state() == before
    godwit.run("restore", kept.image, f"--listen={NO_PORT}", "--qmp=/x").fails(godwit.USAGE, "need --lazy")


def not_the_right_one(kept, version, certs):
    """A handshake that fails, in the beginning and in a recovery: nothing is lost by it."""
    with kept.destination(version, "-S", *certs.object(X509)) as vm:
        wrong = [f"--tls-creds={certs.dir(X509)}", "--tls-hostname=elsewhere.example"]
        right = certs.options(X509, None)
        once(kept, vm, *wrong).fails(godwit.FAILED, "elsewhere.example")
        if vm.process.poll() is not None:       # 7.2 and 10.0 take a closed connection for the migration
            return
        killed_at_work(kept, vm, *right)
        if version != "7.2":                    # does not survive a link that ends in a recovery
            once(kept, vm, *wrong).fails(godwit.RECOVERABLE, "elsewhere.example")
        with serve(kept, vm, *right) as g:
            g.wait(90).ok()
        assert status(vm) == "completed"


def main(argv):
    tool, version, source = argv[1], argv[2], argv[3] if len(argv) > 3 else argv[2]
    wanted = os.environ.get("GODWIT_ONLY", "").split(",")
    try:
        with tempfile.TemporaryDirectory(prefix="godwit-links.") as folder:
            kept, certs = Kept(source, folder), Certs(tool, folder)
            for test in [rows, from_elsewhere, restored, refused, not_the_right_one]:
                if wanted == [""] or test.__name__ in wanted:
                    print(f"  {version}: {test.__name__}", flush=True)
                    test(kept, version, certs)
    except Unavailable as e:
        skip(str(e))


if __name__ == "__main__":
    main(sys.argv)
