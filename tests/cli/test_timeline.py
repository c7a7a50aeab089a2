"""A timeline as people read it."""

import io

import pytest

from avf.cli.timeline import can_show_blocks, timeline_lines
from avf.client import LifecycleStep, Moment, Phase, StartKind, Timeline

PHASES = (
    Phase("spawn", False, 0.0, 0.25),
    Phase("resume", False, 0.25, 0.251),
    Phase("kernel", True, 0.3, 0.8),
    Phase("verify", True, 0.8, 1.0),
)
MOMENTS = (Moment(LifecycleStep.CREATION_ASKED, 0.0), Moment(LifecycleStep.PAYLOAD_STARTED, 1.0))
COLD = """\
cold start: 1000.0 ms until the payload was started
         phase         ms   share
  host   spawn      250.0   25.0%  ██████████
         resume       1.0    0.1%            ▏
  guest  kernel     500.0   50.0%              ████████████████████
         verify     200.0   20.0%                                  ████████
  The guest's times are exact to 1.4 ms."""


def test_a_cold_start() -> None:
    timeline = Timeline(StartKind.COLD, 0, PHASES, MOMENTS, 0.0014)
    assert "\n".join(timeline_lines(timeline)) == COLD


def test_without_block_characters_and_not_to_the_end() -> None:
    timeline = Timeline(StartKind.CLONE, 0, PHASES[:2], MOMENTS[:1], None)
    lines = list(timeline_lines(timeline, blocks=False))
    assert lines[0] == "start as a clone: 251.0 ms as far as it came"
    assert lines[2].endswith("   99.6%  ########################################")
    assert all(line.isascii() for line in lines)


def test_of_a_vm_that_was_not_started() -> None:
    timeline = Timeline(StartKind.UNKNOWN, 0, (), MOMENTS[:1], None)
    assert list(timeline_lines(timeline)) == ["start: 0.0 ms as far as it came"]


def test_phases_that_took_no_time() -> None:
    timeline = Timeline(StartKind.COLD, 0, (Phase("spawn", False, 0.0, 0.0),), MOMENTS[:1], None)
    assert "spawn" in list(timeline_lines(timeline))[2]


@pytest.mark.parametrize(
    ("encoding", "can"), [("utf-8", True), ("latin-1", False), ("ascii", False)]
)
def test_what_a_terminal_can_show(encoding: str, can: bool) -> None:
    assert can_show_blocks(io.TextIOWrapper(io.BytesIO(), encoding)) is can
