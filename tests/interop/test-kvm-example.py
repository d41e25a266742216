#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The KVM example, as it is built against the library: its guest is saved and restored, and sent live from process to process. Each process that gets it proves its
memory and its registers, and lets it count on. And the same example with a dirty page that is never reported: whoever gets that guest must find out.

test-kvm-example.py PROGRAM FORGETFUL_PROGRAM log|ring. Ends with 77 where KVM is missing, or lacks what the example needs.
"""
import os
import re
import select
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
from vm import skip

SECONDS = 30
CANNOT = 77


class Example:
    """A run of it in the background. What it prints is kept."""

    def __init__(self, program, *options):
        self.line = " ".join([os.path.basename(program), *options])
        self.said, self.err = "", tempfile.TemporaryFile()
        self.process = subprocess.Popen([program, *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.err)
        self.deadline = time.monotonic() + SECONDS * godwit.patience()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.err.close()

    def __str__(self):
        return f"{self.line}: status {self.process.poll()}, stdout {self.said!r}, stderr {self.stderr!r}"

    @property
    def stderr(self):
        return godwit.read_all(self.err)

    def read(self):
        """False: it has nothing more to print."""
        assert select.select([self.process.stdout], [], [], max(0, self.deadline - time.monotonic()))[0], f"takes too long: {self}"
        data = os.read(self.process.stdout.fileno(), 4096)
        self.said += data.decode()
        return bool(data)

    def listens(self):
        while "listening at" not in self.said:
            assert self.read(), self
        return self

    def wait(self):
        while self.read():
            pass
        status = self.process.wait(max(1, self.deadline - time.monotonic()))
        print(self)
        return status

    def ok(self):
        assert self.wait() == 0 and not self.stderr, self
        return self

    def number(self, what):
        found = re.search(rf"^{what} (\d+)$", self.said, re.M)
        assert found, self
        return int(found.group(1))


def run(program, *options):
    with Example(program, *options) as e:
        e.wait()
        return e.process.returncode, e.stderr


def counts_on(source, destination):
    """It went on where it was when it left, and not from anywhere else."""
    left, arrived, counted = source.number("left at"), destination.number("arrived at"), destination.number("counted to")
    assert left == arrived, (left, arrived)
    assert counted >= arrived + 2000, (arrived, counted)


def saved_and_restored(program, dirty, folder):
    image = os.path.join(folder, "image")
    with Example(program, dirty, f"--save={image}") as source:
        source.ok()
        with Example(program, dirty, f"--restore={image}") as destination:
            counts_on(source, destination.ok())
    devices = [e["name"] for e in godwit.run("inspect", image, "--json").ok().events if e["event"] == "device"]
    assert devices == ["cpu", "board"], devices
    godwit.run("verify", image).ok()


def sent(program, dirty, folder):
    """Twice: the second time by a process that has received it."""
    first, second = (f"unix:{folder}/{name}" for name in ("first", "second"))
    with Example(program, dirty, f"--receive={second}") as last, Example(program, dirty, f"--receive={first}", f"--send={second}") as middle:
        last.listens()
        middle.listens()
        with Example(program, dirty, f"--send={first}") as source:
            source.ok()
            counts_on(source, middle.ok())
            counts_on(middle, last.ok())


def forgotten_page_is_found(program, forgetful, dirty, folder):
    """Of the counter alone: registers and counted pages are ahead of it. The guest does not run there."""
    uri, image = f"unix:{folder}/forgotten", os.path.join(folder, "forgotten.image")
    with Example(program, dirty, f"--receive={uri}") as destination:
        destination.listens()
        with Example(forgetful, dirty, f"--send={uri}") as source:
            finds(source.ok(), destination)
    with Example(forgetful, dirty, f"--save={image}") as source:
        source.ok()
        with Example(program, dirty, f"--restore={image}") as destination:
            finds(source, destination)


def finds(source, destination):
    assert destination.wait() == 1, destination
    assert 0 < destination.number("arrived at") < source.number("left at"), (source, destination)
    assert "memory has counted to" in destination.stderr and "pages are wrong" in destination.stderr, destination
    assert "counted to" not in destination.said, destination


def main():
    program, forgetful, kind = sys.argv[1:]
    dirty = f"--dirty={kind}"
    status, why = run(program, dirty)
    if status == CANNOT:
        skip(why.strip().replace("\n", "; "))
    assert status == 0, why
    with tempfile.TemporaryDirectory(prefix="godwit-kvm.") as folder:
        saved_and_restored(program, dirty, folder)
        sent(program, dirty, folder)
        forgotten_page_is_found(program, forgetful, dirty, folder)


if __name__ == "__main__":
    main()
