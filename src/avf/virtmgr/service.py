"""IVirtualizationService: what a client can ask of its virtmgr."""

import logging
import os

from avf.aidl.virtualizationservice import (
    IVirtualizationService,
    IVirtualMachine,
    PartitionType,
    VirtualMachineConfig,
    VirtualMachineDebugInfo,
)
from avf.aidl.vm_control import PayloadInvocation
from avf.apk import ApkError, create_or_update_idsig
from avf.binder import ParcelFileDescriptor, RemoteException, Status, StatusError
from avf.disk import DiskError, PartitionKind, create_writable_partition
from avf.policy import Permission
from avf.virtmgr.atoms import AtomSender
from avf.virtmgr.create import VmCreation, creation_atom
from avf.virtmgr.errors import VirtmgrError, failure, failure_from
from avf.virtmgr.fds import Fds
from avf.virtmgr.generations import InstanceGenerations
from avf.virtmgr.global_service import GlobalService, GlobalServiceError
from avf.virtmgr.invocation import Invocation
from avf.virtmgr.machine import Requester, VmTable
from avf.virtmgr.opening import require_open, require_writable
from avf.virtmgr.permissions import allowed, require
from avf.virtmgr.virtual_machine import VirtualMachine
from avf.vmm import Vmm

_PARTITION_KINDS = {
    PartitionType.RAW: PartitionKind.RAW,
    PartitionType.ANDROID_VM_INSTANCE: PartitionKind.ANDROID_VM_INSTANCE,
    PartitionType.ENCRYPTEDSTORE: PartitionKind.ENCRYPTEDSTORE,
}

log = logging.getLogger(__name__)


class VirtualizationService(IVirtualizationService):
    """The root object. The caller is our parent, and we have its rights."""

    def __init__(self, global_service: GlobalService, vmm: Vmm, atoms: AtomSender) -> None:
        self._global_service = global_service
        self._vmm = vmm
        self._atoms = atoms
        self._machines = VmTable()
        self._parent = os.getppid()

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
        creation = VmCreation(self._global_service, self._machines, self._vmm, self._atoms)
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

    def close(self) -> None:
        """Ends the VMs that are still there."""
        for machine in self._machines.all():
            if self._machines.remove(machine):
                machine.release()

    def kill_all(self) -> None:
        """Kills all VMs at once, without waiting for any."""
        for machine in self._machines.all():
            machine.kill()

    def initialize_writable_partition(
        self, image_fd: ParcelFileDescriptor, size_bytes: int, type: PartitionType
    ) -> None:
        require(self._global_service, Permission.MANAGE_VIRTUAL_MACHINE)
        if size_bytes < 0:
            raise RemoteException.illegal_argument(
                f"Invalid size {size_bytes}: must not be negative"
            )
        kind = _PARTITION_KINDS.get(type)
        if kind is None:
            raise failure(
                f"Failed to initialize partition as {int(type)}: Unsupported partition type"
            )
        try:
            require_writable(image_fd.fileno(), "image")
            create_writable_partition(image_fd.fileno(), size_bytes, kind)
        except (DiskError, VirtmgrError, OSError) as e:
            raise failure_from(e, f"Failed to initialize partition as {type.name}: ") from e

    def create_or_update_idsig_file(
        self, input_fd: ParcelFileDescriptor, idsig_fd: ParcelFileDescriptor
    ) -> None:
        require(self._global_service, Permission.MANAGE_VIRTUAL_MACHINE)
        try:
            require_open(input_fd.fileno(), "input", "reading")
            create_or_update_idsig(input_fd.fileno(), idsig_fd.fileno())
        except (ApkError, VirtmgrError, OSError) as e:
            raise failure_from(e) from e

    def forget_instance(self, instance_image: ParcelFileDescriptor) -> None:
        from avf.disk import instance_id, open_image

        require(self._global_service, Permission.MANAGE_VIRTUAL_MACHINE)
        files = Fds()
        try:
            with open_image(files.clone_file(instance_image, "instanceImage")) as image:
                identifier = instance_id(image)
        except (DiskError, VirtmgrError, OSError) as e:
            raise failure_from(e, "Failed to read the instance image: ") from e
        finally:
            files.close()
        if identifier is not None:
            InstanceGenerations(self._global_service).forget(identifier)

    def debug_list_vms(self) -> list[VirtualMachineDebugInfo]:
        try:
            return self._global_service.call(lambda service: service.debug_list_vms())
        except (GlobalServiceError, OSError) as e:
            raise failure_from(e) from e

    def dump(self, fd: int, args: list[str]) -> None:
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
