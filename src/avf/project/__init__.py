"""From source to a signed APK: a script, a program, a library, C source, or a folder with one of them.

    with open("hello.apk", "w+b") as apk:
        built = build(Path("hello.py"), apk, debug_key().key)
    AppConfig(apk="hello.apk", payload_binary_name=built.main, ...)

What goes wrong raises ProjectError. Nothing of the source is executed, only the C compiler and pip.
Everything here is loaded when first used, and `cryptography` with it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avf.project.building import Built, Project, build, open_project
    from avf.project.errors import ProjectError
    from avf.project.keys import DebugKey, debug_key, debug_key_path, write_new
    from avf.project.recorded import recorded_main
    from avf.project.settings import check_package
    from avf.project.source import SourceKind, kind_of
    from avf.project.templates import TEMPLATES, make_project

__all__ = [
    "TEMPLATES",
    "Built",
    "DebugKey",
    "Project",
    "ProjectError",
    "SourceKind",
    "build",
    "check_package",
    "debug_key",
    "debug_key_path",
    "kind_of",
    "make_project",
    "open_project",
    "recorded_main",
    "write_new",
]

_MODULES = {
    "Built": "building",
    "DebugKey": "keys",
    "Project": "building",
    "ProjectError": "errors",
    "SourceKind": "source",
    "TEMPLATES": "templates",
    "build": "building",
    "check_package": "settings",
    "debug_key": "keys",
    "debug_key_path": "keys",
    "kind_of": "source",
    "make_project": "templates",
    "open_project": "building",
    "recorded_main": "recorded",
    "write_new": "keys",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = __import__(f"avf.project.{_MODULES[name]}", fromlist=[name])
    return getattr(module, name)
