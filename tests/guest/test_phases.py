"""What a guest keeps of its own start."""

import importlib
import time
from types import ModuleType

import pytest

import avf.guest.phases


@pytest.fixture
def phases() -> ModuleType:
    """As they are when init begins."""
    return importlib.reload(avf.guest.phases)


def test_phases_end_one_after_the_other(phases: ModuleType) -> None:
    before = time.monotonic_ns()
    phases.ended("kernel", before - 1)
    phases.ended("init")
    names, ends, began, answered, sent = phases.report()
    assert (names, began, answered) == (["kernel", "init"], 0, 0)
    assert ends[0] == before - 1
    assert before <= ends[1] <= sent <= time.monotonic_ns()


def test_a_clone_tells_nothing_of_its_template(phases: ModuleType) -> None:
    phases.ended("kernel")
    before = time.monotonic_ns()
    phases.begin_anew()
    phases.ended("devices")
    names, ends, began, _, _ = phases.report()
    assert names == ["devices"]
    assert before <= began <= ends[0]


def test_the_last_answer_of_the_host_ties_the_clocks(phases: ModuleType) -> None:
    answers = iter([5, 6])
    ask = phases.asking(lambda: next(answers))
    assert ask() == 5
    between = time.monotonic_ns()
    assert ask() == 6
    assert between <= phases.report()[3] <= time.monotonic_ns()
