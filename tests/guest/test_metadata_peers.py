"""Payload metadata mean to the host and to the guest what they mean to protobuf's own parser."""

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message
from hypothesis import example, given
from hypothesis import strategies as st

from avf.disk import ApexPayload, ApkPayload, MetadataError, MetadataPartition, PayloadConfig
from avf.guest.errors import GuestError
from avf.guest.metadata import parse_metadata
from avf.invocation import MAX_STRINGS
from avf.metadata import FORKABLE_FIELD, INVOCATION_FIELD, MAX_APEXES
from avf.proto3 import message_field, uint_field, varint

FIELDS = {
    "ApexPayload": "string name; string partition_name; bytes public_key; bytes root_digest;"
    " uint64 last_update_seconds; bool is_factory",
    "ApkPayload": "string name; string payload_partition_name; string idsig_partition_name",
    "PayloadConfig": "string payload_binary_name; uint32 extra_apk_count",
    "Metadata": "uint32 version; ApexPayload apexes; ApkPayload apk; string config_path;"
    " PayloadConfig config",
    "Argument": "string value",
    "Variable": "string name; string value",
    "Invocation": "Argument arguments; Variable environment; bool errors_apart",
}
REPEATED = {"apexes", "arguments", "environment"}
TYPES = {"string": 9, "bytes": 12, "uint64": 4, "uint32": 13, "bool": 8}


def peer() -> type[Message]:
    """The class that protobuf makes of the schema."""
    file = descriptor_pb2.FileDescriptorProto(name="m.proto", package="m", syntax="proto3")
    for name, fields in FIELDS.items():
        message = file.message_type.add(name=name)
        for number, words in enumerate(fields.split("; "), 1):
            kind, field = words.split()
            made = message.field.add(name=field, number=number, type=TYPES.get(kind, 11), label=1)
            if kind not in TYPES:
                made.type_name = f".m.{kind}"
            if field in REPEATED:
                made.label = 3
            if field in ("config_path", "config"):
                made.oneof_index = 0
        if name == "Metadata":
            message.oneof_decl.add(name="payload")
            message.field.add(
                name="invocation", number=INVOCATION_FIELD, type=11, label=1
            ).type_name = ".m.Invocation"
            message.field.add(name="forkable", number=FORKABLE_FIELD, type=8, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("m.Metadata"))


PEER = peer()


def by_protobuf(data: bytes) -> MetadataPartition | None:
    try:
        found: Any = PEER.FromString(data)
    except DecodeError:
        return None
    called = found.invocation
    amounts = (len(called.arguments), len(called.environment))
    if len(found.apexes) > MAX_APEXES or max(amounts) > MAX_STRINGS:
        return None
    chosen = found.WhichOneof("payload")
    config = PayloadConfig(found.config.payload_binary_name, found.config.extra_apk_count)
    return MetadataPartition(
        ApkPayload(
            found.apk.name, found.apk.payload_partition_name, found.apk.idsig_partition_name
        ),
        tuple(
            ApexPayload(
                apex.name,
                apex.partition_name,
                apex.public_key,
                apex.root_digest,
                apex.last_update_seconds,
                apex.is_factory,
            )
            for apex in found.apexes
        ),
        found.config_path if chosen == "config_path" else None,
        config if chosen == "config" else None,
        found.version,
        tuple(argument.value for argument in called.arguments),
        tuple((variable.name, variable.value) for variable in called.environment),
        found.forkable,
        called.errors_apart,
    )


def by_host(data: bytes) -> MetadataPartition | None:
    try:
        return MetadataPartition.decode(len(data).to_bytes(4, "big") + data)
    except MetadataError as error:
        assert "payload metadata" in str(error)
        return None


def agree(data: bytes) -> None:
    """All three refuse the message, or all three read the same out of it."""
    wanted = by_protobuf(data)
    assert by_host(data) == wanted
    try:
        guest = parse_metadata(data)
    except GuestError:
        assert wanted is None or wanted.version != 1
        return
    assert wanted is not None
    assert guest == (
        wanted.apk.payload_partition_name or "microdroid-apk",
        wanted.apk.idsig_partition_name or "microdroid-apk-idsig",
        wanted.config_path,
        wanted.config and wanted.config.payload_binary_name,
        wanted.arguments,
        wanted.environment,
        wanted.forkable,
        wanted.errors_apart,
    )


def numbers() -> st.SearchStrategy[bytes]:
    """Varints: short, of any size, longer than they need be, and too long."""
    padded = st.builds(lambda n: bytes([n | 0x80]) + b"\x80" * 3 + b"\0", st.integers(0, 127))
    return st.integers(0, 2**64 - 1).map(varint) | st.integers(0, 5).map(varint) | padded


