"""IVmControl: looking into a VM and ending it, without holding it."""

import logging
import time

from avf.aidl.virtualmachineservice import IVirtualMachineService
from avf.aidl.vm_control import (
    DeathReport,
    IVmControl,
    MetricsSample,
    PayloadState,
    Timeline,
    VmInfo,
    VmMetrics,
    VmParts,
)
from avf.binder import IBinder, ParcelFileDescriptor, RemoteException, calling_peer
from avf.virtmgr.errors import VirtmgrError, failure, failure_from
from avf.virtmgr.machine import Running, VmInstance
from avf.virtmgr.metrics import cpu_time_millis, resident_kb
from avf.virtmgr.told_timeline import told_timeline
from avf.vsock import AddressError, port_from_aidl

FIRST_UNPRIVILEGED_PORT = 1024
CONNECT_SECONDS = 10
_DEVICE_POLL_SECONDS = 0.02

log = logging.getLogger(__name__)


class VmControl(IVmControl):
    """The control object of one VM, the same for its client and for those who come by the VM's socket."""

    def __init__(self, machine: VmInstance) -> None:
        self._machine = machine

    def get_info(self) -> VmInfo:
        machine = self._machine
        state = machine.vm_state
        spec = machine.spec
        return VmInfo(
            cid=machine.cid,
            name=machine.name,
            state=machine.state,
            payload_state=PayloadState(int(machine.payload_state)),
            vmm=machine.vmm_name,
            vmm_pid=state.process.pid if isinstance(state, Running) else 0,
            requester_uid=machine.requester.uid,
            requester_pid=machine.requester.pid,
            is_protected=machine.protected,
            memory_mib=spec.memory_mib or 0,
            num_cpus=spec.cpus or 0,
            created_millis_ago=machine.metrics.millis_since_creation(),
            started_millis_ago=machine.metrics.millis_since_start(),
            has_console=machine.output.has_console,
            has_log=machine.output.has_log,
            takes_console_input=machine.takes_console_input,
            debugger_socket=str(machine.debugger_socket or ""),
        )

    def get_metrics(self) -> VmMetrics:
        metrics = self._machine.metrics.snapshot()
        state = self._machine.vm_state
        if isinstance(state, Running):
            try:
                metrics.rss_vm_kb, metrics.rss_vmm_kb = resident_kb(state.process.pid)
                metrics.cpu_time_millis = cpu_time_millis(state.process.pid)
            except (OSError, ValueError, IndexError) as e:
                log.debug("no metrics of %s: %s", self._machine, e)
        return metrics

    def get_metrics_history(self, after_millis: int) -> list[MetricsSample]:
        return self._machine.metrics.history(after_millis)

    def get_timeline(self) -> Timeline:
        return told_timeline(self._machine.timeline.picture())

    def get_parts(self) -> VmParts:
        return self._machine.parts

    def fork(
        self,
        name: str,
        console_fd: ParcelFileDescriptor | None,
        log_fd: ParcelFileDescriptor | None,
    ) -> IBinder:
        forker = self._machine.forker
        if forker is None:
            raise RemoteException.security(
                "Can't fork this VM: its configuration does not allow it (forkable)"
            )
        return forker.fork(name, console_fd, log_fd)

    def get_death_report(self) -> DeathReport | None:
        return self._machine.death_report

    def stop(self) -> None:
        peer = calling_peer()
        who = "its owner" if peer.pid is None else f"process {peer.pid} of uid {peer.uid}"
        try:
            self._machine.stop(f"stopped on request of {who}")
        except VirtmgrError as e:
            raise failure_from(e) from e

    def attach_console(self, live: bool) -> ParcelFileDescriptor:
        machine = self._machine
        state = machine.vm_state
        if live and machine.takes_console_input and isinstance(state, Running):
            machine.connect_input(state.process)
        try:
            return ParcelFileDescriptor(machine.output.attach_console(live=live))
        except (VirtmgrError, OSError) as e:
            raise failure_from(e) from e

    def follow_log(self, live: bool) -> ParcelFileDescriptor:
        try:
            return ParcelFileDescriptor(self._machine.output.follow_log(live=live))
        except (VirtmgrError, OSError) as e:
            raise failure_from(e) from e

    def connect_vsock(self, port: int) -> ParcelFileDescriptor:
        number = port & 0xFFFF_FFFF
        try:
            self._machine.process()
            if number < FIRST_UNPRIVILEGED_PORT:
                raise failure(
                    f"Can't connect to privileged port {number}: ports from"
                    f" {FIRST_UNPRIVILEGED_PORT} on are for clients"
                )
            return self._connect(port_from_aidl(port))
        except VirtmgrError as e:
            raise failure_from(e) from e
        except (OSError, AddressError) as e:
            raise failure_from(e, f"Failed to connect to vsock port {number}: ") from e

    def connect_shell(self) -> ParcelFileDescriptor:
        try:
            self._machine.process()
            return self._connect(IVirtualMachineService.VM_SHELL_SERVICE_PORT)
        except VirtmgrError as e:
            raise failure_from(e) from e
        except ConnectionResetError as e:
            raise failure(
                "the guest has no shell service: it is not debuggable, or has not booted that far"
            ) from e
        except OSError as e:
            raise failure_from(e, "cannot reach the guest's shell service: ") from e

    def _connect(self, port: int) -> ParcelFileDescriptor:
        """To whatever the guest serves: the guest itself decides whom.

        A VM that has just been started is waited for, as one that has not booted yet. Raises OSError or VirtmgrError.
        """
        deadline = time.monotonic() + CONNECT_SECONDS
        while True:
            try:
                left = max(0.001, deadline - time.monotonic())
                sock = self._machine.context.vsock.connect(port, left)
                return ParcelFileDescriptor(sock.detach())
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        f"the VM's vsock device has not come up in {CONNECT_SECONDS} s"
                    ) from None
            time.sleep(_DEVICE_POLL_SECONDS)
            self._machine.process()
