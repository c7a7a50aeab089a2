"""The options that a compiler needs for native payloads."""

from pathlib import Path

INCLUDE = Path(__file__).parent / "include"
"""The folder with vm_payload.h, vm_payload_restricted.h, vm_main.h, avf_rpc.h and avf_payload.h."""

_LIBS = ("-Wl,-z,undefs",)
"""The functions are not linked: they are there when the guest loads the payload."""


def cflags() -> list[str]:
    """For compiling: where the headers are."""
    return [f"-I{INCLUDE}"]


def libs() -> list[str]:
    """For linking a shared library: its references to the vm_payload API stay open."""
    return list(_LIBS)
