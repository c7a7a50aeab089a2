"""Types as written to types as meant."""

import math
from collections.abc import Callable

from . import tree
from .annotations import Target, check
from .constants import Evaluator
from .errors import Diagnostics
from .model import PRIMITIVES, Builtin, Constant, Type, TypeDef
from .world import World

MAX_SIZE = 1 << 20
"""Elements of an array of fixed size, those of arrays in it included."""

_JAVA_ONLY = {
    Builtin.MAP: "Map goes by Java's own serialisation, which no other language reads",
    Builtin.CHAR_SEQUENCE: "CharSequence goes by Java's own serialisation; use String",
}
_NO_ARRAY = (Builtin.LIST, Builtin.MAP, Builtin.CHAR_SEQUENCE, Builtin.PARCELABLE_HOLDER)
_LISTABLE = (Builtin.STRING, Builtin.IBINDER, Builtin.PARCEL_FILE_DESCRIPTOR)


class TypeResolver:
    """Resolves types and checks what the language says about them."""

    def __init__(
        self,
        world: World,
        evaluator: Evaluator,
        diagnostics: Diagnostics,
        is_given: Callable[[TypeDef], bool],
    ) -> None:
        self.world = world
        self.is_given = is_given
        """Whether there is a Python class for a type that AIDL tells nothing of."""
        self.evaluator = evaluator
        self.diagnostics = diagnostics
        self.annotations: dict[tree.TypeRef, dict[str, dict[str, Constant]]] = {}
        """The annotations in front of each type that was resolved."""

    def resolve(
        self, ref: tree.TypeRef, scope: TypeDef, member: Target | None = None
    ) -> Type | None:
        """What `ref` means inside of `scope`; None if that was reported to be wrong.

        `member` is what it is the type of, if annotations in front of it may be meant for that.
        """
        target = member | Target.TYPE if member else Target.TYPE
        annotations = check(ref.annotations, target, scope, self.evaluator, self.diagnostics)
        self.annotations[ref] = annotations
        base = self.world.lookup(ref.name.text, scope.source, scope)
        if base is None and self.world.is_lost(ref.name.text, scope.source):
            return None
        if base is None:
            more = self.world.suggestion(ref.name.text, scope.source, scope)
            self._error(f"unknown type '{ref.name.text}'{more}", ref, scope)
            return None
        if isinstance(base, TypeDef) and isinstance(base.declaration, tree.ForwardDecl):
            self._check_given(base, ref, scope)
        element = self._arguments(ref, base, scope)
        dimensions = self._dimensions(ref, base, scope)
        if dimensions is None or (base is Builtin.LIST and element is None):
            return None
        if base in _JAVA_ONLY and isinstance(base, Builtin):
            self._error(_JAVA_ONLY[base], ref, scope)
            return None
        if "utf8InCpp" in annotations and Builtin.STRING not in (base, element and element.base):
            self._error("@utf8InCpp is for String, String[] and List<String>", ref, scope)
        nullable = "nullable" in annotations
        vintf = base is Builtin.PARCELABLE_HOLDER and scope.is_vintf
        heap = nullable and bool(annotations["nullable"].get("heap"))
        found = Type(base, dimensions, nullable, element, vintf, heap)
        if nullable:
            self._check_nullable(found, ref, scope)
        if isinstance(base, TypeDef) and scope.is_vintf and not base.is_vintf:
            self._error(f"{scope.simple} is @VintfStability, {base.name} is not", ref, scope)
        return found

    def _error(self, message: str, ref: tree.TypeRef, scope: TypeDef) -> None:
        self.diagnostics.error(message, scope.source, ref.span)

    def _check_given(self, base: TypeDef, ref: tree.TypeRef, scope: TypeDef) -> None:
        if not self.is_given(base):
            what = "methods" if base.is_interface else "fields"
            message = f"AIDL does not tell the {what} of {base.name}; name its Python class with"
            message += f" --type {base.name}=MODULE.CLASS"
            note = ("it is only declared here", base.place())
            self.diagnostics.error(message, scope.source, ref.span, note)

    def _arguments(self, ref: tree.TypeRef, base: Builtin | TypeDef, scope: TypeDef) -> Type | None:
        """List's element. A parcelable's own parameters do not change what travels."""
        found = [self.resolve(argument, scope) for argument in ref.arguments]
        for argument, resolved in zip(ref.arguments, found, strict=True):
            if resolved is not None and resolved.nullable:
                message = "a type argument cannot be @nullable; before the whole type it means both"
                self._error(message, argument, scope)
        if isinstance(base, TypeDef):
            wanted = len(base.declaration.parameters)
            if ref.arguments and len(ref.arguments) != wanted:
                message = f"{base.simple} has {wanted or 'no'} type parameters"
                self._error(message, ref, scope)
            return None
        if base is Builtin.LIST:
            return self._list_element(ref, found, scope)
        if ref.arguments and base is not Builtin.MAP:
            self._error(f"{base.value} has no type parameters", ref, scope)
        return None

    def _list_element(
        self, ref: tree.TypeRef, arguments: list[Type | None], scope: TypeDef
    ) -> Type | None:
        if len(arguments) != 1:
            self._error("a List is a List<T> of one type", ref, scope)
            return None
        element = arguments[0]
        if element is None:
            return None
        base = element.base
        listable = base in _LISTABLE if isinstance(base, Builtin) else not base.is_enum
        if element.is_array or not listable:
            message = "a List holds parcelables, unions, interfaces, String, IBinder or"
            self._error(f"{message} ParcelFileDescriptor, not {element}", ref.arguments[0], scope)
            return None
        return element

    def _dimensions(
        self, ref: tree.TypeRef, base: Builtin | TypeDef, scope: TypeDef
    ) -> tuple[int | None, ...] | None:
        found: list[int | None] = []
        for size in ref.dimensions:
            if size is None:
                found.append(None)
            elif (number := self.evaluator.size(size, scope)) is not None:
                found.append(number)
            else:
                return None
        if math.prod(size or 1 for size in found) > MAX_SIZE:
            self._error(f"no parcel holds an array of more than {MAX_SIZE} elements", ref, scope)
            return None
        if len(found) > 1 and None in found:
            self._error("arrays of arrays must be of fixed size", ref, scope)
            return None
        if found and (base in _NO_ARRAY or base is Builtin.VOID):
            self._error(f"there are no arrays of {ref.name.text}", ref, scope)
            return None
        return tuple(found)

    def _check_nullable(self, found: Type, ref: tree.TypeRef, scope: TypeDef) -> None:
        base = found.base
        if not found.is_array:
            if base in PRIMITIVES or (isinstance(base, TypeDef) and base.is_enum):
                self._error(f"{found} cannot be @nullable", ref, scope)
            elif base in (Builtin.PARCELABLE_HOLDER, Builtin.FILE_DESCRIPTOR):
                self._error(f"a {found} cannot be @nullable", ref, scope)
        is_parcelable = isinstance(base, TypeDef) and base.is_parcelable
        if found.heap and (found.is_array or not is_parcelable):
            self._error("@nullable(heap=true) is for parcelables", ref, scope)
