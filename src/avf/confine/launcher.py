"""Gives up rights, then executes a program: run by the path of this file, with neither site-packages nor environment.

    python -I -S launcher.py ORDERS COMMAND...

ORDERS is a JSON object, see `limited.Orders`.
"""

import ctypes
import json
import os
import signal
import sys
from typing import Any

if not __package__:
    sys.path.insert(0, __file__.rsplit("/", 3)[0])

from avf.confine import landlock
from avf.confine.box import Filter
from avf.confine.filters import compile_filter

_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_CAPBSET_DROP = 1, 22, 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_SECCOMP_MODE_FILTER = 2
_SIGKILL = 9
_INSTRUCTION_SIZE = 8
_CAPABILITIES = 64
_CAPABILITY_VERSION_3 = 0x20080522


class _FilterProgram(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def main(orders: dict[str, Any], command: list[str]) -> None:
    """Returns only by an exception."""
    library = ctypes.CDLL(None, use_errno=True)
    rules = compile_filter(
        Filter(orders["filter"]), signals_to=os.getpid(), kept_whole=orders["kept_whole"]
    )
    _prctl(library, _PR_SET_NO_NEW_PRIVS, 1)
    if landlock.version():
        landlock.restrict(_rules(orders))
    _give_up_capabilities(library, orders["uid"], orders["groups"])
    # The death signal is lost when the uid changes, and the parent may have died meanwhile.
    _prctl(library, _PR_SET_PDEATHSIG, _SIGKILL)
    if os.getppid() != orders["parent"]:
        sys.exit(125)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # which this interpreter ignores
    program = _FilterProgram(len(rules) // _INSTRUCTION_SIZE, rules)
    _prctl(library, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program))
    os.execv(command[0], command)


def _rules(orders: dict[str, Any]) -> list[tuple[str | int, int]]:
    return [
        *((path, landlock.READ) for path in orders["readable"]),
        *((path, landlock.LIST) for path in orders["listed"]),
        *((fd, landlock.READ) for fd in orders["images"]),
        *((path, landlock.DEVICE) for path in orders["devices"]),
    ]


def _give_up_capabilities(library: Any, uid: int | None, groups: list[int]) -> None:
    """Of this process and of what it executes; root becomes `uid` if that is given."""
    for capability in range(_CAPABILITIES):
        if library.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
            break
    library.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    if uid is not None:
        os.setgroups(groups)
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    library.capset(_CAPABILITY_VERSION_3.to_bytes(4, "little") + bytes(4), bytes(24))


def _prctl(library: Any, option: int, *arguments: Any) -> None:
    padded = [*arguments, *(4 - len(arguments)) * [0]]
    if library.prctl(option, *padded) < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl {option}: {os.strerror(error)}")


try:
    main(json.loads(sys.argv[1]), sys.argv[2:])
except Exception as failure:  # noqa: BLE001  the program must not run
    sys.exit(f"confinement: {failure}")
