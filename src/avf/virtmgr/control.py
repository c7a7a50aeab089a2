"""IVmControl: looking into a VM and ending it, without holding it."""

import logging

from avf.aidl.vm_control import DeathReport, IVmControl, PayloadState, VmInfo, VmMetrics
from avf.binder import ParcelFileDescriptor, calling_peer
from avf.virtmgr.errors import VirtmgrError, failure_from
from avf.virtmgr.machine import Running, VmInstance
from avf.virtmgr.metrics import cpu_time_millis, resident_kb

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
