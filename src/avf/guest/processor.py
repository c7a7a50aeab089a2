"""Ciphers and hashes written for the processor, where it runs them itself.

Under emulation each of their wide instructions is a function call: SHA-256 with AVX takes three times as long there as
the kernel's plain C.
"""

from avf.guest import libc
from avf.guest.files import read_text

BOOT_MODULES = "/etc/avf/processor-modules"
"""For dm-verity."""
STORAGE_MODULES = "/etc/avf/processor-storage-modules"
"""For dm-crypt."""

_PROCESSORS = "/proc/cpuinfo"
_EMULATED = "QEMU "


def load_processor_modules(list_path: str) -> None:
    """Loads the modules a file names, before the first user of what they do. Best effort: the kernel can do without."""
    if is_emulated():
        return
    try:
        libc.load_modules(list_path)
    except OSError:  # a processor without these instructions, or a kernel without the modules
        pass


def is_emulated() -> bool:
    """Whether the processor is one of QEMU's models, which a guest has only under TCG. Raises OSError."""
    for line in read_text(_PROCESSORS).splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip().startswith(_EMULATED)
    return False
