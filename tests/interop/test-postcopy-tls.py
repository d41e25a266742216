#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A QEMU source that switches to post-copy over TLS, kept in an image over deaths of ours; and who comes back in its place, or with
something wrong, does no harm.

test-postcopy-tls.py CERTS-TOOL SOURCE. GODWIT_ONLY: names of tests.
"""
import os
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
import images
from lost_pages import unless_lost
from postcopy_source_vm import Receiver, come_back, migrate, status, wait_behind_the_switch, wait_status
from protected_guest import Victim
from vm import Unavailable, skip

HOST = "vm.example"         # of the good server certificate, see tests/support/certs.h
SLOW = 50000                # bytes per second behind the switch: most of the rest is still to come
IN_VAIN = 5                 # connections that bring nothing, after which godwit gives up


class Certs:
    def __init__(self, tool, folder):
        self.folder = os.path.join(folder, "certs")
        os.mkdir(self.folder)
        subprocess.run([tool, self.folder], check=True)

    def objects(self):
        """tls0 is what we trust, tls1 is not."""
        kinds = (("tls0", "good"), ("tls1", "other-ca"))
        return [a for name, folder in kinds for a in ("-object", f"tls-creds-x509,id={name},dir={self.folder}/{folder},endpoint=client")]

    def option(self, folder="good"):
        return f"--tls-creds={self.folder}/{folder}"


class Source(Victim):
    """Its user has set TLS up. Without noise its first pass is short, at any speed: all that is left behind it is what the guest writes."""

    def __init__(self, version, certs, noise):
        super().__init__(version, backend="memfd", args=certs.objects())
        self.certs, self.noise = certs, noise

    def change_settings(self):
        self.qmp.command("migrate-set-parameters", downtime_limit=1)
        self.speaks("tls0")

    def speaks(self, creds, host=HOST):
        self.qmp.command("migrate-set-parameters", tls_creds=creds, tls_hostname=host)

    def fill(self):
        if self.noise:
            super().fill()

    def ram(self):
        with open(self.ram_path(), "rb") as f:
            return f.read()

    def is_limited(self, bandwidth):
        self.qmp.command("migrate-set-parameters", max_postcopy_bandwidth=bandwidth)


def killed(g):
    g.kill()
    g.process.wait()


def left_behind(vm, receiver):
    """A receive that was killed behind the switch."""
    with receiver.start(vm.certs.option()) as g:
        migrate(vm, receiver.uri, bandwidth=20 << 20, postcopy_bandwidth=SLOW)
        g.wait_stderr("-> postcopy-active")
        wait_behind_the_switch(vm)
        killed(g)
    wait_status(vm, "postcopy-paused")


def comes_in_vain(vm, receiver, g, words, times=1):
    """Every time the receiver says why."""
    for n in range(times):
        come_back(vm, receiver.uri)
        g.wait_stderr(f"(?s)({words}.*){{{n + 1}}}")
        wait_status(vm, "postcopy-paused")


def received(version, certs):
    wrong = [("tls1", HOST, "certificate"), ("", "", "does not speak TLS"), ("tls0", "elsewhere.example", "may not have accepted our certificate")]
    if version == "7.2":        # does not survive a link that breaks between handshake, if any, and RESUME
        wrong = wrong[:1]
    with Source(version, certs, noise=True) as vm:
        receiver = Receiver(vm)
        left_behind(vm, receiver)
        with receiver.start("--resume") as g:
            comes_in_vain(vm, receiver, g, "speaks TLS and we do not; give --tls-creds", IN_VAIN)
            g.process.send_signal(signal.SIGINT)    # nobody who has proved nothing ends the wait
            r = g.wait()
        assert r.status == godwit.RECOVERABLE and "receive --resume" in r.sentences[-1], r
        assert receiver.left() == ["image.partial", "image.partial.state"], receiver.left()
        with receiver.start("--resume", certs.option()) as g:     # which has begun to bring the rest
            come_back(vm, receiver.uri)
            g.wait_stderr("-> postcopy-active")
            wait_status(vm, "postcopy-active")
            killed(g)
        with receiver.start("--resume", certs.option()) as g:
            wait_status(vm, "postcopy-paused")
            for creds, host, words in wrong:
                vm.speaks(creds, host)
                comes_in_vain(vm, receiver, g, words)
            vm.speaks("tls0")
            vm.is_limited(0)
            come_back(vm, receiver.uri)
            done = g.wait().ok().event("done")
        assert done["postcopy"] and done["source_notified"], done
        wait_status(vm, "completed")
        assert receiver.left() == ["image"], receiver.left()
        images.check_image(vm, receiver.image, vm.path("raw"))
        vm.qmp.command("cont")
        assert vm.counts()


def given_back(version, certs):
    """receive --abandon: it needs no monitor, only the source's coming back."""
    with Source(version, certs, noise=True) as vm:
        receiver = Receiver(vm)
        left_behind(vm, receiver)
        with receiver.start("--abandon", certs.option()) as g:
            godwit.run("receive", f"unix:{vm.path('other')}", receiver.image, "--abandon").fails(godwit.REFUSED, "nothing was changed")
            come_back(vm, receiver.uri)
            g.wait().ok()
        assert receiver.left() == [], receiver.left()
        wait_status(vm, "failed")
        if version == "7.2":
            vm.qmp.command("cont")
        assert vm.counts()
        godwit.run("receive", receiver.uri, receiver.image, "--abandon").fails(godwit.REFUSED, "nothing was begun")


