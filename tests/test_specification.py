"""SPECIFICATION.md names tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMED = sorted(
    set(re.findall(r"`(tests/[\w/.]+)::(\w+)`", (ROOT / "SPECIFICATION.md").read_text()))
)


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_named_tests_exist(file: str, test: str) -> None:
    assert re.search(rf"^(async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE)


def test_there_are_promises() -> None:
    assert len(NAMED) > 50
