"""The policy file: grants, and refusals that name file and key."""

import os
import pwd
from pathlib import Path

import pytest

from avf.policy import Permission, PolicyError, load_policy

MANAGE = Permission.MANAGE_VIRTUAL_MACHINE
NOBODY = pwd.getpwnam("nobody")


def write(folder: Path, text: str) -> Path:
    path = folder / "policy.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("grant", "allowed"),
    [
        ("everyone = true", True),
        (f"uids = [{NOBODY.pw_uid}]", True),
        (f"groups = [{NOBODY.pw_gid}]", True),
        ('groups = ["root"]', False),
        ("", False),
    ],
)
def test_grants(tmp_path: Path, grant: str, allowed: bool) -> None:
    file = write(tmp_path, f"[MANAGE_VIRTUAL_MACHINE]\n{grant}\n")
    policy = load_policy(system=True, file=file)
    assert policy.allows(MANAGE, NOBODY.pw_uid) is allowed
    assert not policy.allows(Permission.DUMP, NOBODY.pw_uid)
    assert policy.allows(Permission.DUMP, 0)


def test_without_a_file_a_user_may_do_everything_with_its_own_service(tmp_path: Path) -> None:
    policy = load_policy(system=False, file=tmp_path / "none")
    assert all(policy.allows(p, os.getuid()) for p in Permission)
    assert not policy.allows(MANAGE, NOBODY.pw_uid)


def test_without_a_file_the_system_service_trusts_nobody_but_root_and_its_group(
    tmp_path: Path,
) -> None:
    assert not load_policy(system=True, file=tmp_path / "none").allows(MANAGE, NOBODY.pw_uid)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[MANAGE]", "MANAGE: no such permission"),
        ("MANAGE_VIRTUAL_MACHINE = 1", "MANAGE_VIRTUAL_MACHINE: must be a table"),
        ("[DUMP]\neverybody = true", "DUMP: unknown key 'everybody'"),
        ('[DUMP]\neveryone = "yes"', "DUMP.everyone: must be true or false"),
        ("[DUMP]\nuids = [-1]", "DUMP.uids: must be a list of uids"),
        ("[DUMP]\nuids = [true]", "DUMP.uids: must be a list of uids"),
        ("[DUMP]\nuids = 3", "DUMP.uids: must be a list"),
        ('[DUMP]\ngroups = ["no such group"]', "DUMP.groups: no group named"),
        ("[DUMP", "policy.toml: "),
    ],
)
def test_refusals(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(PolicyError) as raised:
        load_policy(system=True, file=write(tmp_path, text))
    assert complaint in str(raised.value)
    assert str(tmp_path) in str(raised.value)
