"""CIDs: in turn, remembered over restarts, never two at once."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from avf.virtualizationservice.cids import CidAllocator
from avf.virtualizationservice.errors import CidError
from avf.vsock import GUEST_CID_MAX, GUEST_CID_MIN


def test_first_and_next(tmp_path: Path) -> None:
    allocator = CidAllocator(tmp_path / "last_cid")
    assert [allocator.allocate(set()) for _ in range(3)] == [2048, 2049, 2050]


def test_a_restart_goes_on(tmp_path: Path) -> None:
    CidAllocator(tmp_path / "last_cid").allocate(set())
    assert CidAllocator(tmp_path / "last_cid").allocate(set()) == 2049


@pytest.mark.parametrize(
    ("stored", "next_cid"),
    [("65535", 2048), ("3000\n", 3001), ("2047", 2048), ("65536", 2048), ("x", 2048), ("", 2048)],
)
def test_what_is_stored(tmp_path: Path, stored: str, next_cid: int) -> None:
    (tmp_path / "last_cid").write_text(stored)
    assert CidAllocator(tmp_path / "last_cid").allocate(set()) == next_cid


def test_wraps_past_those_in_use(tmp_path: Path) -> None:
    (tmp_path / "last_cid").write_text("65534")
    in_use = {65535, 2048, 2049}
    assert CidAllocator(tmp_path / "last_cid").allocate(in_use) == 2050


def test_exhaustion(tmp_path: Path) -> None:
    everything = range(GUEST_CID_MIN, GUEST_CID_MAX + 1)
    with pytest.raises(CidError, match=r"^Could not find an available CID\.$"):
        CidAllocator(tmp_path / "last_cid").allocate(everything)


def test_a_file_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody is refused a VM for it: which CIDs are in use is known by their directories."""
    allocator = CidAllocator(tmp_path / "missing" / "last_cid")
    assert [allocator.allocate(set()) for _ in range(3)] == [2048, 2049, 2050]
    assert caplog.text.count("last_cid cannot be written: No such file or directory") == 1


@pytest.mark.parametrize("kind", ["pipe", "directory", "dangling link"])
def test_something_else_in_place_of_the_file(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "last_cid"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "directory":
        file.mkdir()
    else:
        file.symlink_to("nowhere")
    assert CidAllocator(file).allocate(set()) == 2048


@given(in_use=st.sets(st.integers(GUEST_CID_MIN, GUEST_CID_MIN + 40)), last=st.integers(2048, 2090))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_never_one_in_use(tmp_path: Path, in_use: set[int], last: int) -> None:
    (tmp_path / "last_cid").write_text(str(last))
    cid = CidAllocator(tmp_path / "last_cid").allocate(in_use)
    assert cid not in in_use
    assert GUEST_CID_MIN <= cid <= GUEST_CID_MAX


class AllocatorModel(RuleBasedStateMachine):
    """Any order of allocating, freeing and restarting."""

    directory: Path

    def __init__(self) -> None:
        super().__init__()
        self.file = self.directory / "last_cid"
        self.file.unlink(missing_ok=True)
        self.allocator = CidAllocator(self.file)
        self.held: list[int] = []

    @rule()
    def allocate(self) -> None:
        cid = self.allocator.allocate(set(self.held))
        assert cid not in self.held
        self.held.append(cid)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        self.held.remove(data.draw(st.sampled_from(self.held)))

    @rule()
    def restart(self) -> None:
        self.allocator = CidAllocator(self.file)

    @invariant()
    def distinct(self) -> None:
        assert len(set(self.held)) == len(self.held)


def test_model(tmp_path: Path) -> None:
    AllocatorModel.directory = tmp_path
    case = AllocatorModel.TestCase()
    case.settings = settings(max_examples=50, deadline=None)
    case.runTest()
