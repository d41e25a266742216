#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""godwit standby and primaries made by hand: what is odd and right is kept to the byte; what lies, is silent or goes ends protection of that guest
alone, and the last whole epoch is left.
"""
import contextlib
import fcntl
import os
import re
import resource
import signal
import socket
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
import colo
import godwit
import images
import mfdsource
from colo import LOADED, RECEIVED, REPLY, REQUEST, SEND, SIZE, Standby
from coloprimary import EOF, Primary, description, device, devices, early, record, section
from private_mounts import mounts_possible, small_disk
from mfdsource import BLOCK, PAGE, be, packet, page_bytes, sync

MIB = 1 << 20


def content(page, salt):
    return page_bytes(page, salt)


def check_kept(standby, primary, folder, message=None, epoch=None):
    """Protection ended for this reason; the image is the last epoch, with its devices."""
    ended = standby.wait_event("ended")
    if message:
        assert re.search(message, ended["message"]), f"{message!r} expected: {ended['message']}"
    assert ended["epoch"] == (primary.epoch if epoch is None else epoch), ended
    godwit.run("verify", ended["image"]).ok()
    raw = os.path.join(folder, "raw")
    images.same_bytes("RAM", images.raw_ram(ended["image"], raw, BLOCK), bytes(primary.ram))
    with open(ended["image"], "rb") as f:
        text = f.read()
    return ended, text


# --- what is odd and right ---

def zero_and_back(p):
    """A page of zeros in one epoch and none in the next, and the other way round; others stay as they were in the initial migration."""
    p.guest({n: content(n, 0) for n in range(32)}, zero=[40, 41])
    p.checkpoint(zero=[3, 4])
    p.checkpoint({4: content(4, 2), 40: content(40, 2)})
    p.checkpoint(zero=[40], normal={5: content(5, 3)})
    p.checkpoint()


def nothing_is_reset(p):
    """What one epoch brought stays for all that follow; the first record of a checkpoint goes on with the block of the one before."""
    p.guest()
    p.checkpoint({9: content(9, 1)})
    for salt in range(2, 6):
        p.checkpoint()
        if not p.n:
            p.request()
            p.note({10: content(10, salt)}, [])
            p.send(section(record(10, content(10, salt), again=True)) + EOF)
            p.devices(devices(salt) + EOF)
            p.finish_epoch()


def later_counts(p):
    """A page that comes twice in one epoch: the later one, also from another channel behind a mark, and of zeros."""
    p.guest()
    p.request()
    if p.n:
        p.channel[0].sendall(packet([7 * PAGE], payload=content(7, 1)) + packet([8 * PAGE], payload=content(8, 1)))
        p.each(sync())
        p.channel[1].sendall(packet([7 * PAGE], payload=content(7, 2)))
        p.each(sync())
        p.note({7: content(7, 2)}, [8])
        p.send(b"\3" + be(1) + be(mfdsource.FLUSH, size=8) + record(8) + be(mfdsource.FLUSH, size=8) + be(mfdsource.EOS, size=8) +
               mfdsource.footer() + EOF)
    else:
        p.note({7: content(7, 2)}, [8])
        p.send(section(record(7, content(7, 1)), record(8, content(8, 1)), record(7, content(7, 2)), record(8)) + EOF)
    p.devices(devices(1) + EOF)
    p.finish_epoch()


def switchover_each_time(p):
    p.guest()
    for salt in range(3):
        p.checkpoint({1: content(1, salt)}, before=b"\x08" + be(11, 0, size=2), salt=salt)


def byte_by_byte(p):
    p.guest()
    p.main.setsockopt(6 if p.main.family == 2 else 1, 1, 1)
    for b in be(REQUEST):
        p.send(bytes([b]))
    p.expect(REPLY)
    p.note({2: content(2, 1)}, [])
    for b in be(SEND) + p.end([record(2, content(2, 1))]) + EOF + be(SIZE) + be(len(devices(1)) + 1, size=8) + devices(1) + EOF:
        p.send(bytes([b]))
    p.finish_epoch()


def many_epochs(p):
    p.guest()
    for salt in range(1, 200):
        p.checkpoint({n % 512: content(n % 512, salt) for n in range(salt * 7, salt * 7 + 5)}, zero=[salt + 512], salt=salt)


def packets_ahead(p):
    """What overtakes VMSTATE_SEND on a channel waits for it, and is in no epoch before."""
    p.guest()
    p.checkpoint({1: content(1, 1)})
    p.channel[0].sendall(packet([1 * PAGE], payload=content(1, 2)))
    p.word(REQUEST)
    p.expect(REPLY)
    p.word(SEND)
    p.note({1: content(1, 2)}, [])
    p.send(p.end([]) + EOF)
    p.devices(devices(2) + EOF)
    p.finish_epoch()
    p.channel[1].sendall(packet([1 * PAGE], payload=content(1, 3)))


def channels_go_first(p):
    """The memory of the last epoch outlives the channels that brought it."""
    p.guest()
    p.checkpoint({1: content(1, 1)})
    for s in p.channel:
        s.close()


RIGHT = [zero_and_back, nothing_is_reset, later_counts, switchover_each_time, many_epochs]


def right(folder):
    with Standby(folder, name=None) as standby:
        cases = [(c, n) for c in RIGHT for n in (0, 2)] + [(byte_by_byte, 0), (packets_ahead, 2), (channels_go_first, 2)]
        for case, channels in cases:
            standby.forget()
            with Primary(standby.socket, channels) as p:
                case(p)
            check_kept(standby, p, folder, "closed")


def before_ram(folder):
    """A device that stands before RAM in the image is replaced there with each epoch; one that does not fit in its place ends protection."""
    changes = {"grown": (device(6, b"early" + bytes(12)), 'device 0 is "device6" with 43 bytes, expected "device6" with 42 bytes|says'),
               "gone": (b"", "device7|says"), "last": (None, None)}
    with Standby(folder, name=None) as standby:
        for name, (data, message) in changes.items():
            standby.forget()
            with Primary(standby.socket) as p:
                p.has_early = True
                p.guest()
                for salt in (1, 2):
                    p.checkpoint({1: content(1, salt)}, salt=salt)
                if data is not None:
                    p.request()
                    p.send(p.end(p.pages({1: content(1, 9)}, [])) + EOF)
                    p.newer = {}
                    p.devices(data + devices(9) + EOF)
                    p.is_hung_up_on()
            ended, text = check_kept(standby, p, folder, message)
            assert text.count(early(2)) == 1 and text.count(b"early ") == 1, name
            assert text.index(early(2)) < text.index(b"ram0"), "it does not stand before RAM"
            assert text.count(devices(2)) == 1, name


# --- what is wrong: within the second epoch, behind a good first one ---

def at_idle(data):
    return lambda p: p.send(data)


def for_reply(data):
    """Behind CHECKPOINT_REPLY."""
    def send(p):
        p.word(REQUEST)
        p.expect(REPLY)
        p.send(data)
    return send


def for_ram(*data):
    def send(p):
        p.request()
        p.send(b"".join(data))
    return send


def for_size(*data):
    return for_ram(section(record(1, content(1, 9))), EOF, *data)


def for_devices(data, size=None):
    return for_size(be(SIZE), be(len(data) if size is None else size, size=8), data)


GOOD = devices(9) + EOF
WRONG = {
    "request out of range": (at_idle(be(7)), "COLO message number 7, expected 0"),
    "garbage": (at_idle(b"\xa5" * 100), "COLO message number 2779096485"),
    "a secondary's word": (at_idle(be(READY := 0)), 'unexpected COLO message CHECKPOINT_READY in state "colo", expected CHECKPOINT_REQUEST'),
    "vmstate-send without a request": (at_idle(be(SEND)), "unexpected COLO message VMSTATE_SEND .*, expected CHECKPOINT_REQUEST"),
    "vmstate-size without a request": (at_idle(be(SIZE) + be(9, size=8)), "unexpected COLO message VMSTATE_SIZE"),
    "received by the primary": (at_idle(be(RECEIVED)), "unexpected COLO message VMSTATE_RECEIVED"),
    "a section at idle": (at_idle(section()), "COLO message number 50331648"),
    "half a word": (at_idle(b"\0\0"), "closed"),
    "request twice": (for_reply(be(REQUEST)), 'unexpected COLO message CHECKPOINT_REQUEST in state "colo \\(replied\\)", expected VMSTATE_SEND'),
    "request and send at once": (at_idle(be(REQUEST) + be(SEND)), "4 bytes or more came before the source was answered"),
    "closed behind reply": (for_reply(b""), "closed"),
    "ram: PART": (for_ram(section(kind=2)), "section type 02 in a checkpoint, expected 03"),
    "ram: START": (for_ram(mfdsource.start(False)), "section type 01 in a checkpoint"),
    "ram: another section": (for_ram(section(number=9)), "section 9 goes on .*no section of that id is open"),
    "ram: twice": (for_ram(section(), section()), "section type 03 in a checkpoint, expected 00"),
    "ram: none": (for_ram(EOF), "section type 00 in a checkpoint, expected 03"),
    "ram: a device": (for_ram(device(7)), "section type 04 in a checkpoint"),
    "ram: a block list": (for_ram(section(be(MIB | 4, size=8))), "RAM record of kind 004 in a checkpoint"),
    "ram: a delta": (for_ram(section(be(0x1040, size=8))), "RAM record of kind 040 in a checkpoint"),
    "ram: a PING": (for_ram(b"\x08" + be(2, 4, size=2) + be(1)), "command PING in a checkpoint"),
    "ram: unknown block": (for_ram(section(be(8, size=8), b"\4xxxx", bytes(PAGE))), "xxxx"),
    "ram: outside": (for_ram(section(record(mfdsource.BLOCK_PAGES, bytes(PAGE)))), "outside|beyond"),
    "ram: far outside": (for_ram(section(record(1 << 50, bytes(PAGE)))), "outside|beyond"),
    "ram: cut in a page": (for_ram(section(record(1, content(1, 9)))[:3000]), "cut short"),
    "ram: cut behind rubbish": (for_ram(section(*(record(n, b"\xee" * PAGE) for n in range(500)))[:-9]), "cut short"),
    "ram: footer of another": (for_ram(section()[:-1] + b"\x09"), "footer"),
    "a message in the place of EOF": (for_ram(section(), be(SIZE)[3:]), "section type 04 in a checkpoint, expected 00"),
    "request for size": (for_size(be(REQUEST)), "unexpected COLO message CHECKPOINT_REQUEST .*, expected VMSTATE_SIZE"),
    "size: none": (for_size(be(SIZE) + be(0, size=8)), "does not end with the byte 00"),
    "size: too large": (for_size(be(SIZE) + be((32 << 20) + 1, size=8)), "33554433 bytes of device state, at most 33554432"),
    "size: absurd": (for_size(be(SIZE) + be((1 << 64) - 1, size=8)), "18446744073709551615 bytes"),
    "size: half": (for_size(be(SIZE) + be(9, size=8)[:5]), "closed"),
    "size: a byte less": (for_devices(GOOD, len(GOOD) - 1), "does not end with the byte 00"),
    "size: a byte more": (for_devices(GOOD, len(GOOD) + 1), f"closed after {len(GOOD)} of {len(GOOD) + 1} bytes"),
    "devices: cut": (for_devices(GOOD[:20], len(GOOD)), "closed after 20 of"),
    "devices: no end": (for_devices(devices(9)), "does not end with the byte 00"),
    "devices: more behind the end": (for_devices(GOOD + b"x"), "1 bytes follow the end"),
    "devices: none": (for_devices(EOF), "is empty"),
    "devices: another name": (for_devices(devices(9).replace(b"device8", b"\xff\xfevice8") + EOF), "but the VM description says"),
    "devices: RAM": (for_devices(section() + EOF), "section type 03 at byte 0"),
    "devices: a command": (for_devices(devices(9) + b"\x08" + be(1, 0, size=2) + EOF), "section type 08 at byte"),
    "devices: rubbish": (for_devices(b"\4" + b"\xa5" * 300 + EOF), "device state of a checkpoint"),
    "devices: footer of another": (for_devices(device(7)[:-1] + b"\5" + EOF), "device state of a checkpoint|device7"),
    "a byte behind the devices": (for_devices(GOOD + b"\0", len(GOOD)), "1 bytes or more came before the source was answered"),
}


def wrong(folder):
    with Standby(folder, name=None) as standby:
        for name, (send, message) in WRONG.items():
            standby.forget()
            with Primary(standby.socket) as p:
                p.guest()
                p.checkpoint({1: content(1, 1), 2: content(2, 1)}, zero=[3])
                try:
                    send(p)
                    p.main.shutdown(1)
                    p.is_hung_up_on()
                    _, text = check_kept(standby, p, folder, message)
                    assert b"%-16d" % 1 in text and b"%-16d" % 9 not in text, "devices of another epoch"
                except AssertionError as e:
                    raise AssertionError(f"{name}: {e}") from None
        protected_after_all(standby)


def protected_after_all(standby):
    """The others were never meant."""
    standby.forget()
    with Primary(standby.socket) as p:
        p.guest()
        p.checkpoint()


# --- guests that cannot be protected: their source is not told that they are safe ---

def background(p):
    """A background snapshot: RAM never ENDs."""
    p.begin(mark=False)
    p.send(section(record(1, content(1, 1)), kind=2) + devices() + EOF + description())


def no_return_path(p):
    p.begin(mark=False, return_path=False)
    p.send(section(record(1, content(1, 1)), kind=2) + p.end([]) + devices() + EOF + description())


def no_devices(p):
    p.begin(mark=False)
    p.send(section(record(1, content(1, 1)), kind=2) + p.end([]) + mfdsource.tail())


def in_pieces(p):
    """A section that only its device understands (spapr/htab)."""
    p.begin(mark=False)
    p.send(b"\1" + be(5) + mfdsource.str8("spapr/htab") + be(0, 1) + b"some bytes" + b"\x7e" + be(5) + p.end([]))


def huge_pages(p):
    """Larger than anything that can be lent to a channel."""
    machine = b"pc-i440fx-11.1"
    bits = b"\5" + mfdsource.str8("configuration/target-page-bits") + be(1, 20)
    p.send(b"QEVM" + be(3) + b"\7" + be(len(machine)) + machine + bits + b"\x08" + be(1, 0, size=2) + mfdsource.start(False) +
           section(be(8, size=8), mfdsource.str8(BLOCK), bytes(9000), kind=2))


UNFIT = [(background, "background snapshot"), (no_return_path, "no return path"), (no_devices, "without any device"),
         (in_pieces, "comes in pieces"), (huge_pages, "guest pages of 1048576 bytes")]


def unfit(folder):
    with Standby(folder, name=None) as standby:
        for case, message in UNFIT:
            standby.forget()
            with Primary(standby.socket) as p:
                case(p)
                got = b""
                with contextlib.suppress(ConnectionResetError):
                    while more := p.main.recv(4096):
                        got += more
                        assert mfdsource.SHUT_OK not in got, f"{case.__name__}: told that its guest is safe"
                assert mfdsource.SHUT_OK not in got, f"{case.__name__}: told that its guest is safe"
            failed = standby.wait_event("failed")
            assert re.search(message, failed["message"]), (case.__name__, failed)
            assert not os.path.exists(failed["image"])
        protected_after_all(standby)


# --- over channels ---

def packets_wrong(folder):
    cases = {
        "outside": ([packet([1 << 40], payload=bytes(PAGE))], "channel 1, packet \\d+: .*lies outside"),
        "magic": ([packet([PAGE], magic=1, payload=bytes(PAGE))], "channel 1, packet \\d+: .*magic is 00000001"),
        "cut": ([packet([PAGE], payload=content(1, 9))[:2000]], "channel 1"),
    }
    with Standby(folder, "--idle-timeout=5", name=None) as standby:
        for name, (packets, message) in cases.items():
            standby.forget()
            with Primary(standby.socket, 2) as p:
                p.guest()
                p.checkpoint({1: content(1, 1)})
                p.request()
                for data in packets:
                    p.channel[1].sendall(data)
                p.channel[1].shutdown(1)
                with contextlib.suppress(OSError):      # it may have broken all of them by now
                    p.channel[0].sendall(packet([2 * PAGE], payload=content(2, 9)) + sync())
                    p.send(section(marks=1))
                try:
                    with contextlib.suppress(OSError):
                        p.main.shutdown(1)
                    p.is_hung_up_on()
                    check_kept(standby, p, folder, message)
                except (AssertionError, ConnectionResetError) as e:
                    raise AssertionError(f"{name}: {e}: {standby.stderr}") from None


# --- limits ---

def beyond_limit(folder):
    """An epoch larger than the limit: the one before is left."""
    for channels in (0, 2):
        with Standby(folder, "--memory-limit=9M", name=None) as standby, Primary(standby.socket, channels) as p:
            p.guest()
            p.checkpoint({1: content(1, 1)})
            kept = bytes(p.ram)
            p.request()
            try:
                for n in range(40):     # again and again the same 512 pages
                    p.send(b"".join(p.pages({i: content(i, n) for i in range(512)}, [])) if channels else
                           (b"" if n else b"\3" + be(1)) + b"".join(p.pages({i: content(i, n) for i in range(512)}, [])))
            except OSError:
                pass
            p.newer, p.ram = {}, bytearray(kept)
            check_kept(standby, p, folder, "an epoch takes more than 9437184 bytes; raise --memory-limit")


def full_disk(folder):
    """Where an epoch finds no room, protection ends with the one before; pages that are there already need none."""
    if not mounts_possible():
        print("full_disk: SKIPPED: this user may not mount")
        return
    with small_disk(os.path.join(folder, "guests"), 3 * MIB), Standby(folder, name=None) as standby, Primary(standby.socket) as p:
        p.guest()
        for salt in range(1, 9):
            p.checkpoint({n: content(n, salt) for n in range(300)}, salt=salt)
        p.request()
        p.send(p.end(p.pages({n: content(n, 9) for n in range(300, 800)}, [])) + EOF)
        p.newer = {}
        p.devices(devices(9) + EOF)
        p.is_hung_up_on()
        check_kept(standby, p, folder, "no room for .*guest.img: \\d+ bytes are free", epoch=8)


def silence(folder):
    """Every wait has a limit."""
    waits = {
        "no request": (lambda p: None, "asked for no checkpoint within 1000 ms"),
        "half a request": (at_idle(b"\0\0"), "nothing came for 1000 ms"),
        "behind reply": (for_reply(b""), "nothing came for 1000 ms"),
        "in RAM": (for_ram(section(record(1, content(1, 9)))[:999]), "nothing came for 1000 ms"),
        "for size": (for_size(), "nothing came for 1000 ms"),
        "in devices": (for_devices(GOOD[:9], len(GOOD)), "nothing came for 1000 ms"),
    }
    with Standby(folder, "--idle-timeout=1", "--checkpoint-timeout=1", name=None) as standby:
        for name, (send, message) in waits.items():
            standby.forget()
            with Primary(standby.socket) as p:
                p.guest()
                p.checkpoint({1: content(1, 1)})
                send(p)
                p.is_hung_up_on()
                check_kept(standby, p, folder, message)


def many_at_once(folder):
    """Guests side by side, one of which breaks; a name is one guest's; interrupted, all end between two epochs with their images."""
    with Standby(folder, name=None) as standby:
        primaries = [Primary(standby.socket, n % 3).guest({i: content(i, 100 + n) for i in range(20)}) for n in range(6)]
        for salt in range(3):
            for n, p in enumerate(primaries):
                p.checkpoint({n: content(n, salt)}, salt=salt)
        primaries[3].send(b"rubbish!")
        primaries[3].is_hung_up_on()
        standby.kill(signal.SIGTERM)
        r = standby.wait()
        assert r.status == godwit.DONE, r
        ended = {e["vm"]: e for e in r.events if e["event"] == "ended"}
        assert len(ended) == len(primaries), r
        for n, p in enumerate(primaries):
            image = ended[f"vm-{n + 1}"]["image"]
            images.same_bytes(f"guest {n}", images.raw_ram(image, os.path.join(folder, "raw"), BLOCK), bytes(p.ram))
            p.__exit__()


