"""PKCS #12 key stores (RFC 7292) with several keys: one is chosen, and the rest left to `cryptography`.

    PFX      = SEQUENCE { INTEGER 3, ContentInfo, MacData }; the content's octets hold a SEQUENCE of ContentInfo
    contents = SEQUENCE { OID data, [0] OCTET STRING { SEQUENCE of SafeBag } }, or encrypted
    SafeBag  = SEQUENCE { OID kind, [0] value, SET of attributes }

`cryptography` loads the first key alone, so the store is written again with the chosen key and all that is no key.
"""

from typing import NamedTuple

from avf.apk.crypto.spki import OCTET_STRING, OID, SEQUENCE, BadDer, Der, der

_EXPLICIT = 0xA0
_SET = 0x31
_DATA = bytes.fromhex("2a864886f70d010701")
_KEY_BAGS = (bytes.fromhex("2a864886f70d010c0a0101"), bytes.fromhex("2a864886f70d010c0a0102"))
_FRIENDLY_NAME = bytes.fromhex("2a864886f70d010914")


class Choice(NamedTuple):
    """One key of a store."""

    alias: str
    """Empty where the store gives the key no name."""
    store: bytes
    """A store with this key only, and without a MAC."""


def keys_in(store: bytes) -> list[Choice]:
    """The keys that lie open in a store, each encrypted by itself; empty where they lie deeper, or not as expected."""
    try:
        contents = _contents(store)
        bags = [(n, bag) for n, bags in contents.bags.items() for bag in bags if _is_key(bag)]
        return [Choice(_alias(bag), contents.only(n, bag)) for n, bag in bags]
    except BadDer:
        return []


class _Contents(NamedTuple):
    version: bytes
    parts: list[bytes]
    """Every ContentInfo."""
    bags: dict[int, list[bytes]]
    """The bags of those parts that are not encrypted."""

    def only(self, number: int, key: bytes) -> bytes:
        """The store with no other key than this one of part `number`."""
        parts = list(self.parts)
        for n, bags in self.bags.items():
            kept = [bag for bag in bags if not _is_key(bag) or (n == number and bag is key)]
            parts[n] = _data(der(SEQUENCE, b"".join(kept)))
        return der(SEQUENCE, self.version + _data(der(SEQUENCE, b"".join(parts))))


def _contents(store: bytes) -> _Contents:
    pfx = Der(store).inner(SEQUENCE)
    tag, number = pfx.element()
    safe = _octets(pfx.inner(SEQUENCE))
    parts = _elements(Der(safe or b"").inner(SEQUENCE))
    found = {n: _octets(Der(part).inner(SEQUENCE)) for n, part in enumerate(parts)}
    bags = {n: _elements(Der(data).inner(SEQUENCE)) for n, data in found.items() if data}
    return _Contents(der(tag, number), parts, bags)


def _octets(content: Der) -> bytes | None:
    """What a ContentInfo of type data holds; None for another type."""
    if content.take(OID) != _DATA:
        return None
    return content.inner(_EXPLICIT).take(OCTET_STRING)


def _data(octets: bytes) -> bytes:
    """A ContentInfo of type data."""
    return der(SEQUENCE, der(OID, _DATA) + der(_EXPLICIT, der(OCTET_STRING, octets)))


def _elements(reader: Der) -> list[bytes]:
    found = []
    while not reader.done:
        found.append(der(*reader.element()))
    return found


def _is_key(bag: bytes) -> bool:
    return Der(bag).inner(SEQUENCE).take(OID) in _KEY_BAGS


def _alias(bag: bytes) -> str:
    fields = Der(bag).inner(SEQUENCE)
    fields.take(OID)
    fields.take(_EXPLICIT)
    if fields.done:
        return ""
    for attribute in _elements(fields.inner(_SET)):
        pair = Der(attribute).inner(SEQUENCE)
        if pair.take(OID) == _FRIENDLY_NAME:
            return pair.inner(_SET).element()[1].decode("utf-16-be", "replace")
    return ""
