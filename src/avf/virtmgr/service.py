"""IVirtualizationService: what a client can ask of its virtmgr.

What does the work is imported by the methods that need it: virtmgr starts once per client, and must answer soon.
"""

import logging
import os
import threading
from importlib import import_module
from typing import TYPE_CHECKING

from avf.aidl.virtualizationservice import (
    IVirtualizationService,
    IVirtualMachine,
    PartitionType,
    VirtualMachineConfig,
    VirtualMachineDebugInfo,
)
from avf.aidl.vm_control import PayloadInvocation, PoolRequest, PoolStatus
from avf.binder import ParcelFileDescriptor, RemoteException, Status, StatusError
from avf.virtmgr.atoms import AtomSender
from avf.virtmgr.errors import failure_from
from avf.virtmgr.global_service import GlobalService, GlobalServiceError
from avf.virtmgr.requester import Requester
from avf.virtmgr.table import VmTable

if TYPE_CHECKING:
    from avf.virtmgr.pool import Pool

_TO_CREATE = (
    *("msgspec", "avf.disk", "avf.apk", "avf.vmm", "avf.policy"),
    *("avf.virtmgr.app_config", "avf.virtmgr.machine", "avf.virtmgr.create"),
    *("avf.virtmgr.files", "avf.virtmgr.invocation", "avf.virtmgr.virtual_machine"),
    "avf.virtmgr.vmms",
)
"""In pieces, none of which takes long to import."""

log = logging.getLogger(__name__)


class VirtualizationService(IVirtualizationService):
    """The root object. The caller is our parent, and we have its rights."""

    def __init__(self, global_service: GlobalService, atoms: AtomSender) -> None:
        self._global_service = global_service
        self._atoms = atoms
        self._machines = VmTable()
        self._parent = os.getppid()
        self._pool: Pool | None = None
        self._pool_lock = threading.Lock()
        self._is_ending = False

    def load(self) -> None:
        """Imports what creating a VM takes, ahead of the first call that needs it, until all is to end."""
        for name in _TO_CREATE:
            if not self._is_ending:
                import_module(name)

    def create_vm(
        self,
        config: VirtualMachineConfig,
        console_fd: ParcelFileDescriptor | None,
        os_log_fd: ParcelFileDescriptor | None,
    ) -> IVirtualMachine:
        return self.create_vm_with_input(config, console_fd, None, os_log_fd)

    def create_vm_with_input(
        self,
        config: VirtualMachineConfig,
        console_out_fd: ParcelFileDescriptor | None,
        console_in_fd: ParcelFileDescriptor | None,
        os_log_fd: ParcelFileDescriptor | None,
    ) -> IVirtualMachine:
        return self._create_vm(config, console_out_fd, console_in_fd, os_log_fd, None)

    def create_vm_with_invocation(
        self,
        config: VirtualMachineConfig,
        console_out_fd: ParcelFileDescriptor | None,
        console_in_fd: ParcelFileDescriptor | None,
        os_log_fd: ParcelFileDescriptor | None,
        invocation: PayloadInvocation,
    ) -> IVirtualMachine:
        return self._create_vm(config, console_out_fd, console_in_fd, os_log_fd, invocation)

    def _create_vm(
        self,
        config: VirtualMachineConfig,
        console_out_fd: ParcelFileDescriptor | None,
        console_in_fd: ParcelFileDescriptor | None,
        os_log_fd: ParcelFileDescriptor | None,
        invocation: PayloadInvocation | None,
    ) -> IVirtualMachine:
        from avf.virtmgr.create import VmCreation, creation_atom
        from avf.virtmgr.invocation import Invocation
        from avf.virtmgr.virtual_machine import VirtualMachine
        from avf.virtmgr.vmms import choose_vmm

        creation = VmCreation(
            self._global_service, self._machines, choose_vmm(), self._atoms, self._pool
        )
        requester = Requester(os.getuid(), self._parent)
        error: RemoteException | None = None
        try:
            called = None if invocation is None else Invocation.from_aidl(invocation, config)
            machine = creation.run(
                config, console_out_fd, console_in_fd, os_log_fd, requester, called
            )
        except RemoteException as e:
            error = e
            raise
        finally:
            atom = creation_atom(config, creation.is_protected, requester.uid, error)
            self._atoms.send(lambda service: service.atom_vm_creation_requested(atom))
        return VirtualMachine(machine, self._machines)

    def keep_clones_waiting(self, request: PoolRequest) -> None:
        from avf.virtmgr.pooling import create_pool, resize_pool

        with self._pool_lock:
            if self._pool is None:
                self._pool = create_pool(self._global_service, self._machines, self._parent)
        resize_pool(self._pool, self._global_service, request)

    def get_pool_status(self) -> PoolStatus:
        pool = self._pool
        return PoolStatus(is_settled=True) if pool is None else pool.status()

    def close(self) -> None:
        """Ends the VMs that are still there, and the clones that wait."""
        if self._pool is not None:
            self._pool.close()
        for machine in self._machines.all():
            if self._machines.remove(machine):
                machine.release()

    def kill_all(self) -> None:
        """Kills all VMs at once, and the clones that wait, without waiting for any."""
        self._is_ending = True
        if self._pool is not None:
            self._pool.kill_all()
        for machine in self._machines.all():
            machine.kill()

    def initialize_writable_partition(
        self, image_fd: ParcelFileDescriptor, size_bytes: int, type: PartitionType
    ) -> None:
        from avf.virtmgr.files import initialize_writable_partition

        initialize_writable_partition(self._global_service, image_fd, size_bytes, type)

    def create_or_update_idsig_file(
        self, input_fd: ParcelFileDescriptor, idsig_fd: ParcelFileDescriptor
    ) -> None:
        from avf.virtmgr.files import create_or_update_idsig_file

        create_or_update_idsig_file(self._global_service, input_fd, idsig_fd)

    def forget_instance(self, instance_image: ParcelFileDescriptor) -> None:
        from avf.virtmgr.files import forget_instance

        forget_instance(self._global_service, instance_image)

    def debug_list_vms(self) -> list[VirtualMachineDebugInfo]:
        try:
            return self._global_service.call(lambda service: service.debug_list_vms())
        except (GlobalServiceError, OSError) as e:
            raise failure_from(e) from e

    def dump(self, fd: int, args: list[str]) -> None:
        from avf.policy import Permission
        from avf.virtmgr.permissions import allowed

        if not allowed(self._global_service, Permission.DUMP):
            raise StatusError(Status.PERMISSION_DENIED)
        machines = self._machines.all()
        text = f"Running {len(machines)} VMs:\n"
        for machine in machines:
            text += (
                f"VM CID: {machine.cid}\n"
                f"\tState: {machine.vm_state}\n"
                f"\tPayload state {machine.payload_state.title}\n"
                f"\tProtected: {'true' if machine.protected else 'false'}\n"
                f"\ttemporary_directory: {machine.context.temporary_directory}\n"
                f"\trequester_uid: {machine.requester.uid}\n"
                f"\trequester_debug_pid: {machine.requester.pid}\n"
            )
        try:
            with open(fd, "w", closefd=False) as file:
                file.write(text)
        except OSError as e:
            raise StatusError(Status.UNKNOWN_ERROR) from e
