"""Run by the *guest's* interpreter on the building host: compiles modules to bytecode of exactly that interpreter.

Reads a marshalled request from stdin, writes a marshalled answer to stdout. Standard library only, and nothing of avf.
"""

import importlib
import importlib.util
import marshal
import pkgutil
import sys
import types
from typing import TypedDict

PYC_HEADER = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8)
"""Hash based and unchecked (PEP 552): no time stamp, no source to compare with."""


class Request(TypedDict):
    source_root: str
    """Directory that holds the `avf` package."""
    packages: list[str]
    """Packages of which every module that can be imported here is wanted, with all it imports."""
    skipped: list[str]
    """Modules (and packages) that are left out."""
    files: list[str]
    """Single sources to compile."""


class Answer(TypedDict):
    modules: dict[str, tuple[bool, bytes]]
    extensions: list[str]
    files: list[bytes]
    """Whole .pyc files."""
    failed: dict[str, str]


def compiled(path: str, origin: str) -> bytes:
    with open(path, "rb") as file:
        code = compile(file.read(), origin, "exec", dont_inherit=True, optimize=2)
    return marshal.dumps(code)


def module_names(package: str, skipped: list[str]) -> list[str]:
    module = importlib.import_module(package)
    names = [package]
    found = [info.name for info in pkgutil.walk_packages(module.__path__, f"{package}.")]
    prefixes = tuple(f"{name}." for name in skipped)
    return names + [name for name in found if name not in skipped and not name.startswith(prefixes)]


def collect(request: Request) -> Answer:
    failed: dict[str, str] = {}
    before = set(sys.modules)
    sys.path.insert(0, request["source_root"])
    for package in request["packages"]:
        for name in module_names(package, request["skipped"]):
            try:
                importlib.import_module(name)
            except ImportError as error:
                failed[name] = str(error)
    answer: Answer = {"modules": {}, "extensions": [], "files": [], "failed": failed}
    for name, module in sorted(sys.modules.items()):
        if name in before or not isinstance(module, types.ModuleType):
            continue
        path = getattr(module, "__file__", None)
        if path is None or getattr(module, "__spec__", None) is None:
            continue
        if path.endswith(".py"):
            is_package = hasattr(module, "__path__")
            answer["modules"][name] = (is_package, compiled(path, f"<{name}>"))
        else:
            answer["extensions"].append(path)
    answer["files"] = [
        PYC_HEADER + compiled(path, f"<{path.rpartition('/')[2]}>") for path in request["files"]
    ]
    return answer


if __name__ == "__main__":
    sys.stdout.buffer.write(marshal.dumps(dict(collect(marshal.load(sys.stdin.buffer)))))
