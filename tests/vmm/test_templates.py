"""Templates on the disk: what is kept is found again, and what somebody else may have touched is not used."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from avf.vmm import TemplateError, TemplateFacts, TemplateStore
from avf.vmm.templates import new_facts

KEY, OTHER, THIRD = "a" * 64, "b" * 64, "c" * 64


@pytest.fixture
def store(tmp_path: Path, runtime_dir: Path) -> TemplateStore:
    return TemplateStore(tmp_path / "templates", os.geteuid())


def writer(content: bytes) -> Callable[[int], TemplateFacts]:
    def write(fd: int) -> TemplateFacts:
        os.write(fd, content)
        return new_facts("qemu", 256, 1, 2_400_000)

    return write


def keep(store: TemplateStore, key: str, content: bytes = b"state") -> None:
    with store.lock() as ours:
        assert ours
        store.add(key, writer(content))


def content_of(store: TemplateStore, key: str) -> bytes | None:
    opened = store.open(key)
    if opened is None:
        return None
    with open(opened[0], "rb") as file:
        return file.read()


def names(store: TemplateStore) -> set[str]:
    return {path.name for path in store.folder.iterdir()} - {".lock"}


def test_what_is_kept_is_found_again(store: TemplateStore) -> None:
    assert content_of(store, KEY) is None
    keep(store, KEY)
    assert content_of(store, KEY) == b"state"
    assert content_of(store, OTHER) is None
    (found,) = store.list()
    assert (found.key, found.problem) == (KEY, None)
    assert found.facts is not None
    assert (found.facts.memory_mib, found.facts.cpus, found.facts.state_size) == (256, 1, 5)


def test_nobody_else_can_read_or_write_it(store: TemplateStore) -> None:
    keep(store, KEY)
    for path in (store.folder, *store.folder.rglob("*")):
        assert path.lstat().st_mode & 0o077 == 0, path
    assert (store.folder / KEY / "state").stat().st_mode & 0o777 == 0o400


def test_everybody_can_read_what_is_shared(tmp_path: Path, runtime_dir: Path) -> None:
    store = TemplateStore(tmp_path / "templates", os.geteuid(), shared=True)
    before = os.umask(0o077)
    try:
        keep(store, KEY)
    finally:
        os.umask(before)
    for path in (store.folder, store.folder / KEY):
        assert path.stat().st_mode & 0o777 == 0o755
    for name in ("state", "template.json"):
        assert (store.folder / KEY / name).stat().st_mode & 0o777 == 0o444


def test_it_can_be_kept_anew(store: TemplateStore) -> None:
    keep(store, KEY, b"old")
    keep(store, KEY, b"new")
    assert content_of(store, KEY) == b"new"
    assert names(store) == {KEY}


def test_what_fails_leaves_nothing(store: TemplateStore) -> None:
    def fail(fd: int) -> TemplateFacts:
        os.write(fd, b"half")
        raise TemplateError("the guest has not booted")

    with store.lock(), pytest.raises(TemplateError, match="not booted"):
        store.add(KEY, fail)
    assert names(store) == set()


def test_what_was_killed_halfway_is_removed_by_the_next(store: TemplateStore) -> None:
    with store.lock():
        half = store.folder / ".new-1-00"
        half.mkdir()
        (half / "state").write_bytes(b"half")
    keep(store, KEY)
    assert names(store) == {KEY}


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.chmod(0o600)
    path.write_bytes(change(path.read_bytes()))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a byte was changed": lambda path: rewrite(path / "state", lambda old: old[:-1] + b"X"),
    "it was cut": lambda path: rewrite(path / "state", lambda old: old[:-1]),
    "it has grown": lambda path: rewrite(path / "state", lambda old: old + b"X"),
    "it is empty": lambda path: rewrite(path / "state", lambda _: b""),
    "the state is gone": lambda path: (path / "state").unlink(),
    "the state is a link": lambda path: link(path / "state"),
    "the state is a FIFO": lambda path: fifo(path / "state"),
    "the facts are gone": lambda path: (path / "template.json").unlink(),
    "the facts are no JSON": lambda path: rewrite(path / "template.json", lambda _: b"\xff{"),
    "the facts are deep": lambda path: rewrite(path / "template.json", lambda _: b"[" * 9999),
    "a fact is missing": lambda path: rewrite(path / "template.json", lambda _: b"{}"),
    "a guest without memory": lambda path: rewrite(
        path / "template.json", lambda old: old.replace(b'"memory_mib":256', b'"memory_mib":0')
    ),
    "a guest with all the memory": lambda path: rewrite(
        path / "template.json",
        lambda old: old.replace(b'"memory_mib":256', b'"memory_mib":%d' % (1 << 60)),
    ),
    "a number too large": lambda path: rewrite(
        path / "template.json",
        lambda old: old.replace(b'"memory_mib":256', b'"memory_mib":%d' % (1 << 80)),
    ),
    "another format": lambda path: rewrite(
        path / "template.json", lambda old: old.replace(b'"format":2', b'"format":1')
    ),
    "others may write to the folder": lambda path: path.chmod(0o777),
    "others may write to the state": lambda path: (path / "state").chmod(0o666),
    "others may write to the facts": lambda path: (path / "template.json").chmod(0o622),
    "others may write to the store": lambda path: path.parent.chmod(0o777),
    "it was another's": lambda path: exchange(path),
    "the folder is a link": lambda path: link(path),
    "the folder is a file": lambda path: as_file(path),
}


def link(path: Path) -> None:
    away = path.with_name(f"{path.name}.away")
    path.rename(away)
    path.symlink_to(away)


def exchange(path: Path) -> None:
    rewrite(path / "template.json", lambda old: old.replace(KEY.encode(), OTHER.encode()))


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def as_file(path: Path) -> None:
    path.rename(path.with_name("away"))
    path.touch()


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("was_used", [False, True], ids=["before its first use", "after a use"])
def test_a_damaged_template_is_not_used(
    store: TemplateStore, damage: Callable[[Path], object], was_used: bool
) -> None:
    keep(store, KEY)
    if was_used:
        assert content_of(store, KEY) == b"state"
    damage(store.folder / KEY)
    with pytest.raises(TemplateError, match=str(store.folder)):
        store.open(KEY)
    problems = [found.problem for found in store.list() if found.key == KEY]
    assert all(problems)
    store.folder.chmod(0o700)
    store.remove(KEY)
    assert content_of(store, KEY) is None
    keep(store, KEY)
    assert content_of(store, KEY) == b"state"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
@pytest.mark.parametrize("name", ["..", "", "state", "template.json"])
def test_a_template_of_somebody_else_is_not_used(store: TemplateStore, name: str) -> None:
    keep(store, KEY)
    os.chown(store.folder / KEY / name, 65534, 65534)
    with pytest.raises(TemplateError, match="belongs to uid 65534"):
        store.open(KEY)


def test_those_not_used_for_longest_make_room(store: TemplateStore) -> None:
    for index, key in enumerate((KEY, OTHER, THIRD)):
        keep(store, key, bytes(1000))
        os.utime(store.folder / key, (index, index))
    assert content_of(store, KEY) is not None  # now it is the one used last
    with store.lock():
        store.collect(limit=3000)
    assert names(store) == {KEY, THIRD}
    with store.lock():
        store.collect(limit=1)
    assert names(store) == {KEY}


def test_looking_at_the_list_is_no_use(store: TemplateStore) -> None:
    keep(store, KEY)
    os.utime(store.folder / KEY, (5, 5))
    assert [found.used_at for found in store.list()] == [5]
    assert [found.used_at for found in store.list()] == [5]


def test_one_at_a_time_makes_templates(store: TemplateStore) -> None:
    with store.lock() as ours, store.lock() as others:
        assert (ours, others) == (True, False)
    with store.lock() as ours:
        assert ours


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = TemplateStore(tmp_path / "file" / "templates", os.geteuid())
    with pytest.raises(TemplateError, match="cannot keep templates"), store.lock():
        pass
    with pytest.raises(TemplateError, match="cannot list"):
        store.list()
