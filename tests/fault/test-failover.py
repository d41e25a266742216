#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""godwit failover before it starts a QEMU: who holds the lock, what the standby says, and what is left in the folder. The guest is never started in doubt."""
import contextlib
import fcntl
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
from colo import Standby
from coloprimary import Primary

NOT_STARTED = "nothing was started"


class Folder:
    """A guest's folder, without a standby."""

    def __init__(self, path):
        self.path = os.path.join(path, "vm")
        self.lock, self.image = os.path.join(self.path, "owner.lock"), os.path.join(self.path, "guest.img")
        os.makedirs(self.path)

    @contextlib.contextmanager
    def held(self, text="4711 godwit-owner-1-1\n"):
        with open(self.lock, "w", encoding="ascii") as f:
            f.write(text)
            f.flush()
            fcntl.flock(f, fcntl.LOCK_EX)
            yield

    def failover(self, *options):
        marker = os.path.join(self.path, "started")
        result = godwit.run("failover", self.path, *options, "--", "/bin/sh", "-c", f"touch {marker}")
        assert not os.path.exists(marker) or NOT_STARTED not in result.stderr, result
        return result


def locks(folder):
    f = Folder(folder)
    open(f.image, "wb").close()
    f.failover().fails(godwit.REFUSED, "nothing proves", "--primary-is-dead", NOT_STARTED)
    assert not os.path.exists(f.lock)
    with f.held():
        for option in [], ["--primary-is-dead"]:    # no word makes a process dead that lives
            f.failover(*option).fails(godwit.REFUSED, "process 4711 holds .*owner.lock", NOT_STARTED)
    with f.held("garbage"):
        f.failover().fails(godwit.REFUSED, "a process holds .*owner.lock", NOT_STARTED)
    f.failover().fails(godwit.REFUSED, "nothing proves", "--primary-is-dead", NOT_STARTED)
    with f.held():
        pass
    f.failover().fails(godwit.FAILED, "guest.img")
    os.unlink(f.lock)
    os.symlink("/etc/passwd", f.lock)
    f.failover().fails(godwit.IN_DOUBT, "cannot open .*owner.lock", NOT_STARTED)
    os.unlink(f.lock)
    os.mkdir(f.lock)
    f.failover().fails(godwit.IN_DOUBT, "owner.lock", NOT_STARTED)
    godwit.run("failover", os.path.join(folder, "nobody"), "--", "/bin/false").fails(godwit.FAILED, "cannot open the folder")
    godwit.run("failover", f.path).fails(godwit.USAGE, "either --qmp")


def words(folder):
    """An operator's word is good for one attempt. What that leaves, however it ends, is no proof for the next one; a QEMU's lock is."""
    f = Folder(folder)
    for _ in range(2):
        f.failover("--primary-is-dead").fails(godwit.FAILED, "no epoch to start from", NOT_STARTED)
        f.failover().fails(godwit.REFUSED, "nothing proves", "--primary-is-dead", NOT_STARTED)
    open(f.lock, "w", encoding="ascii").close()     # killed right behind the open
    f.failover().fails(godwit.REFUSED, "nothing proves", NOT_STARTED)
    with f.held():
        pass
    f.failover("--primary-is-dead").fails(godwit.FAILED, "no epoch to start from", NOT_STARTED)
    f.failover().fails(godwit.FAILED, "no epoch to start from", NOT_STARTED)


def leases(folder):
    """The word that a primary is dead does not take the lease, and so kill, where this host sees that it lives."""
    f = Folder(folder)
    lease = os.path.join(folder, "lease")
    record = "somebody:7:9+10000"
    with open(lease, "w", encoding="ascii") as file:
        file.write(record)
    with f.held():
        f.failover(f"--lease=file:{lease}", "--primary-is-dead").fails(godwit.REFUSED, "process 4711 holds .*owner.lock", NOT_STARTED)
    with open(lease, encoding="ascii") as file:
        assert file.read() == record


def watchdogs(folder):
    """The host of an owner with a watchdog has been reset when its term is over: time is enough. A fence that was tried and failed is still one."""
    f = Folder(folder)
    lease = os.path.join(folder, "lease")
    option = f"--lease=file:{lease}"
    for owner, status, words in (("elsewhere/boot-1/1.1", godwit.REFUSED, "only its term would show"),
                                 ("elsewhere/boot-1/1.1/watchdog", godwit.FAILED, "no epoch to start from"),
                                 ("elsewhere/boot-1/1.1/watchdog/unfenced", godwit.REFUSED, "whose fence has not succeeded")):
        with open(lease, "w", encoding="ascii") as file:
            file.write(f"{owner}:7:9+1")
        f.failover(option).fails(status, words, NOT_STARTED)
    with open(lease, "w", encoding="ascii") as file:
        file.write("elsewhere/boot-1/1.1/watchdog:7:9+forever")
    f.failover(option).fails(godwit.REFUSED, "without a limit", NOT_STARTED)


