"""Make the files of a v1 signature. Needs `cryptography`.

The bytes are those that apksigner makes, but for what is random in EC and DSA signatures. Source: `V1SchemeSigner` of
AOSP's tools/apksig.
"""

import base64
import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from avf.apk.algorithms import KeyType
from avf.apk.crypto import read_public_key
from avf.apk.crypto.spki import der
from avf.apk.errors import SigningError
from avf.apk.keys import SigningKey
from avf.apk.signing_block import STAMP_ENTRY
from avf.apk.source import Source
from avf.apk.v1.archive import MAX_FILE, MAX_V1_SIGNERS, META_INF, duplicate
from avf.apk.v1.certificates import issuer_and_serial
from avf.apk.v1.contents import pieces, read_contents
from avf.apk.v1.manifest import MANIFEST
from avf.apk.v1.mechanisms import Mechanism
from avf.apk.v1.sections import sections
from avf.apk.zip import ZipSections, iter_entries

CREATED_BY = "1.0 (Android)"
"""As apksigner has it: the platform's own signature files say so."""
_LINE = 70
_SHA256_SDK = 18
_DSA_SHA256_SDK = 21
_SIGNATURE_OIDS = {
    Mechanism(KeyType.RSA, "sha1"): "2a864886f70d010101",
    Mechanism(KeyType.RSA, "sha256"): "2a864886f70d010101",
    Mechanism(KeyType.DSA, "sha1"): "2a8648ce380401",
    Mechanism(KeyType.DSA, "sha256"): "608648016503040302",
    Mechanism(KeyType.EC, "sha256"): "2a8648ce3d0201",
}
_DIGEST_OIDS = {"sha1": "2b0e03021a", "sha256": "608648016503040201"}
_DATA_OID = bytes.fromhex("2a864886f70d010701")
_SIGNED_DATA_OID = bytes.fromhex("2a864886f70d010702")
_ATTRIBUTES = {"sha1": "SHA1-Digest", "sha256": "SHA-256-Digest"}
_SEQUENCE, _SET, _INTEGER, _OCTETS, _NULL, _OID, _EXPLICIT_0 = 0x30, 0x31, 2, 4, 5, 6, 0xA0
SignedFile = tuple[str, bytes]
"""Name and contents of an entry."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,70}")


class V1Party(NamedTuple):
    """A key and the name of its signature files: META-INF/NAME.SF."""

    key: SigningKey
    name: str


class V1Signature(NamedTuple):
    """What a v1 signature is to be made with."""

    parties: Sequence[V1Party]
    schemes: Sequence[int]
    """The numbers of the other schemes that the APK is signed with: 2, 3."""
    added: Sequence[SignedFile] = ()
    """Entries that are put into the APK besides, in place of those that were there."""

    def files(self, source: Source, zip_sections: ZipSections, min_sdk: int) -> list[SignedFile]:
        """The entries that sign those of a ZIP. Raises as `signature_files`; EntryError if an entry is damaged."""
        hash_name = digest_name([party.key for party in self.parties], min_sdk)
        digests = {name: _hashed(hash_name, [data]) for name, data in self.added}
        replaced = set(digests)
        old_manifest = b""
        for entry in iter_entries(source, zip_sections):
            name = entry.raw_name.decode("utf-8", "replace")
            if name == MANIFEST and not old_manifest:
                old_manifest = read_contents(source, entry, zip_sections.cd_offset, MAX_FILE)
            elif is_digested(name) and name not in replaced and entry.name != STAMP_ENTRY:
                if name in digests:
                    raise duplicate(entry)
                digests[name] = _hashed(hash_name, pieces(source, entry, zip_sections.cd_offset))
        return signature_files(
            self.parties,
            digests,
            min_sdk=min_sdk,
            schemes=self.schemes,
            old_manifest=old_manifest,
        )


def _hashed(hash_name: str, data: Iterable[bytes | memoryview]) -> bytes:
    made = hashlib.new(hash_name, usedforsecurity=False)
    for piece in data:
        made.update(piece)
    return made.digest()


def safe_name(text: str) -> str:
    """A name of signature files made of any text: 8 characters of A-Z, 0-9, - and _ at most."""
    return re.sub(r"[^A-Z0-9_-]", "_", text.upper()[:8]) or "CERT"


def digest_name(keys: Sequence[SigningKey], min_sdk: int) -> str:
    """The hash of entries and manifests, sha1 or sha256, that platforms from `min_sdk` on take."""
    return max(mechanism_of(key, min_sdk).hash_name for key in keys)


def mechanism_of(key: SigningKey, min_sdk: int) -> Mechanism:
    """What apksigner would sign with; SigningError for an EC key below SDK 18."""
    key_type = read_public_key(key.public_key).type
    if key_type is KeyType.EC and min_sdk < _SHA256_SDK:
        raise SigningError(
            f"v1 signatures by EC keys are known since SDK {_SHA256_SDK}, not since {min_sdk}"
        )
    since = _DSA_SHA256_SDK if key_type is KeyType.DSA else _SHA256_SDK
    return Mechanism(key_type, "sha1" if min_sdk < since else "sha256")


def is_digested(name: str) -> bool:
    """Does an entry of this name belong into the manifest?"""
    if name.endswith("/"):
        return False
    folder, _, rest = name.partition("/")
    if folder != "META-INF" or "/" in rest:
        return True
    rest = rest.lower()
    is_part = rest.endswith((".sf", ".rsa", ".dsa", ".ec")) or rest.startswith("sig-")
    return not is_part and rest != "manifest.mf"


def signature_files(
    parties: Sequence[V1Party],
    digests: Mapping[str, bytes],
    *,
    min_sdk: int,
    schemes: Collection[int],
    old_manifest: bytes = b"",
    created_by: str = CREATED_BY,
) -> list[SignedFile]:
    """The names and contents of the entries that make a v1 signature, in apksigner's order.

    `digests` are those of all entries that `is_digested` names, made with `digest_name`; `schemes` are the numbers of
    the other schemes (2, 3) that the APK is signed with. The main attributes of `old_manifest` stay. SigningError if
    a key does not go with `min_sdk`, or a name with v1.
    """
    _check_parties(parties)
    hash_name = digest_name([party.key for party in parties], min_sdk)
    main = _main_section(old_manifest)
    parts = {name: _section(name, hash_name, digests[name]) for name in _sorted(digests)}
    manifest = main + b"".join(parts.values())
    signature_file = _signature_file(manifest, parts, hash_name, schemes, created_by)
    files: list[SignedFile] = []
    for party in parties:
        how = mechanism_of(party.key, min_sdk)
        stem = f"{META_INF}{party.name}."
        files.append((f"{stem}SF", signature_file))
        files.append((f"{stem}{how.key_type.value}", _block(party.key, how, signature_file)))
    return [*files, (MANIFEST, manifest)]


def _check_parties(parties: Sequence[V1Party]) -> None:
    names = [party.name for party in parties]
    if not 1 <= len(parties) <= MAX_V1_SIGNERS:
        raise SigningError(f"v1 has 1 to {MAX_V1_SIGNERS} signers, not {len(parties)}")
    for name in names:
        if not name or safe_name(name) != name:
            raise SigningError(f"{name!r} is no name for signature files")
        if names.count(name) > 1:
            raise SigningError(f"two signers of v1 have the name {name}")


def _sorted(names: Collection[str]) -> list[str]:
    """In the order of their UTF-16 code units, as Java sorts."""
    return sorted(names, key=lambda name: name.encode("utf-16-be", "surrogatepass"))


def _main_section(old_manifest: bytes) -> bytes:
    """That of the old manifest, if there is one, in apksigner's order."""
    attributes = {"Manifest-Version": "1.0"}
    for section in sections(old_manifest):
        found = dict(section.pairs())
        version = next((found.pop(key) for key in list(found) if _is_version(key)), "1.0")
        if not all(_NAME.fullmatch(name) for name in found):
            raise SigningError(f"{MANIFEST}: its main section has a bad attribute name")
        attributes = {"Manifest-Version": version, **{k: found[k] for k in sorted(found)}}
        break
    return b"".join(_line(*item) for item in attributes.items()) + b"\r\n"