def at_once(folder):
    """Channels of two guests that come together cannot be told apart: no guest gets the pages of another. One after the other they are protected."""
    for options in ([], ["--channels=2"]):
        with Standby(folder, *options, name=None) as standby:
            a, b = Primary(standby.socket, connect=False), Primary(standby.socket, connect=False)
            with a, b:
                a.main, b.main = a.open(), b.open()
                mine, theirs = a.open_channel(0), b.open_channel(1)
                mine.sendall(sync())
                theirs.sendall(sync())
                a.send(mfdsource.head() + mfdsource.start())
                b.send(mfdsource.head() + mfdsource.start())
                for p in (a, b):
                    assert mfdsource.SHUT_OK not in p.answers()
                message = standby.wait_event("failed")["message"]
                assert re.search("2 main channels and multifd channels came at the same time", message), message
            standby.forget()
            with Primary(standby.socket, 2) as p:
                p.guest()
                p.checkpoint({1: content(1, 1)})
            check_kept(standby, p, folder)


def stopped(folder):
    """Interrupted in the middle of an epoch: that one is taken first."""
    with Standby(folder, name=None) as standby, Primary(standby.socket) as p:
        p.guest()
        p.checkpoint({1: content(1, 1)})
        p.request()
        p.send(p.end(p.pages({2: content(2, 2)}, [])))
        standby.kill(signal.SIGTERM)
        time.sleep(0.2)         # it has the time to do the wrong thing
        p.send(EOF)
        p.devices(devices(2) + EOF)
        p.finish_epoch()
        p.is_hung_up_on()
        check_kept(standby, p, folder, "stopped here", epoch=2)
        assert standby.wait().status == godwit.DONE


