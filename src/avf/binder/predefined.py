"""The transactions every binder answers, whatever its interface."""

import os
from collections.abc import Callable
from contextlib import suppress

from . import wire
from .contract import Contract, Interface, dump_remote
from .errors import (
    BinderError,
    ExceptionCode,
    RemoteException,
    Status,
    StatusError,
    with_causes,
)
from .objects import Handle, IBinder
from .parcel import Parcel, ParcelReader, refused
from .wanted import check_type


def serve(target: IBinder, code: int, reader: ParcelReader, reply: Parcel) -> None:
    """Raises StatusError UNKNOWN_TRANSACTION for other codes."""
    if code in (wire.PING, wire.SHELL):
        return  # as libbinder, which has no shell commands either
    if code == wire.INTERFACE:
        reply.write_string(descriptor(target))
    elif code == wire.EXTENSION:
        reply.write_binder(None)
    elif code == wire.DEBUG_PID:
        reply.write_int(os.getpid())
    elif code == wire.DUMP:
        _serve_dump(target, reader)
    elif code in (wire.SYSPROPS, wire.SET_RPC_CLIENT):
        raise StatusError(Status.INVALID_OPERATION)
    else:
        raise StatusError(Status.UNKNOWN_TRANSACTION, f"code {code:#x}")


def descriptor(target: IBinder) -> str:
    contract: Contract | None = target._contract
    return contract.descriptor if contract is not None else ""


def _serve_dump(target: IBinder, reader: ParcelReader) -> None:
    try:
        fd = reader.read_fd()
        count = reader.read_count(4)
        args = [reader.read_string() or "" for _ in range(count)]
    except BinderError:
        raise
    except Exception as error:
        raise refused(error, "dump") from error
    if isinstance(target, Interface):
        try:
            target.dump(fd.fileno(), args)
        except RemoteException as error:
            raise _failed_dump(error, fd.fileno()) from error


def _failed_dump(error: RemoteException, fd: int) -> StatusError:
    """The answer to a dump is a status alone, so the words go where the dump would have gone."""
    with suppress(OSError):
        os.write(fd, f"{with_causes(error)}\n".encode(errors="replace"))
    status = _DUMP_STATUS.get(error.code, Status.UNKNOWN_ERROR)
    return StatusError(status, f"dump: {error}")


_DUMP_STATUS = {
    ExceptionCode.SECURITY: Status.PERMISSION_DENIED,
    ExceptionCode.ILLEGAL_ARGUMENT: Status.BAD_VALUE,
    ExceptionCode.ILLEGAL_STATE: Status.INVALID_OPERATION,
    ExceptionCode.UNSUPPORTED_OPERATION: Status.INVALID_OPERATION,
}


def _handle(binder: IBinder) -> Handle | None:
    """Of a remote object, None of a local one; TypeError if it is neither."""
    check_type("binder", binder, IBinder)
    return binder._remote


def ping(binder: IBinder) -> None:
    """Asks the object for a sign of life. Raises DeadObjectError."""
    if (handle := _handle(binder)) is not None:
        handle.remote.transact(handle, wire.PING, handle.remote.parcel()).close()


def is_alive(binder: IBinder) -> bool:
    """Whether calls can still reach the object, as far as is known without asking."""
    handle = _handle(binder)
    return handle is None or not (handle.closed or handle.remote.ended)


def remote_descriptor(binder: IBinder) -> str:
    """The descriptor of the interface the object says it has."""
    handle = _handle(binder)
    if handle is None:
        return descriptor(binder)
    reader: ParcelReader = handle.remote.transact(handle, wire.INTERFACE, handle.remote.parcel())
    try:
        return reader.read_string() or ""
    except Exception as error:
        raise refused(error, "descriptor") from error
    finally:
        reader.close()


def dump(binder: IBinder, fd: int, args: list[str]) -> None:
    """Has the object write its state for people to `fd`."""
    if (handle := _handle(binder)) is not None:
        dump_remote(handle, fd, args)
    elif isinstance(binder, Interface):
        binder.dump(fd, args)


def release(proxy: IBinder) -> None:
    """Gives a proxy's reference back now; calls through it fail from now on. Nothing happens for a local object."""
    if (handle := _handle(proxy)) is not None:
        handle.remote.release(handle)


def link_to_death(binder: IBinder, recipient: Callable[[], None]) -> None:
    """Has `recipient` called once when the session ends while a proxy of the object is kept.

    Raises StatusError INVALID_OPERATION for a local object and for a session that nothing listens on (a client's
    without incoming threads), DeadObjectError if the session is over already.
    """
    if not callable(recipient):
        raise TypeError(f"recipient: a function wanted, not {type(recipient).__name__}")
    if (handle := _handle(binder)) is None:
        raise StatusError(Status.INVALID_OPERATION, "a local object does not die")
    handle.remote.link_to_death(handle, recipient)


def unlink_to_death(binder: IBinder, recipient: Callable[[], None]) -> None:
    """Raises StatusError NAME_NOT_FOUND if `recipient` was not linked, or has been called."""
    handle = _handle(binder)
    if handle is None or not handle.remote.unlink_to_death(handle, recipient):
        raise StatusError(Status.NAME_NOT_FOUND, "no such death recipient")
