"""The payload-metadata partition: compared with protoc, and hostile content."""

import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avf.disk import ApexPayload, ApkPayload, MetadataError, MetadataPartition, PayloadConfig
from tests.disk.conftest import MakeFile, name_of

SCHEMA = """
syntax = "proto3";
package android.microdroid;
message Metadata {
  uint32 version = 1; repeated ApexPayload apexes = 2; ApkPayload apk = 3;
  oneof payload { string config_path = 4; PayloadConfig config = 5; }
}
message ApexPayload {
  string name = 1; string partition_name = 2; bytes public_key = 3; bytes root_digest = 4;
  uint64 last_update_seconds = 5; bool is_factory = 6;
}
message ApkPayload { string name = 1; string payload_partition_name = 2; string idsig_partition_name = 3; }
message PayloadConfig { string payload_binary_name = 1; uint32 extra_apk_count = 2; }
"""
APK = 'apk { name: "apk" payload_partition_name: "microdroid-apk" idsig_partition_name: "microdroid-apk-idsig" }'


def protoc(directory: Path, text: str) -> bytes:
    (directory / "m.proto").write_text(SCHEMA)
    command = [
        "protoc",
        f"-I{directory}",
        "--encode=android.microdroid.Metadata",
        str(directory / "m.proto"),
    ]
    message = subprocess.run(command, input=text.encode(), capture_output=True, check=True).stdout
    return struct.pack(">i", len(message)) + message


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        (
            MetadataPartition(config=PayloadConfig("main.so")),
            f'version: 1 {APK} config {{ payload_binary_name: "main.so" }}',
        ),
        (
            MetadataPartition(config=PayloadConfig("x", 2)),
            f'version: 1 {APK} config {{ payload_binary_name: "x" extra_apk_count: 2 }}',
        ),
        (
            MetadataPartition(config_path="/mnt/apk/assets/vm.json"),
            f'version: 1 {APK} config_path: "/mnt/apk/assets/vm.json"',
        ),
        (
            MetadataPartition(
                apexes=(ApexPayload("a", "microdroid-apex-0", b"k", b"d", 1 << 40, True),),
                config_path="",
            ),
            'version: 1 apexes { name: "a" partition_name: "microdroid-apex-0" public_key: "k"'
            f' root_digest: "d" last_update_seconds: {1 << 40} is_factory: true }} {APK} config_path: ""',
        ),
    ],
)
def test_encoding_is_protocs(tmp_path: Path, metadata: MetadataPartition, text: str) -> None:
    encoded = protoc(tmp_path, text)
    assert metadata.encode() == encoded
    assert MetadataPartition.decode(encoded + bytes(4000)) == metadata


names = st.text(max_size=20)
apexes = st.builds(
    ApexPayload,
    names,
    names,
    st.binary(max_size=9),
    st.binary(max_size=9),
    st.integers(0, 2**64 - 1),
    st.booleans(),
)
configs = st.builds(PayloadConfig, names, st.integers(0, 2**32 - 1))


@given(
    st.builds(
        MetadataPartition,
        st.builds(ApkPayload, names, names, names),
        st.lists(apexes, max_size=4).map(tuple),
        config_path=st.none() | names,
        version=st.integers(0, 2**32 - 1),
    )
    | st.builds(MetadataPartition, config=configs)
)
def test_round_trip(metadata: MetadataPartition) -> None:
    assert MetadataPartition.decode(metadata.encode()) == metadata


def test_files(make_file: MakeFile) -> None:
    fd = make_file(b"old content" * 100)
    metadata = MetadataPartition(config=PayloadConfig("main.so"))
    metadata.write(fd)
    assert MetadataPartition.read(fd) == metadata
    metadata.write(fd)
    assert MetadataPartition.read(fd) == metadata


def test_both_payloads_are_refused() -> None:
    with pytest.raises(MetadataError, match="both"):
        MetadataPartition(config_path="x", config=PayloadConfig("y")).encode()


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (MetadataPartition(config_path="a\ud800"), "is not Unicode"),
        (MetadataPartition(config=PayloadConfig("\udfff")), "is not Unicode"),
        (MetadataPartition(apexes=(ApexPayload("a", "b"),) * 129), "more than 128 APEXes"),
    ],
)
def test_what_could_not_be_read_again(metadata: MetadataPartition, message: str) -> None:
    with pytest.raises(MetadataError, match=message):
        metadata.encode()


def framed(message: bytes) -> bytes:
    return struct.pack(">i", len(message)) + message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\0\0\0", "cut off"),
        (b"\xff\xff\xff\xff", "says it has -1 bytes"),
        (b"\x7f\xff\xff\xff" + bytes(100), "says it has 2147483647 bytes of 100"),
        (framed(b"\x1a\x05ab"), "5 bytes wanted at byte 2"),
        (framed(b"\x1a\x03\x0a\x01\xff"), "not UTF-8"),
        (framed(b"\x12\x00" * 129), "field 2 of Metadata at byte 258: more than 128"),
        (framed(b"\x18"), "1 bytes wanted"),
    ],
)
def test_hostile_partitions(make_file: MakeFile, data: bytes, message: str) -> None:
    fd = make_file(data)
    with pytest.raises(MetadataError, match=message) as caught:
        MetadataPartition.read(fd)
    assert name_of(fd) in str(caught.value)


@given(st.binary(max_size=100))
def test_random_content_never_crashes(data: bytes) -> None:
    try:
        MetadataPartition.decode(framed(data))
    except MetadataError:
        pass
