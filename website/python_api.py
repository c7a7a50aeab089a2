"""The reference of the Python packages: a page for each public module, with an entry for each name of its `__all__`."""

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from sphinx.errors import PycodeError
from sphinx.pycode import ModuleAnalyzer

from website.docstrings import to_rest
from website.faces import modules, public_names

OVERVIEW = Path(__file__).parents[1] / "docs/reference/python.md"


def pages() -> dict[str, str]:
    """The site's path of each page -> its text."""
    return {f"reference/python/{name}.md": _page(name) for name in listed()}


def listed() -> list[str]:
    """The modules that the overview names, in its order."""
    return re.findall(r"`(avf[\w.]*)`(?=[^|]*\|[^|]+\|$)", OVERVIEW.read_text(), re.MULTILINE)


def _page(name: str) -> str:
    module = importlib.import_module(name)
    public = sorted(public_names(name), key=str.casefold)
    lines = [
        f"# `{name}`",
        "",
        "```{eval-rst}",
        ".. highlight:: python",
        "",
        f".. automodule:: {name}",
        "   :no-members:",
        "",
    ]
    lines += [".. list-table::", "   :widths: auto", ""]
    for each in public:
        summary = " ".join(to_rest(_docstring(module, each).split("\n\n")[0].splitlines(), name))
        lines += [f"   * - :py:obj:`{each} <{name}.{each}>`", f"     - {summary}"]
    lines.append("")
    for each in public:
        lines += _entry(module, each)
    return "\n".join([*lines, "```", ""])


def _entry(module: ModuleType, name: str) -> Iterator[str]:
    value = getattr(module, name)
    full = f"{module.__name__}.{name}"
    home = home_of(module.__name__, name)
    if inspect.isclass(value) and home == full:
        yield f".. autoclass:: {full}"
        yield from ("   :members:", "   :undoc-members:")
        yield from (["   :show-inheritance:", ""] if value.__bases__ != (object,) else [""])
    elif inspect.isroutine(value) and home == full:
        yield from (f".. autofunction:: {full}", "")
    else:
        kind = _kind(value)
        yield from (f".. py:{kind}:: {name}", f"   :module: {module.__name__}", "")
        if home != full:
            yield from (f"   The same as :py:obj:`{home}`.", "")
        text = to_rest(_docstring(module, name).splitlines(), module.__name__)
        yield from (f"   {line}" for line in text)
        yield ""


def _kind(value: object) -> str:
    if inspect.isclass(value):
        return "class"
    return "function" if inspect.isroutine(value) else "data"


def home_of(module: str, name: str) -> str:
    """Where the entry of a public name is: there, or at the package that the object comes from, which hands it on."""
    value = getattr(importlib.import_module(module), name)
    origin, inside = getattr(value, "__module__", None), getattr(value, "__qualname__", name)
    if not isinstance(origin, str) or not (inspect.isclass(value) or inspect.isroutine(value)):
        return f"{module}.{name}"
    outer = inside.partition(".")[0]
    homes = [
        face
        for face in modules()
        if f"{origin}.".startswith(f"{face}.") and outer in public_names(face)
    ]
    return f"{max(homes, key=len)}.{inside}" if homes else f"{module}.{name}"


def _docstring(module: ModuleType, name: str) -> str:
    value = getattr(module, name)
    if inspect.isclass(value) or inspect.isroutine(value):
        return inspect.getdoc(value) or ""
    return data_docstring(module, name)


def data_docstring(module: ModuleType, name: str) -> str:
    """What stands behind the assignment of a name, in the module where it is assigned; "" if nothing does."""
    for candidate in _defining(module, name):
        try:
            analyzer = ModuleAnalyzer.for_module(candidate)
            analyzer.analyze()
        except PycodeError:
            continue
        if lines := analyzer.attr_docs.get(("", name)):
            return "\n".join(lines)
    return ""


def _defining(module: ModuleType, name: str) -> Iterator[str]:
    """The module, and those of its package that have the very same object by that name."""
    yield module.__name__
    value = getattr(module, name)
    for other in sorted(sys.modules):
        if other.partition(".")[0] == "avf" and vars(sys.modules[other]).get(name, None) is value:
            yield other
