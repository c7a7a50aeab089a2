"""Which files may be in a VM: upstream's label table, and the owner rule that stands in for SELinux."""

import os
from pathlib import Path

import pytest

from avf.virtmgr.labels import LabelError, check_file, check_label, is_exempt

USER = 1234


@pytest.mark.parametrize(
    ("context", "allowed"),
    [
        ("u:object_r:system_file:s0", True),
        ("u:object_r:apk_data_file:s0", True),
        ("u:object_r:staging_data_file:s0", True),
        ("u:object_r:shell_data_file:s0", True),
        ("u:object_r:app_data_file:s0", False),
        ("u:object_r:app_data_file:s0:c512,c768", False),
        ("u:object_r:privapp_data_file:s0:c512,c768", False),
        ("invalid", False),
        ("user:role:apk_data_file:severity:categories", True),
        ("user:role:apk_data_file:severity:categories:extraneous", False),
    ],
)
def test_check_label(context: str, allowed: bool) -> None:
    if allowed:
        check_label(context)
    else:
        with pytest.raises(LabelError):
            check_label(context)


@pytest.mark.parametrize("label", ["vm-instance", "encryptedstore", "extra-idsig-11"])
def test_exempt(label: str) -> None:
    assert is_exempt(label)


@pytest.mark.parametrize("label", ["microdroid-apk", "super", "extra-apk-0", "vm-instance2"])
def test_not_exempt(label: str) -> None:
    assert not is_exempt(label)


@pytest.mark.usefixtures("several_uids")
@pytest.mark.parametrize(
    ("owner", "mode", "allowed"),
    [
        (0, 0o644, True),
        (USER, 0o600, True),
        (USER, 0o666, False),
        (USER, 0o664, False),
        (USER + 1, 0o600, False),
    ],
)
def test_owner_and_mode(tmp_path: Path, owner: int, mode: int, allowed: bool) -> None:
    path = tmp_path / "image"
    path.touch()
    os.chown(path, owner, -1)
    path.chmod(mode)
    with path.open("rb") as file:
        if allowed:
            check_file(file.fileno(), USER)
        else:
            with pytest.raises(LabelError):
                check_file(file.fileno(), USER)


@pytest.mark.parametrize(
    ("label", "allowed"),
    [
        ("u:object_r:apk_data_file:s0", True),
        ("u:object_r:app_data_file:s0", False),
        ("u:object_r", False),
        ("system_u:object_r:user_home_t:s0", True),
    ],
)
def test_the_label_a_file_carries(tmp_path: Path, label: str, allowed: bool) -> None:
    """Android's labels decide; those of other policies know nothing of VMs, so owner and mode do."""
    path = tmp_path / "image"
    path.touch(mode=0o600)
    os.setxattr(path, "security.selinux", label.encode() + b"\0")
    with path.open("rb") as file:
        if allowed:
            check_file(file.fileno(), os.getuid())
        else:
            with pytest.raises(LabelError, match=r"[Ll]abel"):
                check_file(file.fileno(), os.getuid())


def test_memfd_of_the_caller() -> None:
    fd = os.memfd_create("image")
    try:
        check_file(fd, os.getuid())
    finally:
        os.close(fd)
