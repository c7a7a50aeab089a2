"""What the user of this virtmgr may do."""

import os

from avf.binder import BinderError, RemoteException, Status, StatusError
from avf.policy import Permission, denial
from avf.virtmgr.errors import failure_from
from avf.virtmgr.global_service import GlobalService, GlobalServiceError


def allowed(global_service: GlobalService, permission: Permission) -> bool:
    """What virtualizationservice says, which alone knows its policy. Raises RemoteException if it cannot be asked."""
    try:
        return global_service.call(lambda service: service.is_granted(permission.value))
    except RemoteException:
        raise
    except StatusError as e:
        if e.status != Status.UNKNOWN_TRANSACTION:
            raise failure_from(e, "Failed to check permission: ") from e
        return _allowed_by_file(global_service, permission)
    except (GlobalServiceError, BinderError, OSError) as e:
        raise failure_from(e, "Failed to check permission: ") from e


def _allowed_by_file(global_service: GlobalService, permission: Permission) -> bool:
    """For a service that is older than this virtmgr."""
    try:
        return global_service.policy().allows(permission, os.getuid())
    except (GlobalServiceError, BinderError, OSError) as e:
        raise failure_from(e, "Failed to check permission: ") from e


def require(global_service: GlobalService, permission: Permission) -> None:
    """Raises RemoteException (SECURITY) unless it is allowed."""
    if not allowed(global_service, permission):
        raise RemoteException.security(denial(permission))


def require_custom(global_service: GlobalService) -> None:
    """What a custom VM takes, before it costs a CID. Raises RemoteException as AVF does: the lack of MANAGE first."""
    if not allowed(global_service, Permission.USE_CUSTOM_VIRTUAL_MACHINE):
        require(global_service, Permission.MANAGE_VIRTUAL_MACHINE)
        raise RemoteException.security(denial(Permission.USE_CUSTOM_VIRTUAL_MACHINE))
