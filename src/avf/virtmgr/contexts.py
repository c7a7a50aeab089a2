"""Makes contexts of VMs: what a VM holds on its host, with the service that its guest calls."""

import errno
import logging

from avf.binder import BinderError, RemoteException
from avf.virtmgr.context import VmContext
from avf.virtmgr.errors import failure, failure_from
from avf.virtmgr.generations import InstanceGenerations
from avf.virtmgr.global_service import GlobalService, GlobalServiceError
from avf.virtmgr.notifications import VirtualMachineService
from avf.virtmgr.table import VmTable

CONTEXT_ATTEMPTS = 5

log = logging.getLogger(__name__)


def create_context(
    global_service: GlobalService,
    machines: VmTable,
    requester_pid: int,
    *,
    is_app: bool,
    in_user_space: bool = False,
) -> VmContext:
    """A new one. `is_app`: the VM has an instance; `in_user_space`: its vsock is. Raises RemoteException."""
    generations = InstanceGenerations(global_service) if is_app else None
    for _ in range(CONTEXT_ATTEMPTS):
        context = _allocate(global_service, requester_pid, in_user_space)
        try:
            context.serve(VirtualMachineService(machines, context.cid, generations))
        except BaseException as e:
            context.close()
            if isinstance(e, OSError) and e.errno == errno.EADDRINUSE:
                log.warning("Could not start RpcServer on port %d: %s", context.cid, e)
                continue
            if isinstance(e, OSError | RuntimeError):
                raise failure_from(
                    e,
                    f"Failed to create VM context: no RpcServer on port {context.cid} in"
                    f" {context.temporary_directory}: ",
                ) from e
            raise
        return context
    raise failure("Too many attempts to create VM context failed.")


def _allocate(global_service: GlobalService, requester_pid: int, in_user_space: bool) -> VmContext:
    try:
        return global_service.call(
            lambda service: VmContext(
                service.allocate_global_vm_context(requester_pid), in_user_space=in_user_space
            ),
            discard=VmContext.close,
        )
    except RemoteException:
        raise
    except (GlobalServiceError, BinderError, OSError) as e:
        raise failure_from(e, "Failed to create VM context: ") from e
