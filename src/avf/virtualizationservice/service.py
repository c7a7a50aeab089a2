"""IVirtualizationServiceInternal."""

import errno
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from avf.aidl.virtualizationservice import VirtualMachineDebugInfo
from avf.aidl.virtualizationservice_internal import (
    AtomVmBooted,
    AtomVmCreationRequested,
    AtomVmExited,
    IGlobalVmContext,
    IVirtualizationServiceInternal,
)
from avf.binder import RemoteException, calling_peer
from avf.causes import words
from avf.policy import Permission, PolicyFile, denial
from avf.runtime import WAITING_NAME
from avf.virtualizationservice.atoms import AtomLog
from avf.virtualizationservice.contexts import ContextTable
from avf.virtualizationservice.errors import ServiceError
from avf.virtualizationservice.generations import GenerationStore
from avf.virtualizationservice.parties import Parties, Party
from avf.virtualizationservice.quotas import RateLimit

ATOM_BURST = 300
ATOMS_PER_SECOND = 10
_MAX_SHOWN = 100
T = TypeVar("T")


class VirtualizationServiceInternal(IVirtualizationServiceInternal):
    """The root object that every virtmgr on the host talks to; who calls is known by SO_PEERCRED.

    The uid in an atom is the caller's, whatever the caller says.
    """

    def __init__(
        self,
        contexts: ContextTable,
        policy: PolicyFile,
        atoms: AtomLog,
        parties: Parties,
        generations: GenerationStore | None = None,
    ) -> None:
        """`generations`: None if there is no place to remember instances in."""
        self._contexts = contexts
        self._policy = policy
        self._parties = parties
        self._atoms = atoms
        self._generations = generations
        self._atom_rate = RateLimit(ATOM_BURST, ATOMS_PER_SECOND)

    def remove_memlock_rlimit(self) -> None:
        # Android leaves it to SELinux to let virtmgr alone call this.
        self._require(Permission.MANAGE_VIRTUAL_MACHINE)
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        try:
            pid = _caller_pid()
            _check_owner(pid, _caller_uid())
            resource.prlimit(pid, resource.RLIMIT_MEMLOCK, unlimited)
        except OSError as e:
            raise RemoteException.illegal_state(f"{e.strerror} (os error {e.errno})") from e

    def allocate_global_vm_context(self, requester_debug_pid: int) -> IGlobalVmContext:
        self._require(Permission.MANAGE_VIRTUAL_MACHINE)
        try:
            return self._contexts.allocate(_caller_uid(), requester_debug_pid)
        except (ServiceError, OSError) as e:
            raise RemoteException.illegal_state(words(e)) from e

    def atom_vm_booted(self, atom: AtomVmBooted) -> None:
        self._write(
            "VmBooted",
            {
                "vm_identifier": atom.vm_identifier,
                "elapsed_time_millis": atom.elapsed_time_millis,
            },
        )

    def atom_vm_creation_requested(self, atom: AtomVmCreationRequested) -> None:
        self._write(
            "VmCreationRequested",
            {
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
        self._write(
            "VmExited",
            {
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
        return [info for info in self._contexts.live() if not _waits(info)]

    def get_instance_generation(self, instance_id: bytes) -> int:
        return self._on_instance(lambda store, party, uid: store.get(party, uid, instance_id))

    def raise_instance_generation(self, instance_id: bytes, generation: int) -> None:
        self._on_instance(
            lambda store, party, uid: store.raise_to(party, uid, instance_id, generation)
        )

    def forget_instance_generation(self, instance_id: bytes) -> None:
        self._on_instance(lambda store, party, uid: store.forget(party, uid, instance_id))

    def is_granted(self, permission: str) -> bool:
        try:
            asked = Permission(permission)
        except ValueError:
            raise RemoteException.illegal_argument(
                f"no such permission: {permission[:_MAX_SHOWN]}"
            ) from None
        return self._allows(asked)

    def _on_instance(self, operation: Callable[[GenerationStore, Party, int], T]) -> T:
        self._require(Permission.MANAGE_VIRTUAL_MACHINE)
        if self._generations is None:
            raise RemoteException.unsupported_operation(
                "virtualizationservice has no place to remember instances in; its log says why"
            )
        uid = _caller_uid()
        try:
            return operation(self._generations, self._parties.of(uid), uid)
        except (ServiceError, OSError) as e:
            raise RemoteException.illegal_state(words(e)) from e

    def _write(self, name: str, fields: dict[str, Any]) -> None:
        """What exceeds the rate is dropped, before polkit may be asked about it."""
        uid = _caller_uid()
        party = self._parties.of(uid)
        if self._atom_rate.take(party):
            self._require(Permission.MANAGE_VIRTUAL_MACHINE)
            self._atoms.write(name, {"uid": uid, **fields}, party)

    def _allows(self, permission: Permission) -> bool:
        return self._policy.current().allows(permission, _caller_uid(), calling_peer().pid)

    def _require(self, permission: Permission) -> None:
        if not self._allows(permission):
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


def _check_owner(pid: int, uid: int) -> None:
    """Raises OSError if the process has ended, and somebody else's has its number now."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except FileNotFoundError:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from None
    if f"\nUid:\t{uid}\t" not in status:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))


def _waits(info: VirtualMachineDebugInfo) -> bool:
    """Whether it is no VM yet, but a clone that waits for its owner."""
    return os.path.lexists(os.path.join(info.temporary_directory, WAITING_NAME))  # noqa: PTH118
