"""Run by the *guest's* interpreter on the building host: compiles modules to bytecode of exactly that interpreter.

Reads a marshalled request from stdin, writes a marshalled answer to stdout:

    request: source_root   directory that holds the `avf` package
             modules       names of wanted modules, with all they import; what cannot be imported is left out
             files         single sources to compile, each as (path, the name it has in the guest, optimization level)
    answer:  modules       name -> (is a package, marshalled code)
             extensions    paths of extension modules that were loaded
             files         whole .pyc files
             failed        name -> why it cannot be imported
             expressions   text -> marshalled code, of each expression that `collections` evaluates meanwhile

Imports nothing but what every interpreter has loaded at its start, so that what the modules import shows.
"""

import marshal
import sys
from _frozen_importlib_external import MAGIC_NUMBER

PYC_HEADER = MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8)
"""Hash based and unchecked (PEP 552): no time stamp, no source to compare with."""


def compiled(path: str, origin: str, optimize: int = 2) -> bytes:
    with open(path, "rb") as file:
        code = compile(file.read(), origin, "exec", dont_inherit=True, optimize=optimize)
    return marshal.dumps(code)


def origin_of(name: str, path: str) -> str:
    """Where the guest has the source: only that of the standard library is there."""
    home = f"{sys.prefix}/"
    return f"/usr/{path[len(home) :]}" if path.startswith(home) else f"<{name}>"


def import_all(names: list[str]) -> dict[str, str]:
    """Imports each; what a failed import had loaded on its way is forgotten."""
    failed = {}
    for name in names:
        before = set(sys.modules)
        try:
            __import__(name)
        except ImportError as error:
            failed[name] = str(error)
            for loaded in set(sys.modules) - before:
                del sys.modules[loaded]
    return failed


def record_expressions() -> dict[str, bytes]:
    """What `collections` will evaluate: a constructor for each class that namedtuple() makes."""
    import collections

    found = {}

    def evaluate(text: str, namespace: dict[str, object]) -> object:
        found[text] = marshal.dumps(compile(text, "<string>", "eval", dont_inherit=True))
        return eval(text, namespace)

    vars(collections)["eval"] = evaluate
    return found


def collect(
    source_root: str, modules: list[str], files: list[tuple[str, str, int]]
) -> dict[str, object]:
    before = set(sys.modules)
    expressions = record_expressions()
    sys.path.insert(0, source_root)
    failed = import_all(modules)
    bytecode = {}
    extensions = []
    for name, module in sorted(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if name in before or path is None or getattr(module, "__spec__", None) is None:
            continue
        if path.endswith(".py"):
            bytecode[name] = (hasattr(module, "__path__"), compiled(path, origin_of(name, path)))
        else:
            extensions.append(path)
    singles = [PYC_HEADER + compiled(*file) for file in files]
    return {
        "modules": bytecode,
        "extensions": extensions,
        "files": singles,
        "failed": failed,
        "expressions": expressions,
    }


if __name__ == "__main__":
    sys.stdout.buffer.write(marshal.dumps(collect(**marshal.load(sys.stdin.buffer))))
