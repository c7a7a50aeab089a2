"""What values look like in a parcel, and what is made of bytes that are none."""

import json
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avf.binder import Byte, Char, FixedSize, Float, Long, Status, StatusError
from avf.binder.codecs import codec_for
from avf.binder.parcel import Parcel, ParcelReader, refused

VECTORS = json.loads((Path(__file__).parent / "vectors/parcel.json").read_text())
TYPES = {"Byte": Byte, "Char": Char, "Long": Long, "Float": Float}


def written(annotation: object, value: Any) -> bytes:
    parcel = Parcel()
    codec_for(annotation).write(parcel, value)
    return parcel.payload()


def read(annotation: object, raw: bytes) -> Any:
    reader = ParcelReader(raw)
    try:
        value = codec_for(annotation).read(reader)
    except Exception as error:
        raise refused(error, "test") from error
    assert reader.remaining() == 0
    return value


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v['type']} {v['value']}")
def test_vectors(vector: dict[str, Any]) -> None:
    annotation = eval(vector["type"], dict(TYPES))
    value = vector["value"]
    if vector["type"].startswith("bytes") and value is not None:
        value = bytes.fromhex(value)
    if isinstance(value, str):
        value = value.encode("utf-16", "surrogatepass").decode("utf-16")
    raw = bytes.fromhex(vector["hex"])
    assert written(annotation, value) == raw
    assert read(annotation, raw) == value


def test_a_value_after_eight_bytes_is_not_aligned_to_eight() -> None:
    parcel = Parcel()
    parcel.write_int(1)
    codec_for(Long).write(parcel, 2)
    assert parcel.payload().hex() == "01000000" + "0200000000000000"


scalars = {
    int: st.integers(-(2**31), 2**31 - 1),
    Long: st.integers(-(2**63), 2**63 - 1),
    Byte: st.integers(-128, 127),
    bool: st.booleans(),
    float: st.floats(allow_nan=False),
    Float: st.floats(allow_nan=False, width=32),
    str: st.text(),
    bytes: st.binary(),
    Char: st.characters(max_codepoint=0xFFFF, exclude_categories=()),
    str | None: st.none() | st.text(),
    bytes | None: st.none() | st.binary(),
}


@given(st.data(), st.sampled_from(list(scalars)))
def test_round_trip(data: st.DataObject, annotation: Any) -> None:
    value = data.draw(scalars[annotation])
    assert read(annotation, written(annotation, value)) == value


@given(st.data(), st.sampled_from([t for t in scalars if t is not Byte]))
def test_round_trip_of_lists(data: st.DataObject, element: Any) -> None:
    values = data.draw(st.lists(scalars[element], max_size=20))
    raw = written(list[element], values)
    assert len(raw) % 4 == 0
    assert read(list[element], raw) == values
    assert read(list[element] | None, raw) == values


@given(st.binary(max_size=64), st.sampled_from([*scalars, list[str], list[int], list[bytes]]))
def test_any_bytes_give_a_value_or_a_status(raw: bytes, annotation: object) -> None:
    reader = ParcelReader(raw)
    try:
        codec_for(annotation).read(reader)
    except Exception as error:  # noqa: BLE001
        assert isinstance(refused(error, "test"), StatusError)
        assert type(error) is StatusError or type(error).__name__ == "error"
    assert reader.pos <= reader.end


@pytest.mark.parametrize(
    ("annotation", "raw", "status"),
    [
        (int, "0100", Status.NOT_ENOUGH_DATA),
        (Long, "01000000", Status.NOT_ENOUGH_DATA),
        (str, "ffffffff", Status.UNEXPECTED_NULL),
        (str, "feffffff", Status.UNEXPECTED_NULL),
        (str, "01000000", Status.UNEXPECTED_NULL),
        (str, "0100000056000100", Status.UNEXPECTED_NULL),
        (str, "ffffff7f56000000", Status.UNEXPECTED_NULL),
        (bytes, "ffffffff", Status.UNEXPECTED_NULL),
        (bytes, "0500000000000000", Status.BAD_VALUE),
        (bytes, "010000000000", Status.NOT_ENOUGH_DATA),
        (list[int], "ffffffff", Status.UNEXPECTED_NULL),
        (list[int], "0200000001000000", Status.BAD_VALUE),
        (list[str], "ffffff7f00000000", Status.BAD_VALUE),
        (Annotated[bytes, FixedSize(2)], "0100000001000000", Status.BAD_VALUE),
    ],
)
def test_refusals(annotation: object, raw: str, status: Status) -> None:
    with pytest.raises(StatusError) as raised:
        read(annotation, bytes.fromhex(raw))
    assert raised.value.status == status


@pytest.mark.parametrize(
    ("annotation", "value", "error"),
    [
        (int, 2**31, Exception),
        (Byte, 128, ValueError),
        (Char, "\U0001f600", ValueError),
        (bytes, "text", TypeError),
        (str, 5, TypeError),
        (Annotated[bytes, FixedSize(64)], bytes(63), ValueError),
    ],
)
def test_values_that_do_not_fit(annotation: object, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        written(annotation, value)


def test_fixed_size_arrays_carry_their_size() -> None:
    fixed = Annotated[bytes, FixedSize(3)]
    assert written(fixed, b"\1\2\3").hex() == "0300000001020300"
    assert read(fixed, written(fixed, b"\1\2\3")) == b"\1\2\3"
    assert codec_for(fixed).default() == bytes(3)


@pytest.mark.parametrize("annotation", [complex, int | str, int | None, list[complex], dict, 5])
def test_what_is_no_aidl_type(annotation: object) -> None:
    with pytest.raises(TypeError):
        codec_for(annotation)
