"""AIDL interfaces as Python classes.

    class IEcho(Interface, descriptor="avf.test.IEcho"):
        @method(1)
        def echo(self, text: str) -> str:
            raise NotImplementedError

A server subclasses IEcho and overrides its methods; a proxy is an instance of a generated subclass. Annotations are the
AIDL types (see `codecs`); strings are expressions in the same module, which may name what is defined later. A method
with `out` arguments returns a tuple: its result, if it has one, then those.

A method that is also an `abc.abstractmethod` has to be overridden: a class that leaves one out cannot be instantiated.
"""

from abc import ABCMeta
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, get_args

from .codec import Codec, Reader, Writer
from .codecs import codec_for
from .errors import ExceptionCode, RemoteException, Status, StatusError
from .fields import resolve
from .objects import Handle, IBinder
from .parcel import Parcel, ParcelReader, misfit, refused
from .shapes import FixedReply, FixedRequest, Shape, runs
from .wire import DUMP, MAX_USER_CODE, META_CODES, Stability

_F = TypeVar("_F", bound=Callable[..., Any])
_I_co = TypeVar("_I_co", bound="Interface", covariant=True)

if TYPE_CHECKING:

    class _InterfaceType(ABCMeta):
        """Tells type checkers that there are abstract methods."""
else:
    _InterfaceType = type
    """`isinstance` is several times slower for classes of ABCMeta."""


def method(
    code: int, *, oneway: bool = False, all_of: tuple[str, ...] = (), any_of: tuple[str, ...] = ()
) -> Callable[[_F], _F]:
    """Makes a method of an Interface class the AIDL method with this transaction code.

    A peer may call it only if the object's `has_permission` says yes to all names in `all_of`, and to one in `any_of`
    if there are any: `@EnforcePermission` in AIDL.
    """
    if not 1 <= code <= MAX_USER_CODE:
        raise ValueError(f"transaction code {code}")

    def mark(function: _F) -> _F:
        function._binder_code = code  # type: ignore[attr-defined]
        function._binder_oneway = oneway  # type: ignore[attr-defined]
        function._binder_demand = (all_of, any_of)  # type: ignore[attr-defined]
        return function

    return mark


_MAX_TOKEN = 2000
"""Bytes of an interface token that are packed together with arguments."""


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

    def __init__(self, contract: "Contract", function: Any) -> None:
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
            self._check_permission(target)
        return bound

    def _check_permission(self, target: IBinder) -> None:
        assert isinstance(target, Interface)
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
        except RemoteException:
            raise
        except Exception as error:
            raise refused(error, f"{self.name}: result") from error


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


_HAS_REPLY_HEADER = -128


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


class Contract:
    """What an Interface class says: its descriptor and its methods by code, built when first needed."""

    __slots__ = ("_methods", "_proxy", "descriptor", "interface", "module", "name", "token")

    def __init__(self, interface: "type[Interface]", descriptor: str) -> None:
        self.interface = interface
        self.descriptor = descriptor
        self.name = interface.__name__
        self.module = interface.__module__
        token = Parcel()
        token.write_string(descriptor)
        self.token = token.payload()
        self._methods: dict[int, Method] | None = None
        self._proxy: type[Interface] | None = None

    def methods(self) -> dict[int, Method]:
        """By transaction code."""
        if self._methods is None:
            found: dict[int, Method] = {}
            for function in vars(self.interface).values():
                if hasattr(function, "_binder_code"):
                    made = Method(self, function)
                    if made.code in found:
                        raise TypeError(f"{made.name}: code {made.code} is taken")
                    found[made.code] = made
            self._methods = found
        return self._methods

    def proxy_class(self) -> "type[Interface]":
        if self._proxy is None:
            calls: dict[str, Any] = {
                made.attribute: _caller(made) for made in self.methods().values()
            }
            calls["dump"] = _dump
            calls["__module__"] = self.module
            calls["__doc__"] = self.interface.__doc__
            self._proxy = type(f"{self.name}Proxy", (self.interface,), calls)
        return self._proxy


