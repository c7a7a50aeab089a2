"""Settings: every one is read and checked in avf.settings, and what cannot be is said."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from avf import settings
from avf.client import ConfigError, SettingWarning, check_settings

ROOT = Path(__file__).parents[1]
READERS: dict[str, Callable[[], object]] = {
    "AVF_ACCEL": settings.accelerator,
    "AVF_APEX_INFO": settings.apex_info,
    "AVF_BOOT_TIMEOUT": settings.boot_timeout,
    "AVF_CONFINEMENT": settings.confinement,
    "AVF_CROSVM": settings.crosvm,
    "AVF_IMAGE_DIR": settings.image_dir,
    "AVF_LOG": settings.log_level,
    "AVF_POOL": settings.pool,
    "AVF_QEMU": settings.qemu,
    "AVF_RUNTIME_DIR": settings.runtime_dir,
    "AVF_SERVICE_SOCKET": settings.service_socket,
    "AVF_STAGED_APEX_INFO": settings.staged_apex_info,
    "AVF_TASK_PROFILES": settings.task_profiles,
    "AVF_VIRTMGR": settings.virtmgr,
    "AVF_VMM": settings.vmm,
    "AVF_VSOCK": settings.vsock,
    "AVF_WARM": settings.warm,
}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("AVF_ACCEL", "tcg", "tcg"),
        ("AVF_APEX_INFO", "list.xml", Path("list.xml")),
        ("AVF_BOOT_TIMEOUT", "2.5", 2.5),
        ("AVF_CONFINEMENT", "required", "required"),
        ("AVF_CROSVM", "crosvm2", "crosvm2"),
        ("AVF_IMAGE_DIR", "build/image", Path("build/image")),
        ("AVF_LOG", "debug", "debug"),
        ("AVF_POOL", "/run/p", Path("/run/p")),
        ("AVF_QEMU", "/opt/qemu", "/opt/qemu"),
        ("AVF_RUNTIME_DIR", "/run/mine", Path("/run/mine")),
        ("AVF_SERVICE_SOCKET", "/run/s", Path("/run/s")),
        ("AVF_STAGED_APEX_INFO", "/a", Path("/a")),
        ("AVF_TASK_PROFILES", "/a.toml", Path("/a.toml")),
        ("AVF_VIRTMGR", "python3 -m 'a b'", ["python3", "-m", "a b"]),
        ("AVF_VMM", "crosvm", "crosvm"),
        ("AVF_VSOCK", "user", "user"),
        ("AVF_WARM", "on", "on"),
    ],
)
def test_a_value(monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object) -> None:
    monkeypatch.setenv(name, text)
    assert READERS[name]() == value
    monkeypatch.setenv(name, "")
    assert READERS[name]() is None
    monkeypatch.delenv(name)
    assert READERS[name]() is None


@pytest.mark.parametrize(
    ("name", "text", "allowed"),
    [
        ("AVF_ACCEL", "hvf", "kvm or tcg"),
        ("AVF_ACCEL", "KVM", "kvm or tcg"),
        ("AVF_BOOT_TIMEOUT", "abc", "a positive number of seconds"),
        ("AVF_BOOT_TIMEOUT", "0", "a positive number of seconds"),
        ("AVF_BOOT_TIMEOUT", "-3", "a positive number of seconds"),
        ("AVF_BOOT_TIMEOUT", "inf", "a positive number of seconds"),
        ("AVF_BOOT_TIMEOUT", "nan", "a positive number of seconds"),
        ("AVF_CONFINEMENT", "full", "required, limited or none"),
        ("AVF_LOG", "trace", "debug, info, warning or error"),
        ("AVF_RUNTIME_DIR", "here", "an absolute path"),
        ("AVF_SERVICE_SOCKET", "./s", "an absolute path"),
        ("AVF_VIRTMGR", "'", "a command as a shell takes it"),
        ("AVF_VIRTMGR", "  ", "a command"),
        ("AVF_VMM", "xen", "qemu or crosvm"),
        ("AVF_VSOCK", "foo", "kernel or user"),
        ("AVF_WARM", "1", "on or off"),
    ],
)
def test_a_value_that_cannot_be(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, allowed: str
) -> None:
    """The error names the variable, its value and what is allowed: from its reader, from check, from the client."""
    monkeypatch.setenv(name, text)
    for read, kind in (
        (READERS[name], settings.SettingError),
        (settings.check, settings.SettingError),
        (check_settings, ConfigError),
    ):
        with pytest.raises(kind) as caught:
            read()
        assert str(caught.value).startswith(f"{name} is ")
        assert text.strip("'") in str(caught.value)
        assert allowed in str(caught.value)


def test_names_that_mean_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.unknown({"AVF_ACCEL": "x", "PATH": "y"}) == []
    assert settings.unknown({"AVF_ACEL": "kvm", "AVF_IMAGE": "x", "AVF_QQQ": ""}) == [
        "AVF_ACEL is no setting of AVF and is ignored; did you mean AVF_ACCEL?",
        "AVF_IMAGE is no setting of AVF and is ignored; did you mean AVF_IMAGE_DIR?",
        "AVF_QQQ is no setting of AVF and is ignored",
    ]
    monkeypatch.setenv("AVF_VSOK", "user")
    with pytest.warns(SettingWarning, match="did you mean AVF_VSOCK"):
        check_settings()


def test_all_names_are_known_and_described() -> None:
    assert READERS.keys() == settings.NAMES
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    assert set(re.findall(r"`(AVF_[A-Z_]+)`", text)) >= settings.NAMES


def test_nothing_else_reads_them() -> None:
    """A variable that is read elsewhere is not checked."""
    readers = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "src").rglob("*.py")
        if re.search(r"environ(\.get|\.pop)?[\[(]\s*[\"']AVF_", path.read_text())
    ]
    assert readers == ["src/avf/cli/options.py"]  # which sets one


@pytest.mark.parametrize("module", ["avf.virtmgr", "avf.virtualizationservice"])
def test_the_daemons_refuse_as_well(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setenv("AVF_VSOCK", "foo")
    command = [sys.executable, "-m", module]
    if module == "avf.virtualizationservice":
        command.append("--user")
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode in (1, 2)
    name = module.partition(".")[2]
    assert result.stderr == f"{name}: AVF_VSOCK is 'foo'; it must be kernel or user\n"
