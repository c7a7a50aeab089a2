"""From sources to the text of Python modules. Reads and writes no files itself."""

from collections.abc import Iterable

from . import tree
from .analysis import Analysis
from .errors import AidlError, Diagnostic, Diagnostics
from .model import Definition, TypeDef
from .names import PackageNames
from .parser import parse
from .plan import Options, Plan
from .source import Source
from .world import Loader, World
from .writer import ModuleWriter


def compile_sources(
    sources: Iterable[Source], loader: Loader, options: Options | None = None
) -> dict[str, str]:
    """The texts of Python modules by name: of all types in `sources`, and of what these need of others.

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
) -> dict[str, str]:
    world = World(loader, diagnostics)
    roots: list[TypeDef] = []
    for source in sources:
        roots += world.load(source)
    diagnostics.check()
    analysis = Analysis(world, diagnostics, options.is_given)
    definitions = _reach(roots, analysis, options)
    _check_modules(definitions, options, diagnostics)
    diagnostics.check()
    packages = {definition.type.package for definition in definitions}
    packages |= {base.package for definition in definitions for base in definition.bases()}
    names = _names(packages, world)
    plan = Plan(definitions, frozenset(roots), names, analysis, options, diagnostics)
    by_module: dict[str, list[Definition]] = {}
    for definition in definitions:
        by_module.setdefault(plan.module(definition.type), []).append(definition)
    texts = {
        module: ModuleWriter(plan, module, by_module[module]).text() for module in sorted(by_module)
    }
    diagnostics.check()
    return texts


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
    return sorted(found.values(), key=lambda definition: definition.type.name)


def _check_modules(
    definitions: list[Definition], options: Options, diagnostics: Diagnostics
) -> None:
    for definition in definitions:
        type_def = definition.type
        if not options.modules.module(type_def.package):
            message = f"{type_def.simple} is in no package; name its module with --map =MODULE"
            diagnostics.error(message, type_def.source, type_def.declaration.name.span)


def _names(packages: set[str], world: World) -> dict[str, PackageNames]:
    """How each package calls its types, files that are not compiled included."""
    known: dict[str, list[tree.Document]] = {package: [] for package in packages}
    for document in world.documents.values():
        package = document.package.text if document.package else ""
        if package in known:
            known[package].append(document)
    for package, documents in known.items():
        seen = {document.source.path for document in documents}
        folders = {document.source.path.rpartition("/")[0]: document for document in documents}
        for document in folders.values():
            for source in world.loader.siblings(document.source, package):
                if source.path not in seen:
                    seen.add(source.path)
                    documents += _others(source, package)
    return {package: PackageNames(documents) for package, documents in known.items()}


def _others(source: Source, package: str) -> list[tree.Document]:
    """A file that is not compiled, if it can be read and is of the package."""
    try:
        other = parse(source, Diagnostics())
    except AidlError:
        return []
    return [other] if (other.package.text if other.package else "") == package else []