def ask(standby, line, vm="vm"):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(os.path.join(standby.dir, vm, "control"))
        s.sendall(line)
        return s.makefile().read()


def control(folder):
    """Who fails over asks at the control socket: protection ends, also in the middle of an epoch, and the answer names the image."""
    for channels in (0, 2):
        for half in (False, True):
            with Standby(folder, "--idle-timeout=none", "--checkpoint-timeout=none") as standby, Primary(standby.socket, channels) as p:
                p.guest()
                standby.wait_event("protected")
                assert ask(standby, b"status\n") == "protected epoch 0 place source-runs\n"
                p.checkpoint({1: content(1, 1)})
                standby.wait_epoch(1)
                if half:
                    p.request()
                    if channels:        # it waits for a SYNC on channel 1
                        p.channel[0].sendall(sync())
                        p.send(section(marks=1)[:-8])
                    else:
                        p.send(section(record(1, content(1, 9)))[:-3])
                assert ask(standby, b"status\n") == "protected epoch 1 place source-runs\n"
                assert ask(standby, b"nonsense\n").startswith("error ")
                assert ask(standby, b"failover\n") == f"ended epoch 1 place both-possible image {standby.image}\n"
                p.is_hung_up_on()
                check_kept(standby, p, folder, "failed over")
            assert not os.path.exists(os.path.join(standby.dir, "vm", "control"))


