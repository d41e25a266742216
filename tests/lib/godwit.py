# SPDX-License-Identifier: MIT
"""Runs the godwit command and keeps what it said. Every run is checked for what may never happen: an end by a signal
nobody sent, a word from a sanitizer, a run that does not end.

The program is $GODWIT, or build/godwit of this tree.
"""
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
PROGRAM = os.environ.get("GODWIT") or os.path.join(ROOT, "build", "godwit")
DONE, FAILED, USAGE, REFUSED, IN_DOUBT, RECOVERABLE, DIFFERENT = range(7)
SANITIZER = re.compile(r"(Address|Leak|Thread|Memory)Sanitizer|runtime error:")
SLOWER_UNDER_SANITIZERS, SLOWER_WHEN_BUSY_MAX = 4, 10


def is_sanitized():
    with open(PROGRAM, "rb") as f:
        return b"__asan_init" in f.read()


def how_busy():
    """As many times slower as there is more to do here than there are processors."""
    return min(SLOWER_WHEN_BUSY_MAX, max(1, os.getloadavg()[0] / os.cpu_count()))


SANITIZED = os.path.exists(PROGRAM) and is_sanitized()


def patience():
    """With which every wait for something that must happen is multiplied: of this moment, as others come and go."""
    return (SLOWER_UNDER_SANITIZERS if SANITIZED else 1) * how_busy()


class Timeout:
    """A limit that Godwit is given, longer on a busy machine (ms); and what it may take (allowed_ms) on one that has become busier since."""

    def __init__(self, idle_ms):
        self.patience = patience()
        self.ms = idle_ms * self.patience

    def allowed_ms(self):
        return self.ms * max(1, patience() / self.patience)


def __getattr__(name):
    """godwit.PATIENCE, whenever it is asked for."""
    if name == "PATIENCE":
        return patience()
    raise AttributeError(name)



ASKING = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)


def hear():
    """What nohup, or a shell in the background, made this test ignore: godwit rightly goes on ignoring it, and would not be stopped."""
    for number in ASKING:
        signal.signal(number, signal.SIG_DFL)


class Run:
    """godwit COMMAND ARGUMENTS in the background; Popen keywords pass. stdout and stderr go to unnamed files, so that
    nobody has to read them and a process left behind cannot hold them."""

    def __init__(self, *args, prefix=(), **popen):
        self.args = [str(a) for a in args]
        self.out, self.err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        popen.setdefault("stdin", subprocess.DEVNULL)
        popen.setdefault("stdout", self.out)
        popen.setdefault("stderr", self.err)
        if any(signal.getsignal(s) == signal.SIG_IGN for s in ASKING):
            popen.setdefault("preexec_fn", hear)
        self.killed_by = None
        self.started = time.monotonic()
        self.process = subprocess.Popen([*prefix, PROGRAM, *self.args], **popen)

    def __enter__(self):
        return self

    def __exit__(self, kind=None, *_):
        if kind:    # a test failed beside it: what it said last may tell why
            print(f"{self}, {self.process.poll()}, said last: {self.stdout[-1500:]}\n{self.stderr[-1500:]}", file=sys.stderr, flush=True)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.out.close()
        self.err.close()

    def kill(self, number=signal.SIGKILL):
        self.killed_by = number
        self.process.send_signal(number)

    def wait(self, timeout=60):
        """The Result. A run that takes longer is killed, and an error."""
        try:
            self.process.wait(timeout * patience())
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self} did not end within {timeout} s: {self.stderr}") from None
        seconds = time.monotonic() - self.started
        result = Result(self.args, self.process.returncode, self.stdout, self.stderr, seconds)
        assert not SANITIZER.search(result.stderr), result
        assert result.status >= 0 or -result.status == self.killed_by, f"ended by a signal: {result}"
        return result

    def wait_stderr(self, pattern, timeout=30):
        """Wait until stderr has this pattern."""
        return self._wait(lambda: self.stderr, pattern, timeout)

    def wait_guard(self, pattern, timeout=30):
        """What a process it left behind says on its stderr."""
        return self._wait(lambda: self.stderr, pattern, timeout, orphan=True)

    def wait_stdout(self, pattern, timeout=30):
        return self._wait(lambda: self.stdout, pattern, timeout)

    def _wait(self, text, pattern, timeout, orphan=False):
        deadline = time.monotonic() + timeout * patience()
        while True:
            ended = not orphan and self.process.poll() is not None
            found = re.search(pattern, text())
            if found:
                return found
            assert not ended, f"{self} ended with {self.process.returncode}: {self.stderr}"
            assert time.monotonic() < deadline, f"{self} does not say {pattern!r}: {self.stderr}\n{self.stdout[-4000:]}"
            time.sleep(0.01)

    @property
    def stdout(self):
        return read_all(self.out)

    @property
    def stderr(self):
        return read_all(self.err)

    def __str__(self):
        return "godwit " + " ".join(self.args)


def read_all(f):
    size = os.fstat(f.fileno()).st_size
    return os.pread(f.fileno(), size, 0).decode("utf-8", "surrogateescape")


class Result:
    def __init__(self, args, status, stdout, stderr, seconds):
        self.args, self.status, self.stdout, self.stderr, self.seconds = args, status, stdout, stderr, seconds

    def __str__(self):
        return f"godwit {' '.join(self.args)}: status {self.status} after {self.seconds:.1f} s\n" \
               f"stdout: {self.stdout}\nstderr: {self.stderr}"

    @property
    def sentences(self):
        """What godwit itself said on stderr; a QEMU that it started writes there as well."""
        return [line[8:] for line in self.stderr.splitlines() if line.startswith("godwit: ")]

    @property
    def events(self):
        """The lines of --json."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    def event(self, name):
        found = [e for e in self.events if e["event"] == name]
        assert len(found) == 1, f"{len(found)} events {name}: {self}"
        return found[0]

    def ok(self):
        assert self.status == DONE, self
        return self

    def fails(self, status, *patterns):
        """It ended with this status and one sentence, in which every pattern is found."""
        assert self.status == status, f"status {status} expected: {self}"
        assert len(self.sentences) == 1, f"one sentence expected: {self}"
        for p in patterns:
            assert re.search(p, self.sentences[0], re.I), f"{p!r} expected: {self}"
        return self


def where(event):
    """Of a line of --json: where the guest is, and the id of what there is to say."""
    return event["place"], event["message_id"]


def run(*args, timeout=60, **popen):
    """Run it to its end and return the Result."""
    with Run(*args, **popen) as r:
        return r.wait(timeout)
