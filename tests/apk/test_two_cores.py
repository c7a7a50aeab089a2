"""The helper process that hashes large files: same tree, whoever does which part, and whatever happens to it."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from avf.apk import FileChanged, merkle, two_cores
from avf.apk.source import FdSource

SIZE = (3 << 20) + 5000
HELPER = two_cores._HELPER


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every 16 KiB are a step, so that both sides get some."""
    monkeypatch.setattr(two_cores, "MIN_SIZE", 1)
    monkeypatch.setattr(merkle, "READ_SIZE", 16 << 10)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    path = tmp_path / "data"
    path.write_bytes(os.urandom(SIZE))
    return path


def build(path: Path) -> tuple[bytes, bytes]:
    tree = bytearray(merkle.tree_size(SIZE))

    def keep(offset: int, blocks: bytes) -> None:
        tree[offset : offset + len(blocks)] = blocks

    with path.open("rb") as file:
        root = two_cores.build(file.fileno(), FdSource(file.fileno()), keep)
    return root, bytes(tree)


def build_alone(path: Path) -> tuple[bytes, bytes]:
    with path.open("rb") as file:
        return merkle.build_in_memory(FdSource(file.fileno()))


def test_together_they_make_the_same_tree(data: Path) -> None:
    assert build(data) == build_alone(data)


def only_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """We take a step when the helper has done all the others."""
    take = two_cores._Helper.take_step

    def wait_and_take(helper: two_cores._Helper) -> bool:
        helper.done()
        return take(helper)

    monkeypatch.setattr(two_cores._Helper, "take_step", wait_and_take)


def test_the_helper_can_do_all_of_it(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fed: list[int] = []
    feed = merkle.Feeder.feed

    def note(feeder: merkle.Feeder, start: int, end: int) -> None:
        fed.append(start)
        feed(feeder, start, end)

    expected = build_alone(data)
    only_one_step(monkeypatch)
    monkeypatch.setattr(merkle.Feeder, "feed", note)
    assert build(data) == expected
    assert fed == []


@pytest.mark.parametrize(
    "helper",
    ["raise SystemExit(1)", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"],
    ids=["fails", "is killed"],
)
def test_without_its_help_we_do_it_alone(
    data: Path, monkeypatch: pytest.MonkeyPatch, helper: str
) -> None:
    monkeypatch.setattr(two_cores, "_HELPER", helper)
    assert build(data) == build_alone(data)


def test_a_helper_that_gives_up_midway(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = HELPER.replace("while os.read(tokens, 1):", "for _ in os.read(tokens, 7):")
    only_one_step(monkeypatch)
    monkeypatch.setattr(two_cores, "_HELPER", few + "sys.exit(3)")
    assert build(data) == build_alone(data)


def test_a_helper_that_cannot_be_started(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nothing/here")
    assert build(data) == build_alone(data)


def test_no_helper_for_small_files(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object, **__: object) -> None:
        raise AssertionError("no process was needed")

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(two_cores, "MIN_SIZE", SIZE + 1)
    assert build(data) == build_alone(data)
    monkeypatch.setattr(two_cores, "MIN_SIZE", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert build(data) == build_alone(data)


def test_a_file_that_shrinks_leaves_no_process(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Noted(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    with data.open("r+b") as file:
        source = FdSource(file.fileno())
        file.truncate(100_000)
        with pytest.raises(FileChanged, match="the file ends at byte"):
            two_cores.build(file.fileno(), source, lambda _offset, _blocks: None)
    assert [process.returncode is not None for process in started] == [True]
