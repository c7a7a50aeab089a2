"""All types one run knows, and what a name means at a place."""

from pathlib import PurePath
from typing import Protocol

from . import tree
from .errors import Diagnostics
from .lexer import Kind
from .limits import CANDIDATES, QUALIFIED_LENGTH
from .model import Builtin, TypeDef
from .parser import parse
from .source import Source

_ALIASES = {
    "java.util.List": "List",
    "java.util.Map": "Map",
    "android.os.ParcelFileDescriptor": "ParcelFileDescriptor",
    "android.os.IBinder": "IBinder",
    "java.lang.String": "String",
    "java.lang.CharSequence": "CharSequence",
}
"""Java's names of types that are built in here."""

_IGNORED = frozenset(
    (
        "android.os.IInterface",
        "android.os.Parcelable",
        "android.os.Parcel",
        "android.content.Context",
    )
)
"""What old files import out of habit."""

BUILTINS = {member.value: member for member in Builtin}
for _alias, _name in _ALIASES.items():
    BUILTINS[_alias] = BUILTINS[_name]


class Loader(Protocol):
    """Where imported files come from."""

    def find(self, name: str) -> Source | None:
        """The file that should declare the top-level type with this full name."""

    def describe(self) -> str:
        """Where `find` looks, for people."""


class World:
    """Types by full name; imports are read when somebody asks for them."""

    def __init__(self, loader: Loader, diagnostics: Diagnostics) -> None:
        self.loader = loader
        self.diagnostics = diagnostics
        self.types: dict[str, TypeDef] = {}
        self.documents: dict[str, tree.Document] = {}
        self._by_source: dict[Source, tree.Document] = {}
        self._missing: set[str] = set()
        self._checked: set[Source] = set()
        self._lost: set[tuple[Source, str]] = set()
        self._declared: dict[Source, list[TypeDef]] = {}
        self._imports: dict[Source, dict[str, str]] = {}
        """For each file the full names of its imports by their last part; the first of several counts."""
        self._around: set[str] = set()
        """Names that a type's full name begins with: packages, and types that are told of nowhere else."""

    def load(self, source: Source) -> list[TypeDef]:
        """Reads a file and declares what it has; those types, the nested ones after their parents."""
        if source.path in self.documents:
            return self._declared[self.documents[source.path].source]
        document = parse(source, self.diagnostics)
        self.documents[source.path] = document
        self._by_source[source] = document
        package = document.package.text if document.package else ""
        imports = self._imports[source] = {}
        for name in document.imports:
            imports.setdefault(name.text.rpartition(".")[2], name.text)
        found = self._declared[source] = []
        for declaration in document.declarations:
            if source.place is not None:
                self._check_file(declaration, source, source.place, package)
            self._declare(declaration, source, package, None, found)
        return found

    def _add_around(self, name: str) -> None:
        while name and name not in self._around:
            self._around.add(name)
            name = name.rpartition(".")[0]

    def document(self, source: Source) -> tree.Document:
        return self._by_source[source]

    def _declare(
        self,
        declaration: tree.Declaration,
        source: Source,
        package: str,
        parent: TypeDef | None,
        found: list[TypeDef],
    ) -> None:
        made = TypeDef(declaration, source, package, parent)
        span = declaration.name.span
        if len(made.name) > QUALIFIED_LENGTH:
            message = f"a type's full name has at most {QUALIFIED_LENGTH} characters"
            self.diagnostics.error(message, source, span)
            return
        if (known := self.types.get(made.name)) is not None:
            note = ("it is declared here, too", known.place())
            self.diagnostics.error(f"{made.name} is declared twice", source, span, note)
            return
        if made.simple in BUILTINS:
            self.diagnostics.error(f"'{made.simple}' is a type of AIDL's own", source, span)
        self._check_place(made)
        self.types[made.name] = made
        self._add_around(made.name.rpartition(".")[0])
        if parent is not None:
            parent.nested[made.simple] = made
        found.append(made)
        for nested in declaration.nested:
            self._declare(nested, source, package, made, found)
        if isinstance(declaration, tree.UnionDecl) and "Tag" not in made.nested:
            self._declare_tag(made)

    def _check_file(
        self, declaration: tree.Declaration, source: Source, place: PurePath, package: str
    ) -> None:
        """A type's file is found by its name: a/b/Foo.aidl has a.b.Foo, and nothing else."""
        name = declaration.name.text.partition(".")[0]
        wanted = PurePath(*package.split(".") if package else (), f"{name}.aidl")
        if place.parts[-len(wanted.parts) :] != wanted.parts:
            message = f"{declaration.name.text} should be declared in a file called {wanted}"
            self.diagnostics.error(message, source, declaration.name.span)

    def _check_place(self, made: TypeDef) -> None:
        span = made.declaration.name.span
        parent = made.parent
        if isinstance(made.declaration, tree.ForwardDecl):
            if parent is not None:
                message = f"'{made.simple}' has no body, so it must not be nested"
                self.diagnostics.error(message, made.source, span)
        elif "." in made.simple:
            message = f"a type is declared by its simple name, not '{made.simple}'"
            self.diagnostics.error(message, made.source, span)
        if parent is not None:
            if parent.declaration.parameters:
                message = f"{parent.simple} has type parameters, so it cannot have nested types"
                self.diagnostics.error(message, made.source, span)
            if made.simple == parent.simple:
                message = f"the nested type '{made.simple}' is named like the one around it"
                self.diagnostics.error(message, made.source, span)

    def _declare_tag(self, union: TypeDef) -> None:
        """Every union has an enum named Tag that names its members."""
        declaration = union.declaration
        assert isinstance(declaration, tree.UnionDecl)
        fixed = any(annotation.name == "FixedSize" for annotation in declaration.annotations)
        span = declaration.name.span
        backing = tree.Literal(Kind.STRING, '"byte"' if fixed else '"int"', span)
        tag = tree.EnumDecl(
            name=tree.Name("Tag", span),
            annotations=(tree.Annotation("Backing", ((tree.Name("type", span), backing),), span),),
            doc=None,
            enumerators=tuple(tree.Enumerator(f.name, None, None) for f in declaration.fields),
        )
        made = TypeDef(tag, union.source, union.package, union)
        made.tag_of = union
        self.types[made.name] = made
        union.nested["Tag"] = made

    # Names

    def named(self, name: str) -> TypeDef | None:
        """The type with this full name, read from its file if need be."""
        if name in self.types:
            return self.types[name]
        top = name
        while top and top not in self._missing:
            source = self.loader.find(top)
            if source is not None:
                self.load(source)
                return self.types.get(name)
            self._missing.add(top)
            top = top.rpartition(".")[0]
        return None

    def check_imports(self, source: Source) -> None:
        """Reports imports that lead nowhere, the first time it is asked to."""
        if source in self._checked:
            return
        self._checked.add(source)
        for name in self.document(source).imports:
            if name.text in BUILTINS or name.text in _IGNORED or self._is_somewhere(name.text):
                continue
            file = name.text.replace(".", "/") + ".aidl"
            message = f"cannot find {file} {self.loader.describe()}"
            self._lost.add((source, name.text.rpartition(".")[2]))
            self.diagnostics.error(message, source, name.span)

    def _is_somewhere(self, name: str) -> bool:
        """Whether there is a type of this name, or types inside of it: `parcelable Outer.Inner;` has no Outer."""
        return self.named(name) is not None or name in self._around

    def lookup(self, name: str, source: Source, scope: TypeDef | None) -> Builtin | TypeDef | None:
        """What a type's name means in a file, inside of a type."""
        if name in BUILTINS:
            return BUILTINS[name]
        first, _, rest = name.partition(".")
        around = scope
        while around is not None:
            if first in around.nested:
                return self._inside(around.nested[first], rest)
            if around.simple == first:
                return self._inside(around, rest)
            around = around.parent
        document = self.document(source)
        if (imported := self._imports[source].get(first)) is not None:
            if imported in BUILTINS:
                return BUILTINS[imported]
            return self.named(f"{imported}.{rest}" if rest else imported)
        package = document.package.text if document.package else ""
        return self.named(f"{package}.{name}" if package else name) or self.named(name)

    def _inside(self, outer: TypeDef, rest: str) -> TypeDef | None:
        found: TypeDef | None = outer
        for part in rest.split(".") if rest else ():
            found = found.nested.get(part) if found else None
        return found

    def is_lost(self, name: str, source: Source) -> bool:
        """Whether a name is unknown because of an import that was reported."""
        return (source, name.partition(".")[0]) in self._lost

    def suggestion(self, name: str, source: Source, scope: TypeDef | None) -> str:
        """` (did you mean 'X'?)`, or nothing."""
        import difflib

        known = [member.value for member in Builtin]
        known += [imported.text.rpartition(".")[2] for imported in self.document(source).imports]
        package = self.document(source).package
        known += [t.simple for t in self.types.values() if package and t.package == package.text]
        while scope is not None:
            known += scope.nested
            scope = scope.parent
        alike = sorted({other for other in known if abs(len(other) - len(name)) <= len(name)})
        close = difflib.get_close_matches(name, alike[:CANDIDATES], 1, 0.7)
        return f" (did you mean '{close[0]}'?)" if close else ""
