"""The protobuf message `android.microdroid.Metadata` of the payload-metadata partition, read by host and guest alike.

    Metadata      {1 version; 2 repeated ApexPayload; 3 ApkPayload apk; oneof payload {4 config_path; 5 PayloadConfig}}
    ApexPayload   {1 name; 2 partition_name; 3 public_key; 4 root_digest; 5 last_update_seconds; 6 is_factory}
    ApkPayload    {1 name; 2 payload_partition_name; 3 idsig_partition_name}
    PayloadConfig {1 payload_binary_name; 2 extra_apk_count}

Source: AVF, microdroid/payload/metadata.proto. Not in the original, whose guests pass over it:

    Metadata      {10000 Invocation; 10001 forkable}
    Invocation    {1 repeated Argument; 2 repeated Variable; 3 standard error apart}
    Argument      {1 value}
    Variable      {1 name; 2 value}
"""

from avf.invocation import MAX_STRINGS
from avf.proto3 import Message, Repeated, Scalar

VERSION = 1
MAX_SIZE = 1 << 20
"""Bytes of the message."""
MAX_APEXES = 128

APEX = Message(
    "ApexPayload",
    {
        1: Scalar.STRING,
        2: Scalar.STRING,
        3: Scalar.BYTES,
        4: Scalar.BYTES,
        5: Scalar.UINT64,
        6: Scalar.BOOL,
    },
)
APK = Message("ApkPayload", {1: Scalar.STRING, 2: Scalar.STRING, 3: Scalar.STRING})
CONFIG = Message("PayloadConfig", {1: Scalar.STRING, 2: Scalar.UINT32})
ARGUMENT = Message("Argument", {1: Scalar.STRING})
VARIABLE = Message("Variable", {1: Scalar.STRING, 2: Scalar.STRING})
INVOCATION_FIELD = 10000
INVOCATION = Message(
    "Invocation",
    {1: Repeated(ARGUMENT, MAX_STRINGS), 2: Repeated(VARIABLE, MAX_STRINGS), 3: Scalar.BOOL},
)
FORKABLE_FIELD = 10001
METADATA = Message(
    "Metadata",
    {
        1: Scalar.UINT32,
        2: Repeated(APEX, MAX_APEXES),
        3: APK,
        4: Scalar.STRING,
        5: CONFIG,
        INVOCATION_FIELD: INVOCATION,
        FORKABLE_FIELD: Scalar.BOOL,
    },
    frozenset({4, 5}),
)