def is_free(folder):
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(fd)


def one_name(folder):
    """A second guest of that name is turned away; an image of before stays until the new guest is protected, and goes then."""
    with Standby(folder) as standby:
        with Primary(standby.socket) as p:
            p.guest()
            with Primary(standby.socket) as other:
                other.begin(mark=False)
                other.is_hung_up_on()
            assert re.search("in use", standby.wait_event("failed")["message"])
            p.checkpoint({1: content(1, 1)})
        check_kept(standby, p, folder)
        standby.forget()
        with Primary(standby.socket) as p:
            p.begin(mark=False)
            standby.wait_event("connected")
            assert os.path.exists(standby.image), "the image of before went too early"
        standby.wait_event("failed")
        assert os.path.exists(standby.image), "the image of before went for nothing"
        standby.forget()
        for _ in range(20):     # whoever is told of an end may come at once
            with Primary(standby.socket) as p:
                p.begin(mark=False)
                standby.wait_event("connected")
            assert "in use" not in standby.wait_event("failed")["message"]
            is_free(standby.folder)
            standby.forget()
        with Primary(standby.socket) as p:
            p.guest()
            standby.wait_event("protected")
            assert not os.path.exists(standby.image), "the image of a guest of long ago is still there"
        check_kept(standby, p, folder)


