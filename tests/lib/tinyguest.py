# SPDX-License-Identifier: MIT
"""Guests of a few bytes: machine code that dirties memory in real mode, so that a live guest needs only a few MiB.

The loop runs forever over PAGES pages from 64 KiB on. Most of them hold a counter and a growing mess (small changes:
what XBZRLE is made for); the last 16 turn from zero to something and back each round (zero pages of a live guest).
Under our own BIOS the guest halts between two rounds until the timer's next tick (TICKS_HZ): under TCG a loop that spins takes a whole processor
from the test beside it. It does so where the guest has to write faster than anybody can send.
"""
FIRST, PAGES, TOGGLED = 0x10, 128, 16
TICKS_HZ = 250

# Our BIOS writes no memory but what its loop is to dirty. So interrupt vectors and stack are in the BIOS, where what an interrupt pushes is lost:
# a tick is not returned from, it begins the next round. The timer is the only interrupt, and ends by itself (AEOI).
VECTORS_AT, TABLE_AT, TABLE, VECTORS = 0x200, 0x208, 0x210, 0x400   # places in the BIOS: what lidt and lgdt read, two descriptors, 256 addresses of the round
SET_UP = bytes.fromhex(
    "fa"                # cli
    "2e0f011e0002"      # lidt cs:[0x200]
    "8cc88ed0"          # mov ax,cs; mov ss,ax
    "2e0f01160802"      # lgdt cs:[0x208]               protected mode for a moment, so that fs reaches all 4 GiB
    "0f20c0400f22c0"    # mov eax,cr0; inc ax; mov cr0,eax
    "bb08008ee3"        # mov bx,8; mov fs,bx
    "480f22c0"          # dec ax; mov cr0,eax
    "646766c705f000e0feff010000"    # mov dword fs:[0xfee000f0],0x1ff   local APIC: on,
    "646766c7055003e0fe00070000"    # mov dword fs:[0xfee00350],0x700   and LINT0 is the interrupt controller
    "b011e620"          # interrupt controller: edges, with another one behind it,
    "b008e621"          #   IRQ 0 is interrupt 8,
    "b004e621"          #   the other one is at IRQ 2,
    "b003e621"          #   8086, AEOI,
    "b0fee621"          #   nobody but IRQ 0
    "b034e643"          # timer 0: a rate,
    f"b0{1193182 // TICKS_HZ & 0xff:02x}e640"   # of TICKS_HZ
    f"b0{1193182 // TICKS_HZ >> 8:02x}e640")
HALT = bytes.fromhex("fbf4ebfd")        # sti; hlt; jmp hlt

DIRTY = bytes.fromhex(
    "0f20c0"            # round:  mov eax,cr0
    "663500000100"      #         xor eax,0x10000       WP has no meaning here; changing it makes QEMU forget its
    "0f22c0"            #         mov cr0,eax           translations (7.2 misses writes through old ones)
    "ba0010"            #         mov dx,0x1000         segment of the first page
    "8eda"              # page:   mov ds,dx
    "66ff060000"        #         inc dword [0]
    "8b1e0000"          #         mov bx,[0]
    "81e3fe0f"          #         and bx,0xffe
    "83cb08"            #         or bx,8
    "011f"              #         add [bx],bx
    "81c20001"          #         add dx,0x100
    "81fa0080"          #         cmp dx,0x8000
    "72e2"              #         jb page
    "8eda"              # toggle: mov ds,dx
    "668136100057004f44"  #       xor dword [0x10],...
    "81c20001"          #         add dx,0x100
    "81fa0090"          #         cmp dx,0x9000
    "72eb")             #         jb toggle

# Without a timer: for a floppy, where vectors and timer belong to the firmware, and for a guest that spins.
LOOP = bytes.fromhex("fa") + DIRTY + bytes.fromhex(     # cli first
    "bd0400"            #         mov bp,4              rest a little
    "b90000"            # rest:   mov cx,0
    "e2fe"              #         loop $
    "4d"                #         dec bp
    "75f8"              #         jnz rest
    "ebb1")             #         jmp round


