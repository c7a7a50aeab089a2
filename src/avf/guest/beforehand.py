"""What a template does before it is saved: all that is the same for every payload, so that no clone has to do it."""

from importlib import import_module

from avf.aidl.virtualmachineservice import IVirtualMachineService
from avf.aidl.vm_payload import IVmPayloadService
from avf.binder import prepare_calls
from avf.guest import crypto, libc, limits, nettle, own_pages, partitions
from avf.guest.apk_mount import EROFS_MODULES
from avf.guest.rehearsal import rehearse_and_learn
from avf.guest.swap import enable_swap
from avf.guest.system import mount_system

MODULES = (
    "avf.guest.agent",
    "avf.guest.launcher",
    "avf.guest.payload_service",
    "avf.guest.script",
    "avf.guest.template",
    "avf.guest.tombstone",
    "encodings.utf_16_le",
    "mmap",
)
"""Those that import all that is imported between the beginning of a clone and the start of its payload."""


def get_ready() -> None:
    """To be called before the agent and the payload's process are forked. Raises GuestError or OSError."""
    nettle.load()
    mount_system()
    for module in MODULES:
        import_module(module)
    for interface in (IVirtualMachineService, IVmPayloadService):
        prepare_calls(interface)
    enable_swap()
    limits.make_group()
    crypto.rehearse()
    libc.load_modules(EROFS_MODULES)
    partitions.labels()
    own_pages.rehearsed[:] = rehearse_and_learn()
