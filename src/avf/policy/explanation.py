"""Why somebody has a permission or not, and what would change it, for people."""

import grp
import pwd
from pathlib import Path
from typing import NamedTuple

from avf.policy.model import Grant, Permission, Policy, PolicyError, groups_of
from avf.policy.source import SYSTEM_POLICY_FILE, load_policy


class Explanation(NamedTuple):
    """One sentence, and what to do about it if the answer is no. Its `str` is both, in a line each."""

    allowed: bool
    reason: str
    fix: str | None = None

    def __str__(self) -> str:
        return self.reason if self.fix is None else f"{self.reason}\nfix: {self.fix}"


def explain(
    permission: Permission, uid: int, *, system: bool, file: Path = SYSTEM_POLICY_FILE
) -> Explanation:
    """Whether the policy in force lets `uid` do it, and why. Never fails."""
    try:
        policy = load_policy(system=system, file=file)
    except PolicyError as e:
        return Explanation(False, f"the policy cannot be used: {e}", f"correct {file}")
    who = _user(uid)
    if uid == 0:
        return Explanation(True, f"{who} has {permission.name}, as root always has")
    grant = policy.grants.get(permission, Grant())
    if policy.covers(permission, uid):
        how = _through(grant, uid)
        return Explanation(True, f"{who} has {permission.name} by {policy.source}: {how}")
    asked = ""
    if policy.polkit:
        if policy.allows(permission, uid):
            return Explanation(True, f"{who} has {permission.name} by polkit: {permission.action}")
        asked = f", and polkit does not authorize {permission.action} (see pkcheck(1))"
    reason = f"{who} does not have {permission.name}: {policy.source} grants it to {_names(grant)}{asked}"
    return Explanation(False, reason, _fix(permission, uid, grant, policy, file))


def _fix(permission: Permission, uid: int, grant: Grant, policy: Policy, file: Path) -> str:
    ways = []
    groups = [_group(gid) for gid in sorted(grant.gids)]
    if _account(uid) == str(uid):
        pass  # no group can have a user without an account
    elif groups:
        ways.append(f"`sudo usermod -aG {groups[0]} {_account(uid)}`")
    elif policy.source != str(file):
        ways.append(f"`sudo groupadd --system avf && sudo usermod -aG avf {_account(uid)}`")
    uids = ", ".join(map(str, sorted({*grant.uids, uid})))
    ways.append(f"set uids = [{uids}] under [{permission.name}] in {file}")
    return ", or ".join(ways)


def _through(grant: Grant, uid: int) -> str:
    if grant.everyone:
        return "everyone"
    if uid in grant.uids:
        return f"uid {uid}"
    return f"group {_group(min(grant.gids & groups_of(uid)))}"


def _names(grant: Grant) -> str:
    names = [f"uid {uid}" for uid in sorted(grant.uids)]
    names += [f"group {_group(gid)}" for gid in sorted(grant.gids)]
    return ", ".join(names) or "nobody but root"


def _user(uid: int) -> str:
    account = _account(uid)
    return f"uid {uid}" if account == str(uid) else f"{account} (uid {uid})"


def _account(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
