"""The VMs of this process."""

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avf.virtmgr.machine import VmInstance


class VmTable:
    """The VMs of this virtmgr that somebody holds a handle of, by CID."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._machines: dict[int, VmInstance] = {}

    def add(self, machine: "VmInstance") -> None:
        with self._lock:
            self._machines[machine.cid] = machine

    def remove(self, machine: "VmInstance") -> bool:
        """Whether it was there: whoever takes it out releases it."""
        with self._lock:
            if self._machines.get(machine.cid) is not machine:
                return False
            del self._machines[machine.cid]
            return True

    def get(self, cid: int) -> "VmInstance | None":
        with self._lock:
            return self._machines.get(cid)

    def all(self) -> "list[VmInstance]":
        with self._lock:
            return list(self._machines.values())
