"""The text of a package's `__init__`: it finds each name in the module that has it, when it is asked for."""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass

from .layout import all_lines, import_lines, module_key, stack

_WRITTEN = "# Written by avf-aidl"
_HEAD = re.compile(
    r"# Written by avf-aidl: change the \.aidl file and run it again\.\n"
    r"# Source: (?P<path>\S+)\.aidl\n"
    r"(?:# Version: (?P<version>\d{1,10})\n)?(?:# Hash: (?P<hash>\w+)\n)?"
)
_LAZY = """
def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    found = getattr(import_module(_MODULES[name], __name__), name)
    globals()[name] = found
    return found

def __dir__() -> list[str]:
    return __all__
"""


@dataclass(frozen=True, slots=True)
class Head:
    """What the first lines of a type's module say."""

    path: str
    """Of its .aidl file, from where packages begin, without the ending."""
    version: int = 0
    hash: str = ""

    def lines(self) -> list[str]:
        lines = [f"{_WRITTEN}: change the .aidl file and run it again."]
        lines.append(f"# Source: {self.path}.aidl")
        lines += [f"# Version: {self.version}"] if self.version else []
        return [*lines, *([f"# Hash: {self.hash}"] if self.hash else [])]


def read_head(text: str) -> Head | None:
    """None for what is no module of a type that avf-aidl wrote."""
    match = _HEAD.match(text)
    if match is None:
        return None
    return Head(match["path"], int(match["version"] or 0), match["hash"] or "")


def is_written(text: str) -> bool:
    """Whether avf-aidl wrote a module, of whatever version."""
    return text.startswith(_WRITTEN) or "\n" + _WRITTEN in text


def read_exports(text: str) -> list[str]:
    """What a module that avf-aidl wrote says in `__all__`. Raises ValueError (SyntaxError, too) for no such module."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return [str(name) for name in ast.literal_eval(node.value)]
    raise ValueError("it has no __all__")


def package_text(paths: Mapping[str, str], exports: Mapping[str, str]) -> str:
    """`paths` are those of the .aidl files by module, `exports` the modules by the names they have."""
    packages = sorted({path.rpartition("/")[0].replace("/", ".") for path in paths.values()})
    lines = [f"{_WRITTEN}: change the .aidl files and run it again.", ""]
    lines += [f'"""AIDL package {", ".join(packages) or "without a name"}."""', ""]
    lines += ["from importlib import import_module", "from typing import TYPE_CHECKING", ""]
    lines += ["if TYPE_CHECKING:"]
    for module in sorted(set(exports.values()), key=module_key):
        names = [name for name, home in exports.items() if home == module]
        lines += import_lines(f".{module}", names, 4)
    lines += ["", *all_lines(exports), ""]
    lines += stack(0, "_MODULES = {", [f'"{n}": ".{exports[n]}"' for n in sorted(exports)], "}")
    body = _LAZY.strip("\n").split("\n\n")
    lines += ["", "if not TYPE_CHECKING:"]
    for function in body:
        lines += ["", *(f"    {line}" for line in function.split("\n"))]
    return "\n".join(lines) + "\n"
