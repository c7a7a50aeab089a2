"""The container values travel in: 4-byte aligned, little endian, descriptors and binders beside the bytes."""

import os
import struct
from codecs import utf_16_le_decode, utf_16_le_encode
from collections.abc import Collection, Iterable
from typing import Protocol

from .errors import Status, StatusError, status_error
from .fd import ParcelFileDescriptor, close_fds
from .objects import IBinder
from .wire import MAX_FDS, MAX_NESTED_VALUES


class ObjectTable(Protocol):
    """What a parcel needs of its session to carry binders."""

    lists_binders: bool
    """Whether the object table names binders, too (version 2)."""

    def leaving(self, binder: IBinder) -> tuple[int, int]:
        """Counts `binder` as sent; its address and stability. Raises StatusError."""

    def entering(self, address: int, stability: int) -> IBinder:
        """The object an address stands for, counted as received. Raises StatusError."""

    def not_sent(self, addresses: list[int]) -> None:
        """Takes back what `leaving` counted, for a parcel that was never sent."""


I32 = struct.Struct("<i")
_pack_i32, _unpack_i32 = I32.pack, I32.unpack_from
FD_OBJECT = struct.Struct("<ii")
BINDER_OBJECT = struct.Struct("<iQi")
"""presence, address, stability"""

_NULL_BINDER = bytes(8)
BINDER_TYPE = 1
FD_TYPE = 2


class Parcel:
    """A parcel being written. `data` begins with `base` bytes of room for the frame's head."""

    __slots__ = (
        "base",
        "data",
        "depth",
        "descriptors",
        "fds_refused",
        "positions",
        "sent",
        "table",
    )

    def __init__(
        self,
        head: bytes | bytearray = b"",
        base: int = 0,
        table: ObjectTable | None = None,
        fds_refused: Status = Status.FDS_NOT_ALLOWED,
    ) -> None:
        self.data = bytearray(head)
        self.base = base
        self.depth = 0
        """Parcelables and unions around the place that is being written."""
        self.table = table
        self.fds_refused = fds_refused
        """What writing a descriptor fails with; OK if it does not."""
        self.descriptors: list[int | ParcelFileDescriptor] | tuple[()] = ()
        self.positions: list[int] | tuple[()] = ()
        """Where the objects are that the object table lists."""
        self.sent: list[int] | tuple[()] = ()
        """Addresses of the binders written."""

    def __len__(self) -> int:
        return len(self.data) - self.base

    def payload(self) -> bytes:
        """The parcel's own bytes."""
        return bytes(self.data[self.base :])

    def write_int(self, value: int) -> None:
        """Four bytes: AIDL's `int`, signed. Raises struct.error for a number that does not fit."""
        self.data += I32.pack(value)

    def write_string(self, value: str) -> None:
        """String16, the encoding of every AIDL String."""
        raw, _ = utf_16_le_encode(value, "surrogatepass")
        size = len(raw)
        self.data += _pack_i32(size >> 1) + raw + (b"\0\0" if size & 2 else b"\0\0\0\0")

    def write_bytes(self, value: bytes | bytearray | memoryview) -> None:
        """AIDL's `byte[]`: its length, its bytes, and padding to a multiple of 4."""
        if type(value) is not bytes:
            value = bytes_of(value)
        size = len(value)
        data = self.data
        data += I32.pack(size)
        data += value
        if size & 3:
            data += bytes(-size & 3)

    def write_fd(self, fd: "int | ParcelFileDescriptor") -> None:
        """A descriptor, borrowed until the parcel is sent. Raises StatusError."""
        if self.fds_refused:
            raise StatusError(self.fds_refused, "the session does not carry file descriptors")
        if len(self.descriptors) >= MAX_FDS:
            raise StatusError(Status.BAD_VALUE, f"more than {MAX_FDS} file descriptors")
        if not self.descriptors:
            self.descriptors = []
        self._note_position()
        self.data += FD_OBJECT.pack(FD_TYPE, len(self.descriptors))
        self.descriptors.append(fd)

    def _note_position(self) -> None:
        """Has the object table list what is written next."""
        if not self.positions:
            self.positions = []
        self.positions.append(len(self.data) - self.base)

    def write_binder(self, binder: IBinder | None) -> None:
        """An object of this process, a proxy, or None. Raises StatusError where there is no session."""
        if binder is None:
            self.data += _NULL_BINDER
            return
        if self.table is None:
            raise StatusError(Status.BAD_TYPE, "a binder outside of a session")
        address, stability = self.table.leaving(binder)
        if not self.sent:
            self.sent = []
        self.sent.append(address)
        if self.table.lists_binders:
            self._note_position()
        self.data += BINDER_OBJECT.pack(BINDER_TYPE, address, stability)

    def filenos(self) -> list[int]:
        """Raises ValueError if one has been closed meanwhile."""
        return [fd if isinstance(fd, int) else fd.fileno() for fd in self.descriptors]

    def object_table(self) -> bytes:
        """The positions of the parcel's objects, from its start: four bytes each, little-endian."""
        return struct.pack(f"<{len(self.positions)}I", *self.positions)

    def close_descriptors(self) -> None:
        """Closes the ParcelFileDescriptors written."""
        for fd in self.descriptors:
            if not isinstance(fd, int):
                fd.close()

    def discard(self) -> None:
        """Undoes the counting of binders in a parcel that is not going to be sent."""
        if self.sent and self.table is not None:
            self.table.not_sent(self.sent)
            self.sent = ()