def inside(content: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Fields: right ones, of wrong wire types, unknown ones, groups."""
    number = st.integers(0, 7) | st.just(INVOCATION_FIELD)

    def tagged(number: int, kind: int, rest: bytes) -> bytes:
        return varint(number << 3 | kind) + rest

    one = (
        st.builds(lambda n, v: tagged(n, 0, v), number, numbers())
        | st.builds(message_field, number, st.text(max_size=3).map(str.encode) | content)
        | st.builds(lambda n, v: tagged(n, 1, v), number, st.binary(min_size=8, max_size=8))
        | st.builds(lambda n, v: tagged(n, 5, v), number, st.binary(min_size=4, max_size=4))
        | st.builds(lambda n, v: tagged(n, 3, v) + tagged(n, 4, b""), number, content)
    )
    return st.lists(one, max_size=5).map(b"".join)


VERSION = uint_field(1, 1)
MESSAGES = st.recursive(st.binary(max_size=6), inside, max_leaves=8)


@given(MESSAGES)
def test_any_message(message: bytes) -> None:
    agree(message)
    agree(VERSION + message)


@given(st.binary(max_size=60))
def test_any_bytes(data: bytes) -> None:
    agree(data)
    agree(VERSION + data)


@given(MESSAGES, st.data())
@example(VERSION + message_field(4, b"a/b"), None)
def test_whatever_is_cut_off(message: bytes, data: st.DataObject | None) -> None:
    for end in range(len(message)) if data is None else [data.draw(st.integers(0, len(message)))]:
        agree(message[:end])


GROUP = b"\x7b\x7c"


@pytest.mark.parametrize(
    ("message", "accepted"),
    [
        (VERSION + b"\x25abcd", True),  # a string of fixed size is unknown, not a string
        (VERSION + b"\x22\x01a" + b"\x21abcdefgh", True),
        (VERSION + b"\x1a\x02\x12\x00" + b"\x1a\x03\x1a\x01i", True),  # two that are merged
        (VERSION + b"\x2a\x03\x0a\x01a" + b"\x22\x01p" + b"\x2a\x00", True),  # the last of a oneof
        (VERSION + b"\x22\x01p" + b"\x2a\x03\x0a\x01a" + b"\x2a\x02\x10\x05", True),
        (b"\x08" + b"\x81" + b"\x80" * 8 + b"\x00", True),  # ten bytes
        (b"\x08" + b"\x81" + b"\x80" * 9 + b"\x00", False),  # eleven
        (b"\x08" + b"\xff" * 9 + b"\x7f", True),  # the bits above 64 are dropped
        (b"\x08\x81\x80\x80\x80\x10", True),  # 2**32 + 1 as uint32
        (VERSION + b"\x88\x80\x80\x80\x80\x00\x01", False),  # a tag of six bytes
        (VERSION + b"\xf8\xff\xff\xff\x1f\x01", False),  # a tag of more than 32 bits
        (VERSION + b"\x22\xff\xff\xff\xff\x07", False),
        (VERSION + b"\x22\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", False),  # a length of -1
        (VERSION + b"\x00\x01", False),  # field number 0
        (VERSION + b"\x7b\x00\x01\x7c", True),  # ... in a group that is passed over
        (VERSION + GROUP, True),
        (VERSION + b"\x7b", False),
        (VERSION + b"\x7c", False),
        (VERSION + b"\x7b\x74", False),  # the end of another group
        (VERSION + b"\x7b" * 100 + b"\x7c" * 100, True),
        (VERSION + b"\x7b" * 101 + b"\x7c" * 101, False),
        (VERSION + message_field(3, b"\x7b" * 99 + b"\x7c" * 99), True),
        (VERSION + message_field(3, b"\x7b" * 100 + b"\x7c" * 100), False),
        (VERSION + b"\x7e", False),
        (VERSION + b"\x7f", False),
        (VERSION + b"\x22\x03\xed\xa0\x80", False),  # a surrogate
        (VERSION + b"\x12\x03\x0a\x01\xff", False),  # text that the guest has no use for
        (VERSION + b"\x12\x03\x1a\x01\xff", True),  # bytes
        (VERSION + b"\x12\x00" * MAX_APEXES, True),
        (VERSION + b"\x12\x00" * (MAX_APEXES + 1), False),
    ],
)
def test_what_parsers_differ_about(message: bytes, accepted: bool) -> None:
    agree(message)
    assert (by_host(message) is not None) is accepted
