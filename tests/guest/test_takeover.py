"""Storage whose files root made is given to the payload's user, once."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from avf.guest import takeover

DEPTH = 100
OWNER = 6000 if os.geteuid() == 0 else os.getgid()


def old_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[str]]:
    """A deep tree, and what is given to the new owner, by name."""
    root = tmp_path / "store"
    (root / "a/b").mkdir(parents=True)
    (root / "a/file").write_text("text")
    (root / "a/b/link").symlink_to("/etc/passwd")
    (root / "c").mkdir()
    here = os.open(root / "c", os.O_RDONLY)
    for _ in range(DEPTH):
        os.mkdir("d" * 100, dir_fd=here)
        deeper = os.open("d" * 100, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    given: list[str] = []
    real = os.chown

    def chown(path: str, *owners: int, **options: bool) -> None:
        given.append(path)
        real(path, *owners, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(takeover.os, "chown", chown)
    return root, given


@contextmanager
def few_descriptors(more: int) -> Iterator[None]:
    """Only so many more descriptors can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_everything_is_given_away_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, given = old_storage(tmp_path, monkeypatch)
    before = Path("/etc/passwd").stat()
    monkeypatch.setattr(takeover.os, "fstat", lambda _: os.stat_result((0,) * 5 + (-1,) * 5))
    with few_descriptors(DEPTH // 2):
        assert takeover.hand_over(str(root), OWNER)
    assert sorted(given) == ["a", "b", "c", *["d" * 100] * DEPTH, "file", "link"]
    for path in (root / "a", root / "a/file", root / "a/b/link"):
        assert path.lstat().st_uid == (OWNER if os.geteuid() == 0 else os.geteuid())
        assert path.lstat().st_gid == OWNER
    assert Path("/etc/passwd").stat() == before
    assert root.stat().st_mode & 0o7777 == 0o770

    monkeypatch.undo()
    assert not takeover.hand_over(str(root), OWNER)
