"""The instance image: what a VM instance remembers of its payload from its first boot on, sealed.

    0     19 bytes "Android-VM-instance", u16 version 1, zeros to 512
    512   per entry: 16-byte UUID, u64 payload size, 32-byte instance ID (in ours), zeros to 512;
          the payload; zeros to a multiple of 512
          a nil UUID ends the list

Two entries, our slots, hold a record each: of these the one with the higher serial number counts, and the other one is
written next, so that a write that is cut off costs nothing but itself. A payload is a 12-byte nonce, then AES-256-GCM
ciphertext and tag, with the entry's header as additional data. The plaintext is a u32 length, the record, and zeros.

The entry of AVF's agent comes before them, and holds zeros. Agents of 2023 keep their record there, in AVF's form,
sealed in the same way; once a record is in a slot, theirs is wiped, so that no such agent opens the instance without
the rules of today.
"""

import os

from avf.guest.cbor import CborError
from avf.guest.crypto import NONCE_SIZE, CryptoError
from avf.guest.crypto import decrypt as aes_decrypt
from avf.guest.crypto import encrypt as aes_encrypt
from avf.guest.errors import GuestError
from avf.guest.nettle import TAG_SIZE
from avf.guest.record import (
    Record,
    decode_old_record,
    decode_record,
    encode_record,
    instance_id,
)
from avf.named import NamedTuple

MAGIC = b"Android-VM-instance"
VERSION = 1
AVF_UUID = bytes.fromhex("cf9afe9a066211eca329c32663a09d75")
SLOT_UUIDS = (
    bytes.fromhex("5f0a4ab2f20c4bd4a1d22c57a3e4d601"),
    bytes.fromhex("5f0a4ab2f20c4bd4a1d22c57a3e4d602"),
)

_SECTOR = 512
_NIL_UUID = bytes(16)
_MAX_PAYLOAD = 1 << 20
_MAX_ENTRIES = 64
_LARGEST_SLOT = 32 << 10
_SEALING = NONCE_SIZE + TAG_SIZE
_LENGTH = 4
_BLKFLSBUF = 0x1261
_UNREADABLE = (
    "instance image: cannot be decrypted: it was made by a VM of another debug level or guest image"
)


class NoRoom(GuestError):
    """The image is too small for our slots."""


