import pytest
from hypothesis import given
from hypothesis import strategies as st

from avf.disk import ApexPayload, ApkPayload, MetadataPartition, PayloadConfig
from avf.guest.errors import GuestError
from avf.guest.metadata import Metadata, parse_metadata, read_metadata

TEXT = st.text(max_size=40)


def encoded(partition: MetadataPartition) -> bytes:
    return partition.encode()[4:]


@given(st.builds(ApkPayload, TEXT, TEXT.filter(bool), TEXT.filter(bool)), TEXT, st.booleans())
def test_reads_what_the_host_writes(apk: ApkPayload, payload: str, explicit: bool) -> None:
    apexes = (
        ApexPayload(
            "com.android.x", "microdroid-apex-0", last_update_seconds=1 << 40, is_factory=True
        ),
    )
    if explicit:
        partition = MetadataPartition(apk, apexes, config=PayloadConfig(payload, 2))
    else:
        partition = MetadataPartition(apk, apexes, config_path=payload)
    expected = (None, payload) if explicit else (payload, None)
    names = (apk.payload_partition_name, apk.idsig_partition_name)
    assert parse_metadata(encoded(partition)) == Metadata(*names, *expected)


def test_no_payload() -> None:
    assert parse_metadata(encoded(MetadataPartition()))[2:] == (None, None, (), (), False, False)


def test_partition(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("m") / "partition"
    data = MetadataPartition(config=PayloadConfig("x.so")).encode()
    path.write_bytes(data.ljust(4096, b"\0"))
    assert read_metadata(str(path)).binary_name == "x.so"
    for bad, message in [
        (b"", "bad length"),
        (b"\xff\xff\xff\xff", "bad length -1"),
        (b"\x7f\xff\xff\xff", "bad length"),
        (data[:-1], "bytes are there"),
    ]:
        path.write_bytes(bad)
        with pytest.raises(GuestError, match=message):
            read_metadata(str(path))


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_understood_but_never_crashes(data: bytes) -> None:
    try:
        parse_metadata(data)
    except GuestError:
        pass


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x08\x02", "version 2"),
        (b"", "version 0"),
        (b"\x08", "1 bytes wanted"),
        (b"\x08" + b"\xff" * 10, "longer than 10 bytes"),
        (b"\x22\x05abc", "5 bytes wanted"),
        (b"\x22\x01\xff", "not UTF-8"),
        (b"\x0b", "group of field 1 does not end"),
    ],
)
def test_damage_is_named(data: bytes, message: str) -> None:
    with pytest.raises(GuestError, match=message):
        parse_metadata(data)
