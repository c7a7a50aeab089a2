"""Instance images: what the layers of a VM instance remember from its first boot on, sealed (AVF, vm-instance).

    0     19 bytes "Android-VM-instance", u16 version 1, zeros to 512
    512   for each entry: 16-byte UUID (in textual order), u64 payload size, zeros to 512;
          the payload; zeros to a multiple of 512
          a nil UUID ends the list

Numbers are little-endian. microdroid's payload is a 12-byte nonce, then AES-256-GCM ciphertext and tag, with the
entry's 512-byte header as additional data.
"""

import os
import struct
from dataclasses import dataclass, field
from uuid import UUID

from avf.disk.errors import InstanceError
from avf.disk.files import align_up, write_at
from avf.disk.image import ImageFormat, image_format
from avf.disk.partitions import INSTANCE_MAGIC, INSTANCE_VERSION
from avf.disk.reader import ImageReader, RawReader

MICRODROID_UUID = UUID("cf9afe9a-0662-11ec-a329-c32663a09d75")
"""Marks the entry of Microdroid in an instance image."""
SLOT_UUIDS = (
    UUID("5f0a4ab2-f20c-4bd4-a1d2-2c57a3e4d601"),
    UUID("5f0a4ab2-f20c-4bd4-a1d2-2c57a3e4d602"),
)
"""The two of this project's guest, which writes them in turn; microdroid's entry holds zeros then."""
PVMFW_UUID = UUID("90d2174a-038a-4bc6-adf3-824848fc5825")
"""Marks the entry of the firmware of protected VMs in an instance image."""
NONCE_SIZE = 12
TAG_SIZE = 16
MAX_PAYLOAD = 1 << 20
MAX_ENTRIES = 64

_SECTOR = 512
_VERSION = struct.Struct("<H")
_ENTRY = struct.Struct("<16sQ")
_ID = slice(24, 56)
"""The instance's ID, in the header of our guest's entries."""
_NIL = UUID(int=0)


@dataclass(frozen=True, slots=True)
class InstanceEntry:
    """An entry of an instance image. Its contents are sealed."""

    uuid: UUID
    offset: int
    """Of its header; the payload is 512 bytes further."""
    size: int
    """Of the payload, in bytes."""
    header: bytes = field(repr=False)
    """All 512 bytes, which are sealed with the payload."""

    @property
    def payload_offset(self) -> int:
        """Where the payload begins, in bytes from the start of the image."""
        return self.offset + _SECTOR


@dataclass(frozen=True, slots=True)
class InstanceImage:
    """The checked list of an image's entries; what they hold is read and written through descriptors of their own."""

    version: int
    entries: tuple[InstanceEntry, ...]
    free_offset: int
    """Where the next entry will go."""

    def find(self, uuid: UUID) -> InstanceEntry | None:
        """The first entry with that UUID; None: there is none."""
        return next((entry for entry in self.entries if entry.uuid == uuid), None)


def read_instance(image: ImageReader) -> InstanceImage:
    """Walks the entries of an instance image. Raises InstanceError for a damaged one."""
    start = image.pread(_SECTOR, 0)
    _check(image, start.startswith(INSTANCE_MAGIC), "header: bad magic")
    _check(image, len(start) == _SECTOR, "header: cut off")
    (version,) = _VERSION.unpack_from(start, len(INSTANCE_MAGIC))
    _check(image, version == INSTANCE_VERSION, f"header: version {version}")
    entries: dict[UUID, InstanceEntry] = {}
    offset = _SECTOR
    while len(header := image.pread(_SECTOR, offset)) == _SECTOR:
        raw_uuid, size = _ENTRY.unpack_from(header)
        uuid = UUID(bytes=raw_uuid)
        if uuid == _NIL:
            break
        where = f"entry {len(entries) + 1}"
        _check(image, len(entries) < MAX_ENTRIES, f"more than {MAX_ENTRIES} entries")
        _check(image, size <= MAX_PAYLOAD, f"{where}: payload of {size} bytes")
        end = offset + _SECTOR + size
        _check(image, end <= image.size, f"{where}: {size} bytes do not fit")
        _check(image, uuid not in entries, f"{where}: a second one of {uuid}")
        entries[uuid] = InstanceEntry(uuid, offset, size, header)
        offset = align_up(end, _SECTOR)
    return InstanceImage(version, tuple(entries.values()), offset)


