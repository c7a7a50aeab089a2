"""How failures are told to the caller: as AVF does, a service-specific error with the chain of causes as text."""

from avf.aidl.vm_control import Refusal
from avf.binder import RemoteException
from avf.causes import chain

MAX_MESSAGE = 4096
"""Characters of what a caller is told."""


class VirtmgrError(Exception):
    """Something the caller is told of; causes are chained."""

    def __init__(self, message: str, refusal: Refusal = Refusal.FAILED) -> None:
        super().__init__(message)
        self.refusal = refusal


def failure(message: str, refusal: Refusal = Refusal.FAILED) -> RemoteException:
    """The exception a binder handler raises. `refusal` becomes its service-specific code."""
    return RemoteException.service_specific_error(int(refusal), message[:MAX_MESSAGE])


def failure_from(error: BaseException, prefix: str = "") -> RemoteException:
    """The same for an error, with its chain of causes and the code of the first of them that has one."""
    return failure(prefix + full_chain(error), _refusal(error))


def full_chain(error: BaseException) -> str:
    """The error and all its causes, in the layout of Rust's anyhow."""
    first, *causes = chain(error)
    if not causes:
        return first
    if len(causes) > 1:
        causes = [f"{i}: {text}" for i, text in enumerate(causes)]
    return f"{first}\n\nCaused by:\n" + "\n".join(f"    {text}" for text in causes)


def in_one_line(error: BaseException) -> str:
    """The error and all its causes, for a log."""
    return ": ".join(chain(error))


def _refusal(error: BaseException | None) -> Refusal:
    while error is not None:
        if isinstance(error, VirtmgrError) and error.refusal != Refusal.FAILED:
            return error.refusal
        error = error.__cause__
    return Refusal.FAILED
