"""From source to a signed APK: a script, a program, a library, C source, or a folder with one of them.

    with open("hello.apk", "w+b") as apk:
        built = build(Path("hello.py"), apk, debug_key().key)
    AppConfig(apk="hello.apk", payload_binary_name=built.main, ...)

What goes wrong raises ProjectError. Nothing of the source is executed, only the C compiler and pip.
"""

from avf.project.build import Built, Project, build, open_project
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
