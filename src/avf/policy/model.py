"""Permissions, who has them, and the question whether somebody has one."""

import os
import pwd
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from avf.expiring import ExpiringCache

GROUPS_SECONDS = 5.0
_MAX_GROUPS = 1024


class Permission(Enum):
    """The value is Android's name; `action` is polkit's."""

    MANAGE_VIRTUAL_MACHINE = "android.permission.MANAGE_VIRTUAL_MACHINE"
    USE_CUSTOM_VIRTUAL_MACHINE = "android.permission.USE_CUSTOM_VIRTUAL_MACHINE"
    DEBUG_VIRTUAL_MACHINE = "android.permission.DEBUG_VIRTUAL_MACHINE"
    DUMP = "android.permission.DUMP"

    @property
    def action(self) -> str:
        return f"org.avf.{self.name.lower().replace('_', '-')}"


class PolicyError(ValueError):
    """The policy file cannot be used; the message names the file and the key."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Who has one permission."""

    everyone: bool = False
    uids: frozenset[int] = frozenset()
    gids: frozenset[int] = frozenset()

    def covers(self, uid: int, gids: Iterable[int]) -> bool:
        """Whether a process with that uid and those groups has the permission."""
        return self.everyone or uid in self.uids or not self.gids.isdisjoint(gids)


@dataclass(frozen=True, slots=True)
class Policy:
    """All grants; `source` says where they are from, for messages."""

    grants: dict[Permission, Grant] = field(default_factory=dict)
    source: str = "built-in policy"
    polkit: bool = False
    """Whether polkit is asked about those whom no grant covers."""

    def allows(self, permission: Permission, uid: int, pid: int | None = None) -> bool:
        """Whether `uid` has `permission`.

        `pid` is the process that polkit is asked about; for the calling user it need not be given. polkit may take
        seconds; if it cannot be asked, the answer is no.
        """
        if uid == 0 or self.covers(permission, uid):
            return True
        if pid is None and uid == os.getuid():
            pid = os.getpid()
        if not self.polkit or pid is None:
            return False
        from avf.policy.polkit import is_authorized

        return is_authorized(permission.action, uid, pid)

    def names(self, uid: int) -> bool:
        """Whether a grant has `uid` in its list of uids."""
        return any(uid in grant.uids for grant in self.grants.values())

    def covers(self, permission: Permission, uid: int) -> bool:
        """Whether a grant is for `uid`, by its uid or by a group."""
        grant = self.grants.get(permission)
        return grant is not None and grant.covers(uid, groups_of(uid))


def denial(permission: Permission) -> str:
    """The message that goes with a refusal, in AVF's words."""
    return f"does not have the {permission.value} permission"


def groups_of(uid: int) -> frozenset[int]:
    """The gids of a user, primary and supplementary; empty for a uid without an account. Up to GROUPS_SECONDS old."""
    return _groups.get(uid, lambda: _look_up_groups(uid))


def _look_up_groups(uid: int) -> frozenset[int]:
    """May take long, and hold up all threads: os.getgrouplist keeps the interpreter to itself."""
    try:
        account = pwd.getpwuid(uid)
    except KeyError:
        return frozenset()
    return frozenset(os.getgrouplist(account.pw_name, account.pw_gid))


_groups = ExpiringCache[frozenset[int]](GROUPS_SECONDS, _MAX_GROUPS)
