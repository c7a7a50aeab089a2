"""The debug key of a user."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from avf.project import ProjectError, debug_key, debug_key_path


def test_it_is_made_once_for_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    os.umask(os.umask(0))  # whatever it is
    first = debug_key()
    assert first.is_new
    assert first.path == debug_key_path() == tmp_path / "config/avf/debug-key.pem"
    assert stat.S_IMODE(first.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(first.path.parent.stat().st_mode) & 0o077 == 0
    again = debug_key()
    assert not again.is_new
    assert again.key.public_key == first.key.public_key
    assert [path.name for path in first.path.parent.iterdir()] == ["debug-key.pem"]


def test_of_several_processes_one_makes_it(tmp_path: Path) -> None:
    path = tmp_path / "avf/key.pem"
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: debug_key(path), range(16)))
    assert len({made.key.public_key for made in keys}) == 1
    assert sum(made.is_new for made in keys) == 1


def test_what_is_there_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    for content in (b"", b"my thesis", b"x" * 100_000):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(ProjectError, match=r"key\.pem"):
            debug_key(path)
        assert path.read_bytes() == content


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    path = debug_key(tmp_path / "key.pem").path
    path.chmod(0o640)
    with pytest.raises(ProjectError, match="can be read or changed by others") as error:
        debug_key(path)
    assert "chmod 600" in (error.value.hint or "")


def test_a_pipe_or_a_dangling_link_in_its_place(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(ProjectError, match="not a regular file"):
        debug_key(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "absent")
    with pytest.raises(ProjectError, match="No such file"):
        debug_key(tmp_path / "link")
    assert not (tmp_path / "absent").exists()
