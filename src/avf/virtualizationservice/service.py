"""IVirtualizationServiceInternal."""

import resource

from avf.aidl.virtualizationservice import VirtualMachineDebugInfo
from avf.aidl.virtualizationservice_internal import (
    AtomVmBooted,
    AtomVmCreationRequested,
    AtomVmExited,
    IGlobalVmContext,
    IVirtualizationServiceInternal,
)
from avf.binder import RemoteException, calling_peer
from avf.policy import Permission, Policy, denial
from avf.virtualizationservice.atoms import AtomLog
from avf.virtualizationservice.cids import CidError
from avf.virtualizationservice.contexts import ContextTable


class VirtualizationServiceInternal(IVirtualizationServiceInternal):
    """The root object that every virtmgr on the host talks to; who calls is known by SO_PEERCRED."""

    def __init__(self, contexts: ContextTable, policy: Policy, atoms: AtomLog) -> None:
        self._contexts = contexts
        self._policy = policy
        self._atoms = atoms

    def remove_memlock_rlimit(self) -> None:
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        try:
            resource.prlimit(_caller_pid(), resource.RLIMIT_MEMLOCK, unlimited)
        except OSError as e:
            raise RemoteException.illegal_state(f"{e.strerror} (os error {e.errno})") from e

    def allocate_global_vm_context(self, requester_debug_pid: int) -> IGlobalVmContext:
        self._require(Permission.MANAGE_VIRTUAL_MACHINE)
        try:
            return self._contexts.allocate(_caller_uid(), requester_debug_pid)
        except (CidError, OSError) as e:
            raise RemoteException.illegal_state(str(e)) from e

    def atom_vm_booted(self, atom: AtomVmBooted) -> None:
        self._atoms.write(
            "VmBooted",
            {
                "uid": atom.uid,
                "vm_identifier": atom.vm_identifier,
                "elapsed_time_millis": atom.elapsed_time_millis,
            },
        )

    def atom_vm_creation_requested(self, atom: AtomVmCreationRequested) -> None:
        self._atoms.write(
            "VmCreationRequested",
            {
                "uid": atom.uid,
                "vm_identifier": atom.vm_identifier,
                "hypervisor": "other",
                "is_protected": atom.is_protected,
                "creation_succeeded": atom.creation_succeeded,
                "binder_exception_code": atom.binder_exception_code,
                "config_type": atom.config_type,
                "num_cpus": atom.num_cpus,
                "cpu_affinity": "",
                "memory_mib": atom.memory_mib,
                "apexes": atom.apexes,
            },
        )

    def atom_vm_exited(self, atom: AtomVmExited) -> None:
        self._atoms.write(
            "VmExited",
            {
                "uid": atom.uid,
                "vm_identifier": atom.vm_identifier,
                "death_reason": atom.death_reason.name,
                "exit_signal": atom.exit_signal,
                "elapsed_time_millis": atom.elapsed_time_millis,
                "guest_time_millis": atom.guest_time_millis,
                "rss_vm_kb": atom.rss_vm_kb,
                "rss_crosvm_kb": atom.rss_crosvm_kb,
            },
        )

    def debug_list_vms(self) -> list[VirtualMachineDebugInfo]:
        self._require(Permission.DEBUG_VIRTUAL_MACHINE)
        return self._contexts.live()

    def _require(self, permission: Permission) -> None:
        if not self._policy.allows(permission, _caller_uid()):
            raise RemoteException.security(denial(permission))


def _caller_uid() -> int:
    uid = calling_peer().uid
    if uid is None:
        raise RemoteException.security("the caller is not known")
    return uid


def _caller_pid() -> int:
    pid = calling_peer().pid
    if not pid:
        raise RemoteException.security("the caller's process is not known")
    return pid
