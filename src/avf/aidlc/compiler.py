"""From sources to the text of Python modules. Reads and writes no files itself."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from . import tree
from .analysis import Analysis
from .cycles import holding_themselves
from .errors import AidlError, Diagnostic, Diagnostics
from .model import Definition, TypeDef
from .package import package_text
from .plan import Options, Plan
from .source import Source
from .world import Loader, World
from .writer import AsyncWriter, TypeWriter

_PYTHONS_OWN = sys.stdlib_module_names - {"test"}
"""Packages that cannot be called otherwise: in front of these they break Python, behind them nobody finds them."""


@dataclass(frozen=True, slots=True)
class Module:
    """A Python module to be written: of a type, or of its asyncio face."""

    name: str
    """With dots; the last part begins with an underscore."""
    exports: tuple[str, ...]
    """What its package has from it."""
    path: str
    """Of its .aidl file, from where packages begin, without the ending."""
    text: str

    @property
    def package(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def stem(self) -> str:
        return self.name.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Compiled:
    modules: list[Module]
    inputs: list[str]
    """The paths of all files that were read."""


def compile_sources(
    sources: Iterable[Source], loader: Loader, options: Options | None = None
) -> dict[str, str]:
    """The texts of Python modules by name: of all types in `sources`, of what these need of others, and of packages.

    Raises AidlError.
    """
    modules = compile_modules(sources, loader, options).modules
    texts = {module.name: module.text for module in modules}
    for package in sorted({module.package for module in modules}):
        inside = [module for module in modules if module.package == package]
        exports = {name: module.stem for module in inside for name in module.exports}
        texts[package] = package_text({m.stem: m.path for m in inside}, exports)
    return dict(sorted(texts.items()))


def compile_modules(
    sources: Iterable[Source], loader: Loader, options: Options | None = None
) -> Compiled:
    """The modules that `compile_sources` makes, without those of packages, which others may have a share in.

    Raises AidlError.
    """
    diagnostics = Diagnostics()
    try:
        return _compile(sources, loader, options or Options(), diagnostics)
    except RecursionError:
        message = "types or constants depend on one another in a chain that is too long"
        raise AidlError([Diagnostic(message)]) from None


def _compile(
    sources: Iterable[Source], loader: Loader, options: Options, diagnostics: Diagnostics
) -> Compiled:
    world = World(loader, diagnostics)
    roots: list[TypeDef] = []
    for source in sources:
        roots += world.load(source)
    diagnostics.check()
    analysis = Analysis(world, diagnostics, options.is_given)
    definitions = _reach(roots, analysis, options)
    _check_modules(definitions, options, diagnostics)
    diagnostics.check()
    _check_circles(definitions, diagnostics)
    diagnostics.check()
    plan = Plan(frozenset(roots), analysis, options, diagnostics)
    for made in definitions:  # reports those that hold too many others
        if made.type.is_parcelable:
            plan.constructible(made.type)
    diagnostics.check()
    outermost = [made.type for made in definitions if made.type.parent is None]
    modules = [module for type_def in outermost for module in _modules(plan, type_def)]
    _check_names(modules, outermost, plan, diagnostics)
    diagnostics.check()
    return Compiled(sorted(modules, key=lambda module: module.name), sorted(world.documents))


def _modules(plan: Plan, type_def: TypeDef) -> Iterator[Module]:
    writers = (TypeWriter(plan, type_def), AsyncWriter(plan, type_def))
    for writer in writers:
        if (text := writer.text()) is not None:
            name, path = writer.spelling.module, writer.head.path
            yield Module(name, tuple(writer.exports), path, text)


def _reach(roots: list[TypeDef], analysis: Analysis, options: Options) -> list[Definition]:
    """The definitions of `roots` and of all they mention, in the order of names."""
    found: dict[TypeDef, Definition] = {}
    waiting = list(roots)
    given = set(roots)
    while waiting:
        type_def = waiting.pop()
        if type_def in found:
            continue
        if options.modules.is_external(type_def.package) and type_def not in given:
            continue
        definition = analysis.definition(type_def)
        if isinstance(type_def.declaration, tree.ForwardDecl):
            continue
        found[type_def] = definition
        waiting += definition.bases()
        waiting += [type_def.parent] if type_def.parent else []
        waiting += type_def.nested.values()
    return sorted(found.values(), key=lambda definition: definition.type.name)


def _check_modules(
    definitions: list[Definition], options: Options, diagnostics: Diagnostics
) -> None:
    for definition in definitions:
        type_def = definition.type
        module = options.modules.module(type_def.package)
        first = module.partition(".")[0]
        if not module:
            message = f"{type_def.simple} is in no package; name its module with --map =MODULE"
        elif first in _PYTHONS_OWN:
            message = f"the Python package {module} would hide Python's own {first}; name another"
            message += f" with --map {type_def.package}=PYTHON"
        else:
            continue
        diagnostics.error(message, type_def.source, type_def.declaration.name.span)


def _check_circles(definitions: list[Definition], diagnostics: Diagnostics) -> None:
    """Reports parcelables that hold one of themselves."""
    known = {definition.type for definition in definitions}
    held = {made.type: [found for found in made.held() if found in known] for made in definitions}
    for found in holding_themselves(held, held.__getitem__):
        message = (
            f"{found.simple} holds itself without end; make a field a List or an array, or write"
        )
        message += " @nullable(heap=true)"
        diagnostics.error(message, found.source, found.declaration.name.span)


def _check_names(
    modules: list[Module], types: list[TypeDef], plan: Plan, diagnostics: Diagnostics
) -> None:
    """Reports types and faces that have one name in a Python package."""
    homes = {plan.module(type_def): type_def for type_def in types}
    seen: dict[tuple[str, str], TypeDef] = {}
    for module in modules:
        type_def = homes[
            module.name.removesuffix("_async") if module.name not in homes else module.name
        ]
        for name in module.exports:
            other = seen.setdefault((module.package, name), type_def)
            if other is not type_def:
                note = ("this is the other", other.place())
                message = f"two things are called {name} in the Python package {module.package}"
                span = type_def.declaration.name.span
                diagnostics.error(message, type_def.source, span, note)
