"""Runs a payload that is a Python script in a process forked from the agent, where interpreter and modules are ready.

To the script it looks as if the interpreter had been started with it: PID 1, whose fork this is, was started without
options and in the environment's locale, and what has been done to the interpreter since is undone here.
"""

import atexit
import builtins
import collections
import gc
import io
import os
import sys
import threading
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader, SourcelessFileLoader
from types import CodeType, TracebackType
from typing import Any, NoReturn

from avf.guest import SITE_PACKAGES

_FAILED = 1
_REDUCED = ("hashlib", "hmac", "shutil")
"""Modules that the agent imported before OpenSSL, bz2 and lzma were there, and that have found out once and for all."""


def run_script(arguments: Sequence[str]) -> NoReturn:
    """Ends the process as the interpreter would. `arguments`: the script's path, and its own."""
    gc.freeze()  # what is the agent's must not be looked at again
    become_interpreter(arguments)
    end_interpreter(_run(arguments[0]))


def become_interpreter(arguments: Sequence[str]) -> None:
    """Makes of this interpreter one that has just been started with a script and its arguments."""
    path = arguments[0]
    sys.argv = list(arguments)
    sys.orig_argv = [sys.executable, *arguments]
    sys.path.insert(0, os.path.dirname(os.path.realpath(path)))
    if os.path.isdir(SITE_PACKAGES):
        sys.path.append(SITE_PACKAGES)  # as avf.pth has it done
    sys.path_importer_cache.clear()  # they know the folders of another /usr
    for finder in sys.meta_path:
        if hasattr(finder, "ours_only"):
            finder.ours_only = True
    vars(collections).pop("eval", None)  # see avf.guest.bundle
    renew_modules()
    forget_home()
    open_streams()
    set_signals()


def renew_modules() -> None:
    """The standard library's modules as the interpreter imports them, with its own loaders."""
    for name in _REDUCED:
        sys.modules.pop(name, None)
    for module in list(sys.modules.values()):
        _give_loader(module, getattr(module, "__spec__", None))


def _give_loader(module: Any, spec: Any) -> None:
    """That of a source, to a module that came out of the bundle or out of what the interpreter starts with."""
    loader = getattr(spec, "loader", None)
    if isinstance(loader, SourcelessFileLoader):
        spec.origin = module.__file__ = spec.origin.removesuffix("c")
        spec.cached = None  # found out anew
        module.__cached__ = spec.cached
    elif not (hasattr(loader, "ours_only") and spec.has_location):
        return
    spec.loader = module.__loader__ = SourceFileLoader(spec.name, spec.origin)


def forget_home() -> None:
    """The user's site-packages were those of PID 1."""
    site: Any = sys.modules.get("site")
    if site is not None:
        site.USER_BASE = site.USER_SITE = None
        site.getusersitepackages()


def open_streams() -> None:
    """sys.stdin and the others as at the start: they were made for what descriptors 0 to 2 were then."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        stream = _stream(fd, f"<{name}>")
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _stream(fd: int, name: str) -> io.TextIOWrapper:
    """As the interpreter makes it in the locale C.UTF-8: create_stdio() in Python/pylifecycle.c of CPython."""
    raw = io.FileIO(fd, "r" if fd == 0 else "w", closefd=False)
    buffer: Any = io.BufferedReader(raw) if fd == 0 else io.BufferedWriter(raw)
    raw.name = name
    errors = "backslashreplace" if fd == 2 else "surrogateescape"
    line_buffering = fd == 2 or raw.isatty()
    stream = io.TextIOWrapper(
        buffer, "utf-8", errors, newline="\n" if fd else None, line_buffering=line_buffering
    )
    stream.mode = "w" if fd else "r"  # type: ignore[misc]
    return stream


def set_signals() -> None:
    """As the interpreter sets them at its start."""
    import signal

    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def end_interpreter(code: int) -> NoReturn:
    """Waits for threads, runs exit handlers, flushes what is open, and ends the process."""
    import ctypes

    ctypes.pythonapi.Py_Exit(code)
    raise AssertionError


def _run(path: str) -> int:
    main: Any = type(sys)("__main__")
    main.__file__ = path
    main.__cached__ = None
    main.__builtins__ = builtins
    main.__annotations__ = {}
    main.__loader__ = SourceFileLoader("__main__", path)
    sys.modules["__main__"] = main
    try:
        exec(_compile(path), main.__dict__)
    except SystemExit as end:
        return _exit_code(end.code)
    except KeyboardInterrupt as error:
        _print(error)
        _end_interrupted(main)
    except BaseException as error:  # noqa: BLE001
        _print(error)
        return _FAILED
    return 0


def _end_interrupted(main: Any) -> NoReturn:
    """Ends the process by SIGINT, as the interpreter does, so that whoever waits for it knows why."""
    import signal

    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    main.__dict__.clear()
    gc.collect()
    sys.stdout.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
    raise AssertionError


def _print(error: BaseException) -> None:
    traceback = _without_our_frames(error.__traceback__)
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, traceback
    sys.excepthook(type(error), error.with_traceback(traceback), traceback)


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
