"""What the user of this virtmgr may do."""

import os

from avf.binder import BinderError, RemoteException
from avf.policy import Permission, denial
from avf.virtmgr.errors import failure_from
from avf.virtmgr.global_service import GlobalService, GlobalServiceError


def allowed(global_service: GlobalService, permission: Permission) -> bool:
    """Raises RemoteException if the policy cannot be known."""
    try:
        return global_service.policy().allows(permission, os.getuid())
    except RemoteException:
        raise
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
