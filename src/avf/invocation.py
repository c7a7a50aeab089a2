"""How a payload is called: its arguments and its environment. The host gives them; nothing verifies them.

So in a guest that is not debuggable they must not decide which code runs. `check` refuses the variables by which a
loader or an interpreter takes in further code; client, virtmgr and guest all call it, and the guest's word counts.
"""

from collections.abc import Mapping, Sequence

MAX_STRINGS = 1024
"""Arguments, and as many variables."""
MAX_BYTES = 64 << 10
"""Of all arguments, names and values together, each with the byte that ends it."""

_CODE_PREFIXES = ("LD_", "PYTHON", "PERL", "RUBY", "NODE_", "LUA_", "MALLOC_", "BASH_FUNC_")
_CODE_NAMES = frozenset(
    ("BASH_ENV", "ENV", "GCONV_PATH", "GETCONF_DIR", "GLIBC_TUNABLES", "HOME", "IFS", "LOCPATH", "NLSPATH", "PATH",
     "SHELL", "SHELLOPTS", "BASHOPTS", "PS4", "TMPDIR")
)  # fmt: skip
"""Of the guest's loader, its C library, shells and interpreters; and where programs and their settings are found."""


class InvocationError(ValueError):
    """Arguments or variables that a payload does not get. The text names the one."""


def check(arguments: Sequence[str], environment: Mapping[str, str], *, debuggable: bool) -> None:
    """Raises InvocationError, which names the argument or the variable."""
    if len(arguments) > MAX_STRINGS:
        raise InvocationError(f"{len(arguments)} arguments, at most {MAX_STRINGS} are allowed")
    if len(environment) > MAX_STRINGS:
        raise InvocationError(f"{len(environment)} variables, at most {MAX_STRINGS} are allowed")
    size = sum(_size(f"argument {n}", text) for n, text in enumerate(arguments, 1))
    for name, value in environment.items():
        _check_name(name, debuggable)
        size += _size(f"variable {name}", f"{name}={value}")
    if size > MAX_BYTES:
        raise InvocationError(
            f"arguments and variables have {size} bytes, at most {MAX_BYTES} are allowed"
        )


def _check_name(name: str, debuggable: bool) -> None:
    if not name or "=" in name:
        raise InvocationError(f"{name!r} is no name of an environment variable")
    if not debuggable and (name.startswith(_CODE_PREFIXES) or name in _CODE_NAMES):
        raise InvocationError(
            f"variable {name} can change which code runs; only a debuggable VM takes it"
        )


def _size(what: str, text: str) -> int:
    if "\0" in text:
        raise InvocationError(f"{what} has a NUL in it")
    try:
        return len(text.encode()) + 1
    except UnicodeEncodeError:
        raise InvocationError(f"{what} is not Unicode: {text!r}") from None
