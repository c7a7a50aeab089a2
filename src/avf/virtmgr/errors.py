"""How failures are told to the caller: as AVF does, service-specific error -1 with the chain of causes as text."""

from avf.binder import RemoteException

SERVICE_SPECIFIC = -1


class VirtmgrError(Exception):
    """Something the caller is told of; causes are chained."""


def failure(message: str) -> RemoteException:
    """The exception a binder handler raises."""
    return RemoteException.service_specific_error(SERVICE_SPECIFIC, message)


def full_chain(error: BaseException) -> str:
    """The error and all its causes, in the layout of Rust's anyhow."""
    causes = []
    cause = error.__cause__
    while cause is not None:
        causes.append(describe(cause))
        cause = cause.__cause__
    if not causes:
        return describe(error)
    if len(causes) > 1:
        causes = [f"{i}: {text}" for i, text in enumerate(causes)]
    return f"{describe(error)}\n\nCaused by:\n" + "\n".join(f"    {text}" for text in causes)


def describe(error: BaseException) -> str:
    """One error's own words."""
    if isinstance(error, OSError) and error.strerror:
        where = f" {error.filename}" if error.filename else ""
        return f"{error.strerror}{where} (os error {error.errno})"
    return str(error) or type(error).__name__
