"""Cargo's rules for version requirements, seen from the released version 1.0.0 and some others."""

import pytest

from avf.virtmgr.version_req import Version, VersionReqError, matches


@pytest.mark.parametrize(
    ("requirement", "version", "expected"),
    [
        ("~1.0", (1, 0, 0), True),
        ("~1.0", (1, 0, 9), True),
        ("~1.0", (1, 1, 0), False),
        ("~1", (1, 9, 9), True),
        ("~1.2.3", (1, 2, 2), False),
        ("~2.0", (1, 0, 0), False),
        ("1", (1, 9, 0), True),
        ("^1.2", (1, 2, 0), True),
        ("^1.2", (1, 1, 9), False),
        ("^1.2", (2, 0, 0), False),
        ("0.2.3", (0, 2, 9), True),
        ("0.2.3", (0, 3, 0), False),
        ("0.0.3", (0, 0, 3), True),
        ("0.0.3", (0, 0, 4), False),
        ("0.0", (0, 0, 7), True),
        ("0.0", (0, 1, 0), False),
        ("0", (0, 9, 0), True),
        ("=1.0", (1, 0, 5), True),
        ("=1.0.1", (1, 0, 0), False),
        (">1", (1, 9, 9), False),
        (">1", (2, 0, 0), True),
        (">1.0", (1, 1, 0), True),
        (">1.0", (1, 0, 9), False),
        (">=1, <2", (1, 0, 0), True),
        (">=1,<1.0.0", (1, 0, 0), False),
        ("<=1", (1, 9, 0), True),
        ("<=1.0", (1, 1, 0), False),
        ("1.*", (1, 5, 0), True),
        ("1.0.*", (1, 1, 0), False),
        ("1.x", (1, 1, 0), True),
        ("*", (9, 9, 9), True),
        (" ~ 1.0 ", (1, 0, 0), True),
        (">=1.0.0-alpha", (1, 0, 0), True),
        (">1.0.0-alpha", (1, 0, 0), True),
        ("<1.0.0-alpha", (1, 0, 0), False),
        ("=1.0.0-alpha", (1, 0, 0), False),
        ("1.0.0+build", (1, 0, 0), True),
    ],
)
def test_matches(requirement: str, version: tuple[int, int, int], expected: bool) -> None:
    assert matches(requirement, Version(*version)) is expected


@pytest.mark.parametrize(
    "requirement",
    ["", "  ", "a", "1.2.3.4", "01", "1.", "1,", "=>1", "*.1", "1.*.2", "*,1", "1.*-a", "1 2"],
)
def test_refused(requirement: str) -> None:
    with pytest.raises(VersionReqError):
        matches(requirement, Version(1, 0, 0))


def test_too_many_comparators() -> None:
    with pytest.raises(VersionReqError, match="excessive"):
        matches(",".join([">=1"] * 33), Version(1, 0, 0))
