# SPDX-License-Identifier: MIT
"""Guests of a few bytes: machine code that dirties memory in real mode, so that a live guest needs only a few MiB.

The loop runs forever over PAGES pages from 64 KiB on. Most of them hold a counter and a growing mess (small changes:
what XBZRLE is made for); the last 16 turn from zero to something and back each round (zero pages of a live guest).
"""
FIRST, PAGES, TOGGLED = 0x10, 128, 16

LOOP = bytes.fromhex(
    "fa"                # cli
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
    "72eb"              #         jb toggle
    "bd0400"            #         mov bp,4              rest a little
    "b90000"            # rest:   mov cx,0
    "e2fe"              #         loop $
    "4d"                #         dec bp
    "75f8"              #         jnz rest
    "ebb1")             #         jmp round


def bios():
    """A 64 KiB BIOS that is only this loop: no firmware runs, no firmware pages blow up a capture."""
    image = bytearray(65536)
    image[0:len(LOOP)] = LOOP
    image[0x100:0x120] = b"Godwit's tiny guest, not a BIOS\0"
    image[0xFFF0:0xFFF5] = bytes.fromhex("ea000000f0")     # reset vector: jmp 0xf000:0
    return bytes(image)


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

# Sets the PIIX4's ACPI ports to 0xb000, then counts and looks for an order. Suspend and power off: PM1a_CNT gets SLP_EN with type 1 (S3) or 0 (S5).
# Panic: a byte to pvpanic's port 0x505. Watchdog: ib700's timer, started with 0 seconds. Disk: READ SECTORS to the first IDE disk. Woken up, it begins anew.
# It clears an order only when it has read one: one that is written between the two would be lost.
ORDERED = bytes.fromhex(
    "fa31c08ed866b8400b0080baf80c66ef66b801b00000bafc0c66ef66b8800b00"
    "80baf80c66efb001bafc0ceeb800108ec02666ff060000a1000585c0744bc706"
    "0005000048740e48741448741a48741f487424eb34ba04b0b80024efeb2bba04"
    "b0b80020efeb22ba0505b001eeeb1aba4304b00feeeb12baf601b0e0eebaf201"
    "b001eebaf701b020eeb90004e2feeba1")


def ordered_bios():
    image = bytearray(65536)
    image[0:len(ORDERED)] = ORDERED
    image[0xFFF0:0xFFF5] = bytes.fromhex("ea000000f0")
    return bytes(image)