def _is_version(name: str) -> bool:
    return name.lower() == "manifest-version"


def _section(name: str, hash_name: str, digest: bytes) -> bytes:
    if any(char in name for char in "\r\n\0"):
        raise SigningError(f"v1 cannot sign a ZIP entry of the name {name!r}")
    return _line("Name", name) + _line(_ATTRIBUTES[hash_name], _base64(digest)) + b"\r\n"


def _signature_file(
    manifest: bytes,
    parts: Mapping[str, bytes],
    hash_name: str,
    schemes: Collection[int],
    created_by: str,
) -> bytes:
    def digest(data: bytes) -> bytes:
        return hashlib.new(hash_name, data, usedforsecurity=False).digest()

    attribute = f"{_ATTRIBUTES[hash_name]}-Manifest"
    attributes = {"Created-By": created_by, attribute: _base64(digest(manifest))}
    if schemes:
        attributes["X-Android-APK-Signed"] = ", ".join(map(str, sorted(schemes)))
    lines = [_line("Signature-Version", "1.0")]
    lines += [_line(name, attributes[name]) for name in sorted(attributes)]
    lines.append(b"\r\n")
    lines += [_section(name, hash_name, digest(part)) for name, part in parts.items()]
    data = b"".join(lines)
    return data if len(data) % 1024 else data + b"\r\n"


def _line(name: str, value: str) -> bytes:
    """One attribute, in lines of 70 bytes at most."""
    data = f"{name}: {value}".encode("utf-8", "replace")
    rest = range(_LINE, len(data), _LINE - 1)
    pieces = [data[:_LINE], *[data[start : start + _LINE - 1] for start in rest]]
    return b"\r\n ".join(pieces) + b"\r\n"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _block(key: SigningKey, how: Mechanism, signature_file: bytes) -> bytes:
    """SignedData (RFC 2315) with one signer and no signed attributes."""
    digest = _algorithm(_DIGEST_OIDS[how.hash_name])
    one = der(_INTEGER, b"\1")
    signer = der(
        _SEQUENCE,
        one
        + der(_SEQUENCE, issuer_and_serial(key.certificate))
        + digest
        + _algorithm(_SIGNATURE_OIDS[how])
        + der(_OCTETS, key.sign(how, signature_file)),
    )
    signed_data = der(
        _SEQUENCE,
        one
        + der(_SET, digest)
        + der(_SEQUENCE, der(_OID, _DATA_OID))
        + der(_EXPLICIT_0, b"".join(key.certificates))
        + der(_SET, signer),
    )
    return der(_SEQUENCE, der(_OID, _SIGNED_DATA_OID) + der(_EXPLICIT_0, signed_data))


def _algorithm(oid: str) -> bytes:
    return der(_SEQUENCE, der(_OID, bytes.fromhex(oid)) + der(_NULL, b""))
