"""Who may do what: AVF's permissions, granted by a TOML file.

    [MANAGE_VIRTUAL_MACHINE]      # also USE_CUSTOM_VIRTUAL_MACHINE, DEBUG_VIRTUAL_MACHINE, DUMP
    everyone = false
    uids = [1000]
    groups = ["avf"]              # names or gids; a user's supplementary groups count

uid 0 passes every check. A permission without a table is granted to nobody else. Without a file, a user's own service
grants its user everything, and the system service grants group `avf` everything.
"""

import grp
import os
import pwd
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

SYSTEM_POLICY_FILE = Path("/etc/avf/policy.toml")
MAX_POLICY_BYTES = 1 << 20


class Permission(Enum):
    MANAGE_VIRTUAL_MACHINE = "android.permission.MANAGE_VIRTUAL_MACHINE"
    USE_CUSTOM_VIRTUAL_MACHINE = "android.permission.USE_CUSTOM_VIRTUAL_MACHINE"
    DEBUG_VIRTUAL_MACHINE = "android.permission.DEBUG_VIRTUAL_MACHINE"
    DUMP = "android.permission.DUMP"


class PolicyError(ValueError):
    """The policy file cannot be used; the message names the file and the key."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Who has one permission."""

    everyone: bool = False
    uids: frozenset[int] = frozenset()
    gids: frozenset[int] = frozenset()

    def covers(self, uid: int, gids: Iterable[int]) -> bool:
        return self.everyone or uid in self.uids or not self.gids.isdisjoint(gids)


@dataclass(frozen=True, slots=True)
class Policy:
    """All grants; `source` says where they are from, for messages."""

    grants: dict[Permission, Grant] = field(default_factory=dict)
    source: str = "built-in policy"

    def allows(self, permission: Permission, uid: int) -> bool:
        if uid == 0:
            return True
        grant = self.grants.get(permission)
        return grant is not None and grant.covers(uid, groups_of(uid))


def denial(permission: Permission) -> str:
    """The message that goes with a refusal, in AVF's words."""
    return f"does not have the {permission.value} permission"


def load_policy(*, system: bool, file: Path = SYSTEM_POLICY_FILE) -> Policy:
    """The policy in force. Raises PolicyError if there is a file and it is no good."""
    try:
        with file.open("rb") as stream:
            text = stream.read(MAX_POLICY_BYTES + 1)
    except FileNotFoundError:
        return _builtin(system=system)
    except OSError as e:
        raise PolicyError(f"{file}: {e.strerror}") from e
    if len(text) > MAX_POLICY_BYTES:
        raise PolicyError(f"{file}: larger than {MAX_POLICY_BYTES} bytes")
    try:
        document = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise PolicyError(f"{file}: {e}") from e
    return Policy(
        {_permission(file, k): _grant(file, k, v) for k, v in document.items()}, str(file)
    )


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
    if any(type(u) is not int or u < 0 for u in uids):
        raise PolicyError(f"{where}.uids: must be a list of uids")
    gids = frozenset(_gid(where, group) for group in _list(where, "groups", table))
    return Grant(everyone, frozenset(uids), gids)


def _list(where: str, key: str, table: dict[str, Any]) -> list[Any]:
    value = table.get(key, [])
    if not isinstance(value, list):
        raise PolicyError(f"{where}.{key}: must be a list")
    return value


def _gid(where: str, group: Any) -> int:
    if type(group) is int and group >= 0:
        return group
    if not isinstance(group, str):
        raise PolicyError(f"{where}.groups: must be a list of group names or gids")
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise PolicyError(f"{where}.groups: no group named {group!r}") from None


def groups_of(uid: int) -> frozenset[int]:
    """The gids of a user, primary and supplementary; empty for a uid without an account."""
    try:
        account = pwd.getpwuid(uid)
    except KeyError:
        return frozenset()
    return frozenset(os.getgrouplist(account.pw_name, account.pw_gid))
