"""The instance image: what a VM instance remembers of its payload from its first boot on, sealed.

    0     19 bytes "Android-VM-instance", u16 version 1, zeros to 512
    512   per partition: 16-byte UUID, u64 payload size, zeros to 512; the payload; zeros to a multiple of 512
Ours holds a 12-byte nonce, then AES-256-GCM ciphertext and tag; the partition's header is authenticated with them.
The plaintext is CBOR whose byte fields are arrays of integers, as AVF's own agent writes them.
"""

import os
from typing import Any, NamedTuple

from avf.guest.cbor import CborError, decode, encode
from avf.guest.crypto import NONCE_SIZE, TAG_SIZE, CryptoError
from avf.guest.crypto import decrypt as aes_decrypt
from avf.guest.crypto import encrypt as aes_encrypt
from avf.guest.errors import GuestError

MAGIC = b"Android-VM-instance"
VERSION = 1
OUR_UUID = bytes.fromhex("cf9afe9a066211eca329c32663a09d75")
SALT_SIZE = 64

_SECTOR = 512
_NIL_UUID = bytes(16)
_MAX_PAYLOAD = 1 << 20
_MAX_PARTITIONS = 64
_BLKFLSBUF = 0x1261


class ApkData(NamedTuple):
    """Who an APK is: the root of its Merkle tree and its signer's public key (DER)."""

    root_hash: bytes
    public_key: bytes


class PayloadIdentity(NamedTuple):
    """All that decides which secrets an instance gets."""

    salt: bytes
    apk: ApkData
    extra_apks: tuple[ApkData, ...]


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

    def read(self, key: bytes) -> PayloadIdentity | None:
        """What was saved, None at the first boot. Raises GuestError if it cannot be decrypted or understood."""
        offset, header = self._find()
        if header[:16] == _NIL_UUID:
            return None
        size = int.from_bytes(header[16:24], "little")
        if not NONCE_SIZE + TAG_SIZE <= size <= _MAX_PAYLOAD:
            raise GuestError(f"instance image: bad payload size {size}")
        sealed = os.pread(self._fd, size, offset + _SECTOR)
        try:
            plain = aes_decrypt(key, sealed[:NONCE_SIZE], sealed[NONCE_SIZE:], header)
            return _from_cbor(decode(plain))
        except (CryptoError, CborError) as error:
            raise GuestError("instance image: cannot be decrypted") from error

    def write(self, key: bytes, identity: PayloadIdentity) -> None:
        """Saves `identity`. The size may not change once something is there."""
        offset, header = self._find()
        plain = encode(_to_cbor(identity))
        size = NONCE_SIZE + len(plain) + TAG_SIZE
        if header[:16] == _NIL_UUID:
            header = (OUR_UUID + size.to_bytes(8, "little")).ljust(_SECTOR, b"\0")
        elif (old := int.from_bytes(header[16:24], "little")) != size:
            raise GuestError(f"instance image: Can't change payload size from {old} to {size}")
        nonce = os.urandom(NONCE_SIZE)
        sealed = nonce + aes_encrypt(key, nonce, plain, header)
        # the payload first: a header without one would look like damage
        _pwrite_all(self._fd, sealed, offset + _SECTOR)
        os.fsync(self._fd)
        _pwrite_all(self._fd, header, offset)
        self._flush()

    def _find(self) -> tuple[int, bytes]:
        """Offset and header of our partition, or of the free slot where it will be."""
        offset = _SECTOR
        for _ in range(_MAX_PARTITIONS):
            header = os.pread(self._fd, _SECTOR, offset)
            if len(header) != _SECTOR:
                break
            if header[:16] in (OUR_UUID, _NIL_UUID):
                return offset, header
            size = int.from_bytes(header[16:24], "little")
            if size > _MAX_PAYLOAD:
                break
            offset += _SECTOR + (size + _SECTOR - 1) // _SECTOR * _SECTOR
        raise GuestError("instance image: no room for a partition")

    def _flush(self) -> None:
        import fcntl

        os.fsync(self._fd)
        try:
            fcntl.ioctl(self._fd, _BLKFLSBUF, 0)
        except OSError:
            pass  # not a block device


def _to_cbor(identity: PayloadIdentity) -> dict[str, Any]:
    def apk(data: ApkData) -> dict[str, Any]:
        return {"root_hash": list(data.root_hash), "pubkey": list(data.public_key)}

    return {
        "salt": list(identity.salt),
        "apk_data": apk(identity.apk),
        "extra_apks_data": [apk(extra) for extra in identity.extra_apks],
        "apex_data": [],
    }


def _from_cbor(value: Any) -> PayloadIdentity:
    def octets(item: Any) -> bytes:
        return bytes(item)

    def apk(item: Any) -> ApkData:
        return ApkData(octets(item["root_hash"]), octets(item["pubkey"]))

    try:
        extras = tuple(apk(extra) for extra in value["extra_apks_data"])
        return PayloadIdentity(octets(value["salt"]), apk(value["apk_data"]), extras)
    except (KeyError, TypeError, ValueError) as error:
        raise CborError(f"not the data of a payload: {error}") from error


def _pwrite_all(fd: int, data: bytes, offset: int) -> None:
    while data:
        count = os.pwrite(fd, data, offset)
        data = data[count:]
        offset += count