def bios_of(code):
    """A 64 KiB BIOS that is only this code: no firmware runs, no firmware pages blow up a capture."""
    assert len(code) <= 0x100
    image = bytearray(65536)
    image[0:len(code)] = code
    image[0x100:0x120] = b"Godwit's tiny guest, not a BIOS\0"
    image[0xFFF0:0xFFF5] = bytes.fromhex("ea000000f0")     # reset vector: jmp 0xf000:0
    return image


def with_ticks(before, each_tick):
    """One that does `before` once and `each_tick` as often as the timer ticks."""
    image = bios_of(SET_UP + before + each_tick + HALT)
    image[VECTORS_AT:VECTORS_AT + 6] = (0x3FF).to_bytes(2, "little") + (0xF0000 + VECTORS).to_bytes(4, "little")
    image[TABLE_AT:TABLE_AT + 6] = (0xF).to_bytes(2, "little") + (0xF0000 + TABLE).to_bytes(4, "little")
    image[TABLE:TABLE + 16] = bytes.fromhex("0000000000000000" "ffff00000092cf00")
    image[VECTORS:VECTORS + 0x400] = (len(SET_UP + before) | 0xF000 << 16).to_bytes(4, "little") * 256
    return bytes(image)


def bios(spins=False):
    return bytes(bios_of(LOOP)) if spins else with_ticks(b"", DIRTY)


def floppy():
    """A boot floppy with the same loop, started by the real firmware."""
    sector = LOOP.ljust(510, b"\0") + b"\x55\xaa"
    return sector.ljust(1474560, b"\0")


def ram(size):
    """Content for the memory of a guest that never runs: zero, patterned, text and noise pages, few of each."""
    pages = bytearray(size)
    for page in range(1, size // 4096, 16):
        pages[page * 4096:(page + 1) * 4096] = page.to_bytes(8, "little") * 512
    for page in range(5, size // 4096, 97):
        text = f"page {page} of a guest that was never started. "
        pages[page * 4096 + 8:(page + 1) * 4096 - 8] = (text * 100).encode()[:4080]
    x = 1
    for i in range(0, 4096, 8):         # one page nothing can shrink
        x = (x * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        pages[3 * 4096 + i:3 * 4096 + i + 8] = x.to_bytes(8, "little")
    pages[size - 1] = 0xFF              # the very last byte
    return bytes(pages)


# --- a guest that does what is written into its memory ------------------------------------------------------------

ORDER, COUNTER = 0x500, 0x10000     # 16 bits, taken and set to 0; 32 bits that count while it runs
SUSPEND, POWER_OFF, PANIC, WATCHDOG, READ_DISK = 1, 2, 3, 4, 5

# Sets the PIIX4's ACPI ports to 0xb000; then each tick counts and looks for an order. Suspend and power off: PM1a_CNT gets SLP_EN with type 1 (S3) or 0 (S5).
# Panic: a byte to pvpanic's port 0x505. Watchdog: ib700's timer, started with 0 seconds. Disk: READ SECTORS to the first IDE disk. Woken up, it begins anew.
# It clears an order only when it has read one: one that is written between the two would be lost.
ACPI_PORTS = bytes.fromhex(
    "31c08ed866b8400b0080baf80c66ef66b801b00000bafc0c66ef66b8800b00"
    "80baf80c66efb001bafc0ceeb800108ec0")
ORDERED = bytes.fromhex(
    "2666ff060000a1000585c0744bc706"
    "0005000048740e48741448741a48741f487424eb34ba04b0b80024efeb2bba04"
    "b0b80020efeb22ba0505b001eeeb1aba4304b00feeeb12baf601b0e0eebaf201"
    "b001eebaf701b020ee")


def ordered_bios():
    return with_ticks(ACPI_PORTS, ORDERED)
