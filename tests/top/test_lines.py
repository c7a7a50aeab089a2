"""What a guest has written, kept as lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avf.top.lines import MAX_LINE, Lines, visible


def fed(*chunks: bytes, **limits: int) -> Lines:
    lines = Lines(**limits)
    for chunk in chunks:
        lines.feed(chunk)
    return lines


def test_lines_end_at_line_feeds_alone() -> None:
    lines = fed(b"one\r\ntwo\n\nthree\x0bfour\xe2\x80\xa8five\n")
    assert list(lines) == ["one", "two", "", r"three\u{b}four\u{2028}five"]


def test_a_line_is_seen_before_it_ends() -> None:
    lines = fed(b"complete\nlogin: ")
    assert (list(lines), len(lines), lines[1]) == (["complete", "login: "], 2, "login: ")
    lines.feed(b"root\n")
    assert list(lines) == ["complete", "login: root"]


def test_a_character_in_two_chunks() -> None:
    assert list(fed(b"cr\xc3", b"\xa8me\n")) == ["crème"]
    broken = fed(b"\xff\xfe\n\xc3")
    broken.feed(b"", final=True)
    assert list(broken) == ["\ufffd\ufffd", "\ufffd"]


def test_numbers_stay_when_lines_are_dropped() -> None:
    lines = fed(b"".join(b"%d\n" % n for n in range(100)), max_lines=16)
    assert lines.end == 100
    assert lines.first == 100 - len(lines) > 0
    assert [lines[n] for n in range(lines.first, 100)] == [str(n) for n in range(lines.first, 100)]
    for number in (lines.first - 1, lines.end, -1):
        with pytest.raises(IndexError):
            lines[number]


def test_long_lines_become_several() -> None:
    for text in (b"x" * (2 * MAX_LINE + 5), b"x" * (2 * MAX_LINE + 5) + b"\n"):
        assert [len(line) for line in fed(text)] == [MAX_LINE, MAX_LINE, 5]


def test_tabs_and_carriage_returns() -> None:
    assert visible("a\tb\r\r") == "a       b"
    assert visible("10%\r20%") == r"10%\r20%"


@given(st.lists(st.binary(max_size=60), max_size=30))
def test_any_bytes_in_any_chunks(chunks: list[bytes]) -> None:
    """Every chunking gives the same lines, none of which does anything to a terminal, and the bounds hold."""
    lines = fed(*chunks, max_lines=8, max_chars=100)
    whole = fed(*(bytes([byte]) for byte in b"".join(chunks)), max_lines=8, max_chars=100)
    assert lines.end == whole.end
    assert lines.received == whole.received == sum(map(len, chunks))
    for line in lines:
        assert line.isprintable()
    assert len(lines) <= 9
    assert [lines[n] for n in range(max(lines.first, whole.first), lines.end)] == [
        whole[n] for n in range(max(lines.first, whole.first), whole.end)
    ]
