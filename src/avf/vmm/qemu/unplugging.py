"""Waits until a guest has ejected devices: see `avf.guest.slots`."""

import asyncio
import time
from collections.abc import Iterable

from avf.vmm.base import NotSupported, VmmControlError
from avf.vmm.qemu.attach import Execute

SECONDS = 15.0
"""How long a guest has, under emulation on a busy host."""
_POLL = 0.005


async def wait_until_gone(execute: Execute, names: Iterable[str]) -> None:
    """Raises VmmControlError if one of the devices called `names` is still there after SECONDS."""
    deadline = time.monotonic() + SECONDS
    for name in names:
        while await _has_device(execute, name):
            if time.monotonic() > deadline:
                raise VmmControlError(f"the guest has not ejected the device {name}")
            await asyncio.sleep(_POLL)


async def _has_device(execute: Execute, name: str) -> bool:
    try:
        await execute("qom-list", {"path": f"/machine/peripheral/{name}"})
    except NotSupported:  # there is no such object
        return False
    return True
