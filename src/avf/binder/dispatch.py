"""How a call that came is run."""

from collections.abc import Callable
from typing import Any

from . import predefined, raw, wire
from .contract import Contract
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
from .methods import Method, write_exception
from .objects import IBinder, Node, abandon
from .parcel import Parcel, ParcelReader
from .session import Frame, SessionCore
from .transaction import Transaction

_TRANSACT_HEAD = wire.TRANSACT_FRAME.size
_unpack_transact = wire.TRANSACT_FRAME.unpack_from


class PlainCall:
    """A sync call of a method of ours that came in a frame without an object table, as most calls do.

    It is served with less ado than others, and means the same.
    """

    __slots__ = ("_frame", "_method", "_node", "_target")

    def __init__(self, node: Node, target: IBinder, method: Method, frame: bytes) -> None:
        self._node = node
        self._target = target
        self._method = method
        self._frame = frame

    def answer(self, core: SessionCore) -> bytes | bytearray | Frame:
        """Runs the call; what is to be sent. Never raises."""
        method = self._method
        reply = None
        try:
            implementation = _implementation(core, method, self._target)
            request = method.fixed_request
            args = None if request is None else request.arguments(self._frame)
            if args is None:
                args = method.read_arguments(ParcelReader(self._frame, _TRANSACT_HEAD, core))
            try:
                result = implementation(*args)
            except BinderError:
                raise
            except BaseException as error:  # noqa: BLE001 - a method may raise anything; its thread goes on
                _tell(core, error)
                raise answer_to(error, method.name) from None
            if method.fixed_reply is not None:
                values = () if method.result is None else (result,)
                data = core.finish_fixed(self._node, method.fixed_reply, values)
                if data is not None:
                    return data
            reply = core.reply_parcel()
            _write_result(core, method, reply, result)
            outcome: Parcel | StatusError = reply
        except BaseException as error:  # noqa: BLE001 - what is no method may raise anything, too
            outcome = _failed(core, error, reply)
        plain = core.finish_plain(self._node, outcome) if isinstance(outcome, Parcel) else None
        return plain or core.finish(self._node, outcome)


def _implementation(core: SessionCore, method: Method, target: IBinder) -> Callable[..., Any]:
    """What runs for a call. Raises StatusError, RemoteException."""
    try:
        return method.of(target)
    except BinderError:
        raise
    except BaseException as error:  # noqa: BLE001 - a check that fails allows nothing
        _tell(core, error)
        text = f"{method.name}: access denied, its check failed; the server's log has more"
        raise RemoteException.security(text) from None


def plain_call(core: SessionCore, frame: bytes) -> PlainCall | None:
    """The call in a frame, now counted as received; None, and nothing is done, for any other frame."""
    if len(frame) < _TRANSACT_HEAD:
        return None
    command, body, address, code, flags, _, size = _unpack_transact(frame)
    if command or flags or body != wire.TRANSACT_SIZE + size or len(frame) != _TRANSACT_HEAD + size:
        return None
    node = core.table.nodes.get(address)
    target = None if node is None else node.local
    if target is None or target._contract is None or isinstance(target, raw.RawService):
        return None
    method = target._contract.methods().get(code)
    if method is None or method.oneway:
        return None
    node = core.receive_plain(address, target)
    return None if node is None else PlainCall(node, target, method, frame)


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
    except BaseException as error:  # noqa: BLE001 - what is no method may raise anything, too
        failure = _failed(core, error, reply)
    finally:
        call.reader.close()
        call.reader.close_taken(reply.descriptors)
    return failure


def _failed(core: SessionCore, error: BaseException, reply: Parcel | None) -> Parcel | StatusError:
    """The outcome of a call that failed, in place of the reply that was begun."""
    if reply is not None:
        reply.discard()
        reply.close_descriptors()
    if isinstance(error, RemoteException):
        other = core.reply_parcel()
        write_exception(other, with_causes(error))
        return other
    if isinstance(error, StatusError):
        # A new one: kept with its traceback, it would be a cycle that keeps the method's variables.
        return StatusError(error.status, error.text)
    _tell(core, error)
    return StatusError(Status.UNKNOWN_ERROR, repr(error))


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
    implementation = _implementation(core, method, target)
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
        _write_result(core, method, reply, result)


def _write_result(core: SessionCore, method: Method, reply: Parcel, result: object) -> None:
    try:
        method.write_result(reply, result)
    except StatusError:
        abandon(result)
        raise
    except BaseException as error:  # noqa: BLE001 - a result may raise anything when it is read
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
