"""What can go wrong on the client's side of AVF.

ClientError              `remedy` says what to do, where that is known
 +-- ConfigError          a configuration or a setting is wrong; the message names the field or the variable
 +-- Refused              the service refused a call; also a RemoteException, with its `code` and `message`
 +-- ServiceError         the connection to this client's virtmgr
 |    +-- ServiceStartError   virtmgr could not be started or did not come up
 |    +-- ServiceDied         virtmgr is gone, and every VM with it
 +-- VmClosed             this handle was closed
 +-- VmStateError         a stored VM is not in the state that the call needs: stopped, new, not deleted
 +-- NoSuchVm             no VM has this CID, or it is another user's
 +-- VmGone               the VM ended before it could answer; also a DeadObjectError
 +-- ShellFailed          something inside the guest failed: a command could not start, a file could not be copied
 +-- CommandFailed        a command inside the guest ended with another exit status than 0, which was not allowed
 +-- WaitError            a VM did not become ready; `error` is what its guest reported, `report` how it died
      +-- TimedOut
      +-- Died            `reason` says why
      +-- Finished        its payload ended or failed without ever being ready
"""

from avf.aidl.vm_control import Refusal
from avf.binder import DeadObjectError, ExceptionCode, RemoteException
from avf.client.events import DeathReason, PayloadError
from avf.client.remedies import remedy_for
from avf.client.report import DeathReport


class ClientError(Exception):
    """Base of all errors of this package."""

    @property
    def remedy(self) -> str:
        """What to do about it, in words; empty if that depends."""
        return remedy_for(str(self))


class ConfigError(ClientError):
    """A configuration or a setting is wrong."""


class Refused(ClientError, RemoteException):
    """The service refused a call. `message` has all causes; `problem` and `causes` are its parts."""

    @classmethod
    def of(cls, error: RemoteException) -> "Refused":
        """The same with a better base; shows as if it was raised where `error` was."""
        refused = cls(error.code, error.message, error.service_specific)
        if remedy := refused.remedy:
            refused.add_note(f"Try: {remedy}")
        return refused

    @property
    def refusal(self) -> Refusal:
        """The named code of a service-specific error; FAILED for every other one and for codes nobody knows."""
        if self.code is not ExceptionCode.SERVICE_SPECIFIC:
            return Refusal.FAILED
        return Refusal(self.service_specific) if self.service_specific in _CODES else Refusal.FAILED

    @property
    def problem(self) -> str:
        """What failed."""
        return split_message(self.message)[0]

    @property
    def causes(self) -> tuple[str, ...]:
        """Why, outermost first."""
        return split_message(self.message)[1]

    @property
    def remedy(self) -> str:
        """What to do about it, in words; empty if that depends."""
        if self.code is ExceptionCode.SECURITY:
            return "`vm doctor` shows which permissions you have, and where they are granted"
        return remedy_for(self.message)

    def __str__(self) -> str:
        name = self.code.name
        if self.refusal is not Refusal.FAILED:
            name = self.refusal.name
        problem = ": ".join((self.problem, *self.causes))
        return f"{name}: {problem}" if problem else name


_CODES = frozenset(member.value for member in Refusal)
_CAUSED_BY = "\n\nCaused by:\n"


def split_message(message: str) -> tuple[str, tuple[str, ...]]:
    """What failed and why, of a message with "Caused by:" as virtmgr writes it."""
    problem, _, rest = message.partition(_CAUSED_BY)
    causes = []
    for number, line in enumerate(rest.splitlines()):
        causes.append(line.strip().removeprefix(f"{number}: "))
    return problem, tuple(causes)


class ServiceError(ClientError):
    """The connection to virtmgr; `stderr_tail` is the last of what it said."""

    def __init__(self, message: str, stderr_tail: str = "") -> None:
        said = warnings_in(stderr_tail)
        super().__init__(f"{message}; it said:\n{said}" if said else message)
        self.stderr_tail = stderr_tail

    @property
    def remedy(self) -> str:
        """What to do about it, in words."""
        return remedy_for(str(self)) or "`vm doctor` checks what this host lacks"


def warnings_in(log: str) -> str:
    """virtmgr's log without the lines of everyday life."""
    return "\n".join(
        line
        for line in log.splitlines()
        if not line.startswith(("virtmgr: INFO:", "virtmgr: DEBUG:"))
    )


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


class VmGone(ClientError, DeadObjectError):
    """The VM ended before it could answer."""

    remedy = ""

    def __str__(self) -> str:
        return self.text


class ShellFailed(ClientError):
    """Something that was asked of a guest's shell service failed.

    `status` is what a shell would exit with: 127 if there is no such command, 126 if it cannot be run, else 1.
    """

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


class CommandFailed(ClientError):
    """A command in a guest ended with another exit status than 0; `returncode` is -N if signal N ended it."""

    def __init__(self, command: tuple[str, ...], returncode: int, stderr: bytes) -> None:
        how = f"exit status {returncode}" if returncode >= 0 else f"signal {-returncode}"
        super().__init__(f"the command {' '.join(command)} in the guest ended with {how}")
        self.command = command
        self.returncode = returncode
        self.stderr = stderr


class WaitError(ClientError):
    """The VM did not become ready."""

    def __init__(self, message: str, error: PayloadError | None = None) -> None:
        super().__init__(f"{message} {error.code}: {error.message}" if error else message)
        self.error = error
        """What the guest reported: a code and a message. None if it reported nothing."""
        self.report: DeathReport | None = None
        """How the VM died. None if it has not, or if that is not known."""

    @property
    def remedy(self) -> str:
        """What to do about it, in words; empty if that depends."""
        return self.error.remedy if self.error is not None else ""


class TimedOut(WaitError):
    """The time was over."""

    def __init__(self) -> None:
        super().__init__("Timed out waiting for VM.")


class Died(WaitError):
    """The VM died."""

    def __init__(self, reason: DeathReason, error: PayloadError | None = None) -> None:
        super().__init__(f"VM died. ({reason})", error)
        self.reason = reason


class Finished(WaitError):
    """The payload ended, or could not be run, without ever being ready."""

    def __init__(self, exit_code: int | None = None, error: PayloadError | None = None) -> None:
        exited = "" if exit_code is None else f" (exit code {exit_code})"
        super().__init__(f"VM payload finished.{exited}", error)
        self.exit_code = exit_code
        """Of the payload; None if it did not exit by itself."""