def instance_id(image: ImageReader) -> bytes | None:
    """What a host knows the instance by (32 bytes); None if our guest has not written it. Raises InstanceError."""
    found = [entry for entry in read_instance(image).entries if entry.uuid in SLOT_UUIDS]
    return found[0].header[_ID] if found else None


def read_payload(image: ImageReader, entry: InstanceEntry) -> bytes:
    """An entry's payload as stored. Raises InstanceError if the image has become too short for it."""
    payload = image.pread(entry.size, entry.payload_offset)
    _check(image, len(payload) == entry.size, "became shorter while it was read")
    return payload


def write_payload(fd: int, uuid: UUID, payload: bytes) -> None:
    """Stores an entry's payload as it is, in a new entry if there is none, in the raw image in `fd`."""
    with RawReader(fd) as image:
        slot = _slot_for(image, uuid, len(payload))
    slot.store(fd, payload)


def unseal(image: ImageReader, key: bytes, uuid: UUID = MICRODROID_UUID) -> bytes | None:
    """What an entry sealed with `key` holds, None if there is no entry. Raises InstanceError."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    entry = read_instance(image).find(uuid)
    if entry is None:
        return None
    _check(image, entry.size >= NONCE_SIZE + TAG_SIZE, f"payload of {entry.size} bytes")
    sealed = read_payload(image, entry)
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_SIZE], sealed[NONCE_SIZE:], entry.header)
    except InvalidTag as error:
        raise InstanceError(f"{image.name}: instance image: not sealed with this key") from error


def seal(fd: int, key: bytes, content: bytes, uuid: UUID = MICRODROID_UUID) -> None:
    """Seals `content` into an entry of the raw image in `fd`; once there is one, its size cannot change.

    Raises InstanceError for a damaged or full image and another size; ValueError for a key that is not 32 bytes.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if len(key) != 32:
        raise ValueError(f"a key of {len(key)} bytes, not 32")
    size = NONCE_SIZE + len(content) + TAG_SIZE
    with RawReader(fd) as image:
        slot = _slot_for(image, uuid, size)
    nonce = os.urandom(NONCE_SIZE)
    slot.store(fd, nonce + AESGCM(key).encrypt(nonce, content, slot.header))


def sealing_key(cdi: bytes) -> bytes:
    """The key of microdroid's entry from its sealing CDI: HKDF-SHA256, no salt, "microdroid_manager_key"."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), 32, None, b"microdroid_manager_key").derive(cdi)


@dataclass(frozen=True, slots=True)
class _Slot:
    """Where an entry is, or where a new one goes."""

    header: bytes
    offset: int
    cleared: int
    """How many bytes behind the header are the entry's or must be zeros."""

    def store(self, fd: int, payload: bytes) -> None:
        """The payload first: a header without one would look like damage."""
        write_at(fd, self.offset + _SECTOR, payload.ljust(self.cleared, b"\0"))
        os.fsync(fd)
        write_at(fd, self.offset, self.header)
        os.fsync(fd)


def _slot_for(image: RawReader, uuid: UUID, size: int) -> _Slot:
    """The slot that is to take `size` bytes."""
    _check(image, image_format(image.fd) is ImageFormat.RAW, "only raw ones can be written")
    _check(image, size <= MAX_PAYLOAD, f"payload of {size} bytes")
    if uuid == _NIL:
        raise ValueError("the nil UUID marks the end of the entries")
    found = read_instance(image)
    entry = found.find(uuid)
    if entry is not None:
        _check(image, entry.size == size, f"Can't change payload size from {entry.size} to {size}")
        return _Slot(entry.header, entry.offset, size)
    left = image.size - found.free_offset - _SECTOR
    _check(
        image, len(found.entries) < MAX_ENTRIES and size <= left, f"no room for {size} bytes more"
    )
    # the next header too: an interrupted write may have left something there
    cleared = min(align_up(size, _SECTOR) + _SECTOR, left)
    header = _ENTRY.pack(uuid.bytes, size).ljust(_SECTOR, b"\0")
    return _Slot(header, found.free_offset, cleared)


def _check(image: ImageReader, condition: bool, what: str) -> None:
    if not condition:
        raise InstanceError(f"{image.name}: instance image: {what}")
