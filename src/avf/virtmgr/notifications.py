"""IVirtualMachineService: what a guest tells of its payload, and asks of its host."""

import logging
import time

from avf.aidl.virtualizationcommon import ErrorCode
from avf.aidl.virtualmachineservice import IVirtualMachineService
from avf.virtmgr.errors import failure
from avf.virtmgr.machine import VmInstance, VmTable

MAX_MESSAGE = 4096

log = logging.getLogger(__name__)


class VirtualMachineService(IVirtualMachineService):
    """Serves one guest, known by its CID."""

    def __init__(self, machines: VmTable, cid: int) -> None:
        self._machines = machines
        self._cid = cid

    def notify_payload_started(self) -> None:
        self._machine("notifyPayloadStarted").payload_started()

    def notify_payload_ready(self) -> None:
        self._machine("notifyPayloadReady").payload_ready()

    def notify_payload_finished(self, exit_code: int) -> None:
        self._machine("notifyPayloadFinished").payload_finished(exit_code)

    def notify_error(self, error_code: ErrorCode, message: str) -> None:
        self._machine("notifyError").payload_failed(error_code, message[:MAX_MESSAGE])

    def get_time(self) -> int:
        return time.time_ns()

    def _machine(self, operation: str) -> VmInstance:
        machine = self._machines.get(self._cid)
        if machine is None:
            log.error("%s is called from an unknown CID %d", operation, self._cid)
            raise failure(f"cannot find a VM with CID {self._cid}")
        return machine
