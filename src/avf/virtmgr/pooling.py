"""The pool of one client: made when it is asked for, and resized on request."""

from avf import settings
from avf.aidl.vm_control import PoolRequest
from avf.binder import RemoteException
from avf.policy import Permission
from avf.virtmgr.clone_maker import CloneMaker
from avf.virtmgr.contexts import create_context
from avf.virtmgr.errors import failure_from
from avf.virtmgr.global_service import GlobalService
from avf.virtmgr.kind import kind_of_request
from avf.virtmgr.permissions import require
from avf.virtmgr.pool import Pool
from avf.virtmgr.table import VmTable
from avf.virtmgr.vmms import choose_vmm
from avf.virtmgr.warm import template_stores


def create_pool(global_service: GlobalService, machines: VmTable, requester_pid: int) -> Pool:
    """One without any clones yet, for the client whose VMs are in `machines`. Raises SettingError."""
    maker = CloneMaker(
        choose_vmm(),
        template_stores(),
        lambda: create_context(global_service, machines, requester_pid, is_app=True),
    )
    return Pool(maker, lambda: any(machine.is_starting for machine in machines.all()))


def resize_pool(pool: Pool, global_service: GlobalService, request: PoolRequest) -> None:
    """Raises RemoteException."""
    require(global_service, Permission.MANAGE_VIRTUAL_MACHINE)
    if settings.warm() == "off":
        raise RemoteException.unsupported_operation("AVF_WARM is off: no clones are made")
    try:
        pool.resize(request.count, kind_of_request(request))
    except ValueError as e:
        raise RemoteException.illegal_argument(str(e)) from None
    except RuntimeError as e:  # no thread can be started
        raise failure_from(e, "Failed to keep clones: ") from e