class ParcelReader:
    """A parcel being read; owns the descriptors nobody has taken out yet.

    Reading beyond the end raises struct.error or StatusError; `refused` makes one error of both.
    """

    __slots__ = ("base", "buf", "depth", "end", "fds", "pos", "positions", "table", "taken")

    def __init__(
        self,
        buf: bytes | bytearray,
        base: int = 0,
        table: ObjectTable | None = None,
        fds: list[int] | None = None,
        positions: Collection[int] = (),
    ) -> None:
        self.buf = buf
        self.base = base
        self.pos = base
        self.end = len(buf)
        self.table = table
        self.fds = fds
        self.positions = positions
        self.depth = 0
        """Parcelables and unions being read."""
        self.taken: list[ParcelFileDescriptor] | None = None

    def part(self, stop: int) -> "ParcelReader":
        """A reader of what is before `stop`, without the descriptors."""
        return ParcelReader(self.buf[:stop], self.base, self.table, None, self.positions)

    def remaining(self) -> int:
        """How many bytes have not been read."""
        return self.end - self.pos

    def read_int(self) -> int:
        """AIDL's `int`, signed. Raises struct.error at the end of the parcel."""
        pos = self.pos
        value: int = _unpack_i32(self.buf, pos)[0]
        self.pos = pos + 4
        return value

    def kind_at(self, position: int) -> int:
        """The type of the object at a position from the object table, which lies within the parcel."""
        kind: int = I32.unpack_from(self.buf, self.base + position)[0]
        return kind

    def read_count(self, size: int) -> int:
        """An array's length; -1 for a null one. Raises BAD_VALUE if elements of `size` bytes cannot all be there."""
        count = self.read_int()
        if count < 0:
            return -1
        if count * size > self.end - self.pos:
            raise StatusError(Status.BAD_VALUE, f"array of {count} in {self.end - self.pos} bytes")
        return count

    def read_string(self) -> str | None:
        """String16; None for a null one. Raises UNEXPECTED_NULL, as libbinder does, for a malformed one."""
        buf = self.buf
        pos = self.pos
        count = _unpack_i32(buf, pos)[0]
        if count < 0:
            self.pos = pos + 4
            return None
        start = pos + 4
        stop = start + 2 * count
        after = (stop + 5) & ~3
        if after > self.end or buf[stop] or buf[stop + 1]:
            raise StatusError(Status.UNEXPECTED_NULL, "malformed string")
        self.pos = after
        return utf_16_le_decode(buf[start:stop], "surrogatepass", True)[0]

    def read_bytes(self) -> bytes | None:
        """AIDL's `byte[]`; None for a null one. Raises StatusError if it is cut off."""
        count = self.read_count(1)
        if count < 0:
            return None
        start = self.pos
        after = (start + count + 3) & ~3
        if after > self.end:
            raise StatusError(Status.NOT_ENOUGH_DATA, "byte array without its padding")
        self.pos = after
        return bytes(self.buf[start : start + count])

    def read_fd(self) -> ParcelFileDescriptor:
        """Takes a descriptor out. Raises BAD_TYPE where none is, BAD_VALUE for one that did not come or is gone."""
        pos = self.pos
        kind, index = FD_OBJECT.unpack_from(self.buf, pos)
        if kind != FD_TYPE or pos - self.base not in self.positions:
            raise StatusError(Status.BAD_TYPE, "no file descriptor at this place")
        fds = self.fds
        if fds is None or not 0 <= index < len(fds) or fds[index] < 0:
            raise StatusError(Status.BAD_VALUE, f"no file descriptor {index}")
        self.pos = pos + 8
        owner = ParcelFileDescriptor(fds[index])
        fds[index] = -1
        if self.taken is None:
            self.taken = []
        self.taken.append(owner)
        return owner

    def read_binder(self) -> IBinder | None:
        """An object or a proxy; None for a null one. Raises StatusError for anything else."""
        present = self.read_int()
        if not present & 1:
            if self.read_int() != 0:
                raise StatusError(Status.BAD_TYPE, "null binder with a stability")
            return None
        pos = self.pos
        _, address, stability = BINDER_OBJECT.unpack_from(self.buf, pos - 4)
        self.pos = pos + 12
        if self.table is None:
            raise StatusError(Status.BAD_TYPE, "a binder outside of a session")
        if self.table.lists_binders and pos - 4 - self.base not in self.positions:
            raise StatusError(Status.BAD_VALUE, "a binder that the object table does not list")
        return self.table.entering(address, stability)

    def close_untaken(self) -> None:
        """Closes the descriptors nobody took; all that came still count for the sender."""
        fds = self.fds
        if fds:
            for index, fd in enumerate(fds):
                fds[index] = -1
                if fd >= 0:
                    os.close(fd)

    def close(self) -> None:
        """Closes the descriptors nobody took; none counts for the sender any more."""
        if self.fds:
            close_fds(self.fds)
            self.fds = None

    def close_taken(self, answered: "Iterable[int | ParcelFileDescriptor]" = ()) -> None:
        """Closes the ParcelFileDescriptors that were read and not detached since, but for those in the answer."""
        if self.taken is not None:
            kept = {id(fd) for fd in answered}
            for fd in self.taken:
                if id(fd) not in kept:
                    fd.close()
            self.taken = None


