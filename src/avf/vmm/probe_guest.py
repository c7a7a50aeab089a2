"""The smallest guest that shows that guests work: firmware that gets into 64-bit mode with paging and says so."""

EXIT_PORT = 0xF4
EXIT_STATUS = 225
"""QEMU's, once the guest has written 0xF0 to its isa-debug-exit device: twice that and 1, modulo 256."""

_SIZE = 64 << 10
_START = 0xF000
_CODE = bytes.fromhex(
    "2e660f0116a0f0"  # lgdt cs:[gdtr]
    "0f20c0 0c01 0f22c0"  # cr0.PE = 1
    "66ea 17f0ffff 0800"  # ljmp 8:protected
    "66b81000 8ed8"  # protected: ds = 16
    "c705 00100000 03200000"  # page tables: [0x1000] = 0x2003
    "c705 18200000 03300000"  # [0x2018] = 0x3003
    "c705 f83f0000 8300e0ff"  # [0x3ff8] = 0xffe00083, the 2 MiB we run in
    "b800100000 0f22d8"  # cr3 = 0x1000
    "b820000000 0f22e0"  # cr4.PAE = 1
    "b9800000c0 0f32 80cc01 0f30"  # EFER.LME = 1
    "0f20c0 0d00000080 0f22c0"  # cr0.PG = 1
    "ea 69f0ffff 1800"  # ljmp 24:long
    "48b8f0debc9a78563412 480fc8 48c1c008"  # long: rax = bytes swapped and rotated, which 32 bits cannot
    "e6f4 b0fe e664"  # out EXIT_PORT, al; and for a VMM without such a device: al = 0xfe, out 0x64, al, which resets
    "0000000000000000"  # gdt
    "ffff0000009bcf00"  # 8: 32-bit code
    "ffff00000093cf00"  # 16: data
    "ffff0000009baf00"  # 24: 64-bit code
    "1f00 80f0ffff"  # gdtr
)
_JUMP = bytes([0xE9, *(_START - 0xFFF3 & 0xFFFF).to_bytes(2, "little")])


def probe_firmware() -> bytes:
    """64 KiB for `-bios`; execution begins 16 bytes before the end."""
    image = bytearray(b"\xf4" * _SIZE)
    image[_START : _START + len(_CODE)] = _CODE
    image[0xFFF0 : 0xFFF0 + len(_JUMP)] = _JUMP
    return bytes(image)