def save(vm, *options):
    return godwit.Run("save", vm.monitor, vm.image, "--postcopy", *options, env={**os.environ, "GODWIT_TRACE": "1"})


def save_left_behind(vm):
    with save(vm, vm.certs.option(), "--max-bandwidth=500K") as g:
        g.wait_stderr("-> postcopy-active")
        vm.is_limited(SLOW)
        wait_behind_the_switch(vm)
        killed(g)
        g.wait_guard(f"is paused .*--postcopy --resume {vm.monitor} {vm.image}")
    vm.is_limited(0)


def saved(version, certs):
    with Source(version, certs, noise=False) as vm:
        save_left_behind(vm)
        for options, words in (([], "speaks TLS and we do not"), ([certs.option("other-ca")], "certificate"), ([certs.option("psk")], "TLS")):
            r = godwit.run("save", vm.monitor, vm.image, "--postcopy", "--resume", *options)
            assert r.status == godwit.RECOVERABLE and words in r.sentences[-1] and "--postcopy --resume" in r.sentences[-1], r
            assert status(vm) == "postcopy-paused"
            images.is_tidy(vm.folder, "image", "image.partial", "image.partial.state")
        with save(vm, "--resume", "--stop", certs.option()) as g:
            g.wait().ok()
        images.is_tidy(vm.folder, "image")
        images.check_image(vm, vm.image, vm.path("raw"))
        vm.qmp.command("cont")
        vm.wait_as_before()


def abandoned(version, certs):
    """Where the guest stays, nothing has to be encrypted."""
    with Source(version, certs, noise=False) as vm:
        save_left_behind(vm)
        godwit.run("save", vm.monitor, vm.image, "--postcopy", "--abandon", "-q").ok()
        vm.unharmed()


def main(argv):
    tool, version = argv[1:]
    wanted = os.environ.get("GODWIT_ONLY", "").split(",")
    try:
        with tempfile.TemporaryDirectory(prefix="godwit-tls.") as folder:
            certs = Certs(tool, folder)
            for test in (received, given_back, saved, abandoned):
                if wanted == [""] or test.__name__ in wanted:
                    print(f"  {version}: {test.__name__}", flush=True)
                    begin = time.monotonic()
                    unless_lost(version, test, version, certs)
                    print(f"    {time.monotonic() - begin:.1f} s", flush=True)
    except Unavailable as e:
        skip(str(e))


if __name__ == "__main__":
    main(sys.argv)
