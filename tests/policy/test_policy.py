"""The policy file: grants, and refusals that name file and key."""

import logging
import os
import pwd
from pathlib import Path

import pytest

from avf.policy import Permission, PolicyError, PolicyFile, denial, explain, load_policy

MANAGE = Permission.MANAGE_VIRTUAL_MACHINE
NOBODY = pwd.getpwnam("nobody")


def write(folder: Path, text: str) -> Path:
    path = folder / "policy.toml"
    path.write_text(text, errors="surrogatepass")
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
        ("[DUMP]\nuids = [4294967295]", "DUMP.uids: must be a list of uids"),
        (f"[DUMP]\nuids = [{'9' * 5000}]", "policy.toml: Exceeds the limit"),
        ('[DUMP]\ngroups = ["a\\u0000b"]', "DUMP.groups: no group named"),
        (f"[DUMP]\ngroups = {'[' * 5000}", "policy.toml: nested too deeply"),
        ("polkit = 1", "polkit: must be true or false"),
        ("#" * (64 << 10) + "\n", "larger than 65536 bytes"),
        ("\ud800", "policy.toml: 'utf-8' codec"),
    ],
)
def test_refusals(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(PolicyError) as raised:
        load_policy(system=True, file=write(tmp_path, text))
    assert complaint in str(raised.value)
    assert str(tmp_path) in str(raised.value)


def test_polkit_is_asked_only_if_the_file_says_so(tmp_path: Path) -> None:
    assert not load_policy(system=True, file=write(tmp_path, "")).polkit
    assert load_policy(system=True, file=write(tmp_path, "polkit = true")).polkit


class TestFilesThatOthersCouldHaveWritten:
    def refusal(self, file: Path) -> str:
        with pytest.raises(PolicyError) as raised:
            load_policy(system=True, file=file)
        return str(raised.value).removeprefix(f"{file}: ")

    @pytest.mark.usefixtures("several_uids")
    def test_owner(self, tmp_path: Path) -> None:
        file = write(tmp_path, "")
        os.chown(file, NOBODY.pw_uid, -1)
        assert self.refusal(file) == f"must belong to root, not to uid {NOBODY.pw_uid}"

    @pytest.mark.usefixtures("several_uids")
    @pytest.mark.parametrize("mode", [0o664, 0o646])
    def test_mode(self, tmp_path: Path, mode: int) -> None:
        file = write(tmp_path, "")
        os.chown(file, -1, NOBODY.pw_gid)
        file.chmod(mode)
        assert self.refusal(file) == "must be writable for its owner alone (chmod go-w)"

    def test_kind(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        assert self.refusal(tmp_path / "pipe") == "is not a regular file"
        assert self.refusal(tmp_path) == "Is a directory"


class TestPolicyFile:
    def test_a_change_counts(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        file = tmp_path / "policy.toml"
        policy = PolicyFile(system=True, file=file)
        assert not policy.current().allows(MANAGE, NOBODY.pw_uid)
        write(tmp_path, "[MANAGE_VIRTUAL_MACHINE]\neveryone = true")
        assert policy.current().allows(MANAGE, NOBODY.pw_uid)
        assert policy.current() is policy.current()
        file.unlink()
        assert not policy.current().allows(MANAGE, NOBODY.pw_uid)
        assert caplog.text.count("the policy has changed") == 2

    def test_a_bad_one_does_not(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        file = write(tmp_path, "[MANAGE_VIRTUAL_MACHINE]\neveryone = true")
        policy = PolicyFile(system=True, file=file)
        write(tmp_path, "[MANAGE_VIRTUAL_MACHINE]\neveryone = maybe")
        for _ in range(3):
            assert policy.current().allows(MANAGE, NOBODY.pw_uid)
        assert caplog.text.count("the former policy stays in force") == 1
        assert str(file) in caplog.text


def test_the_words_of_a_refusal() -> None:
    assert [denial(p) for p in Permission] == [
        "does not have the android.permission.MANAGE_VIRTUAL_MACHINE permission",
        "does not have the android.permission.USE_CUSTOM_VIRTUAL_MACHINE permission",
        "does not have the android.permission.DEBUG_VIRTUAL_MACHINE permission",
        "does not have the android.permission.DUMP permission",
    ]


class TestExplained:
    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            (
                "everyone = true",
                "nobody (uid 65534) has MANAGE_VIRTUAL_MACHINE by {file}: everyone",
            ),
            (
                "uids = [65534]",
                "nobody (uid 65534) has MANAGE_VIRTUAL_MACHINE by {file}: uid 65534",
            ),
            (
                'groups = ["nogroup"]',
                "nobody (uid 65534) has MANAGE_VIRTUAL_MACHINE by {file}: group nogroup",
            ),
        ],
    )
    def test_granted(self, tmp_path: Path, text: str, reason: str) -> None:
        file = write(tmp_path, f"[MANAGE_VIRTUAL_MACHINE]\n{text}\n")
        explained = explain(MANAGE, 65534, system=True, file=file)
        assert explained == (True, reason.format(file=file), None)
        assert str(explained) == explained.reason

    def test_by_group(self, tmp_path: Path) -> None:
        file = write(tmp_path, '[MANAGE_VIRTUAL_MACHINE]\ngroups = ["daemon", 77]\nuids = [7]\n')
        assert str(explain(MANAGE, 65534, system=True, file=file)) == (
            f"nobody (uid 65534) does not have MANAGE_VIRTUAL_MACHINE: "
            f"{file} grants it to uid 7, group daemon, group 77\n"
            f"fix: `sudo usermod -aG daemon nobody`, "
            f"or set uids = [7, 65534] under [MANAGE_VIRTUAL_MACHINE] in {file}"
        )

    def test_to_nobody(self, tmp_path: Path) -> None:
        file = write(tmp_path, "")
        assert str(explain(MANAGE, 64001, system=True, file=file)) == (
            f"uid 64001 does not have MANAGE_VIRTUAL_MACHINE: {file} grants it to nobody but root\n"
            f"fix: set uids = [64001] under [MANAGE_VIRTUAL_MACHINE] in {file}"
        )

    def test_root(self, tmp_path: Path) -> None:
        explained = explain(MANAGE, 0, system=True, file=write(tmp_path, ""))
        assert explained.reason == "root (uid 0) has MANAGE_VIRTUAL_MACHINE, as root always has"

    def test_without_a_file(self, tmp_path: Path) -> None:
        own = explain(MANAGE, os.getuid(), system=False, file=tmp_path / "none")
        assert own.allowed
        other = explain(MANAGE, 64001, system=True, file=tmp_path / "none")
        assert not other.allowed
        assert "built-in policy of the system service grants it to " in other.reason
        assert str(other.fix).startswith("set uids = [64001] under")  # nothing to put into a group
        nobody = explain(MANAGE, 65534, system=True, file=tmp_path / "none")
        assert "usermod -aG avf nobody`, or set uids = [65534] under" in str(nobody.fix)

    def test_a_broken_file(self, tmp_path: Path) -> None:
        file = write(tmp_path, "[DUMP")
        explained = explain(MANAGE, 64001, system=True, file=file)
        assert not explained.allowed
        assert explained.reason.startswith(f"the policy cannot be used: {file}: ")
        assert explained.fix == f"correct {file}"
