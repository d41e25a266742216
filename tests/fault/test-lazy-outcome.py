#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a page server says of the guest when its monitor or its QEMU fails it, and what it leaves to a successor.

test-lazy-outcome.py QEMU: a version.
"""
import os
import signal
import sys
import tempfile
import time
from types import SimpleNamespace

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
from saved_guest import Kept, serve, wait_guest, wait_status
from linuxguest import Restored
from relay import Relay
from traced_run import Stepped
from vm import Unavailable, skip

SLOW = "--max-bandwidth=5M"
RECOVERS = SimpleNamespace(pattern="postcopy-paused -> postcopy-recover", slow=False)
SHUT_DOWN = "were shut down before every page was loaded"


def killed(kept, vm):
    with serve(kept, vm, SLOW) as g:
        wait_guest(vm)
        g.kill()
        g.process.wait()


def completes(kept, vm, *words, options=()):
    said = godwit.run("serve", kept.image, f"--qmp={vm.monitor}", "-v", *options).ok().stderr
    assert all(w in said for w in words), said
    wait_status(vm, "completed")


def whole(kept, version):
    """The monitor is lost when QEMU has just said that it has everything: that is not taken back."""
    with kept.destination(version, "-S") as vm:
        path = vm.path("relay")
        with Relay(path, vm.monitor, behind=b'"status": "completed"'):
            said = godwit.run("serve", kept.image, f"--qmp={path}").ok().stderr
        assert "the guest has every page" in said, said
        wait_status(vm, "completed")
        vm.qmp.command("cont")
        kept.goes_on_in(vm)


def held_up(kept, version):
    """A QEMU that stands still for a while: a successor cannot tell, and leaves the next one what he found."""
    with kept.destination(version, "-S") as vm:
        killed(kept, vm)
        os.kill(vm.pid, signal.SIGSTOP)
        try:
            godwit.run("serve", kept.image, f"--qmp={vm.monitor}").fails(godwit.IN_DOUBT, "start the command again")
        finally:
            os.kill(vm.pid, signal.SIGCONT)
        completes(kept, vm, "was kept by another process")


def listens(kept, version):
    """Its page server died when it had been told where to listen. Who only wants to --resume has nothing to do, and changes nothing."""
    with kept.destination(version, "-S") as vm:
        listen = f"--listen=unix:{vm.path('in')}"
        with serve(kept, vm, listen, f"--connect=unix:{vm.path('nobody')}") as g:
            deadline = time.monotonic() + 30 * godwit.PATIENCE
            while not os.path.exists(vm.path("in")):
                assert time.monotonic() < deadline, "it does not listen"
                time.sleep(0.01)
            g.kill()
            g.process.wait()
        godwit.run("serve", kept.image, f"--qmp={vm.monitor}", "--resume").fails(godwit.REFUSED, "nothing to --resume")
        completes(kept, vm, "was kept by another process", options=[listen])


def recovers(kept, version):
    """Its page server died in a recovery, and the broker holds that link, without which a 7.2 does not live on. Who comes with an image
    that was written to is refused, and leaves it alone."""
    before = os.stat(kept.image)
    with kept.destination(version, "-S") as vm:
        killed(kept, vm)
        for _ in range(5):
            with Stepped("serve", kept.image, f"--qmp={vm.monitor}", "-v", SLOW) as g:
                assert g.kill_at(RECOVERS), g.stderr
            with open(kept.image, "ab") as f:
                f.write(b"more")
            godwit.run("serve", kept.image, f"--qmp={vm.monitor}").fails(godwit.RECOVERABLE, "was written to", "still waits")
            os.truncate(kept.image, before.st_size)
        completes(kept, vm, "was kept by another process")


def shut_down(kept, version):
    """A guest that is shut down needs no pages; one whose QEMU dies is lost, and that is an error."""
    for end, status, words in ((lambda vm: vm.qmp.command("quit"), godwit.DONE, SHUT_DOWN),
                               (lambda vm: vm.process.kill(), godwit.FAILED, "no guest runs in this QEMU")):
        with kept.destination(version, "-S") as vm:
            with serve(kept, vm, SLOW) as g:
                wait_guest(vm)
                end(vm)
                done = g.wait(60)
            assert done.status == status and words in done.stdout + done.stderr, done


def restored(kept, version):
    """The same of a QEMU that restore started: its end is the end of the command."""
    with Restored(kept.image, ["--lazy", "-v", SLOW], version, machine=kept.machine, backend="memfd", args=["-S"]) as vm:
        wait_guest(vm)
        vm.qmp.command("quit")
        vm.qmp = None
        assert vm.process.wait(60 * godwit.PATIENCE) == godwit.DONE, vm.stderr()
        assert SHUT_DOWN in vm.stderr(), vm.stderr()


def far_away(kept, version):
    """A monitor over a network that is lost together with the link: the guest may well run."""
    with kept.destination(version, "-S") as vm:
        with Relay(None, vm.monitor) as relay, godwit.Run("serve", kept.image, f"--qmp={relay.address}", "-v", SLOW) as g:
            wait_guest(vm)
            relay.break_off()
            vm.qmp.command("migrate-pause")
            done = g.wait(60)
            assert done.status == godwit.IN_DOUBT and "it is not known whether the guest is in this QEMU" in done.stderr, done
        completes(kept, vm)


def main(argv):
    version = argv[1]
    wanted = os.environ.get("GODWIT_ONLY", "").split(",")
    try:
        with tempfile.TemporaryDirectory(prefix="godwit-outcome.") as folder:
            os.environ["XDG_RUNTIME_DIR"] = folder
            kept = Kept(version, folder)
            for test in (whole, held_up, listens, recovers, shut_down, restored, far_away):
                if wanted == [""] or test.__name__ in wanted:
                    print(f"  {version}: {test.__name__}", flush=True)
                    test(kept, version)
    except Unavailable as e:
        skip(str(e))


if __name__ == "__main__":
    main(sys.argv)
