"""An error in a log: one line, or a traceback for those who want one."""

import logging
import sys

import pytest

from avf.log_lines import PrintableFormatter, wanted_level


def record_of(error: Exception) -> logging.LogRecord:
    try:
        try:
            raise FileNotFoundError(2, "No such file or directory", "/x\ny")
        except FileNotFoundError as cause:
            raise error from cause
    except type(error):
        return logging.LogRecord("n", logging.ERROR, "f", 1, "it %s", ("broke",), sys.exc_info())


def test_one_line_with_causes_and_the_place() -> None:
    text = PrintableFormatter("a: %(message)s").format(record_of(ValueError("bad\x1b")))
    assert text.startswith(
        "a: it broke: bad\\u{1b}: /x\\ny: No such file or directory [ValueError at tests/test_log_lines.py:"
    )
    assert "\n" not in text


def test_the_traceback_for_those_who_want_it() -> None:
    text = PrintableFormatter("a: %(message)s", tracebacks=True).format(record_of(ValueError("b")))
    first, *rest = text.splitlines()
    assert first == "a: it broke"
    assert "Traceback (most recent call last):" in rest
    assert rest[-1] == "ValueError: b"


def test_an_error_that_was_never_raised() -> None:
    error = KeyError("k")
    record = logging.LogRecord("n", 40, "f", 1, "it", (), (KeyError, error, None))
    assert PrintableFormatter("%(message)s").format(record) == "it: 'k' [KeyError]"


@pytest.mark.parametrize(("name", "level"), [("", 20), ("debug", 10), ("error", 40)])
def test_the_level(monkeypatch: pytest.MonkeyPatch, name: str, level: int) -> None:
    monkeypatch.setenv("AVF_LOG", name)
    assert wanted_level() == level
