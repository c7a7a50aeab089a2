"""Parcelables, unions and enums."""

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avf.binder import Enum, Parcelable, ParcelFileDescriptor, Status, StatusError, Union
from avf.binder.codecs import codec_for
from avf.binder.parcel import Parcel, ParcelReader

from .test_parcel import read, written


class Level(Enum, backing="byte"):
    NONE = 0
    FULL = 1


class Reason(Enum):
    FIRST = 3
    OTHER = 9


class Old(Parcelable):
    a: int = 7
    b: str | None = None


class New(Parcelable):
    a: int = 0
    b: str | None = None
    c: list[int] = []  # noqa: RUF012
    level: Level = Level.FULL
    old: Old = Old(a=1)
    maybe: Old | None = None
    must: str


class Choice(Union):
    number: int
    old: Old
    names: list[str]


class Tree(Parcelable):
    left: "Tree | None" = None
    right: "Tree | None" = None


def test_parcelables_take_fields_by_name() -> None:
    value = Old(b="x")
    assert (value.a, value.b) == (7, "x")
    assert value == Old(a=7, b="x")
    assert value != Old()
    assert repr(value) == "Old(a=7, b='x')"
    with pytest.raises(TypeError, match="has no field z"):
        Old(z=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="must is missing"):
        New()  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        value.z = 1  # type: ignore[attr-defined]


def test_defaults_are_not_shared() -> None:
    one, two = New(must=""), New(must="")
    one.c.append(1)
    one.old.a = 5
    assert two.c == []
    assert two.old == Old(a=1)


def test_parcelable_body_begins_with_its_size() -> None:
    assert written(Old, Old(a=2)).hex() == "01000000" + "0c000000" + "02000000" + "ffffffff"
    assert written(Old | None, None).hex() == "00000000"
    with pytest.raises(StatusError) as raised:
        read(Old, bytes(4))
    assert raised.value.status == Status.UNEXPECTED_NULL


def test_older_and_newer_versions_understand_each_other() -> None:
    new = New(a=1, b="b", c=[1, 2], level=Level.NONE, must="m")
    assert read(Old, written(New, new)) == Old(a=1, b="b")
    seen = read(New, written(Old, Old(a=4, b="x")))
    assert seen == New(a=4, b="x", c=[], level=Level.FULL, old=Old(a=1), must="")


@pytest.mark.parametrize(
    "raw",
    [
        "01000000 03000000 02000000 ffffffff",
        "01000000 ffffffff 02000000 ffffffff",
        "01000000 10000000 02000000 ffffffff",
        "01000000 0a000000 02000000 00000000 00000000",
    ],
)
def test_sizes_that_cannot_be(raw: str) -> None:
    with pytest.raises(StatusError) as raised:
        read(Old, bytes.fromhex(raw))
    assert raised.value.status == Status.BAD_VALUE


def test_wrong_fields_are_named() -> None:
    with pytest.raises(TypeError, match=r"\.c: "):
        written(New, New(c=5, must=""))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Old wanted, not str"):
        written(Old, "old")


def test_deep_nesting_is_refused_not_fatal() -> None:
    depth = 5000
    # Every level says it ends where the whole ends.
    raw = b"".join(
        (1).to_bytes(4, "little") + (8 * (depth - i)).to_bytes(4, "little") for i in range(depth)
    )
    with pytest.raises(StatusError):
        read(Tree, raw + bytes(8))


@given(st.recursive(st.just(Tree()), lambda t: st.builds(Tree, left=t, right=t), max_leaves=20))
def test_trees_round_trip(tree: Tree) -> None:
    assert read(Tree, written(Tree, tree)) == tree


@given(st.binary(max_size=80))
def test_any_bytes_give_a_parcelable_or_a_status(raw: bytes) -> None:
    for annotation in (New, Choice, Tree, list[Old]):
        try:
            read(annotation, raw)
        except (StatusError, AssertionError):
            pass


def test_unions_hold_one_member() -> None:
    value = Choice(number=5)
    assert (value.which, value.number, value.value) == ("number", 5, 5)
    with pytest.raises(AttributeError, match="holds number, not old"):
        _ = value.old
    value.names = ["a"]
    assert value.which == "names"
    assert value == Choice(names=["a"])
    assert repr(value) == "Choice(names=['a'])"
    for wrong in ({}, {"number": 1, "names": []}, {"other": 1}):
        with pytest.raises(TypeError):
            Choice(**wrong)


def test_union_is_tag_and_value_without_a_size() -> None:
    assert written(Choice, Choice(number=5)).hex() == "01000000" + "00000000" + "05000000"
    assert written(Choice, Choice(names=[])).hex() == "01000000" + "02000000" + "00000000"
    assert read(Choice, written(Choice, Choice(old=Old(a=3)))) == Choice(old=Old(a=3))
    for tag in ("03000000", "ffffffff"):
        with pytest.raises(StatusError) as raised:
            read(Choice, bytes.fromhex("01000000" + tag + "00000000"))
        assert raised.value.status == Status.BAD_VALUE
    assert codec_for(Choice).default() == Choice(number=0)


def test_enums_are_their_backing_type() -> None:
    assert written(Level, Level.FULL).hex() == "01000000"
    assert written(list[Level], [Level.FULL, Level.NONE]).hex() == "02000000" + "01000000"
    assert written(list[Reason], [Reason.OTHER]).hex() == "01000000" + "09000000"
    assert read(list[Level], written(list[Level], [Level.FULL])) == [Level.FULL]
    assert codec_for(Reason).default() is Reason.FIRST


def test_unknown_enum_values_are_kept() -> None:
    value: Any = read(Reason, bytes.fromhex("f7ffffff"))
    assert isinstance(value, Reason)
    assert (value.name, int(value)) == ("UNRECOGNISED_-9", -9)
    assert value == Reason(-9)
    assert written(Reason, value).hex() == "f7ffffff"
    assert len(Reason) == 2


def test_descriptors_need_a_session() -> None:
    with ParcelFileDescriptor(os.dup(0)) as fd, pytest.raises(StatusError) as raised:
        codec_for(ParcelFileDescriptor).write(Parcel(), fd)
    assert raised.value.status == Status.FDS_NOT_ALLOWED
    assert read(ParcelFileDescriptor | None, bytes(4)) is None


def test_descriptor_objects_in_a_parcel() -> None:
    first, second = os.pipe()
    parcel = Parcel(fds_refused=Status.OK)
    with ParcelFileDescriptor(first) as one, ParcelFileDescriptor(second) as two:
        codec_for(list[ParcelFileDescriptor]).write(parcel, [one, two])
        assert parcel.payload().hex() == "02000000" + "".join(
            f"0100000000000000020000000{index}000000" for index in range(2)
        )
        assert parcel.positions == [12, 28]
        fds = [os.dup(fd) for fd in parcel.filenos()]
    reader = ParcelReader(parcel.payload(), fds=fds, positions=frozenset(parcel.positions))
    taken = codec_for(list[ParcelFileDescriptor]).read(reader)
    assert [fd.fileno() for fd in taken] != [-1, -1]
    reader.close()
    for fd in taken:
        os.fstat(fd.fileno())
    reader.close_taken()
    assert all(fd.closed for fd in taken)
