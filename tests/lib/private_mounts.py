# SPDX-License-Identifier: MIT
"""Mounts that only this process and its children see, for tests that run as root."""
import contextlib
import ctypes
import os
import subprocess

CLONE_NEWNS, MS_RDONLY, MS_REMOUNT, MS_REC, MS_PRIVATE, MS_BIND, MNT_DETACH = 0x20000, 1, 32, 0x4000, 1 << 18, 4096, 2
NOBODY = 65534
_libc = ctypes.CDLL(None, use_errno=True)


def _call(name, *args):
    if getattr(_libc, name)(*args):
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def mounts_possible():
    """From here on this process has its own mounts. False: not root, or not allowed."""
    try:
        _call("unshare", CLONE_NEWNS)
        _call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def small_disk(folder, size):
    """An empty tmpfs of `size` bytes there, as long as the block runs."""
    os.makedirs(folder, exist_ok=True)
    _call("mount", b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={size}".encode())
    try:
        yield folder
    finally:
        _call("umount2", os.fsencode(folder), MNT_DETACH)


def make_read_only(folder, read_only=True):
    """A mount that is there already."""
    _call("mount", None, os.fsencode(folder), None, MS_REMOUNT | (MS_RDONLY if read_only else 0), None)


def as_nobody(*command):
    """A prefix that makes a command line an ordinary user's; None where this command cannot be run so."""
    if os.geteuid():
        return []
    prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    try:
        done = subprocess.run([*prefix, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    except FileNotFoundError:
        return None
    return prefix if done.returncode == 0 else None


def run_as_nobody(argv, place, *caps):
    """A QEMU's command line for an ordinary user with these capabilities: it is seen at `place`, also from below a home closed to others."""
    nobody = as_nobody("true")
    assert nobody, "needs root and setpriv"
    held = [f"--{kind}-caps={','.join('+' + c for c in caps)}" for kind in ("inh", "ambient")] if caps else []
    home, program = os.path.split(os.path.realpath(argv[0]))
    os.mkdir(place)
    script = 'mount --bind "$0" "$1" && shift && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, home, place, *nobody, *held, os.path.join(place, program), *argv[1:]]
