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

from .errors import StatusError
from .methods import Method
from .objects import Handle, IBinder
from .parcel import Parcel
from .wire import DUMP, MAX_USER_CODE, Stability

_F = TypeVar("_F", bound=Callable[..., Any])

if TYPE_CHECKING:
    _I_co = TypeVar("_I_co", bound="Interface", covariant=True)

    class _InterfaceType(ABCMeta):
        """Tells type checkers that there are abstract methods."""
else:
    _I_co = TypeVar("_I_co", covariant=True)
    """Without its bound: see `avf.binder.objects`."""
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


def prepare_calls(interface: type[Interface]) -> None:
    """Makes all that calls of the interface take, which its first use makes otherwise. It is kept.

    Raises TypeError for a class without a descriptor.
    """
    interface._proxy_class()


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
