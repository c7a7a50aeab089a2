"""Runs a payload that is a Python script in a process forked from the agent, where interpreter and modules are ready.

To the script it looks as if the interpreter had been started with it.
"""

import atexit
import builtins
import gc
import os
import sys
import threading
from types import CodeType, TracebackType
from typing import Any

_FAILED = 1


def run_script(path: str) -> int:
    """The exit code the interpreter would end with; threads have ended, exit handlers have run, output is flushed."""
    gc.freeze()  # what is the agent's must not be finalized here: its descriptors are others' by now
    _set_up(path)
    try:
        code = _run(path)
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                pass
    return code


def _set_up(path: str) -> None:
    import _sitebuiltins

    sys.argv = [path]
    sys.path.insert(0, os.path.dirname(path))
    for name in ("exit", "quit"):
        setattr(builtins, name, _sitebuiltins.Quitter(name, "Ctrl-D (i.e. EOF)"))


def _run(path: str) -> int:
    main: Any = type(sys)("__main__")
    main.__file__ = path
    main.__builtins__ = builtins
    sys.modules["__main__"] = main
    try:
        exec(_compile(path), main.__dict__)
    except SystemExit as end:
        return _exit_code(end.code)
    except BaseException as error:  # noqa: BLE001
        traceback = _without_our_frames(error.__traceback__)
        sys.excepthook(type(error), error.with_traceback(traceback), traceback)
        return _FAILED
    return 0


def _without_our_frames(traceback: TracebackType | None) -> TracebackType | None:
    while traceback is not None and traceback.tb_frame.f_globals is globals():
        traceback = traceback.tb_next
    return traceback


def _compile(path: str) -> CodeType:
    with open(path, "rb") as file:
        source = file.read()
    return compile(source, path, "exec", dont_inherit=True)


def _exit_code(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return _FAILED
