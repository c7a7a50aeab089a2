"""IVirtualMachineService: what a guest tells of its payload, and asks of its host."""

import logging
import time

from avf.aidl.virtualizationcommon import ErrorCode
from avf.aidl.virtualmachineservice import IVirtualMachineService
from avf.binder import RemoteException
from avf.virtmgr.errors import failure
from avf.virtmgr.generations import InstanceGenerations, OneInstance
from avf.virtmgr.machine import PayloadState, VmInstance
from avf.virtmgr.table import VmTable
from avf.virtmgr.timeline import GuestReport

MAX_MESSAGE = 4096

log = logging.getLogger(__name__)


class VirtualMachineService(IVirtualMachineService):
    """Serves one guest, known by its CID."""

    def __init__(
        self, machines: VmTable, cid: int, generations: InstanceGenerations | None = None
    ) -> None:
        """`generations`: None for a VM that has no instance."""
        self._machines = machines
        self._cid = cid
        self._instance = None if generations is None else OneInstance(generations, cid)

    def notify_payload_started(self) -> None:
        self._machine("notifyPayloadStarted").payload_started()

    def notify_payload_ready(self) -> None:
        self._machine("notifyPayloadReady").payload_ready()

    def notify_payload_finished(self, exit_code: int) -> None:
        self._machine("notifyPayloadFinished").payload_finished(exit_code)

    def notify_error(self, error_code: ErrorCode, message: str) -> None:
        self._machine("notifyError").payload_failed(error_code, message[:MAX_MESSAGE])

    def get_time(self) -> int:
        machine = self._machines.get(self._cid)
        if machine is not None:
            machine.timeline.answered()
        return time.time_ns()

    def report_start_phases(
        self,
        names: list[str],
        end_nanos: list[int],
        began_nanos: int,
        answered_nanos: int,
        sent_nanos: int,
    ) -> None:
        report = GuestReport(names, end_nanos, began_nanos, answered_nanos, sent_nanos)
        self._machine("reportStartPhases").start_phases_reported(report)

    def get_instance_generation(self, instance_id: bytes) -> int:
        return self._own_instance("getInstanceGeneration").get(instance_id)

    def raise_instance_generation(self, instance_id: bytes, generation: int) -> None:
        self._own_instance("raiseInstanceGeneration").raise_to(instance_id, generation)

    def _own_instance(self, operation: str) -> OneInstance:
        """Raises RemoteException once the payload may have the word: it is none of its business."""
        machine = self._machine(operation)
        if self._instance is None:
            raise RemoteException.unsupported_operation("this VM has no instance")
        if machine.payload_state is not PayloadState.STARTING:
            raise RemoteException.illegal_state(f"{operation}: the payload has been started")
        return self._instance

    def _machine(self, operation: str) -> VmInstance:
        machine = self._machines.get(self._cid)
        if machine is None:
            log.error("%s is called from an unknown CID %d", operation, self._cid)
            raise failure(f"cannot find a VM with CID {self._cid}")
        return machine
