#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Places where an image cannot be kept: full, read-only, forbidden, not a file. The source's guest runs on each time.

test-target.py 7.2|10.0|11.1
"""
import contextlib
import os
import resource
import signal
import socket
import stat
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
import images
import private_mounts
from protected_guest import MIB, Victim
from vm import Unavailable, skip

FULL = r"no space left|may only write files of|file too large"
missing = []


def refused(vm, image, *patterns, status=godwit.FAILED, options=(), **popen):
    """A save that fails with this sentence, and a guest that has not noticed."""
    r = godwit.run("save", vm.monitor, image, *options, **popen).fails(status, *patterns)
    vm.wait_as_before()
    return r


def disk_full(vm, *options):
    """At every stage: hardly a byte fits, half of memory fits, all but the end fits."""
    godwit.run("save", vm.monitor, vm.path("whole")).ok()
    whole = os.stat(vm.path("whole")).st_blocks * 512
    for size in (64 << 10, 15 * MIB, whole - (150 << 10)):
        with private_mounts.small_disk(vm.path("small"), size) as folder:
            image = os.path.join(folder, "image")
            with open(image, "wb") as f:
                f.write(images.earlier_bytes(3000))
            refused(vm, image, FULL, image, options=options)
            images.is_tidy(folder, "image")
            with open(image, "rb") as f:
                assert f.read() == images.earlier_bytes(3000)
            free = os.statvfs(folder)
            assert free.f_bfree * free.f_bsize > size - (16 << 10), "space is still taken"


def disk_just_large_enough(vm):
    """What fits, fits: the image needs no more room than its pages."""
    with private_mounts.small_disk(vm.path("small"), 34 * MIB) as folder:
        image = os.path.join(folder, "image")
        godwit.run("save", vm.monitor, image).ok()
        godwit.run("verify", image).ok()
        # the second one needs its own room beside the first: the first stays
        refused(vm, image, FULL)
        images.is_tidy(folder, "image")
        godwit.run("verify", image).ok()


def disk_full_receive(vm):
    """The same through receive: a source with a return path hears it, and its guest runs on."""
    with private_mounts.small_disk(vm.path("small"), 15 * MIB) as folder:
        image = os.path.join(folder, "image")
        with godwit.Run("receive", f"unix:{vm.path('in')}", image) as r:
            r.wait_stderr("listening")
            vm.qmp.command("migrate-set-capabilities", capabilities=[{"capability": "return-path", "state": True}])
            vm.qmp.command("migrate-set-parameters", max_bandwidth=1 << 40)
            vm.qmp.migrate(f"unix:{vm.path('in')}")
            result = r.wait()
        assert result.status == godwit.FAILED and "No space left" in result.stderr, result
        vm.wait_as_before(changed=["parameters", "capabilities"])
        assert vm.qmp.command("query-migrate")["status"] == "failed"
        images.is_tidy(folder)
        vm.change_settings()
        vm.qmp.command("migrate-set-capabilities", capabilities=[{"capability": "return-path", "state": False}])


def file_too_large(vm):
    """A limit on file size, with the signal that comes with it. As any user."""
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (12 * MIB, 12 * MIB))

    def limit_and_ignore():
        limit()
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    refused(vm, vm.image, FULL, vm.image, preexec_fn=limit_and_ignore)
    vm.image_untouched()
    refused(vm, vm.image, FULL, vm.image, preexec_fn=limit)
    vm.image_untouched()


def read_only(vm):
    with private_mounts.small_disk(vm.path("small"), 40 * MIB) as folder:
        private_mounts.make_read_only(folder)
        image = os.path.join(folder, "image")
        r = refused(vm, image, "read-only file system", folder, "nothing was changed|runs on")
        assert r.seconds < 5 * godwit.PATIENCE, r


def forbidden(vm, prefix):
    """As an ordinary user: a folder of somebody else, a file of somebody else, a monitor of somebody else."""
    locked = vm.path("locked")
    os.mkdir(locked, 0o755)
    if not os.geteuid():
        os.chmod(vm.dir, 0o711)
    else:
        os.chmod(locked, 0o555)
    os.chmod(vm.monitor, 0o777)
    image = os.path.join(locked, "image")
    refused(vm, image, "not writable|permission denied", locked, prefix=prefix)
    images.is_tidy(locked)
    os.chmod(vm.monitor, 0o000)
    godwit.run("save", vm.monitor, vm.path("x"), prefix=prefix).fails(godwit.FAILED, "not allowed to connect", vm.monitor)
    os.chmod(vm.monitor, 0o777)
    vm.wait_as_before()


def ordinary_user(vm, prefix):
    """And one that may: an own folder, a monitor it can open; restore and verify too."""
    own = vm.path("own")
    os.mkdir(own)
    if not os.geteuid():
        os.chown(own, private_mounts.NOBODY, private_mounts.NOBODY)
    image = os.path.join(own, "image")
    godwit.run("save", vm.monitor, image, prefix=prefix).ok()
    godwit.run("verify", image, prefix=prefix).ok()
    assert stat.S_IMODE(os.stat(image).st_mode) & 0o077 == 0, "others may read the guest's memory"
    images.is_tidy(own, "image")
    vm.wait_as_before()


def not_a_file(vm):
    """Targets that are something else; none is replaced."""
    place = vm.path("place")
    os.mkdir(place)
    folder, fifo, sock, loop = (os.path.join(place, n) for n in ("folder", "fifo", "sock", "loop"))
    os.mkdir(folder)
    os.mkfifo(fifo)
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(sock)
    os.symlink(loop, loop)
    names = sorted(os.listdir(place))
    for image, pattern in ((folder, "is a folder"), (fifo, "is a pipe"), (sock, "is a socket"), (loop, "too many levels"),
                           ("/dev/null", "character device"), (os.path.join(place, "no", "image"), "does not exist"),
                           (os.path.join(place, "fifo", "image"), "not a directory"), ("", "folder|name"),
                           (os.path.join(place, "x" * 256), "name too long"), (f"{place}/", "is a folder")):
        refused(vm, image, pattern)
        assert sorted(os.listdir(place)) == names, os.listdir(place)


def links(vm):
    """A link is followed, and stays a link; also one that points at nothing yet."""
    place, elsewhere = vm.path("links"), vm.path("elsewhere")
    os.mkdir(place)
    os.mkdir(elsewhere)
    link, target = os.path.join(place, "link"), os.path.join(elsewhere, "target")
    os.symlink(target, link)
    for _ in range(2):
        godwit.run("save", vm.monitor, link).ok()
        assert os.readlink(link) == target
        godwit.run("verify", target).ok()
        images.is_tidy(elsewhere, "target")
        images.is_tidy(place, "link")
    vm.wait_as_before()


def hard_links_and_readers(vm):
    """Whoever has the old image open, or a second name for it, keeps the old one whole."""
    place = vm.path("names")
    os.mkdir(place)
    image, second = os.path.join(place, "image"), os.path.join(place, "second")
    with open(image, "wb") as f:
        f.write(images.earlier_bytes(9000))
    os.chmod(image, 0o640)
    os.link(image, second)
    with open(image, "rb") as reader:
        godwit.run("save", vm.monitor, image).ok()
        assert reader.read() == images.earlier_bytes(9000)
    with open(second, "rb") as f:
        assert f.read() == images.earlier_bytes(9000)
    assert stat.S_IMODE(os.stat(image).st_mode) == 0o640, "permissions of the old file"
    godwit.run("verify", image).ok()
    vm.wait_as_before()


def folder_goes_away(vm):
    """Somebody removes the folder while the save is under way."""
    place = vm.path("going")
    os.mkdir(place)
    with godwit.Run("save", vm.monitor, os.path.join(place, "image"), "--max-bandwidth=20M") as r:
        vm.wait_moving(2 * MIB)
        for name in os.listdir(place):
            os.unlink(os.path.join(place, name))
        os.rmdir(place)
        r.wait().fails(godwit.FAILED, "no such file", "runs on")
    vm.wait_as_before()


def outputs_closed(vm):
    """stdout and stderr that cannot be written do not cost a guest its image."""
    def close(*fds):
        return lambda: [os.close(fd) for fd in fds]

    for options in ((), ("--json",), ("--json", "-v")):
        for fds in ((1,), (2,), (1, 2), (0, 1, 2)):
            image = vm.path("closed")
            with godwit.Run("save", vm.monitor, image, *options, preexec_fn=close(*fds)) as r:
                r.process.wait(30)
                assert r.process.returncode in (godwit.DONE, godwit.FAILED), (options, fds, r.process.returncode, r.stderr)
            godwit.run("verify", image).ok()
            os.unlink(image)
            vm.wait_as_before()
    with open("/dev/full", "w", encoding="ascii") as full:
        r = godwit.run("save", vm.monitor, vm.path("closed"), "--json", stdout=full)
        assert r.status in (godwit.DONE, godwit.FAILED) and "standard output" in r.stderr, r
        godwit.run("verify", vm.path("closed")).ok()
        vm.wait_as_before()
    read_end, write_end = os.pipe()
    os.close(read_end)      # a reader that left: not a failure
    godwit.run("save", vm.monitor, vm.path("closed"), "--json", stdout=write_end).ok()
    godwit.run("save", vm.monitor, vm.path("closed"), f"--progress={write_end}", pass_fds=[write_end]).ok()
    os.close(write_end)
    vm.wait_as_before()


def main():
    try:
        mounts = private_mounts.mounts_possible()
        nobody = private_mounts.as_nobody(godwit.PROGRAM, "--version")
        with contextlib.ExitStack() as stack:
            vm = stack.enter_context(Victim(sys.argv[1]))
            start = time.monotonic()
            steps = [not_a_file, links, hard_links_and_readers, folder_goes_away, file_too_large, outputs_closed]
            if mounts:
                steps += [disk_full, disk_just_large_enough, disk_full_receive, read_only]
            else:
                missing.append("no private mounts: full and read-only file systems were not tried")
            for step in steps:
                step(vm)
                print(f"{step.__name__}: {time.monotonic() - start:.1f} s", flush=True)
            if mounts and sys.argv[1] != "7.2":
                disk_full(vm, "--way=direct")
                print(f"disk_full, direct: {time.monotonic() - start:.1f} s", flush=True)
            if nobody is None:
                missing.append("nothing was tried as an ordinary user, who cannot be had or cannot run the program here")
            else:
                forbidden(vm, nobody)
                ordinary_user(vm, nobody)
            vm.unharmed()
            vm.can_be_saved()
    except Unavailable as e:
        skip(str(e))
    if missing:
        skip("; ".join(missing))


if __name__ == "__main__":
    main()
