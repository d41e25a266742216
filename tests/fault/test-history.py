#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""godwit standby --history, with primaries made by hand: the epochs before the last one can be listed, inspected, compared, exported and restored from, while the
guest is protected, after it, and after the standby was killed. And --durable where a disk is full."""
import json
import os
import random
import signal
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import godwit
import images
from colo import Standby
from coloprimary import EOF, Primary, devices, early
from mfdsource import BLOCK, page_bytes
from private_mounts import mounts_possible, small_disk

MIB = 1 << 20
random = random.Random(3)


def take_epochs(p, n):
    """RAM of each epoch, and zeros that come and go."""
    rams = []
    p.guest()
    rams.append(bytes(p.ram))
    for salt in range(1, n + 1):
        pages = random.sample(range(600), 30)
        p.checkpoint({i: page_bytes(i, salt) for i in pages[:22]}, zero=pages[22:], salt=salt)
        rams.append(bytes(p.ram))
    return rams


def listed(image):
    return [e["epoch"] for e in map(json.loads, godwit.run("inspect", image, "--history", "--json").ok().stdout.splitlines())]


def check_epochs(folder, image, rams, last, n, has_early=False):
    """All of them, each whole and with its own devices. One more may be there, which is going to be removed."""
    epochs = listed(image)
    assert epochs == list(range(last, last - len(epochs), -1)) and len(epochs) - 1 in (n, n + 1), (epochs, last, n)
    n = len(epochs) - 1
    raw = os.path.join(folder, "raw")
    for e in epochs:
        name = f"{image}@{e}"
        godwit.run("verify", name).ok()
        images.same_bytes(f"epoch {e}", images.raw_ram(name, raw, BLOCK), rams[e])
        kept = os.path.join(folder, "kept")
        godwit.run("convert", name, kept).ok()
        with open(kept, "rb") as f:
            text = f.read()
        assert text.count(devices(e) if e else devices()) == 1 and (not has_early or text.count(early(e)) == 1), f"devices of epoch {e}"
        assert godwit.run("verify", kept, name).status == godwit.DONE
    if n:
        assert godwit.run("verify", f"{image}@{last}", f"{image}@{last - 1}").status == godwit.DIFFERENT
    if last > n:
        godwit.run("inspect", f"{image}@{last - n - 1}").fails(godwit.FAILED, "not kept any more")
    godwit.run("inspect", f"{image}@{last + 1}").fails(godwit.FAILED, f"has no epoch {last + 1}, the last one is {last}")
    left = [name for name in os.listdir(os.path.dirname(image)) if name.startswith(".")]
    assert not left, left


def keeps(folder):
    with Standby(folder, "--history=5") as standby:
        with Primary(standby.socket) as p:
            p.has_early = True
            rams = take_epochs(p, 12)
            standby.wait_epoch(12)
            check_epochs(folder, standby.image, rams, 12, 5, True)     # nobody waits for that
            p.checkpoint({1: page_bytes(1, 13)}, salt=13)
            rams.append(bytes(p.ram))
        standby.wait_event("ended")
        check_epochs(folder, standby.image, rams, 13, 5, True)
        shown = godwit.run("inspect", standby.image, "--history").ok().stdout
        assert shown.startswith("epoch 13, the last one\nepoch 12, until 2") and "to go back to it" in shown, shown
        standby.forget()
        with Primary(standby.socket, 2) as p:       # another life, with channels: what was before is gone
            rams = take_epochs(p, 3)
            standby.wait_epoch(3)
            check_epochs(folder, standby.image, rams, 3, 3)
        standby.wait_event("ended")
        check_epochs(folder, standby.image, rams, 3, 3)


def killed(folder):
    """Again and again at some moment: the last epochs are there, and the history that leads to them."""
    for _ in range(int(os.environ.get("GODWIT_KILLS", "4"))):
        standby = Standby(folder, "--history=3")
        with Primary(standby.socket) as p:
            n = random.randrange(2, 9)
            rams = take_epochs(p, n)
            time.sleep(random.choice([0, 0.001, 0.01]))
            standby.kill(signal.SIGKILL)
            standby.wait()
        os.unlink(standby.socket)
        check_epochs(folder, standby.image, rams, n, min(3, n))
        with Standby(folder) as again:
            assert again.wait_event("ended")["epoch"] == n
            check_epochs(folder, standby.image, rams, n, min(3, n))
        os.unlink(standby.image)


def no_history(folder):
    with Standby(folder) as standby:
        with Primary(standby.socket) as p:
            take_epochs(p, 1)
        standby.wait_event("ended")
        godwit.run("inspect", standby.image, "--history").fails(godwit.FAILED, "has no history: it is kept by godwit standby --history")
        godwit.run("verify", f"{standby.image}@0").fails(godwit.FAILED, "has no history")
    godwit.run("verify", f"{folder}/nothing@x").fails(godwit.FAILED)


def full_disk(folder):
    """An epoch for which the journal has no room is none: protection ends with the one before, which is whole, and the guest is not told of it."""
    if not mounts_possible():
        print("full_disk: SKIPPED: this user may not mount")
        return
    for options in ["--durable"], ["--history=4"]:
        with small_disk(os.path.join(folder, "guests"), 8 * MIB), Standby(folder, *options) as standby, Primary(standby.socket) as p:
            p.guest()
            salt, kept = 0, bytes(p.ram)
            while True:
                salt += 1
                p.request()
                p.send(p.end(p.pages({n: page_bytes(n, salt) for n in range(200)}, [])) + EOF)
                p.devices(devices(salt) + EOF)
                try:
                    p.finish_epoch()
                except ConnectionResetError:
                    break
                kept = bytes(p.ram)
                assert salt < 100, "the disk never was full"
            ended = standby.wait_event("ended")
            assert ended["epoch"] == salt - 1 and ("no room" in ended["message"] or "No space" in ended["message"]), ended
            godwit.run("verify", standby.image).ok()
            images.same_bytes("RAM", images.raw_ram(standby.image, os.path.join(folder, "raw"), BLOCK), kept)


def main():
    for case in [keeps, killed, no_history, full_disk]:
        if sys.argv[1:] and case.__name__ not in sys.argv[1:]:
            continue
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="godwit-history.") as folder:
            case(folder)
        print(f"{case.__name__}: {time.monotonic() - started:.1f} s", flush=True)


if __name__ == "__main__":
    main()