class Entry(NamedTuple):
    """One entry of the list."""

    offset: int
    header: bytes

    @property
    def uuid(self) -> bytes:
        return self.header[:16]

    @property
    def size(self) -> int:
        return int.from_bytes(self.header[16:24], "little")

    @property
    def payload(self) -> int:
        return self.offset + _SECTOR

    @property
    def end(self) -> int:
        return self.payload + -(-self.size // _SECTOR) * _SECTOR


class InstanceImage:
    """The instance partition behind a borrowed descriptor, opened for reading and writing."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        header = os.pread(fd, _SECTOR, 0)
        version = int.from_bytes(header[len(MAGIC) : len(MAGIC) + 2], "little")
        if len(header) != _SECTOR or not header.startswith(MAGIC):
            raise GuestError("instance image: bad magic")
        if not 0 < version <= VERSION:
            raise GuestError(f"instance image: version {version} is not supported")

    def read(self, key: bytes) -> Record | None:
        """What was saved, None at the first boot. Raises GuestError if it cannot be decrypted or understood."""
        entries = self._entries()[0]
        records = [record for _, record in self._records(entries, key)]
        if records:
            return max(records, key=lambda record: record.serial)
        if any(entry.uuid in SLOT_UUIDS for entry in entries):
            raise GuestError(_UNREADABLE)
        old = [entry for entry in entries if entry.uuid == AVF_UUID]
        return self._read_old(old[0], key) if old else None

    def write(self, key: bytes, record: Record) -> None:
        """Saves `record`, all of it or nothing, with the next serial number. Raises GuestError; NoRoom.

        What an agent of 2023 has written is wiped.
        """
        entries, end = self._entries()
        slots = [entry for entry in entries if entry.uuid in SLOT_UUIDS]
        if slots:
            records = self._records(entries, key)
            newest = max((found.serial for _, found in records), default=0)
            current = [entry for entry, found in records if found.serial == newest]
            target = next((entry for entry in slots if entry not in current), None)
            if target is None:
                raise GuestError("instance image: it has one slot instead of two")
            record = record._replace(serial=newest + 1)
            self._pwrite(self._sealed(key, target.header, record), target.payload)
        else:
            has_avf_entry = any(entry.uuid == AVF_UUID for entry in entries)
            self._add_slots(key, record._replace(serial=1), end, has_avf_entry)
        self._flush()
        self.wipe_old_record()

    def wipe_old_record(self) -> None:
        """Wipes what an agent of 2023 has left beside our slots."""
        entries = self._entries()[0]
        if not any(entry.uuid in SLOT_UUIDS for entry in entries):
            return
        for entry in entries:
            if entry.uuid == AVF_UUID and any(os.pread(self._fd, entry.size, entry.payload)):
                self._pwrite(bytes(entry.size), entry.payload)
                self._flush()

    def _add_slots(self, key: bytes, record: Record, end: int, has_avf_entry: bool) -> None:
        """The header that makes them part of the list comes last."""
        before = b"" if has_avf_entry else _header(AVF_UUID, _SEALING) + bytes(_SECTOR)
        size = self._slot_size(record, end + len(before))
        first, second = (
            _header(uuid, size, instance_id(record.identity.salt)) for uuid in SLOT_UUIDS
        )
        block = before + first + self._sealed(key, first, record) + second + bytes(size + _SECTOR)
        block = block[: self._size() - end]
        self._pwrite(block[_SECTOR:], end + _SECTOR)
        self._pwrite(block[:_SECTOR], end)

    def _slot_size(self, record: Record, first: int) -> int:
        """What a slot's payload gets: as much as is there, for records may grow, but enough for this one."""
        sectors = (self._size() - first) // _SECTOR // 2 - 1
        size = min(sectors * _SECTOR, _LARGEST_SLOT)
        needed = -(-_sealed_size(record) // _SECTOR) * _SECTOR
        if size < needed:
            raise NoRoom(
                f"instance image: it has {self._size()} bytes, but this instance needs at least "
                f"{first + 2 * (_SECTOR + needed)}"
            )
        return size

    def _records(self, entries: list[Entry], key: bytes) -> list[tuple[Entry, Record]]:
        """Those of our slots that hold one. What is damaged counts as empty: a write that was cut off looks so."""
        found = []
        for entry in entries:
            if entry.uuid in SLOT_UUIDS:
                try:
                    plain = self._open(entry, key)
                    size = int.from_bytes(plain[:_LENGTH], "little")
                    found.append((entry, decode_record(plain[_LENGTH : _LENGTH + size])))
                except (CryptoError, CborError):
                    continue
        return found

    def _read_old(self, entry: Entry, key: bytes) -> Record:
        try:
            return decode_old_record(self._open(entry, key))
        except (CryptoError, CborError) as error:
            raise GuestError(_UNREADABLE) from error

    def _open(self, entry: Entry, key: bytes) -> bytes:
        if entry.size < _SEALING:
            raise GuestError(f"instance image: bad payload size {entry.size}")
        sealed = os.pread(self._fd, entry.size, entry.payload)
        return aes_decrypt(key, sealed[:NONCE_SIZE], sealed[NONCE_SIZE:], entry.header)

    @staticmethod
    def _sealed(key: bytes, header: bytes, record: Record) -> bytes:
        size = Entry(0, header).size
        if _sealed_size(record) > size:
            raise GuestError(
                f"instance image: a record of {_sealed_size(record)} bytes does not fit into {size}"
            )
        data = encode_record(record)
        plain = len(data).to_bytes(_LENGTH, "little") + data
        nonce = os.urandom(NONCE_SIZE)
        return nonce + aes_encrypt(key, nonce, plain.ljust(size - _SEALING, b"\0"), header)

    def _entries(self) -> tuple[list[Entry], int]:
        """All entries, and where the next one would go. Raises GuestError if there is no end to them."""
        offset, size = _SECTOR, self._size()
        found: list[Entry] = []
        while len(found) <= _MAX_ENTRIES:
            entry = Entry(offset, os.pread(self._fd, _SECTOR, offset))
            if len(entry.header) < _SECTOR or entry.uuid == _NIL_UUID:
                return found, offset
            if entry.size > _MAX_PAYLOAD:
                raise GuestError(f"instance image: bad payload size {entry.size}")
            if entry.payload + entry.size > size:
                raise GuestError("instance image: no room for an entry that is there")
            found.append(entry)
            offset = entry.end
        raise GuestError(f"instance image: more than {_MAX_ENTRIES} entries")

    def _size(self) -> int:
        return os.lseek(self._fd, 0, os.SEEK_END)

    def _pwrite(self, data: bytes, offset: int) -> None:
        """All of `data`, which is on the disk when this returns."""
        while data:
            count = os.pwrite(self._fd, data, offset)
            data = data[count:]
            offset += count
        os.fsync(self._fd)

    def _flush(self) -> None:
        import fcntl

        try:
            fcntl.ioctl(self._fd, _BLKFLSBUF, 0)
        except OSError:
            pass  # not a block device


def _header(uuid: bytes, size: int, identifier: bytes = b"") -> bytes:
    return (uuid + size.to_bytes(8, "little") + identifier).ljust(_SECTOR, b"\0")


def _sealed_size(record: Record) -> int:
    return _LENGTH + len(encode_record(record)) + _SEALING
