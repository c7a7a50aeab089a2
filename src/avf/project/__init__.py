"""From source to a signed APK: a script, a program, a library, C source, or a folder with one of them.

    with open("hello.apk", "w+b") as apk:
        built = build(Path("hello.py"), apk, debug_key().key)
    AppConfig(apk="hello.apk", payload_binary_name=built.main, ...)

What goes wrong raises ProjectError. Nothing of the source is executed, only the C compiler and pip.
"""

from avf.project.build import Built, Project, build, open_project
from avf.project.errors import ProjectError
from avf.project.keys import DebugKey, debug_key, debug_key_path
from avf.project.recorded import recorded_main
from avf.project.source import SourceKind, kind_of

__all__ = [
    "Built",
    "DebugKey",
    "Project",
    "ProjectError",
    "SourceKind",
    "build",
    "debug_key",
    "debug_key_path",
    "kind_of",
    "open_project",
    "recorded_main",
]
