#!/usr/bin/python3
"""Compares the modules that are loaded when a script begins with those of an interpreter that imports them itself.

Each line it prints is `MODULE.NAME: what is here, what is there`, the last one `done`.
"""

import sys

AT_THE_START = sorted(name for name in sys.modules if not name.startswith(("avf", "__main__")))

import importlib  # noqa: E402
import importlib.resources  # noqa: E402
import json  # noqa: E402
import subprocess  # noqa: E402
import warnings  # noqa: E402


def described(value):
    if isinstance(value, (bool, str, type(None))):
        return repr(value)
    if isinstance(value, (dict, list, tuple, set, frozenset)):
        texts = {item for item in value if isinstance(item, str) and not item.startswith("avf")}
        return sorted(texts)
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    return [type(value).__name__, getattr(value, "__module__", None), name]


def module(name):
    """What its names mean; not its submodules, and not which encodings have been used."""
    values = vars(importlib.import_module(name)).items()
    found = {
        key: described(value)
        for key, value in values
        if key not in ("__doc__", "_cache") and getattr(value, "__name__", "") != f"{name}.{key}"
    }
    loader = getattr(importlib.import_module(name), "__loader__", None)
    return found | {"__loader__": type(loader).__name__}


def modules(names):
    return {name: module(name) for name in names if name != "sys"}


def run_as_main(name):
    return importlib.import_module("runpy").run_module(name, run_name="not main")["__name__"]


warnings.simplefilter("ignore")
if len(sys.argv) > 1:
    print(json.dumps(modules(json.loads(sys.argv[1]))))
    sys.exit()

command = [sys.executable, __file__, json.dumps(AT_THE_START)]
there = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
here = json.loads(json.dumps(modules(AT_THE_START)))
for name in AT_THE_START:
    mine, own = here.get(name, {}), there.get(name, {})
    for key in sorted(mine.keys() | own.keys()):
        if mine.get(key, "nothing") != own.get(key, "nothing"):
            print(f"{name}.{key}: {mine.get(key, 'nothing')}, {own.get(key, 'nothing')}")
for name in ("heapq", "struct", "threading"):
    assert run_as_main(name) == "not main"
assert "OrderedDict" in importlib.resources.files("collections").joinpath("__init__.py").read_text()
print("done")
