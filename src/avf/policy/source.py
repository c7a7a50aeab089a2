"""Where the policy is from: a file that root alone can write, or what is built in."""

import grp
import logging
import os
import stat
import threading
import tomllib
from pathlib import Path
from typing import Any

from avf.policy.model import Grant, Permission, Policy, PolicyError
from avf.trust import others_may_write

SYSTEM_POLICY_FILE = Path("/etc/avf/policy.toml")
"""The policy of the system's service; see `load_policy`."""
MAX_POLICY_BYTES = 64 << 10
"""Reading TOML takes time that may grow with the square of the size."""
MAX_ID = (1 << 32) - 2
"""The largest uid and gid."""

log = logging.getLogger(__name__)


def load_policy(*, system: bool, file: Path = SYSTEM_POLICY_FILE) -> Policy:
    """The policy in force. Raises PolicyError if there is a file and it is no good."""
    text = _read(file)
    if text is None:
        return _builtin(system=system)
    try:
        document = tomllib.loads(text.decode())
    except RecursionError as e:
        raise PolicyError(f"{file}: nested too deeply") from e
    except ValueError as e:  # what is no TOML, no UTF-8, no number
        raise PolicyError(f"{file}: {e}") from e
    polkit = document.pop("polkit", False)
    if not isinstance(polkit, bool):
        raise PolicyError(f"{file}: polkit: must be true or false")
    grants = {_permission(file, k): _grant(file, k, v) for k, v in document.items()}
    return Policy(grants, str(file), polkit)


class PolicyFile:
    """The policy of a service that runs for long: a changed file counts from the next question on."""

    def __init__(self, *, system: bool, file: Path = SYSTEM_POLICY_FILE) -> None:
        """Raises PolicyError."""
        self._system = system
        self._file = file
        self._lock = threading.Lock()
        self._state = self._look()
        self._policy = load_policy(system=system, file=file)

    def current(self) -> Policy:
        """The policy in force. A changed file that is no good is an error in the log; the former policy stays."""
        with self._lock:
            if (state := self._look()) != self._state:
                self._state = state
                try:
                    self._policy = load_policy(system=self._system, file=self._file)
                except PolicyError as e:
                    log.error("the former policy stays in force: %s", e)
                else:
                    log.info("the policy has changed: %s", self._policy.source)
            return self._policy

    def _look(self) -> tuple[int, ...]:
        try:
            status = self._file.stat()
        except OSError as e:
            return (e.errno or 0,)
        return (
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
        )


def _read(file: Path) -> bytes | None:
    """The file's bytes, None if there is none. Raises PolicyError if others than root or we could have written it."""
    try:
        with open(file, "rb", opener=_open) as stream:
            _check(file, stream.fileno())
            text = stream.read(MAX_POLICY_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise PolicyError(f"{file}: {e.strerror}") from e
    if len(text) > MAX_POLICY_BYTES:
        raise PolicyError(f"{file}: larger than {MAX_POLICY_BYTES} bytes")
    return text


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe in its place must not stop us


def _check(file: Path, fd: int) -> None:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise PolicyError(f"{file}: is not a regular file")
    if status.st_uid not in (0, os.geteuid()):
        raise PolicyError(f"{file}: must belong to root, not to uid {status.st_uid}")
    if others_may_write(fd, status):
        raise PolicyError(f"{file}: must be writable for its owner alone (chmod go-w)")


def _builtin(*, system: bool) -> Policy:
    if not system:
        grant = Grant(uids=frozenset({os.getuid()}))
        return Policy(dict.fromkeys(Permission, grant), "built-in policy of a user's own service")
    try:
        grant = Grant(gids=frozenset({grp.getgrnam("avf").gr_gid}))
    except KeyError:
        grant = Grant()
    return Policy(dict.fromkeys(Permission, grant), "built-in policy of the system service")


def _permission(file: Path, name: str) -> Permission:
    try:
        return Permission[name]
    except KeyError:
        known = ", ".join(p.name for p in Permission)
        raise PolicyError(f"{file}: {name}: no such permission (there are {known})") from None


def _grant(file: Path, name: str, table: Any) -> Grant:
    where = f"{file}: {name}"
    if not isinstance(table, dict):
        raise PolicyError(f"{where}: must be a table")
    if unknown := table.keys() - {"everyone", "uids", "groups"}:
        raise PolicyError(f"{where}: unknown key {sorted(unknown)[0]!r}")
    everyone = table.get("everyone", False)
    if not isinstance(everyone, bool):
        raise PolicyError(f"{where}.everyone: must be true or false")
    uids = _list(where, "uids", table)
    if any(type(u) is not int or not 0 <= u <= MAX_ID for u in uids):
        raise PolicyError(f"{where}.uids: must be a list of uids")
    gids = frozenset(_gid(where, group) for group in _list(where, "groups", table))
    return Grant(everyone, frozenset(uids), gids)


def _list(where: str, key: str, table: dict[str, Any]) -> list[Any]:
    value = table.get(key, [])
    if not isinstance(value, list):
        raise PolicyError(f"{where}.{key}: must be a list")
    return value


def _gid(where: str, group: Any) -> int:
    if type(group) is int and 0 <= group <= MAX_ID:
        return group
    if not isinstance(group, str):
        raise PolicyError(f"{where}.groups: must be a list of group names or gids")
    try:
        return grp.getgrnam(group).gr_gid
    except (KeyError, ValueError):  # a name with a NUL in it
        raise PolicyError(f"{where}.groups: no group named {group!r}") from None
