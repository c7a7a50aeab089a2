"""Write small entries behind those of a ZIP."""

import struct
import zlib
from collections.abc import Iterable
from typing import BinaryIO

_LOCAL = struct.Struct("<4s5H3I2H")
_DIRECTORY = struct.Struct("<4s6H3I5H2I")
_VERSION = 20
_UTF8 = 1 << 11
_DEFLATED = 8
_TIME, _DATE = 0x0821, 0x0221
"""1981-01-01 01:01:02, the time that Android's own tools give to entries."""


def append_entries(out: BinaryIO, files: Iterable[tuple[str, bytes]]) -> list[bytes]:
    """Write names and contents to `out` where it stands, deflated; their headers for the central directory."""
    headers = []
    for name, data in files:
        raw, offset = name.encode("utf-8"), out.tell()
        compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = compressor.compress(data) + compressor.flush()
        common = (_VERSION, _UTF8, _DEFLATED, _TIME, _DATE, zlib.crc32(data), len(packed))
        local = _LOCAL.pack(b"PK\x03\x04", *common, len(data), len(raw), 0)
        out.write(local + raw + packed)
        sizes = (len(data), len(raw), 0, 0, 0, 0, 0, offset)
        headers.append(_DIRECTORY.pack(b"PK\x01\x02", _VERSION, *common, *sizes) + raw)
    return headers
