"""What can go wrong on the client's side of AVF.

ClientError
 +-- ConfigError          a configuration is wrong; the message names the field and, if it came from one, the file
 +-- ServiceError         the connection to this client's virtmgr
 |    +-- ServiceStartError   virtmgr could not be started or did not come up
 |    +-- ServiceDied         virtmgr is gone, and every VM with it
 +-- VmClosed             this handle was closed
 +-- VmStateError         a stored VM is not in the state that the call needs: stopped, new, not deleted
 +-- NoSuchVm             no VM has this CID, or it is another user's
 +-- WaitError            a VM did not become ready
      +-- TimedOut
      +-- Died            `reason` says why
      +-- Finished        its payload ended or failed without ever being ready

What the service itself refuses arrives as `avf.binder.RemoteException`, unchanged.
"""

from avf.client.events import DeathReason


class ClientError(Exception):
    """Base of all errors of this package."""


class ConfigError(ClientError):
    """A configuration is wrong."""


class ServiceError(ClientError):
    """The connection to virtmgr; `stderr_tail` is the last of what it said."""

    def __init__(self, message: str, stderr_tail: str = "") -> None:
        super().__init__(f"{message}; it said:\n{stderr_tail}" if stderr_tail else message)
        self.stderr_tail = stderr_tail


class ServiceStartError(ServiceError):
    """virtmgr could not be started or did not come up."""


class ServiceDied(ServiceError):
    """virtmgr is gone, and every VM with it."""


class VmClosed(ClientError):
    """This VM handle was closed."""


class VmStateError(ClientError):
    """A stored VM is not in the state that the call needs."""


class NoSuchVm(ClientError):
    """No VM has this CID, or it is another user's."""


class WaitError(ClientError):
    """The VM did not become ready."""


class TimedOut(WaitError):
    def __init__(self) -> None:
        super().__init__("Timed out waiting for VM.")


class Died(WaitError):
    def __init__(self, reason: DeathReason) -> None:
        super().__init__(f"VM died. ({reason})")
        self.reason = reason


class Finished(WaitError):
    def __init__(self) -> None:
        super().__init__("VM payload finished.")
