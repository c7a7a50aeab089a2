"""AIDL methods: how the arguments and the result of one are written and read."""

from collections.abc import Callable
from typing import Any, Protocol

from .codec import Codec, Reader, Writer
from .codecs import codec_for
from .errors import ExceptionCode, RemoteException, Status, StatusError
from .fields import resolve
from .objects import IBinder
from .parcel import Parcel, ParcelReader, misfit, refused
from .shapes import FixedReply, FixedRequest, Shape, runs
from .wire import META_CODES

_MAX_TOKEN = 2000
"""Bytes of an interface token that are packed together with arguments."""
_HAS_REPLY_HEADER = -128


class Declared(Protocol):
    """What a method needs to know of its interface."""

    name: str
    module: str
    token: bytes


class Method:
    """One AIDL method with its codecs."""

    __slots__ = (
        "_pieces",
        "all_of",
        "any_of",
        "arguments",
        "attribute",
        "code",
        "fixed_reply",
        "fixed_request",
        "function",
        "name",
        "oneway",
        "readers",
        "result",
        "token",
        "writers",
    )

    def __init__(self, contract: Declared, function: Any) -> None:
        self.name = f"{contract.name}.{function.__name__}"
        self.attribute: str = function.__name__
        self.function = function
        self.code: int = function._binder_code
        self.oneway: bool = function._binder_oneway
        self.all_of, self.any_of = function._binder_demand
        self.token = contract.token
        variables = function.__code__.co_varnames[1 : function.__code__.co_argcount]
        self.arguments: tuple[str, ...] = variables
        hints = function.__annotations__
        codecs = [_codec(hints, name, self.name, contract.module) for name in variables]
        self.writers: list[Writer] = [codec.write for codec in codecs]
        self.readers: list[Reader] = [codec.read for codec in codecs]
        self._pieces = _pieces(codecs)
        self.result: Codec | None = None
        if hints.get("return") not in (None, "None"):
            self.result = _codec(hints, "return", self.name, contract.module)
        if self.oneway and self.result is not None:
            raise TypeError(f"{self.name}: a oneway method returns nothing")
        self.fixed_request = self._fixed_request(codecs)
        """For arguments that always take as much room as these; else None."""
        self.fixed_reply = self._fixed_reply()
        """The same for the result."""

    def _fixed_request(self, codecs: list[Codec]) -> FixedRequest | None:
        parts = [codec.fixed for codec in codecs if codec.fixed is not None]
        if self.oneway or len(parts) < len(codecs) or len(self.token) > _MAX_TOKEN:
            return None
        return FixedRequest(self.code, self.token, parts)

    def _fixed_reply(self) -> FixedReply | None:
        if self.result is None:
            return FixedReply([])
        return None if self.result.fixed is None else FixedReply([self.result.fixed])

    def of(self, target: IBinder) -> Callable[..., Any]:
        """A local object's implementation, for a peer's call.

        Raises UNKNOWN_TRANSACTION if it has none but the interface's own, RemoteException (SECURITY) if the caller
        lacks a permission.

        What the interface says of itself, its version and its hash, it says for its objects, too.
        """
        bound: Callable[..., Any] = getattr(target, self.attribute)
        if self.code in META_CODES:
            return bound
        if getattr(bound, "__func__", None) is self.function:
            raise StatusError(Status.UNKNOWN_TRANSACTION, f"{self.name} is not implemented")
        if self.all_of or self.any_of:
            self.check_permission(target)
        return bound

    def check_permission(self, target: Any) -> None:
        """Raises RemoteException (SECURITY) if the caller lacks a permission that the method demands."""
        has = target.has_permission
        for name in self.all_of:
            if has(name) is not True:
                raise RemoteException.security(f"{self.name}: access denied, requires {name}")
        if self.any_of and not any(has(name) is True for name in self.any_of):
            names = ", ".join(self.any_of)
            raise RemoteException.security(f"{self.name}: access denied, requires one of {names}")

    def bind(self, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        """Positional arguments from positional and named ones."""
        rest = self.arguments[len(args) :]
        if set(rest) != set(named) or len(args) > len(self.arguments):
            raise self._wrong_arguments(args, named)
        return args + tuple(named[name] for name in rest)

    def _wrong_arguments(self, args: tuple[Any, ...], named: dict[str, Any]) -> TypeError:
        given = {*self.arguments[: len(args)], *named}
        wrong = [f"{name} is missing" for name in self.arguments if name not in given]
        wrong += [f"there is no {name}" for name in named if name not in self.arguments]
        wrong += [f"{name} is given twice" for name in self.arguments[: len(args)] if name in named]
        if (more := len(args) - len(self.arguments)) > 0:
            wrong.append(f"{more} too many")
        return TypeError(f"{self.name} takes ({', '.join(self.arguments)}): {', '.join(wrong)}")

    def write_arguments(self, parcel: Parcel, args: tuple[Any, ...]) -> None:
        """Raises TypeError or ValueError naming the argument."""
        writers = self.writers
        if len(args) != len(writers):
            raise self._wrong_arguments(args, {})
        parcel.data += self.token
        if self._pieces is None:
            self._write_each(parcel, args, 0, len(args))
            return
        for start, stop, shape in self._pieces:
            packed = None if shape is None else shape.packed(args[start:stop])
            if packed is None:
                self._write_each(parcel, args, start, stop)
            else:
                parcel.data += packed

    def _write_each(self, parcel: Parcel, args: tuple[Any, ...], index: int, stop: int) -> None:
        writers = self.writers
        try:
            while index < stop:
                writers[index](parcel, args[index])
                index += 1
        except (StatusError, OSError):
            raise
        except Exception as error:
            raise misfit(error, f"{self.name}: {self.arguments[index]}") from error

    def read_arguments(self, reader: ParcelReader) -> list[Any]:
        """Checks the interface token and reads what follows. Raises StatusError or RemoteException."""
        token = self.token
        start = reader.pos
        if reader.buf[start : start + len(token)] != token:
            raise StatusError(Status.BAD_TYPE, f"{self.name}: wrong interface token")
        reader.pos = start + len(token)
        try:
            args = self._read_values(reader)
        except Exception as error:
            if isinstance(error, StatusError) and error.status == Status.UNEXPECTED_NULL:
                raise RemoteException(ExceptionCode.NULL_POINTER) from None
            raise refused(error, self.name) from error
        if reader.pos != reader.end:
            unread = reader.end - reader.pos
            raise RemoteException.bad_parcelable(
                f"Parcel data not fully consumed, unread size: {unread}"
            )
        return args

    def _read_values(self, reader: ParcelReader) -> list[Any]:
        if self._pieces is None:
            return [read(reader) for read in self.readers]
        args: list[Any] = []
        for start, stop, shape in self._pieces:
            if shape is None:
                args += [read(reader) for read in self.readers[start:stop]]
            else:
                args += shape.unpacked(reader.buf, reader.pos)
                reader.pos += shape.size
        return args

    def write_result(self, parcel: Parcel, value: Any) -> None:
        """The status header of success and the result. Raises TypeError, ValueError or StatusError."""
        parcel.data += b"\0\0\0\0"
        if self.result is not None:
            try:
                self.result.write(parcel, value)
            except (StatusError, OSError):
                raise
            except Exception as error:
                raise misfit(error, f"{self.name}: result") from error

    def read_result(self, reader: ParcelReader) -> Any:
        """Reads the status header and the result. Raises RemoteException or StatusError."""
        try:
            code = reader.read_int()
            if code:
                _read_exception(reader, code)
            return None if self.result is None else self.result.read(reader)
        except RemoteException as error:
            if error.code == ExceptionCode.NULL_POINTER and not error.message:
                error = RemoteException(error.code, self._about_null())
            raise error from None
        except Exception as error:
            raise refused(error, f"{self.name}: result") from error

    def _about_null(self) -> str:
        """What a server of libbinder's means by a null pointer, which says no more."""
        names = ", ".join(self.arguments)
        return f"{self.name}: None was given, in ({names}), for an object that is not nullable"


def _pieces(codecs: list[Codec]) -> list[tuple[int, int, Shape | None]] | None:
    """The arguments in pieces, with the shape of those of several of fixed size; None if there is no such piece."""
    made: list[tuple[int, int, Shape | None]] = []
    for start, stop in runs([codec.fixed for codec in codecs]):
        parts = [codec.fixed for codec in codecs[start:stop] if codec.fixed is not None]
        made.append((start, stop, Shape(parts) if len(parts) > 1 else None))
    return made if any(shape is not None for _, _, shape in made) else None


def _codec(hints: dict[str, Any], name: str, where: str, module: str) -> Codec:
    if name not in hints:
        raise TypeError(f"{where}: {name} has no annotation")
    try:
        return codec_for(resolve(hints[name], module))
    except (TypeError, NameError) as error:
        raise TypeError(f"{where}, {name}: {error}") from error


def write_exception(parcel: Parcel, error: RemoteException) -> None:
    parcel.write_int(error.code)
    parcel.write_string(error.message)
    parcel.write_int(0)
    if error.code == ExceptionCode.SERVICE_SPECIFIC:
        parcel.write_int(error.service_specific)
    elif error.code == ExceptionCode.PARCELABLE:
        parcel.write_int(0)


def _read_exception(reader: ParcelReader, code: int) -> None:
    """Raises what a status header with a code other than 0 says, or skips a reply header."""
    if code == _HAS_REPLY_HEADER:
        _skip(reader)
        return
    message = reader.read_string() or ""
    if reader.read_int():
        reader.pos -= 4
        _skip(reader)
    service_specific = 0
    if code == ExceptionCode.SERVICE_SPECIFIC:
        service_specific = reader.read_int()
    raise RemoteException(code, message, service_specific)


def _skip(reader: ParcelReader) -> None:
    """Jumps over a header that begins with its own size."""
    start = reader.pos
    size = reader.read_int()
    if size < 4 or start + size > reader.end:
        raise StatusError(Status.BAD_VALUE, f"status header of {size} bytes")
    reader.pos = start + size