def fences(folder):
    """A fence that has not succeeded is not forgotten, also where who ran it was killed: nobody goes on without one, or a word."""
    f = Folder(folder)
    lease = os.path.join(folder, "lease")
    option = f"--lease=file:{lease}"
    with open(lease, "w", encoding="ascii") as file:
        file.write("elsewhere/boot-1/1.1:7:9+1")
    f.failover(option).fails(godwit.REFUSED, "only its term would show", NOT_STARTED)
    killed = [godwit.PROGRAM, "failover", f.path, option, "--fence=exec:kill -9 $PPID; #", "--", "/bin/false"]
    for _ in range(2):
        assert subprocess.run(killed, check=False).returncode == -9
        f.failover(option).fails(godwit.REFUSED, "whose fence has not succeeded", "--fence", NOT_STARTED)
        f.failover(option, "--accept-split-brain").fails(godwit.FAILED, "no epoch to start from", NOT_STARTED)
        f.failover(option, "--fence=exec:exit 7; #").fails(godwit.IN_DOUBT, "the fence .* ended with status 7", NOT_STARTED)
    token = os.path.join(folder, "token")
    f.failover(option, f"--fence=exec:echo >{token}").fails(godwit.FAILED, "no epoch to start from", NOT_STARTED)
    with open(token, encoding="ascii") as file:
        assert int(file.read()) > 8
    f.failover(option).fails(godwit.FAILED, "no epoch to start from", NOT_STARTED)


def no_writes():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def unwritable(folder):
    """A store that can be read and not written, as an etcd without space: that is said, and not tried for ever."""
    f = Folder(folder)
    command = [godwit.PROGRAM, "failover", f.path, f"--lease=file:{folder}/lease", "--", "/bin/false"]
    result = subprocess.run(command, preexec_fn=no_writes, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60 * godwit.patience(), check=False)
    text = result.stderr.decode()
    assert result.returncode == godwit.IN_DOUBT, (result.returncode, text)
    for word in "not known whether the lease was taken", "cannot write", NOT_STARTED:
        assert word in text, text


def folders(folder):
    f = Folder(folder)
    with f.held():
        pass
    f.failover().fails(godwit.FAILED, "no epoch to start from", NOT_STARTED)
    last = f.failover("--json").events[-1]
    assert (last["place"], last["next_step"]) == ("both-possible", "try-again"), last    # no image: it is not "kept whole"
    open(f.image, "wb").close()
    fd = os.open(f.path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    f.failover().fails(godwit.IN_DOUBT, "another process still uses", NOT_STARTED)
    os.close(fd)


@contextlib.contextmanager
def control(folder, answer):
    """A standby's socket; answer(connection, line)."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.join(folder.path, "control"))
        listener.listen(1)

        def serve():        # whoever gets no answer asks once more
            with contextlib.suppress(OSError):
                while True:
                    c = listener.accept()[0]
                    with c:
                        answer(c, c.recv(100))
        t = threading.Thread(target=serve, daemon=True)
        t.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        t.join()
    os.unlink(os.path.join(folder.path, "control"))


def standbys_that_fail(folder):
    """It ends without an answer; another primary comes while it is asked."""
    f = Folder(folder)
    open(f.image, "wb").close()
    with f.held():
        pass
    with control(f, lambda c, line: None):
        f.failover().fails(godwit.IN_DOUBT, "the standby ended before it had answered", NOT_STARTED)

    def another(c, line):
        assert line == b"failover\n", line
        os.unlink(f.lock)
        with open(f.lock, "w", encoding="ascii") as lock:
            lock.write("1 -\n")
        c.sendall(b"ended epoch 1 image x\n")
    with control(f, another):
        f.failover().fails(godwit.REFUSED, "owner.lock was replaced meanwhile", NOT_STARTED)
    with control(f, lambda c, line: (os.unlink(f.lock), c.sendall(b"ended\n"))):
        f.failover().fails(godwit.REFUSED, "owner.lock was replaced meanwhile", NOT_STARTED)


def connected(folder):
    """A standby whose primary is silent is told to end; epoch 0 of another one takes the older lock away."""
    with Standby(folder) as standby:
        os.makedirs(standby.folder)
        lock = os.path.join(standby.folder, "owner.lock")
        open(lock, "wb").close()
        with Primary(standby.socket) as p:
            p.guest()
            p.checkpoint()
            assert not os.path.exists(lock)
            godwit.run("failover", standby.folder, "--", "/bin/false").fails(godwit.REFUSED, "nothing proves")
            p.checkpoint()    # nobody was told to end
            result = godwit.run("failover", standby.folder, "--primary-is-dead", "-v", "--", "/bin/false")
            assert result.status == godwit.FAILED and "its standby had to end the protection" in result.stderr, result
            ended = standby.wait_event("ended")
            assert ended["epoch"] == 2 and "failed over" in ended["message"], ended
        godwit.run("verify", standby.image).ok()


def main():
    for case in [locks, words, leases, watchdogs, fences, unwritable, folders, standbys_that_fail, connected]:
        if sys.argv[1:] and case.__name__ not in sys.argv[1:]:
            continue
        print(f"--- {case.__name__}", flush=True)
        with tempfile.TemporaryDirectory(prefix="godwit-failover.") as folder:
            case(folder)


if __name__ == "__main__":
    main()