def too_deep(name: str) -> StatusError:
    """The error for values that are nested deeper than is read."""
    text = f"{name}: more than {MAX_NESTED_VALUES} values within one another"
    error = StatusError(Status.BAD_VALUE, text)
    error.is_explained = True
    return error


def bytes_of(value: object) -> bytes:
    """The bytes of a buffer, whatever the width of its items. Raises TypeError for anything else."""
    try:
        return memoryview(value).tobytes()  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"bytes wanted, not {type(value).__name__}") from None


def refused(error: Exception, what: str) -> StatusError:
    """The StatusError for whatever reading `what` raised."""
    if isinstance(error, StatusError):
        return status_error(error.status, error.text)  # itself as its own cause would be a cycle
    if isinstance(error, RecursionError):
        return too_deep(what)
    if isinstance(error, struct.error):
        return StatusError(Status.NOT_ENOUGH_DATA, f"{what}: the parcel is too short")
    return StatusError(Status.BAD_VALUE, f"{what}: {error}")


def misfit(error: Exception, where: str) -> TypeError | ValueError:
    """What to raise for a value that cannot be written as its type: a TypeError or ValueError that says where.

    An error that begins with `[2]` or `.name` is about a part of `where`.
    """
    inside = str(error)
    text = f"{where}{inside}" if inside.startswith(("[", ".")) else f"{where}: {inside}"
    if isinstance(error, TypeError | AttributeError) or "required argument" in inside:
        return TypeError(text)
    return ValueError(text)
