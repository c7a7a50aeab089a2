"""Types and values as one Python module spells them, and the imports it needs for that."""

from collections.abc import Container

from . import tree
from .model import Builtin, Constant, EnumValue, FieldDef, Type, TypeDef
from .plan import Plan

_SCALARS = {
    Builtin.BOOLEAN: ("bool", "False"),
    Builtin.BYTE: ("Byte", "0"),
    Builtin.CHAR: ("Char", '"\\0"'),
    Builtin.INT: ("int", "0"),
    Builtin.LONG: ("Long", "0"),
    Builtin.FLOAT: ("Float", "0.0"),
    Builtin.DOUBLE: ("float", "0.0"),
    Builtin.STRING: ("str", '""'),
}
_FROM_BINDER = {
    Builtin.BYTE: "Byte",
    Builtin.CHAR: "Char",
    Builtin.LONG: "Long",
    Builtin.FLOAT: "Float",
    Builtin.FILE_DESCRIPTOR: "FileDescriptor",
    Builtin.IBINDER: "IBinder",
    Builtin.PARCEL_FILE_DESCRIPTOR: "ParcelFileDescriptor",
    Builtin.PARCELABLE_HOLDER: "ParcelableHolder",
}
_BINDER = "avf.binder"


class Spelling:
    """`taken` are the names the module gives itself; `early` and `late` imports grow as names are used.

    Imports by module: the early ones stand at the top, the late ones at the end, when the module's own classes are
    there: modules whose types mention one another import one another.
    """

    def __init__(self, plan: Plan, package: str, module: str, taken: Container[str]) -> None:
        self.plan = plan
        self.package = package
        self.module = module
        self.taken = taken
        self.early: dict[str, list[str]] = {}
        self.late: dict[str, list[str]] = {}
        self._spelled: dict[tuple[str, str], str] = {}
        self._used: set[str] = set()
        self._zeros: dict[TypeDef, str] = {}
        self._refers = False

    # Names

    def imported(self, module: str, name: str, *, late: bool = False) -> str:
        """Imports a name, as another one if the module has its own use for it."""
        spelled = self._spelled.get((module, name))
        if spelled is None:
            path = module.lstrip("._") if module.startswith(".") else module
            prefix = path.title().replace(".", "").replace("_", "")
            names = (name, f"{_camel(path)}{name}", f"{prefix}{name}")
            free = (n for n in names if n not in self.taken and n not in self._used)
            spelled = next(free, f"{prefix}{name}_")
            self._spelled[module, name] = spelled
            self._used.add(spelled)
            wanted = name if spelled == name else f"{name} as {spelled}"
            imports = self.late if late else self.early
            imports.setdefault(module, []).append(wanted)
        return spelled

    def binder(self, name: str) -> str:
        """Something of avf.binder."""
        return self.imported(_BINDER, name)

    def reference(self, type_def: TypeDef, *, late: bool = True) -> str:
        """A class by its name."""
        self._refers = True
        if (given := self.plan.given(type_def)) is not None:
            return self.imported(*given, late=late)
        module, name = self.plan.module(type_def), self.plan.name(type_def)
        if module == self.module:
            return name
        package = self.plan.package(type_def)
        where = f".{module.rpartition('.')[2]}" if package == self.package else package
        outer, dot, inner = name.partition(".")
        return self.imported(where, outer, late=late) + dot + inner

    # Types

    def annotation(self, *types: Type) -> str:
        """One type, or the tuple of several."""
        texts = [self._type(found) for found in types]
        return texts[0] if len(texts) == 1 else f"tuple[{', '.join(texts)}]"

    def _type(self, found: Type) -> str:
        text = self._plain_type(found)
        return f"{text} | None" if found.nullable else text

    def _plain_type(self, found: Type) -> str:
        if found.is_array:
            inner = "bytes" if _is_bytes(found) else f"list[{self._type(found.item())}]"
            if found.is_fixed:
                annotated = self.imported("typing", "Annotated")
                return f"{annotated}[{inner}, {self.binder('FixedSize')}({found.dimensions[0]})]"
            return inner
        base = found.base
        if isinstance(base, TypeDef):
            return self.reference(base)
        if base is Builtin.LIST:
            assert found.element is not None
            return f"list[{self._type(Type(found.element.base, (), found.nullable))}]"
        return self.binder(_FROM_BINDER[base]) if base in _FROM_BINDER else _SCALARS[base][0]

    # Values

    def value(self, value: Constant, found: Type) -> str:
        if isinstance(value, list):
            if _is_bytes(found):
                return _bytes(bytes(int(item) & 0xFF for item in value if isinstance(item, int)))
            return f"[{', '.join(self.items(value, found))}]"
        if isinstance(value, EnumValue):
            return f"{self.reference(value.type)}.{self.plan.names(value.type).members[value.name]}"
        return _quoted(value) if isinstance(value, str) else repr(value).replace("e+", "e")

    def items(self, values: list[Constant], found: Type) -> list[str]:
        return [self.value(item, found.item()) for item in values]

    def default(self, part: FieldDef) -> tuple[str, bool] | None:
        """A field's default, and whether it names classes; None if it can have none."""
        if not self.plan.has_default(part):
            return None
        self._refers = False
        text = self._default(part)
        return text, self._refers

    def _default(self, part: FieldDef) -> str:
        if part.default is not None:
            return self.value(part.default, part.type)
        return self.plan.grow(self._empty(part.type))

    def _empty(self, found: Type) -> str:
        """A value of a type that nobody has given one."""
        if found.nullable:
            return "None"
        if found.is_array:
            return self._empty_array(found)
        base = found.base
        if isinstance(base, TypeDef):
            return self._empty_instance(base)
        if base is Builtin.LIST:
            return "[]"
        if base is Builtin.PARCELABLE_HOLDER:
            return f"{self.binder('ParcelableHolder')}({'stability=1' if found.vintf else ''})"
        return _SCALARS[base][1]

    def _empty_instance(self, type_def: TypeDef) -> str:
        name = self.reference(type_def)
        if type_def.is_enum:
            return f"{name}{self._zero(type_def)}"
        if isinstance(type_def.declaration, tree.UnionDecl):
            first = self.plan.definition(type_def).fields[0]
            member = self.plan.names(type_def).members[first.name]
            return f"{name}({member}={self._default(first)})"
        return f"{name}()"

    def _zero(self, enum: TypeDef) -> str:
        """What behind an enum's name makes its value 0: the first enumerator that has it, or a call."""
        if enum not in self._zeros:
            names = self.plan.names(enum).members
            enumerators = self.plan.definition(enum).enumerators
            zero = next((f".{names[e.name]}" for e in enumerators if e.value == 0), "(0)")
            self._zeros[enum] = zero
        return self._zeros[enum]

    def _empty_array(self, found: Type) -> str:
        size = found.dimensions[0] or 0
        if _is_bytes(found):
            return f"bytes({size})" if size else 'b""'
        if not size:
            return "[]"
        item = self._empty(found.item())
        base = found.base
        mutable = len(found.dimensions) > 1 or (isinstance(base, TypeDef) and base.is_parcelable)
        return f"[{item} for _ in range({size})]" if mutable else f"[{item}] * {size}"


def _is_bytes(found: Type) -> bool:
    return found.base is Builtin.BYTE and len(found.dimensions) == 1


def _camel(module: str) -> str:
    return module.rpartition(".")[2].title().replace("_", "")


def _quoted(text: str) -> str:
    """AIDL's strings have no backslashes and no double quotes; its characters may be one."""
    return "'\"'" if text == '"' else f'"{text}"'


def _bytes(data: bytes) -> str:
    text = "".join(
        f"\\x{byte:02x}" if not 32 < byte < 127 or byte in b'"\\' else chr(byte) for byte in data
    )
    return f'b"{text}"'
