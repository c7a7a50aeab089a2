"""Good inputs of every target, to start from."""

import io
import struct
import zipfile

from avf.disk import ApexPayload, MetadataPartition, PayloadConfig
from avf.guest.cbor import encode
from avf.guest.identity import ApkData, PayloadIdentity
from avf.guest.record import Record, encode_record


def seeds() -> dict[str, list[bytes]]:
    """By target."""
    config = b'{"os": {"name": "microdroid"}, "task": {"type": "executable", "command": "a"}, "extra_apks": []}'
    metadata = [
        MetadataPartition(config=PayloadConfig("main.so", 2)).encode()[4:],
        MetadataPartition(apexes=(ApexPayload("a", "b", b"k"),), config_path="c").encode()[4:],
    ]
    return {
        "cbor": [encode({"a": [1, -1, b"x", "y", True, None], 2: {}})],
        "config": [config, b'{"export_tombstones": false, "enable_authfs": true}'],
        "core": [_notes()],
        "metadata": metadata,
        "old_record": [_old_record()],
        "record": [encode_record(Record(_identity()))],
        "zip_tree": [_archive()],
    }


def _identity() -> PayloadIdentity:
    apk = ApkData(bytes(32), b"key", "com.example", 1 << 40, (bytes(32),))
    return PayloadIdentity(bytes(64), apk, (ApkData(bytes(32), b"other key"),))


def _old_record() -> bytes:
    apks = [{"root_hash": [1] * 32, "pubkey": list(apk.public_key)} for apk in _identity().apks]
    return encode(
        {"salt": [0] * 64, "apk_data": apks[0], "extra_apks_data": apks[1:], "apex_data": []}
    )


def _notes() -> bytes:
    registers = bytes(112) + struct.pack("<27Q", *range(27))
    signal = struct.pack("<iiiiQ", 11, 0, 1, 0, 5) + bytes(104)
    notes = [(1, registers), (0x53494749, signal)]
    return b"".join(
        struct.pack("<III", 5, len(data), kind) + b"CORE\0\0\0\0" + data for kind, data in notes
    )


def _archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/b.txt", "stored")
        archive.writestr("a/c.txt", "deflated" * 9, zipfile.ZIP_DEFLATED)
        archive.writestr("d/", "")
    return file.getvalue()
