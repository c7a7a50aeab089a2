import os
from itertools import pairwise
from pathlib import Path

import pytest

from avf.binder import RemoteException
from avf.cli.text import CliError, as_typed_here, error_chain, error_text, hint_for, quoted
from avf.client import Refused, ServiceDied
from avf.printable import printable


def chained(*errors: BaseException) -> BaseException:
    for outer, inner in pairwise(errors):
        outer.__cause__ = inner
    return errors[0]


def test_an_error_alone() -> None:
    assert error_chain(CliError("no")) == "no"


def test_one_cause() -> None:
    error = chained(CliError("Failed to create VM"), RemoteException.security("not you"))
    assert error_chain(error) == "Failed to create VM\n  because: not you (SECURITY)"


def test_several_causes_follow_each_other() -> None:
    error = chained(CliError("a"), ValueError("b"), FileNotFoundError(2, "No such file", "/x"))
    assert error_chain(error) == "a\n  because: b\n  because: /x: No such file"


def test_a_cause_that_was_said_is_not_said_again() -> None:
    error = chained(CliError("Failed to open x: No such file"), OSError(2, "No such file"))
    assert error_chain(error) == "Failed to open x: No such file"


def test_an_error_without_words_is_named() -> None:
    assert error_chain(chained(CliError("a"), ValueError())) == "a\n  because: ValueError"


def test_the_causes_in_a_refusal_become_lines() -> None:
    message = "Failed\n\nCaused by:\n    0: no QEMU\n    1: 2: odd\x1b"
    error = chained(CliError("a"), Refused.of(RemoteException.service_specific_error(-4, message)))
    assert error_chain(error) == (
        "a\n  because: Failed\n  because: no QEMU\n  because: 2: odd\\u{1b}"
    )


def test_an_error_with_a_remedy() -> None:
    assert error_text(CliError("a", hint="do b")) == "a\n  try: do b"
    assert error_text(CliError("a")) == "a"


def test_an_error_that_causes_itself_comes_to_an_end() -> None:
    first, second = CliError("a"), ValueError("b")
    chained(first, second, first)
    assert error_chain(first).startswith("a\n  because: b")


def test_hints() -> None:
    assert hint_for(CliError("a")) is None
    assert hint_for(CliError("a", hint="do b")) == "do b"
    denied = chained(CliError("a"), RemoteException.security("not you"))
    assert "vm doctor" in str(hint_for(denied))
    assert "vm doctor" in str(hint_for(ServiceDied("gone")))
    little = "memoryMib is 32, but this guest image needs at least 142"
    short = RemoteException.service_specific_error(-1, little)
    assert "--mem" in str(hint_for(short))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("lib.so", '"lib.so"'),
        ('a"b\\c', r'"a\"b\\c"'),
        ("tab\tline\n\0", r'"tab\tline\n\0"'),
        ("\x1b[m", r'"\u{1b}[m"'),
        ("grün", '"grün"'),
    ],
)
def test_quoted(value: str, text: str) -> None:
    assert quoted(value) == text


def test_what_a_guest_says_is_made_printable() -> None:
    assert printable('as "it" is: ü') == 'as "it" is: ü'
    assert printable("a\x1b[2Jb\n") == "a\\u{1b}[2Jb\\n"


@pytest.mark.parametrize(
    ("sudo", "uid", "typed"),
    [
        (True, 1000, "sudo apt-get install bubblewrap"),
        (False, 1000, "as root: apt-get install bubblewrap"),
        (False, 0, "apt-get install bubblewrap"),
    ],
)
def test_sudo_is_advised_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sudo: bool, uid: int, typed: str
) -> None:
    if sudo:
        (tmp_path / "sudo").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "getuid", lambda: uid)
    assert as_typed_here("sudo apt-get install bubblewrap") == typed
    assert as_typed_here("unset AVF_ACCEL") == "unset AVF_ACCEL"
    assert error_text(CliError("no", "sudo apt-get install bubblewrap")) == f"no\n  try: {typed}"
