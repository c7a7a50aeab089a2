"""Cargo's version requirements (`^1.2`, `~1.0`, `>=1, <2`, `1.*`; a bare version means caret)."""

import re
from collections.abc import Callable
from typing import NamedTuple

MAX_COMPARATORS = 32

_NUMBER = r"(0|[1-9]\d{0,18})"
_PART = rf"(?:{_NUMBER}|([*xX]))"
_COMPARATOR = re.compile(
    rf"\s*(>=|<=|=|>|<|~|\^)?\s*{_PART}(?:\.{_PART}(?:\.{_PART}(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?)?)?\s*"
)


class VersionReqError(ValueError):
    """Not a version requirement."""


class Version(NamedTuple):
    major: int
    minor: int
    patch: int


class _Comparator(NamedTuple):
    operator: str
    major: int
    minor: int | None
    patch: int | None
    pre: str | None


def matches(requirement: str, version: Version) -> bool:
    """Whether a released `version` meets `requirement`. Raises VersionReqError."""
    return all(_matches(comparator, version) for comparator in parse(requirement))


def parse(requirement: str) -> list[_Comparator]:
    """The comparators, all of which must match; none for `*`. Raises VersionReqError."""
    if not requirement.strip():
        raise VersionReqError("empty string, expected a semver version")
    if requirement.strip() in ("*", "x", "X"):
        return []
    parts = requirement.split(",")
    if len(parts) > MAX_COMPARATORS:
        raise VersionReqError(f"excessive number of version comparators (over {MAX_COMPARATORS})")
    return [_parse_comparator(part) for part in parts]


def _parse_comparator(text: str) -> _Comparator:
    match = _COMPARATOR.fullmatch(text)
    if match is None:
        raise VersionReqError(f"unexpected text {text.strip()!r}, expected a version comparator")
    operator, major, any_major, minor, any_minor, patch, any_patch, pre = match.groups()
    if any_major:
        raise VersionReqError("wildcard req (*) must be the only comparator in the version req")
    if any_minor and patch:
        raise VersionReqError("unexpected character after wildcard in version req")
    wildcard = any_minor or any_patch
    if wildcard and pre:
        raise VersionReqError("unexpected pre-release after wildcard in version req")
    return _Comparator(
        operator or ("=" if wildcard else "^"),
        int(major),
        None if minor is None else int(minor),
        None if patch is None else int(patch),
        pre,
    )


def _matches(wanted: _Comparator, version: Version) -> bool:
    return _RULES[wanted.operator](wanted, version)


def _given(wanted: _Comparator) -> tuple[int, ...]:
    numbers = (wanted.major, wanted.minor, wanted.patch)
    return tuple(n for n in numbers if n is not None)


def _exact(wanted: _Comparator, version: Version) -> bool:
    given = _given(wanted)
    return version[: len(given)] == given and wanted.pre is None


def _greater(wanted: _Comparator, version: Version) -> bool:
    given = _given(wanted)
    head = version[: len(given)]
    return head > given or (head == given and wanted.pre is not None)


def _less(wanted: _Comparator, version: Version) -> bool:
    given = _given(wanted)
    return version[: len(given)] < given


def _at_least(wanted: _Comparator, version: Version) -> bool:
    return not _less(wanted, version)


def _at_most(wanted: _Comparator, version: Version) -> bool:
    return not _greater(wanted, version)


def _tilde(wanted: _Comparator, version: Version) -> bool:
    given = _given(wanted)
    return version[: len(given[:2])] == given[:2] and _at_least(wanted, version)


def _caret(wanted: _Comparator, version: Version) -> bool:
    given = _given(wanted)
    fixed = next((i for i, n in enumerate(given) if n), len(given) - 1) + 1
    return version[:fixed] == given[:fixed] and _at_least(wanted, version)


_RULES: dict[str, Callable[[_Comparator, Version], bool]] = {
    "=": _exact,
    ">": _greater,
    ">=": _at_least,
    "<": _less,
    "<=": _at_most,
    "~": _tilde,
    "^": _caret,
}
