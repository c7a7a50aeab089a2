"""IVirtualMachine: the handle. Who has it may do everything; when nobody has it any more, the VM is killed."""

import logging

from avf.aidl.virtualizationservice import (
    IVirtualMachine,
    IVirtualMachineCallback,
    MemoryTrimLevel,
    VirtualMachineState,
)
from avf.binder import IBinder, ParcelFileDescriptor
from avf.virtmgr.control import VmControl
from avf.virtmgr.errors import VirtmgrError, failure, failure_from, in_one_line
from avf.virtmgr.machine import VmInstance
from avf.virtmgr.table import VmTable
from avf.vmm import NotSupported, VmmControlError

BALLOON_PERCENT = {
    MemoryTrimLevel.TRIM_MEMORY_RUNNING_CRITICAL: 50,
    MemoryTrimLevel.TRIM_MEMORY_RUNNING_LOW: 30,
    MemoryTrimLevel.TRIM_MEMORY_RUNNING_MODERATE: 10,
}

log = logging.getLogger(__name__)


class VirtualMachine(IVirtualMachine):
    def __init__(self, machine: VmInstance, machines: VmTable) -> None:
        self._machine = machine
        self._machines = machines
        self._control = VmControl(machine)

    def get_cid(self) -> int:
        return self._machine.cid

    def get_state(self) -> VirtualMachineState:
        return self._machine.state

    def register_callback(self, callback: IVirtualMachineCallback) -> None:
        self._machine.register_callback(callback)

    def start(self) -> None:
        try:
            self._machine.start()
        except VirtmgrError as e:
            log.error("Error starting VM with CID %d: %s", self._machine.cid, in_one_line(e))
            log.debug("where it failed", exc_info=e)
            raise failure_from(e) from e

    def stop(self) -> None:
        try:
            self._machine.stop()
        except VirtmgrError as e:
            log.error("Error stopping VM with CID %d: %s", self._machine.cid, in_one_line(e))
            raise failure_from(e) from e

    def on_trim_memory(self, level: MemoryTrimLevel) -> None:
        percent = BALLOON_PERCENT.get(level)
        if percent is None:
            raise failure(f"Invalid memory trim level {int(level)}")
        try:
            process = self._machine.process()
            stats = process.balloon_stats()
            if stats.total_memory is not None:
                process.set_balloon(stats.total_memory * percent // 100)
        except NotSupported:
            log.info("VM with CID %d has no balloon yet; its memory stays", self._machine.cid)
        except (VirtmgrError, VmmControlError) as e:
            log.error("Error trimming VM with CID %d: %s", self._machine.cid, in_one_line(e))
            raise failure_from(e, "Error requesting balloon stats: ") from e

    def connect_vsock(self, port: int) -> ParcelFileDescriptor:
        return self._control.connect_vsock(port)

    def get_control(self) -> IBinder:
        return self._control

    def on_released(self) -> None:
        log.debug("dropping %s", self._machine)
        if self._machines.remove(self._machine):
            self._machine.release()
