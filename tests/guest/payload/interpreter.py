#!/usr/bin/python3
"""Prints, as one line of JSON, what an interpreter that was started with a script can tell of itself.

In a guest it does so twice: then as a script that the interpreter has been executed for.
"""

import asyncio
import builtins
import gc
import inspect
import json
import locale
import multiprocessing
import os
import pickle
import resource
import signal
import site
import sys
import threading
import time
import warnings


def name_of(thing):
    return getattr(thing, "__name__", None) or getattr(thing, "name", type(thing).__name__)


def stream(it):
    return {
        "type": type(it).__name__,
        "buffer": type(it.buffer).__name__,
        "raw": type(it.buffer.raw).__name__,
        "raw name": it.buffer.raw.name,
        "name": it.name,
        "mode": [it.mode, it.buffer.mode, it.buffer.raw.mode],
        "encoding": it.encoding,
        "errors": it.errors,
        "fd": it.fileno(),
        "buffers lines only at a terminal": it.line_buffering == (it.isatty() or it is sys.stderr),
        "write through": it.write_through,
        "is the first": it is getattr(sys, f"__{it.name.strip('<>')}__"),
        "closes its descriptor": it.buffer.raw.closefd,
    }


def double(queue, value):
    queue.put((value * 2, __name__ != "__main__", len(sys.argv)))


def start_methods():
    results = {}
    for method in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context(method)
        queue = context.Queue()
        process = context.Process(target=double, args=(queue, 21))
        process.start()
        results[method] = [*queue.get(), process.join(), process.exitcode]
    return results


def limits():
    names = [name for name in dir(resource) if name.startswith("RLIMIT_CORE")]
    return {name: resource.getrlimit(getattr(resource, name)) for name in names}


async def answer():
    await asyncio.sleep(0)
    process = await asyncio.create_subprocess_exec("/bin/true")
    return await process.wait()


class Pickled:
    pass


def describe():
    main = sys.modules["__main__"]
    own = {"describe", "double", "stream", "name_of"}
    return {
        "flags": str(sys.flags),
        "warning options": sys.warnoptions,
        "warning filters": [[entry[0], name_of(entry[2])] for entry in warnings.filters],
        "options": sys._xoptions,
        "argv": [os.path.basename(text) for text in sys.argv],
        "command line": [os.path.basename(text) for text in sys.orig_argv[1:]],
        "first of the path": sys.path[0] == os.path.dirname(os.path.realpath(__file__)),
        "repeats in the path": len(sys.path) - len(set(sys.path)),
        "main": {key: name_of(type(value)) for key, value in MAIN.items()},
        "main's values": [__name__, __spec__, __package__, __cached__, __doc__ is not None],
        "main is": [
            main.__dict__ is globals(),
            own <= set(globals()),
            __file__ == os.path.abspath(sys.argv[0]),
        ],
        "pickles": type(pickle.loads(pickle.dumps(Pickled()))) is Pickled,
        "signals": {
            int(n): name_of(signal.getsignal(n)) for n in signal.Signals if n not in (9, 19)
        },
        "blocked signals": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "streams": [stream(it) for it in (sys.stdin, sys.stdout, sys.stderr)],
        "builtins": sorted(name for name in vars(builtins) if not name.startswith("_")),
        "hooks": [
            sys.excepthook is sys.__excepthook__,
            sys.displayhook is sys.__displayhook__,
            sys.unraisablehook is sys.__unraisablehook__,
            sys.breakpointhook is sys.__breakpointhook__,
        ],
        "finders": [name_of(it) for it in sys.meta_path if name_of(it) in FINDERS],
        "path hooks": [name_of(hook) for hook in sys.path_hooks],
        "recursion": sys.getrecursionlimit(),
        "switching": sys.getswitchinterval(),
        "bytecode": [sys.dont_write_bytecode, sys.pycache_prefix],
        "garbage": [gc.isenabled(), gc.get_threshold(), gc.get_debug()],
        "threads": [f"{type(t).__name__} {t.name}" for t in threading.enumerate()],
        "main thread": threading.main_thread() is threading.current_thread(),
        "identities": threading.get_native_id() == os.getpid(),
        "umask": os.umask(0o22),
        "encodings": [
            sys.getfilesystemencoding(),
            sys.getfilesystemencodeerrors(),
            locale.getpreferredencoding(),
            locale.setlocale(locale.LC_CTYPE),
            locale.setlocale(locale.LC_ALL, ""),
        ],
        "time zone": time.tzname,
        "python's environment": sorted(k for k in os.environ if k.startswith("PYTHON")),
        "user's packages": [
            site.ENABLE_USER_SITE,
            site.getuserbase() == f"{os.environ['HOME']}/.local",
        ],
        "children": start_methods(),
        "loops": asyncio.run(answer()),
        "trace": [sys.gettrace(), sys.getprofile()],
        "core": limits(),
        "documentation": [json.__doc__ is not None, asyncio.run.__doc__ is not None],
        "source of the library": inspect.getsource(threading.Thread)[:5],
    }


FINDERS = ["BuiltinImporter", "FrozenImporter", "PathFinder"]
MAIN = {key: value for key, value in globals().items() if key.startswith("__")}
if __name__ == "__main__":
    print(json.dumps(describe()), flush=True)
    if __file__.startswith("/mnt/apk") and "AGAIN" not in os.environ:
        os.environ["AGAIN"] = "yes"
        os.execv(sys.executable, [sys.executable, __file__])