def _caller(made: Method) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **named: Any) -> Any:
        handle = self._remote
        try:
            return handle.remote.call(handle, made, made.bind(args, named) if named else args)
        except StatusError as error:
            error.add_method(made.name)
            raise

    return as_declared(call, made.function)


def as_declared(function: _F, declared: Any) -> _F:
    """Gives a function the name, the documentation and the signature of another one."""
    for name in ("__module__", "__name__", "__qualname__", "__doc__", "__annotations__"):
        setattr(function, name, getattr(declared, name))
    function.__wrapped__ = declared  # type: ignore[attr-defined]
    return function


def _dump(self: Any, fd: int, args: list[str]) -> None:
    dump_remote(self._remote, fd, args)


def dump_remote(handle: Handle, fd: int, args: list[str]) -> None:
    """Has a remote object write its state for people to `fd`."""
    parcel: Parcel = handle.remote.parcel()
    parcel.write_fd(fd)
    parcel.write_int(len(args))
    for argument in args:
        parcel.write_string(argument)
    handle.remote.transact(handle, DUMP, parcel).close()


class Interface(IBinder, metaclass=_InterfaceType):
    """Base of AIDL interfaces: `class IFoo(Interface, descriptor="a.b.IFoo")`.

    A subclass that overrides the methods of IFoo is what a server serves. With `partial=True` it may leave out abstract
    ones, which are then unknown to callers: `class OldFoo(IFoo, partial=True)`. `stability=Stability.VINTF` is AIDL's
    `@VintfStability`.
    """

    def __init_subclass__(
        cls,
        *,
        descriptor: str | None = None,
        stability: Stability | None = None,
        partial: bool = False,
    ) -> None:
        super().__init_subclass__()
        if stability is not None:
            cls._stability = stability
        if descriptor is not None:
            cls._contract = Contract(cls, descriptor)
        if not TYPE_CHECKING:  # checkers see ABCMeta, which does this itself
            missing = frozenset() if partial else _abstract(cls)
            cls.__abstractmethods__ = missing

    @classmethod
    def _proxy_class(cls) -> type[Self]:
        contract: Contract | None = cls._contract
        if contract is None:
            raise TypeError(f"{cls.__name__} has no descriptor")
        return contract.proxy_class()  # type: ignore[return-value]

    def has_permission(self, name: str) -> bool:
        """Whether the caller (`calling_peer()`) has a permission that a method demands with `@EnforcePermission`.

        Override it: nobody has any. Anything but True refuses the call with EX_SECURITY.
        """
        return False

    def dump(self, fd: int, args: list[str]) -> None:
        """Writes the object's state for people to `fd`, which stays the caller's. Override it; writes nothing."""


def _abstract(cls: type) -> frozenset[str]:
    """The names of methods that a class has to override and does not."""
    found = {name for name, value in vars(cls).items() if _is_abstract(value)}
    for base in cls.__bases__:
        inherited = getattr(base, "__abstractmethods__", ())
        found.update(name for name in inherited if _is_abstract(getattr(cls, name, None)))
    return frozenset(found)


def _is_abstract(value: object) -> bool:
    return bool(getattr(value, "__isabstractmethod__", False))


class AsyncInterface(Generic[_I_co], metaclass=ABCMeta):
    """Base of the asyncio faces of AIDL interfaces: `class IFooAsync(AsyncInterface[IFoo])`.

    Their methods are those of the interface as coroutine functions. A server subclasses IFooAsync and overrides them; a
    proxy is an instance of a generated subclass. `avf.binder.aio` makes and takes both.
    """

    _interface: "type[Interface] | None" = None
    _made: Any = None
    """The binder object: of a proxy what it calls, of an implementation what serves it, once it is asked for."""

    @classmethod
    def _face(cls) -> type[Self]:
        return cls

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for base in vars(cls).get("__orig_bases__", ()):
            for argument in get_args(base):
                if isinstance(argument, type) and issubclass(argument, Interface):
                    cls._interface = argument
