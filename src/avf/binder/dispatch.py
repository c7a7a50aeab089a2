"""How a call that came is run."""

from . import predefined, raw, wire
from .contract import Contract, write_exception
from .errors import (
    BinderError,
    RemoteException,
    Status,
    StatusError,
    answer_to,
    failure_of,
    report,
    with_causes,
)
from .objects import IBinder, abandon
from .parcel import Parcel, ParcelReader
from .session import SessionCore
from .transaction import Transaction


def execute(core: SessionCore, call: Transaction) -> Parcel | StatusError:
    """Runs a call; its reply, or the status it failed with. Never raises."""
    reply = core.reply_parcel()
    try:
        if call.refusal is not None:
            return call.refusal
        if call.target is None:
            _special(core, call.code, reply)
        else:
            _dispatch(core, call.target, call.code, call.reader, reply)
        return reply
    except StatusError as error:
        # A new one: kept with its traceback, it would be a cycle that keeps the method's variables.
        failure = StatusError(error.status, error.text)
    except RemoteException as error:
        return _exception_reply(core, reply, error)
    except BaseException as error:  # noqa: BLE001 - what is no method may raise anything, too
        _tell(core, error)
        failure = StatusError(Status.UNKNOWN_ERROR, repr(error))
    finally:
        call.reader.close()
        call.reader.close_taken(reply.descriptors)
    reply.discard()
    reply.close_descriptors()
    return failure


def _exception_reply(core: SessionCore, reply: Parcel, error: RemoteException) -> Parcel:
    reply.discard()
    reply.close_descriptors()
    other = core.reply_parcel()
    write_exception(other, with_causes(error))
    return other


def _dispatch(
    core: "SessionCore", target: IBinder, code: int, reader: ParcelReader, reply: Parcel
) -> None:
    if isinstance(target, raw.RawService) and 1 <= code <= wire.MAX_USER_CODE:
        raw.serve(target, code, reader, reply)
        return
    contract: Contract | None = target._contract
    method = contract.methods().get(code) if contract is not None else None
    if method is None:
        predefined.serve(target, code, reader, reply)
        return
    implementation = method.of(target)
    args = method.read_arguments(reader)
    reader.close_untaken()
    try:
        result = implementation(*args)
    except BinderError:
        raise
    except BaseException as error:  # noqa: BLE001 - a method may raise anything; its thread goes on
        _tell(core, error)
        raise answer_to(error, method.name) from None
    if not method.oneway:
        try:
            method.write_result(reply, result)
        except StatusError:
            abandon(result)
            raise
        except BaseException as error:  # noqa: BLE001 - likewise
            abandon(result)
            _tell(core, error)
            raise failure_of(error, method.name) from None


def _tell(core: "SessionCore", error: BaseException) -> None:
    """The traceback is the server's; what goes to the caller is the message at most."""
    if core.account.may_report():
        report(error)


def _special(core: SessionCore, code: int, reply: Parcel) -> None:
    if code == wire.SPECIAL_GET_MAX_THREADS:
        reply.write_int(core.max_threads)
    elif code == wire.SPECIAL_GET_SESSION_ID:
        reply.write_bytes(core.session_id)
    elif not core.table.server:
        return
    elif code == wire.SPECIAL_GET_ROOT:
        reply.write_binder(core.root() if core.root is not None else None)
    else:
        raise StatusError(Status.UNKNOWN_TRANSACTION, f"special transaction {code}")
