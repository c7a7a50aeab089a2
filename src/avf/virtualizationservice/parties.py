"""For whom a request counts: the parties among whom everything is shared out.

A uid is not a person: with user namespaces one user has tens of thousands of them (subuid(5)), each of which could
ask for a share of its own. So a uid of somebody's range counts for the owner of the range, who can become any of them.
"""

import pwd
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from avf.binder import Peer
from avf.expiring import ExpiringCache
from avf.policy import PolicyFile
from avf.virtualizationservice.subuid import SUBUID_FILE, SubuidFile

CACHE_MAX = 4096
CACHE_SECONDS = 60.0
MAX_HOPS = 8
"""An owner of a range may itself be in somebody's range."""


class Standing(Enum):
    """What kind of a party it is; each kind has a share that those after it cannot take."""

    ROOT = "root"
    KNOWN = "known"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Party:
    """`uid` is the user's, or the user's who owns the range; None: all who are unknown, together."""

    standing: Standing
    uid: int | None = None

    @property
    def name(self) -> str:
        """Short, unique, fit for a file name."""
        if self.uid is None:
            return "unknown"
        return "subordinates-of-0" if self == SUBORDINATES_OF_ROOT else str(self.uid)

    def __str__(self) -> str:
        if self.uid is None:
            return "all users without an account together"
        if self == SUBORDINATES_OF_ROOT:
            return "all uids in ranges of root together"
        return f"uid {self.uid}"


ROOT = Party(Standing.ROOT, 0)
UNKNOWN = Party(Standing.UNKNOWN)
SUBORDINATES_OF_ROOT = Party(Standing.KNOWN, 0)
"""Containers that root runs have no part in root's own share."""


def party_named(name: str) -> Party | None:
    """The party with that name; whether its user still has an account is not asked."""
    if name.isascii() and name.isdecimal() and str(int(name)) == name:
        return Party(Standing.KNOWN, int(name)) if int(name) else ROOT
    return {p.name: p for p in (UNKNOWN, SUBORDINATES_OF_ROOT)}.get(name)


class Parties:
    """Finds the party of a uid or a peer.

    In this order: root; the owner of the subordinate range that the uid lies in; the user itself, if the policy names
    its uid, or it has an account or a range of its own; else all others together. The last is also where the kernel's
    overflow uid belongs, which stands for any uid that has no name in our user namespace.
    """

    def __init__(
        self,
        policy: PolicyFile | None = None,
        *,
        subuid: Path = SUBUID_FILE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy = policy
        self._subuid = SubuidFile(subuid)
        self._accounts = ExpiringCache[bool](CACHE_SECONDS, CACHE_MAX, clock)
        self._uids = ExpiringCache[int | None](CACHE_SECONDS, CACHE_MAX, clock)
        self._overflow = _overflow_uid()

    def __call__(self, peer: Peer) -> Party:
        """The party of whoever is at the other end of a connection."""
        return self.of(peer.uid)

    def of(self, uid: int | None) -> Party:
        """Never fails. May take as long as the host takes to look up an account it was not asked about lately."""
        if uid == 0:
            return ROOT
        if uid is None or uid == self._overflow:
            return UNKNOWN
        owner = self._owner(uid)
        if owner == 0:
            return SUBORDINATES_OF_ROOT
        if owner != uid or self._is_known(uid):
            return Party(Standing.KNOWN, owner)
        return UNKNOWN

    def _owner(self, uid: int) -> int:
        """Whose range `uid` is in, in the end; itself if in none."""
        seen = [uid]
        while len(seen) < MAX_HOPS:
            text = self._subuid.owner_of(seen[-1])
            owner = None if text is None else self._uid_of(text)
            if owner is None or owner in seen:
                break
            seen.append(owner)
        return seen[-1]

    def _uid_of(self, owner: str) -> int | None:
        if owner.isascii() and owner.isdecimal():
            return int(owner)
        return self._uids.get(owner, lambda: _uid_named(owner))

    def _is_known(self, uid: int) -> bool:
        if self._policy is not None and self._policy.current().names(uid):
            return True
        return self._accounts.get(uid, lambda: self._has_account(uid))

    def _has_account(self, uid: int) -> bool:
        try:
            name = pwd.getpwuid(uid).pw_name
        except (KeyError, OverflowError):
            return self._subuid.is_owner(str(uid))
        return bool(name)


def _uid_named(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):
        return None


def _overflow_uid() -> int:
    try:
        return int(Path("/proc/sys/kernel/overflowuid").read_text())
    except (OSError, ValueError):
        return 65534
