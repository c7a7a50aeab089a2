import os
from pathlib import Path

import pytest

from avf.reading import read_file


def test_a_file_up_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_file(tmp_path / "file", 10) == b"12345"
    assert read_file(tmp_path / "file", 3) == b"123"


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for name, problem in (
        ("fifo", "not a regular file"),
        ("none", "No such file or directory"),
        (".", "Is a directory"),
        ("/dev/zero", "not a regular file"),
    ):
        with pytest.raises(OSError, match=problem):
            read_file(tmp_path / name, 10)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