def put_older(folder):
    """What an older guest of this name has left: its lock, which is free, and the list of its disks."""
    os.makedirs(folder, exist_ok=True)
    for name in ("owner.lock", "disks"):
        with open(os.path.join(folder, name), "w", encoding="ascii") as f:
            f.write("1 godwit-owner-1-1\n" if name == "owner.lock" else "disk-d0.1.4 d0\n")


def older_lock(folder):
    """The lock of an older guest proves nothing of the new one's primary: it goes before the new guest can be recovered, or gets an image. The primary
    hears that its guest is here after that."""
    for options in ([], ["--durable"]):
        with Standby(folder, *options) as standby:
            put_older(standby.folder)
            lock = os.path.join(standby.folder, "owner.lock")
            with Primary(standby.socket) as p:
                p.begin(mark=False)
                standby.wait_event("connected")
                assert os.path.exists(lock), "the lock of before went too early"
            standby.wait_event("failed")
            assert os.path.exists(lock), "the lock of before went for nothing"
            standby.forget()
            with Primary(standby.socket) as p:
                p.guest()
                assert not os.path.exists(lock), f"{options}: the new guest is here, and the lock of an older one still is"
            check_kept(standby, p, folder)
            standby.forget()
            put_older(standby.folder)
            with Primary(standby.socket) as p:      # its link breaks before it hears of its guest
                p.begin(mark=False)
                p.hear(8)                           # PONG
                p.main.shutdown(socket.SHUT_RD)
                p.send(section(*p.pages({1: content(1, 1)}, []), kind=2) + p.end([]) + devices() + EOF + description())
                p.keep()
                ended, _ = check_kept(standby, p, folder, epoch=0)
            left = sorted(os.listdir(standby.folder))
            assert left == [os.path.basename(ended["image"])], f"{options}: of an older guest is left: {left}"


