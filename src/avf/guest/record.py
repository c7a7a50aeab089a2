"""What the instance image keeps of an instance, as CBOR.

    {"format": 1, "serial", "generation", "salt", "first_authority", "apks": [the main one, extra ones ...]}
    an APK: {"root_hash", "public_key", "package": text or null, "version", "returning_keys"}

AVF's own agent of 2023 wrote another map, {"salt", "apk_data", "extra_apks_data", "apex_data"}, an APK being
{"root_hash", "pubkey"}, with arrays of integers for byte strings; agents here did, too, and it is still read.
"""

from typing import Any

from avf.guest.cbor import CborError, decode, encode
from avf.guest.crypto import hkdf
from avf.guest.errors import GuestError
from avf.guest.identity import ApkData, PayloadIdentity
from avf.named import NamedTuple

FORMAT = 1
"""Goes up when older guest images must not use a record any more, for how it is written or for what they lack."""
SALT_SIZE = 64
AUTHORITY_SIZE = 64
ID_SIZE = 32
_MAX_NUMBER = (1 << 63) - 1


class Record(NamedTuple):
    """An instance's identity."""

    identity: PayloadIdentity
    generation: int = 1
    """Goes up with each step that must not be undone; 0 if it was written in AVF's form, which knows none."""
    serial: int = 1
    """Goes up each time that a record is written."""

    @property
    def is_old(self) -> bool:
        """It is in AVF's form: it knows of no packages."""
        return self.generation == 0


def instance_id(salt: bytes) -> bytes:
    """What the host knows an instance by: the same for all copies of its image, and it tells nothing of the salt."""
    return hkdf(salt, b"", b"instance id", ID_SIZE)


def encode_record(record: Record) -> bytes:
    identity = record.identity
    return encode(
        {
            "format": FORMAT,
            "serial": record.serial,
            "generation": record.generation,
            "salt": identity.salt,
            "first_authority": identity.first_authority or identity.authority,
            "apks": [_encode_apk(apk) for apk in identity.apks],
        }
    )


def decode_record(data: bytes) -> Record:
    """Raises CborError; GuestError if a newer agent has written it."""
    value = decode(data)
    try:
        found = _number(value["format"])
        if found > FORMAT:
            raise GuestError(
                f"instance image: its record has format {found}, this guest image knows {FORMAT}: it is too old"
            )
        apk, *extras = [_decode_apk(item) for item in value["apks"]]
        salt = _octets(value["salt"], SALT_SIZE)
        authority = _octets(value["first_authority"], AUTHORITY_SIZE)
        identity = PayloadIdentity(salt, apk, tuple(extras), authority)
        return Record(identity, _number(value["generation"]), _number(value["serial"]))
    except (KeyError, TypeError, ValueError) as error:
        raise CborError(f"not the record of an instance: {error}") from error


def decode_old_record(data: bytes) -> Record:
    """What AVF's own form says. Raises CborError."""

    def octets(item: Any) -> bytes:
        return bytes(_typed(item, list))  # of a number, bytes() would make as many zeros

    def apk(item: Any) -> ApkData:
        return ApkData(octets(item["root_hash"]), octets(item["pubkey"]))

    value = decode(data)
    try:
        extras = tuple(apk(extra) for extra in value["extra_apks_data"])
        identity = PayloadIdentity(octets(value["salt"]), apk(value["apk_data"]), extras)
    except (KeyError, TypeError, ValueError) as error:
        raise CborError(f"not the data of a payload: {error}") from error
    return Record(identity._replace(first_authority=identity.authority), generation=0, serial=0)


def _encode_apk(apk: ApkData) -> dict[str, Any]:
    return {
        "root_hash": apk.root_hash,
        "public_key": apk.public_key,
        "package": apk.package,
        "version": apk.version,
        "returning_keys": list(apk.returning_keys),
    }


def _decode_apk(item: Any) -> ApkData:
    package = item["package"]
    return ApkData(
        _typed(item["root_hash"], bytes),
        _typed(item["public_key"], bytes),
        None if package is None else _typed(package, str),
        _typed(item["version"], int),
        tuple(_typed(key, bytes) for key in item["returning_keys"]),
    )


def _typed(value: Any, wanted: type) -> Any:
    if type(value) is not wanted:
        raise TypeError(f"{value!r:.40} is not of type {wanted.__name__}")
    return value


def _octets(value: Any, size: int) -> bytes:
    if len(_typed(value, bytes)) != size:
        raise ValueError(f"{size} bytes are wanted, {len(value)} are there")
    return bytes(value)


def _number(value: Any) -> int:
    if not 1 <= _typed(value, int) <= _MAX_NUMBER:
        raise ValueError(f"{value} is out of range")
    return int(value)
