from pathlib import Path

import pytest

from avf.guest import partitions
from avf.guest.errors import GuestError


@pytest.fixture
def block_class(tmp_path: Path) -> Path:
    for name, text in {
        "vda": "MAJOR=254\nMINOR=0\nDEVNAME=vda\nDEVTYPE=disk\n",
        "vda1": "MAJOR=254\nMINOR=1\nDEVNAME=vda1\nDEVTYPE=partition\nPARTN=1\nPARTNAME=vm-instance\n",
        "vdb2": "DEVNAME=vdb2\nPARTN=2\nPARTNAME=with spaces = and more\n",
        "vdb1": "DEVNAME=vdb1\nPARTN=1\nPARTNAME=vm-instance\n",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "uevent").write_text(text)
    (tmp_path / "loop0").mkdir()
    return tmp_path


def test_labels(block_class: Path) -> None:
    assert partitions.labels(str(block_class)) == {
        "vm-instance": "vda1",
        "with spaces = and more": "vdb2",
    }


def test_waiting_ends(block_class: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "labels", lambda: {"here": "vdc1"})
    assert partitions.wait_for("here") == "/dev/vdc1"
    with pytest.raises(GuestError, match="no partition 'absent'"):
        partitions.wait_for("absent", timeout=0)


def test_a_partition_that_comes_late(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([{}, {}, {"late": "vdc1"}])
    monkeypatch.setattr(partitions, "labels", lambda: next(answers))
    assert partitions.wait_for("late") == "/dev/vdc1"


def test_numbers_sort_as_numbers() -> None:
    known = {f"extra-apk-{number}": "vda1" for number in (10, 2, 0)} | {
        "extra-apk-x": "",
        "extra-idsig-1": "",
    }
    assert partitions.numbered("extra-apk", known) == ["extra-apk-0", "extra-apk-2", "extra-apk-10"]