def open_descriptors(standby):
    return len(os.listdir(f"/proc/{standby.process.pid}/fd"))


def take_all_descriptors(standby, greedy):
    """One channel after the other, each when the one before has its descriptor, until the standby says that it has no more."""
    greedy.main = greedy.open(mfdsource.head())
    for number in range(64):
        before, deadline = open_descriptors(standby), time.monotonic() + 0.2
        with contextlib.suppress(OSError):      # the standby may have closed it, which is right
            greedy.open_channel(number)
        while time.monotonic() < deadline and open_descriptors(standby) <= before:
            if any(e["event"] == "failed" for e in standby.events()) or standby.process.poll() is not None:
                return
            time.sleep(0.001)


def few_descriptors(folder):
    """A source for which there are not enough descriptors is turned away, and the guest that is protected stays protected. The next one finds a place."""
    with Standby(folder, name=None, prefix=["prlimit", "--nofile=48:48"]) as standby, Primary(standby.socket) as p:
        p.guest()
        p.checkpoint({1: content(1, 1)})
        with Primary(standby.socket, connect=False) as greedy:
            take_all_descriptors(standby, greedy)
            assert "Too many open files" in standby.wait_event("failed")["message"]
            p.checkpoint({2: content(2, 2)}, salt=2)
        with Primary(standby.socket) as other:
            other.guest()
            other.checkpoint()
        p.checkpoint({3: content(3, 3)}, salt=3)
        standby.wait_event("ended", match=lambda e: e["vm"] == "vm-2")
        standby.forget()
        p.main.shutdown(socket.SHUT_WR)
        check_kept(standby, p, folder)
    with Standby(folder, name=None, prefix=["prlimit", "--nofile=48:2048"]) as standby:
        assert resource.prlimit(standby.process.pid, resource.RLIMIT_NOFILE) == (2048, 2048)


def strangers(folder):
    """Whoever is a source for nine bytes leaves no folder behind."""
    with Standby(folder, name=None) as standby:
        for _ in range(3):
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(standby.socket)
                s.sendall(mfdsource.head()[:9])
                standby.wait_event("connected")
            assert standby.wait_event("failed")["vm"] == "vm-1"
            assert os.listdir(standby.dir) == [], os.listdir(standby.dir)
            standby.forget()
        protected_after_all(standby)


def main():
    for case in [right, before_ram, wrong, unfit, packets_wrong, beyond_limit, full_disk, silence, many_at_once, at_once, stopped, control, one_name,
                 older_lock, few_descriptors, strangers]:
        if sys.argv[1:] and case.__name__ not in sys.argv[1:]:
            continue
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="godwit-standby.") as folder:
            case(folder)
        print(f"{case.__name__}: {time.monotonic() - started:.1f} s", flush=True)


if __name__ == "__main__":
    main()
