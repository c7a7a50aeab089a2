"""What `vm doctor` claims it has tried, and what it advises works."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from avf.cli import doctor as module
from avf.confine import levels
from avf.policy import Permission, explain
from tests.cli.test_host import able_host, examined
from tests.programs import path_of

__all__ = ["able_host"]

RUN_IN_A_COPY_OF_ETC = """
set -e
mkdir "$1/etc"; cp -a /etc/. "$1/etc" 2>/dev/null || true # but secrets of a host whose root is another one
mount --bind "$1/etc" /etc
PATH="$1/bin:$PATH"
eval "$2"
"""


def test_a_user_who_may_run_vms_and_not_list_them(
    able_host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_DENIES_LIST", "1")
    status, checks = examined()
    assert status == 0
    assert checks["virtmgr"]["status"] == "ok"
    assert re.fullmatch(r"a VM ran a payload, \d+\.\d s after its start", checks["trial"]["detail"])


def test_a_bad_setting_comes_first_and_alone(
    able_host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVF_BOOT_TIMEOUT", "soon")
    status, checks = examined()
    assert status == 1
    assert list(checks) == ["settings"]
    assert "AVF_BOOT_TIMEOUT is 'soon'" in checks["settings"]["detail"]


@pytest.mark.filterwarnings("ignore::avf.settings.SettingWarning")
def test_a_setting_that_is_none(able_host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVF_IMAGE_DRI", "x")
    status, checks = examined()
    assert status == 0
    assert checks["settings"]["status"] == "limited"
    assert "did you mean AVF_IMAGE_DIR?" in checks["settings"]["detail"]


def test_another_machine(able_host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.platform, "machine", lambda: "aarch64")
    status, checks = examined()
    assert status == 1
    assert checks["machine"]["status"] == "missing"
    assert "aarch64" in checks["machine"]["detail"]
    assert "trial" not in checks


def test_a_trial_that_fails_tells_why(able_host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avf.cli.trial.NAME", "unstartable")
    status, checks = examined()
    assert status == 1
    assert checks["trial"]["status"] == "missing"
    assert checks["trial"]["detail"] == "it cannot be started"


@pytest.mark.vm
def test_the_trial_runs_a_payload(image_dir: Path, runtime_dir: Path) -> None:
    result = CliRunner().invoke(module.doctor, ["--json"], standalone_mode=False)
    checks = {check["check"]: check for check in json.loads(result.output)["checks"]}
    assert result.return_value == 0
    assert checks["trial"]["detail"].startswith("a VM ran a payload, ")


@pytest.mark.parametrize(
    ("flags", "mode", "fix"),
    [
        ({"hypervisor"}, None, "let its own host offer nested virtualization"),
        (set(), None, "switch virtualization on in the firmware"),
        ({"svm"}, None, "`sudo modprobe kvm_amd`"),
        ({"vmx"}, None, "`sudo modprobe kvm_intel`"),
        ({"vmx"}, 0o660, "`sudo usermod -aG "),
        ({"vmx"}, 0o600, "`sudo chown "),
    ],
)
def test_advice_for_kvm_depends_on_what_is_missing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: set[str],
    mode: int | None,
    fix: str,
) -> None:
    device = tmp_path / "kvm"
    if mode is not None:
        device.touch(mode)
        device.chmod(mode)
        os.chown(device, -1, os.getgid() or 12)
    monkeypatch.setattr(module, "_KVM", device)
    monkeypatch.setattr(module, "_cpu_flags", lambda: flags)
    monkeypatch.setattr(module.os, "access", lambda path, how: False)
    assert fix in str(module._kvm_fix())


def fixes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Every piece of advice that has a command in it, as made on hosts that lack something."""
    device = folder / "kvm"
    monkeypatch.setattr(module, "_KVM", device)
    monkeypatch.setattr(module, "_cpu_flags", lambda: {"vmx"})
    yield str(module._kvm_fix())
    device.touch(0o660)
    device.chmod(0o660)
    os.chown(device, -1, os.getgid() or 12)
    yield module._right_to_use(device)
    device.chmod(0o600)
    yield module._right_to_use(device)
    monkeypatch.setenv("AVF_QEMU", "/nonexistent")
    yield from (str(finding.fix) for finding in module._qemu())
    monkeypatch.setattr(levels.shutil, "which", lambda name: None)
    yield levels._fix()
    monkeypatch.undo()
    for name in (
        "kernel/apparmor_restrict_unprivileged_userns",
        "kernel/unprivileged_userns_clone",
        "user/max_user_namespaces",
    ):
        value = "1" if "apparmor" in name else "0"
        monkeypatch.setattr(
            levels,
            "_setting",
            lambda asked, name=name, value=value: value if asked == name else None,
        )
        yield levels._fix()
    monkeypatch.undo()
    yield str(explain(Permission.DUMP, 65534, system=True, file=folder / "none").fix)
    (folder / "policy.toml").write_text('[DUMP]\ngroups = ["bin"]\n')
    yield str(explain(Permission.DUMP, 65534, system=True, file=folder / "policy.toml").fix)


def commands(fix: str) -> list[str]:
    """Those between backticks; a fix that is a command alone has none."""
    return re.findall(r"`([^`]+)`", fix) or ([fix] if fix.startswith(("sudo ", "printf ")) else [])


@pytest.mark.usefixtures("several_uids")
def test_every_command_of_the_advice_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell takes it, its programs exist, and those that change accounts or packages do what they are for."""
    found = [command for fix in fixes(tmp_path, monkeypatch) for command in commands(fix)]
    assert len(found) >= 10
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sudo").write_text(
        '#!/bin/sh\nexec env PATH="/usr/sbin:/sbin:$PATH" "$@"\n'
    )
    (tmp_path / "bin" / "sudo").chmod(0o755)
    seen = set()
    for command in found:
        subprocess.run(["sh", "-n", "-c", command], check=True)
        programs = {words.split()[0] for words in re.split(r"sudo ", command)[1:]}
        assert programs, command
        for program in programs - {"modprobe", "apparmor_parser", "sysctl"}:  # of kernels with them
            assert path_of(program), command
        seen |= programs
        if programs & {"apt-get"}:
            tried(tmp_path, command.replace("install", "install --simulate"))
        elif programs & {"usermod", "groupadd"}:
            group = command.split("-aG ")[1].split()[0]
            command = command.replace(command.split()[-1], "nobody")
            assert group in tried(tmp_path, f"{command} && id -nG nobody").split()
    assert {"apt-get", "usermod", "groupadd", "chown", "modprobe"} <= seen


def tried(folder: Path, command: str) -> str:
    """What a command says when it is run with a copy of /etc of its own."""
    shutil.rmtree(folder / "etc", ignore_errors=True)
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", RUN_IN_A_COPY_OF_ETC, "sh", str(folder), command],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def test_the_image_is_built_by_what_the_advice_says(
    able_host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (able_host / "image" / "microdroid.json").unlink()
    _, checks = examined()
    words = checks["image"]["fix"].split()
    assert words[:4] == [sys.executable, "-m", "avf.image", "build"]
    subprocess.run([*words, "--help"], check=True, capture_output=True, timeout=60)
