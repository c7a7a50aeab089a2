"""Values that always take the same number of bytes: packed and unpacked together, with the whole frame if nothing else
is in it.
"""

import struct
from collections.abc import Sequence
from typing import Any

from . import wire
from .codec import Fixed

_HEAD = wire.TRANSACT_FRAME.size
_ANSWER_HEAD = wire.ANSWER_FRAME.size


class Shape:
    """Values of fixed size one behind the other."""

    __slots__ = ("_into", "_out", "_struct", "letters", "size")

    def __init__(self, parts: Sequence[Fixed]) -> None:
        self.letters = "".join(part.letter for part in parts)
        self._struct = struct.Struct("<" + self.letters)
        self.size = self._struct.size
        """In bytes."""
        self._out = [(index, part.out) for index, part in enumerate(parts) if part.out]
        self._into = [(index, part.into) for index, part in enumerate(parts) if part.into]

    def out(self, values: Sequence[Any]) -> Sequence[Any]:
        """What struct packs for these values. Raises what packing one of them does."""
        if not self._out:
            return values
        made = list(values)
        for index, convert in self._out:
            made[index] = convert(made[index])
        return made

    def into(self, numbers: Sequence[Any]) -> Sequence[Any]:
        """The values for what struct has unpacked."""
        if not self._into:
            return numbers
        made = list(numbers)
        for index, convert in self._into:
            made[index] = convert(made[index])
        return made

    def packed(self, values: Sequence[Any]) -> bytes | None:
        """None if they do not fit; writing them one by one tells why."""
        try:
            return self._struct.pack(*self.out(values))
        except Exception:  # noqa: BLE001 - a number may raise anything when it is asked for its value
            return None

    def unpacked(self, buffer: bytes | bytearray, place: int) -> Sequence[Any]:
        """Raises struct.error if they are not all there."""
        return self.into(self._struct.unpack_from(buffer, place))


def runs(parts: Sequence[Fixed | None]) -> list[tuple[int, int]]:
    """Where to cut a row of values: into pieces of several values of fixed size, or of a single value of any kind."""
    found: list[tuple[int, int]] = []
    for index, part in enumerate(parts):
        if part is not None and index and parts[index - 1] is not None:
            found[-1] = (found[-1][0], index + 1)
        else:
            found.append((index, index + 1))
    return found


class FixedRequest:
    """The frames of a method's calls."""

    __slots__ = ("_code", "_pack", "_shape", "_size", "_token", "_total", "_unpack_from")

    def __init__(self, code: int, token: bytes, parts: Sequence[Fixed]) -> None:
        self._code = code
        self._token = token
        self._shape = Shape(parts)
        values = f"{len(token)}s{self._shape.letters}"
        self._pack = struct.Struct(wire.TRANSACT_FRAME.format + values).pack
        parcel = struct.Struct("<" + values)
        self._unpack_from = parcel.unpack_from
        self._size = parcel.size
        self._total = _HEAD + parcel.size

    def frame(self, address: int, args: Sequence[Any]) -> bytes | None:
        """None if the arguments do not fit; writing them one by one tells why."""
        size = self._size
        body = wire.TRANSACT_SIZE + size
        try:
            return self._pack(
                wire.TRANSACT,
                body,
                address,
                self._code,
                0,
                0,
                size,
                self._token,
                *self._shape.out(args),
            )
        except Exception:  # noqa: BLE001 - a number may raise anything when it is asked for its value
            return None

    def arguments(self, frame: bytes) -> Sequence[Any] | None:
        """None if there is something else in the frame; reading it piece by piece tells what."""
        if len(frame) != self._total:
            return None
        values = self._unpack_from(frame, _HEAD)
        return self._shape.into(values[1:]) if values[0] == self._token else None


class FixedReply:
    """The frames of the answers that a method's calls get, the DEC_STRONG frame before them included (version 1)."""

    __slots__ = ("_pack", "_shape", "_size", "_unpack_from")

    def __init__(self, parts: Sequence[Fixed]) -> None:
        self._shape = Shape(parts)
        values = "i" + self._shape.letters
        self._pack = struct.Struct(wire.ANSWER_FRAME.format + values).pack
        parcel = struct.Struct("<" + values)
        self._unpack_from = parcel.unpack_from
        self._size = parcel.size

    def frames(self, address: int, amount: int, values: Sequence[Any]) -> bytes:
        """Raises what packing one of the values does."""
        size = self._size
        return self._pack(
            wire.DEC_STRONG,
            wire.DEC_STRONG_SIZE,
            address,
            amount,
            wire.REPLY,
            wire.REPLY_BODY.size + size,
            0,
            size,
            0,
            *self._shape.out(values),
        )

    def values(self, frames: bytes) -> Sequence[Any] | None:
        """None if the method did not succeed, or something else is in the frames."""
        if len(frames) != _ANSWER_HEAD + self._size:
            return None
        found = self._unpack_from(frames, _ANSWER_HEAD)
        return None if found[0] else self._shape.into(found[1:])
