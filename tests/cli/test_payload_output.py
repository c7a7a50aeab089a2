"""The payload's own output, told from its agent's lines."""

import contextlib
import io
import os

import pytest

from avf.cli.payload_output import AgentFilter, copied_output

AGENT = b"[   12.345] agent: payload finished with exit code 0\n"


def filtered(*pieces: bytes) -> bytes:
    stream = AgentFilter()
    return b"".join([*map(stream.feed, pieces), stream.end()])


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (b"hello\n", b"hello\n"),
        (AGENT, b""),
        (AGENT + b"hello\n" + AGENT, b"hello\n"),
        (b"no end of line" + AGENT, b"no end of line"),
        (b"[1, 2, 3]\n", b"[1, 2, 3]\n"),
        (b"[   12.345] payload: mine\n", b"[   12.345] payload: mine\n"),
        (b"\xff\x00[\n", b"\xff\x00[\n"),
        (b"left open [   12.345] agent: cut off", b"left open "),
        (b"prompt [1.5", b"prompt [1.5"),
    ],
)
def test_agent_lines_are_left_out_however_the_output_arrives(said: bytes, shown: bytes) -> None:
    assert filtered(said) == shown
    assert filtered(*(said[i : i + 1] for i in range(len(said)))) == shown


def test_what_cannot_be_the_agents_is_passed_on_at_once() -> None:
    stream = AgentFilter()
    assert stream.feed(b"Name? ") == b"Name? "
    assert stream.feed(b"[yes/no] ") == b"[yes/no] "


def test_a_line_without_end_is_not_held_for_ever() -> None:
    stream = AgentFilter()
    stream.feed(b"[   12.345] agent: ")
    shown = sum(len(stream.feed(b"x" * 4096)) for _ in range(100))
    assert shown > 300_000


def test_output_is_complete_when_the_vm_has_ended() -> None:
    target = io.TextIOWrapper(io.BytesIO())
    with copied_output(target) as fd:
        os.write(fd, b"one\n" + AGENT + b"two\n")
    assert isinstance(target.buffer, io.BytesIO)
    assert target.buffer.getvalue() == b"one\ntwo\n"


def test_output_that_finds_no_room_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with open("/dev/full", "w") as full, contextlib.suppress(OSError):
        with copied_output(full) as fd:
            os.write(fd, b"x\n" * 10_000)
        assert capsys.readouterr().err == (
            "Warning: output of the VM is lost: standard output: No space left on device\n"
        )
