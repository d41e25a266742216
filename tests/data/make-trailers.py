#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make-tails.py: records tests/data/trailers/*.zst again, from QEMU 7.2, 10.0 and 11.1.

A tail is what stands behind the RAM section of a stream: FULL sections, EOF, VM description. The guests never ran, so
there is nothing in them but devices after reset. They are chosen for what their descriptions contain: arrays, subsections
inside structs, tmp fields, lists, a device of the old kind (slirp), sizes of 0.
"""
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "lib"))
from vm import Unavailable, Vm, get_qemu, skip  # noqa: E402

DISK = "if=none,driver=null-co,read-zeroes=on,size=1M,id="
MACHINES = {
    "pc": "-M pc -m 8 -smp 2 -netdev user,id=u -device ne2k_pci,netdev=u,romfile= -device virtio-net-pci,romfile= "
          "-device virtio-serial-pci -device virtio-balloon-pci -device virtio-rng-pci -device qemu-xhci,id=x "
          "-device usb-kbd,bus=x.0 -device usb-tablet,bus=x.0 -device e1000,romfile= -device rtl8139,romfile= "
          "-device vmxnet3,romfile= -device VGA -device ich9-ahci -device lsi -device virtio-scsi-pci,id=s "
          f"-drive {DISK}d0 -device scsi-hd,drive=d0,bus=s.0 -drive {DISK}d1 -device virtio-blk-pci,drive=d1 "
          "-audiodev none,id=a -device intel-hda -device hda-duplex,audiodev=a -device i6300esb -device pvpanic "
          "-serial null -parallel null",
    "q35": "-M q35 -m 8 -smp 2 -device virtio-gpu-pci -device virtio-mouse-pci -device pcie-root-port,id=r "
           "-device e1000e,bus=r,romfile= -device ich9-usb-ehci1,id=e "
           f"-drive {DISK}d2 -device usb-storage,bus=e.0,drive=d2 -device megasas -device intel-iommu -device sdhci-pci",
    "microvm": "-M microvm -m 8",
}
WANTED = [(m, v) for m in ("pc", "q35") for v in ("7.2", "10.0", "11.1")] + [("microvm", "11.1")]


def record(qemu, args):
    with Vm(qemu, ["-S", *args.split()], console=False) as vm:
        out = vm.path("stream")
        vm.qmp.migrate(f"exec:cat>{out}")
        while True:
            status = vm.qmp.command("query-migrate").get("status")
            if status == "failed":
                raise RuntimeError("the migration failed")
            if status == "completed":
                break
            time.sleep(0.05)
        with open(out, "rb") as f:
            return f.read()


def tail(stream):
    ram_id = stream[stream.index(b"\x03ram") - 4:][:4]
    eos_and_footer = bytes.fromhex("0000000000000010" "7e") + ram_id
    at = stream.rindex(eos_and_footer) + len(eos_and_footer)
    assert stream[at] == 4, "no FULL section behind RAM"
    return stream[at:]


def main():
    for machine, version in WANTED:
        try:
            qemu = get_qemu(version)
        except Unavailable as e:
            skip(str(e))
        to = os.path.join(HERE, "trailers", f"{machine}-{version}.zst")
        data = tail(record(qemu, MACHINES[machine]))
        subprocess.run(["zstd", "-q", "-f", "--ultra", "-22", "-o", to], input=data, check=True)
        print(f"{to}: {len(data)} bytes, {os.path.getsize(to)} compressed")


if __name__ == "__main__":
    main()
