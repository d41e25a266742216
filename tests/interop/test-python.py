#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""python/godwit: its structs are those of the headers, place by place; it saves, inspects and serves a real QEMU's guest, and drives one whose memory is in this process.

test-python.py INCLUDE, with libgodwit.so.0 and libgodwit-qemu.so.0 in LD_LIBRARY_PATH.
"""
import ctypes
import errno
import importlib.util
import mmap
import os
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = os.path.realpath(os.path.join(HERE, "..", "..", "python"))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
from linuxguest import LinuxGuest
from vm import Unavailable, Vm, get_qemu, skip

def binding():
    """python/godwit under another name: tests/lib/godwit.py has its own."""
    place = os.path.join(PYTHON, "godwit")
    spec = importlib.util.spec_from_file_location("godwit_binding", os.path.join(place, "__init__.py"), submodule_search_locations=[place])
    module = sys.modules["godwit_binding"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


gw = binding()
_abi = sys.modules["godwit_binding._abi"]
INCLUDE = sys.argv[1]
BLOCK_BYTES = 4 << 20
PAGE = 4096


def layouts(folder):
    """Size and places of each struct, and each constant, by a C program."""
    structs = {n: s for n, s in vars(_abi).items() if isinstance(s, type) and issubclass(s, ctypes.Structure)}
    constants = {n: v for n, v in vars(_abi).items() if n.startswith("GW_")}
    assert len(structs) > 50 and len(constants) > 150, (len(structs), len(constants))
    lines = [f'printf("{n} %zu\\n", sizeof(struct {n}));' for n in structs]
    lines += [f'printf("{n}.{f} %zu %zu\\n", offsetof(struct {n}, {f}), sizeof(((struct {n} *)0)->{f}));' for n, s in structs.items() for f, _ in s._fields_]
    lines += [f'printf("{n} %d\\n", (int){n});' for n in constants]
    program = os.path.join(folder, "places")
    text = "#include <godwit-qemu.h>\n#include <godwit-unstable.h>\n#include <stddef.h>\n#include <stdio.h>\nint main(void)\n{\n" + "\n".join(lines) + "\n}\n"
    subprocess.run(["gcc", "-I", INCLUDE, "-x", "c", "-", "-o", program], input=text, text=True, check=True)
    said = subprocess.run([program], capture_output=True, text=True, check=True).stdout.split("\n")
    ours = [f"{n} {ctypes.sizeof(s)}" for n, s in structs.items()]
    ours += [f"{n}.{f} {getattr(s, f).offset} {getattr(s, f).size}" for n, s in structs.items() for f, _ in s._fields_]
    ours += [f"{n} {v}" for n, v in constants.items()]
    different = [(a, b) for a, b in zip(ours, said) if a != b]
    assert len(ours) == len(said) - 1 and not different, different


class MemGuest:
    """Two blocks and a counter; a thread of its own writes a step into pages while it runs."""

    def __init__(self, empty=False):
        self.ram = {n: mmap.mmap(-1, BLOCK_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) for n in ("ram", "flash")}
        self.step, self.why, self.runs = 0, [], threading.Event()
        self.lock, self.ended = threading.Lock(), False
        self.guest = gw.Guest("python-test-v1", self.pause, self.resume, empty=empty, uuid=bytes(range(16)), has_uuid=True)
        for name, memory in self.ram.items():
            self.guest.add_block(name, memory)
        self.guest.add_device("counter", self.save, self.load, version=3)
        if not empty:
            self.runs.set()
        threading.Thread(target=self.work, daemon=True).start()

    def work(self):
        while not self.ended:
            if not self.runs.wait(0.05):
                continue
            with self.lock:
                if self.runs.is_set():
                    self.step += 1
                    at = self.step * 7 % (BLOCK_BYTES // PAGE) * PAGE
                    self.ram["ram"][at:at + 8] = self.step.to_bytes(8, "little")
            time.sleep(0.0005)

    def pause(self, why):
        self.why.append(why)
        self.runs.clear()
        with self.lock:     # the step under way is done
            pass

    def resume(self, why):
        self.why.append(why)
        self.runs.set()

    def save(self):
        return self.step.to_bytes(8, "little")

    def load(self, data, version):
        assert version == 3, version
        self.step = int.from_bytes(data, "little")

    def check(self):
        """Every page has the last step that wrote to it."""
        self.runs.clear()
        with self.lock:
            pages = BLOCK_BYTES // PAGE
            last = {step * 7 % pages: step for step in range(1, self.step + 1)}
            for page in range(pages):
                found = int.from_bytes(self.ram["ram"][page * PAGE:page * PAGE + 8], "little")
                assert found == last.get(page, 0), f"page {page} has {found} and not {last.get(page, 0)}, of {self.step}"
        return self.step

    def end(self):
        self.ended = True
        self.guest.close()


def saved_and_restored(folder):
    """A guest of this process into an image, which is inspected, and out of it."""
    path = os.path.join(folder, "own.img")
    one, two = MemGuest(), MemGuest(empty=True)
    with gw.Job() as job:
        while one.step < 300:
            time.sleep(0.01)
        result = one.guest.save(job, path, stop=True)
        assert result.returned == 0 and one.guest.where == gw.GW_GONE and result.pages > 0, result
        assert gw.PLACES[result.outcome.place] and one.why == [gw.GW_WHY_KEEP], (result, one.why)
        with job.inspect(path) as info:
            assert info.error is None and info.summary.machine == "python-test-v1", info.summary
            assert {b.name: b.used_bytes for b in info.blocks()} == {"ram": BLOCK_BYTES, "flash": BLOCK_BYTES}, info.blocks()
            assert "counter" in [d.name for d in info.devices()]
        assert not job.compare(path, path)
        result = two.guest.restore(job, path)
        assert two.guest.where == gw.GW_HERE and two.why == [gw.GW_WHY_ARRIVED], two.why
        assert two.check() >= one.step >= 300
        try:
            two.guest.restore(job, path)
        except gw.Error as e:
            assert e.errno == errno.EEXIST and e.strerror and e.result.where == gw.GW_HERE, (e, e.result)
        else:
            raise AssertionError("a guest was restored over another one")
    one.end()
    two.end()


def sent(folder):
    """From one to another in this process, over a socket, while it writes; a hook that raises is the caller's exception, and the guest runs on."""
    one, two = MemGuest(), MemGuest(empty=True)
    uri, said = f"unix:{folder}/link", []
    heard = threading.Event()

    def receive():
        with gw.Job() as job:
            def listening(at):
                said.append(at)
                heard.set()
            said.append(two.guest.receive(job, uri, on_listening=listening))
    thread = threading.Thread(target=receive)
    thread.start()
    assert heard.wait(60), "it does not listen"
    with gw.Job() as job:
        result = one.guest.send(job, said[0], limits={"downtime_ms": 500}, link={"idle_timeout_ms": 60000})
        assert result.where == gw.GW_GONE and result.pages > 0 and one.guest.where_name == "gone", result
        thread.join()
        assert said[1].returned == 0 and two.guest.where == gw.GW_HERE
        assert two.check() >= one.step

        def fails(why):
            raise ValueError(f"no pause for {why}")
        three = gw.Guest("python-test-v1", fails, lambda why: 0)
        memory = mmap.mmap(-1, BLOCK_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        three.add_block("ram", memory)
        try:
            three.save(job, os.path.join(folder, "never.img"))
        except ValueError as e:
            assert "no pause for" in str(e)
        else:
            raise AssertionError("a hook raised, and nobody heard of it")
        assert three.where == gw.GW_HERE and not os.path.exists(os.path.join(folder, "never.img"))
        three.close()
    one.end()
    two.end()


def deltas(_):
    """RAM of this process into each QEMU, with xbzrle_cache: of pages that are sent again a few bytes go, and every byte arrives."""
    mib = 1 << 20
    for version, machine in ("7.2", "pc-i440fx-7.2"), ("10.0", "pc-i440fx-10.0"), ("11.1", "pc-i440fx-11.0"):
        ram, runs, ended = mmap.mmap(-1, 64 * mib, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), threading.Event(), threading.Event()
        ram[:] = os.urandom(mib) * 64
        lock = threading.Lock()

        def work():
            n = 0
            while not ended.is_set():
                with lock:
                    if runs.is_set():
                        for n in range(n, n + 200):
                            at = mib + n * 37 % 8000 * PAGE + n % 500 * 8
                            ram[at:at + 8] = n.to_bytes(8, "little")
                time.sleep(0.005)

        def pause(_):
            runs.clear()
            with lock:
                return 0
        writer = threading.Thread(target=work)
        with Vm(get_qemu(version), ["-machine", machine, "-m", "64", "-S", "-incoming", "defer"], console=False) as vm, gw.Job() as job:
            guest = gw.Guest(machine, pause, lambda why: runs.set())
            guest.add_block("pc.ram", ram)
            uri = f"unix:{vm.path('in')}"
            vm.qmp.command("migrate-incoming", uri=uri)
            runs.set()
            writer.start()
            result = guest.send(job, uri, xbzrle_cache=64 * mib, limits={"downtime_ms": 20}, link={"max_bandwidth": 256 * mib})
            ended.set()
            writer.join()
            assert guest.where == gw.GW_GONE and not runs.is_set(), result
            assert result.xbzrle_pages > 100 and result.xbzrle_bytes < result.xbzrle_pages * 200, result
            copy = vm.path("ram")
            vm.qmp.command("pmemsave", val=mib, size=62 * mib, filename=copy)
            with open(copy, "rb") as f:
                assert f.read() == ram[mib:63 * mib], f"QEMU {version} has another content"
            guest.close()
            print(f"into QEMU {version}: {result.xbzrle_pages} deltas of {result.xbzrle_bytes} bytes, {result.pages} pages", flush=True)
            try:
                guest = gw.Guest(machine, pause, lambda why: 0)
                guest.add_block("pc.ram", ram)
                guest.send(job, uri, xbzrle_cache=mib, channels=2)
            except gw.Error as e:
                assert e.errno == errno.EINVAL and "xbzrle_cache" in e.strerror, e
            else:
                raise AssertionError("deltas over channels")
            guest.close()


def of_a_qemu(folder):
    """A real guest is saved, and served to another QEMU that runs at once."""
    path, log = os.path.join(folder, "vm.img"), []
    with LinuxGuest("10.0") as vm, gw.Job() as job, gw.Qemu(job) as qemu:
        vm.booted()
        qemu.on_log(lambda level, sentence: log.append((level, sentence)))
        result = qemu.save(vm.monitor, path)
        assert result.outcome == gw.GW_QEMU_SAVE_DONE and result.guest.committed, result
        assert vm.qmp.command("query-status")["status"] == "running"
        try:
            qemu.save(f"unix:{folder}/nobody", path)
        except gw.Error as e:
            assert "nobody" in e.strerror and e.result.outcome == gw.GW_QEMU_SAVE_NOT_BEGUN, (e, e.result)
        else:
            raise AssertionError("a QEMU that is not there was saved")
        with job.inspect(path) as info:
            assert info.summary.machine == vm.machine and any(b.name == "m0" for b in info.blocks()), info.summary
    with LinuxGuest("10.0", incoming="defer", backend="memfd") as vm, gw.Job() as job, gw.Qemu(job) as qemu:
        result = qemu.serve(vm.monitor, path)
        assert gw.PLACES[result.guest.place] == "destination-runs" and result.pushed_pages > 0, result
        vm.keeps_ticking()


def imported(_):
    """As its users do it."""
    said = subprocess.run([sys.executable, "-c", "import godwit; print(godwit.version)"], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": PYTHON})
    assert said.stdout.strip() == gw.version, said


def main():
    for case in [imported, layouts, saved_and_restored, sent, deltas, of_a_qemu]:
        if sys.argv[2:] and case.__name__ not in sys.argv[2:]:
            continue
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="godwit-python.") as folder:
            case(folder)
        print(f"{case.__name__}: {time.monotonic() - started:.1f} s", flush=True)


if __name__ == "__main__":
    try:
        main()
    except Unavailable as e:
        skip(str(e))
