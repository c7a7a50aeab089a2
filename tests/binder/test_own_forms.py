"""Raw file descriptors, and parcelables that write themselves."""

import os
from typing import Self

import pytest

from avf.binder import (
    CustomParcelable,
    FileDescriptor,
    Parcel,
    ParcelFileDescriptor,
    ParcelReader,
    Status,
    StatusError,
)
from avf.binder.codecs import codec_for

from .test_parcel import read, written


def test_a_raw_descriptor_has_no_flags() -> None:
    read_end, write_end = os.pipe()
    codec = codec_for(FileDescriptor)
    with ParcelFileDescriptor(read_end) as file, ParcelFileDescriptor(write_end):
        parcel = Parcel(fds_refused=Status.OK)
        codec.write(parcel, file)
        assert parcel.payload() == bytes.fromhex("02000000 00000000")
        reader = ParcelReader(parcel.payload(), fds=[os.dup(read_end)], positions=(0,))
        with codec.read(reader) as back:
            assert os.path.sameopenfile(back.fileno(), read_end)
        with pytest.raises(TypeError, match="ParcelFileDescriptor wanted, not int"):
            codec.write(parcel, read_end)
    with pytest.raises(ValueError, match="closed"):
        codec.write(parcel, file)


def test_a_raw_descriptor_is_never_null() -> None:
    with pytest.raises(TypeError, match="no nullable"):
        codec_for(FileDescriptor | None)
    with pytest.raises(StatusError) as caught:
        read(FileDescriptor, bytes(8))
    assert caught.value.status == Status.BAD_TYPE


class Point(CustomParcelable):
    def __init__(self, x: int) -> None:
        self.x = x

    def write_to_parcel(self, parcel: Parcel) -> None:
        parcel.write_int(self.x)

    @classmethod
    def read_from_parcel(cls, reader: ParcelReader) -> Self:
        return cls(reader.read_int())


def test_a_parcelable_of_ones_own() -> None:
    assert written(Point, Point(5)) == bytes.fromhex("01000000 05000000")
    assert read(Point, bytes.fromhex("01000000 05000000")).x == 5
    assert written(Point | None, None) == bytes(4)
    assert read(Point | None, bytes(4)) is None
    assert [p.x for p in read(list[Point], written(list[Point], [Point(1), Point(2)]))] == [1, 2]


def test_a_parcelable_of_ones_own_is_checked() -> None:
    with pytest.raises(StatusError) as caught:
        read(Point, bytes(4))
    assert caught.value.status == Status.UNEXPECTED_NULL
    with pytest.raises(StatusError) as caught:
        read(Point, bytes.fromhex("01000000"))
    assert caught.value.status == Status.NOT_ENOUGH_DATA
    with pytest.raises(TypeError, match="Point wanted, not int"):
        written(Point, 5)
    with pytest.raises(NotImplementedError):
        written(CustomParcelable, CustomParcelable())
