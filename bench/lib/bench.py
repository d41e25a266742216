# SPDX-License-Identifier: MIT
"""What the works of one run share: options, programs, and the material they work on (guests' memory, streams, images).

Material lives in a folder in tmpfs and is made when a work first asks for it; all of it is gone with the run.
"""
import contextlib
import ctypes
import glob
import mmap
import os
import shutil
import subprocess
import tempfile

import vm

HUGE_PAGE, POPULATE_WRITE = 14, 23      # madvise
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000
PAGE = 4096
TILE = 64 << 20         # what a guest's memory repeats; far more than any compressor looks back
RUN, RUN_EVERY = 16, 160    # pages of the guest that is 90 % zeros: so many with content in so many


class NotRun(Exception):
    """A work or the whole run went wrong; the sentence says why."""


class NotHere(NotRun):
    """A work that this machine or this user cannot do, which is no failure."""


class Bench:
    def __init__(self, options):
        self.size, self.repeat = options.size, options.repeat
        self.build = os.path.abspath(options.build)
        self.godwit = self.program("godwit")
        self.account = self.program("bench/account")
        self.qemu = self._get_qemu()
        self.material = {}      # key -> path
        self.scanned = None     # what bench/zero-scan said last
        self.tmpfs_parent, self.disk_parent = options.tmpfs, options.disk
        self.tmpfs = self.disk = None
        self.huge = None        # a folder in a tmpfs with huge pages, once somebody asked for it
        self.own_mounts = os.geteuid() == 0 and leave_mounts()

    def __enter__(self):
        self.tmpfs = self._folder(self.tmpfs_parent)
        try:
            self.disk = self._folder(self.disk_parent)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.huge:
            subprocess.run(["umount", "-l", self.huge], check=False)
        for folder in (self.tmpfs, self.disk):
            if folder:
                shutil.rmtree(folder, ignore_errors=True)

    def program(self, name):
        path = os.path.join(self.build, name)
        if not os.access(path, os.X_OK):
            raise NotRun(f"there is no {path}; make builds it")
        return path

    def require_memory(self, copies):
        """At the most there are so many guests and images at a time: mostly two guests and an image, or a guest and two images."""
        wanted = copies * self.size + (1 << 30)
        if available_memory() < wanted:
            raise NotRun(f"only {available_memory() >> 20} MiB of memory are free, {wanted >> 20} are needed; use --size")

    def warm(self, size, huge=False):
        """
        Touch as much memory as what comes next will use, and a little more, right before it: a virtual machine may have
        given its free memory back to its host, and gets it again page by page, slowly. Memory of the same kind, because
        small pages and huge ones come from different places: as files in tmpfs, or (`huge`) as a QEMU's guest.
        """
        kind = mmap.MAP_PRIVATE if huge else mmap.MAP_SHARED
        with mmap.mmap(-1, size + size // 4, flags=kind | mmap.MAP_ANONYMOUS) as memory:
            if huge:
                with contextlib.suppress(OSError):      # a kernel without them
                    memory.madvise(HUGE_PAGE)
            memory.madvise(POPULATE_WRITE)

    def huge_tmpfs(self):
        """
        A tmpfs that has huge pages whatever the system's own one has, so that a file there and the memory of a QEMU
        are made of the same. Nobody else sees it, and it goes away with us.
        """
        if self.huge:
            return self.huge
        if not self.own_mounts:
            raise NotHere("mounting a tmpfs with huge pages needs root and a mount namespace of our own")
        path = os.path.join(self.tmpfs, "huge")
        os.makedirs(path, exist_ok=True)
        p = subprocess.run(["mount", "-t", "tmpfs", "-o", "huge=always,mode=700", "none", path], capture_output=True, text=True)
        if p.returncode:
            raise NotHere(f"no tmpfs with huge pages: {p.stderr.strip()}")
        self.huge = path
        return path

    def guest(self, kind, size):
        """A file in tmpfs with the memory of a guest; see CONTENT."""
        return self._have(("guest", kind, size), lambda path: write_content(path, kind, size))

    def keep(self, key, make):
        """Material that works make of guests; `make` is called with the path to write."""
        return self._have(key, make)

    def drop(self, key):
        os.unlink(self.material.pop(key))

    def drop_material(self):
        for key in list(self.material):
            self.drop(key)

    def _have(self, key, make):
        if key not in self.material:
            path = os.path.join(self.tmpfs, "-".join(str(part) for part in key))
            make(path)
            self.material[key] = path
        return self.material[key]

    @staticmethod
    def _folder(parent):
        """A folder with our process id in its name; those of runs that were killed are removed, because they hold memory."""
        for old in glob.glob(os.path.join(parent, "godwit-bench.*.*")):
            if not os.path.exists(f"/proc/{old.split('.')[-2]}"):
                shutil.rmtree(old, ignore_errors=True)
        try:
            return tempfile.mkdtemp(prefix=f"godwit-bench.{os.getpid()}.", dir=parent)
        except OSError as e:
            raise NotRun(f"cannot make a folder in {parent}: {e.strerror}") from None

    @staticmethod
    def _get_qemu():
        try:
            return vm.get_qemu("11.1")
        except (vm.Unavailable, RuntimeError) as e:
            raise NotRun(f"no QEMU 11.1 to compare with: {e}") from None


def leave_mounts():
    """From here on this process mounts for itself alone. False where that is forbidden."""
    libc = ctypes.CDLL(None)
    made_own = libc.unshare(CLONE_NEWNS) == 0
    return made_own and libc.mount(b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None) == 0


def available_memory():
    with open("/proc/meminfo") as f:
        for line in f:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0


def mostly_zero(size):
    """Runs of random pages with zeros between them."""
    step = RUN_EVERY * PAGE
    return b"".join(os.urandom(RUN * PAGE).ljust(step, b"\0") for _ in range(size // step))


def half(size):
    """Every page half random, half the same: what a compressor halves."""
    return b"".join(os.urandom(PAGE // 2) + b"godwit! " * (PAGE // 16) for _ in range(size // PAGE))


# Each page of a tile is written, also those of zeros: the memory of a guest that has used it.
CONTENT = {"random": os.urandom, "zero": bytes, "mostly-zero": mostly_zero, "half": half}


def write_content(path, kind, size):
    tile = CONTENT[kind](TILE)
    with open(path, "wb", buffering=0) as f:
        for at in range(0, size, len(tile)):
            f.write(tile[:size - at])


def remove(path):
    if os.path.exists(path):
        os.unlink(path)


def output_of(command, timeout):
    """Standard output of a short command, or NotRun with what it said."""
    try:
        p = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise NotRun(f"{command[0]} did not end within {timeout} s") from None
    except OSError as e:
        raise NotRun(f"cannot run {command[0]}: {e.strerror}") from None
    if p.returncode:
        said = p.stderr.strip().splitlines() or [f"exit status {p.returncode}"]
        raise NotRun(f"{os.path.basename(command[0])} failed: {said[-1]}")
    return p.stdout
