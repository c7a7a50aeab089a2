"""Empty disks of the same size in the place of a guest's, while it stands still and is saved.

QEMU saves nothing as long as it has a vmdk node, which most of our disks are. Nothing but the guest's own driver is
lost with a device's node.
"""

from collections.abc import Sequence
from dataclasses import replace

from avf.disk import QemuDisk
from avf.vmm.base import VmmControlError
from avf.vmm.qemu.attach import Execute, add_drive
from avf.vmm.qemu.devices import name_in_slot


class HiddenDisks:
    """Disks that can be hidden, each in the slot of its number."""

    def __init__(self, execute: Execute, disks: Sequence[QemuDisk]) -> None:
        self._execute = execute
        self._disks = disks
        self._hidden: list[tuple[int, QemuDisk]] = []

    async def hide(self) -> None:
        """Raises VmmControlError."""
        sizes = await self._sizes()
        for slot, disk in enumerate(self._disks):
            if disk.drive is not None:
                await self._hide(slot, disk, sizes[f"{disk.name}-drive"])
                self._hidden.append((slot, disk))

    async def show(self) -> None:
        """Puts back those that were hidden. Raises VmmControlError."""
        while self._hidden:
            await self._show(*self._hidden.pop())

    async def _sizes(self) -> dict[str, int]:
        """By the names of drives."""
        answer = await self._execute("query-block")
        try:
            assert isinstance(answer, list)
            return {
                block["device"]: int(block["inserted"]["image"]["virtual-size"])
                for block in answer
                if "inserted" in block
            }
        except (AssertionError, KeyError, TypeError, ValueError):
            raise VmmControlError(f"query-block answered {answer!r:.500}") from None

    async def _hide(self, slot: int, disk: QemuDisk, size: int) -> None:
        node = _stand_in(disk)
        options = {"driver": "null-co", "node-name": node, "size": size, "read-only": True}
        await self._execute("blockdev-add", options)
        await self._set_node(slot, node)

    async def _show(self, slot: int, disk: QemuDisk) -> None:
        assert disk.drive is not None
        again = replace(disk, name=f"{disk.name}-again")
        await add_drive(self._execute, again, disk.drive)
        await self._set_node(slot, disk.name)
        line = f"drive_del {again.name}-drive"
        await self._execute("human-monitor-command", {"command-line": line})
        await self._execute("blockdev-del", {"node-name": _stand_in(disk)})

    async def _set_node(self, slot: int, node: str) -> None:
        path = f"/machine/peripheral/{name_in_slot(slot)}/virtio-backend"
        await self._execute("qom-set", {"path": path, "property": "drive", "value": node})


def _stand_in(disk: QemuDisk) -> str:
    return f"{disk.name}-void"
