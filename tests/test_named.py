"""Named tuples of ours beside those of the standard library."""

import pickle
import typing
from typing import Any

import pytest

from avf import named


class Theirs(typing.NamedTuple):
    name: str
    size: int = 3
    tags: tuple[str, ...] = ()

    @property
    def twice(self) -> int:
        return 2 * self.size


class Ours(named.NamedTuple):
    name: str
    size: int = 3
    tags: tuple[str, ...] = ()

    @property
    def twice(self) -> int:
        return 2 * self.size


BOTH = pytest.mark.parametrize("kind", [Theirs, Ours])
GIVEN: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    (("a",), {}),
    (("a", 1, ("b",)), {}),
    (("a",), {"tags": ("b",)}),
    ((), {"name": "a", "size": 1}),
]
WRONG: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}),
    ((), {"size": 1}),
    (("a", 1, (), 4), {}),
    (("a",), {"name": "b"}),
    (("a",), {"other": 1}),
]


@pytest.mark.parametrize(("values", "fields"), GIVEN)
def test_same_as_the_standard_librarys(values: tuple[Any, ...], fields: dict[str, Any]) -> None:
    ours, theirs = Ours(*values, **fields), Theirs(*values, **fields)
    assert ours == theirs
    assert hash(ours) == hash(theirs)
    assert (ours.name, ours.size, ours.tags, ours.twice) == (*theirs, theirs.twice)
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    assert ours._asdict() == theirs._asdict()
    assert ours._replace(size=9) == theirs._replace(size=9)
    assert Ours._make(theirs) == ours
    assert pickle.loads(pickle.dumps(ours)) == ours
    assert type(pickle.loads(pickle.dumps(ours))) is Ours
    assert Ours._fields == Theirs._fields
    assert Ours._field_defaults == Theirs._field_defaults


@BOTH
@pytest.mark.parametrize(("values", "fields"), WRONG)
def test_what_does_not_fit_is_refused(
    kind: type, values: tuple[Any, ...], fields: dict[str, Any]
) -> None:
    with pytest.raises(TypeError):
        kind(*values, **fields)


@BOTH
def test_only_fields_and_only_once(kind: Any) -> None:
    made = kind("a")
    with pytest.raises(AttributeError):
        made.other = 1
    with pytest.raises(AttributeError):
        made.name = "b"
    with pytest.raises((TypeError, ValueError)):
        made._replace(other=1)


@BOTH
def test_matching(kind: Any) -> None:
    match kind("a", 1):
        case Ours(name, 1, tags=()) | Theirs(name, 1, tags=()):
            assert name == "a"
        case _:
            pytest.fail("not matched")


def test_the_error_names_the_fields() -> None:
    with pytest.raises(TypeError, match=r"^Ours: missing: name$"):
        Ours(size=1)  # type: ignore[call-arg]
