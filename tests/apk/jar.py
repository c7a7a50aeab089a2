"""Write v1 signatures by hand, each part of them as wrong as a test wants it."""

import base64
import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from avf.apk import ApkBuilder, SigningKey
from avf.apk.algorithms import KeyType
from avf.apk.crypto.spki import der
from avf.apk.v1.certificates import issuer_and_serial
from avf.apk.v1.mechanisms import Mechanism

MANIFEST = "META-INF/MANIFEST.MF"
DIGEST_OIDS = {
    "md5": "2a864886f70d0205",
    "sha1": "2b0e03021a",
    "sha224": "608648016503040204",
    "sha256": "608648016503040201",
    "sha384": "608648016503040202",
    "sha512": "608648016503040203",
}
RSA, DSA, EC = "2a864886f70d010101", "2a8648ce380401", "2a8648ce3d0201"
EC_SHA256 = Mechanism(KeyType.EC, "sha256")
_CONTENT_TYPE = "2a864886f70d010903"
_MESSAGE_DIGEST = "2a864886f70d010904"
DATA = "2a864886f70d010701"
SIGNED_DATA = "2a864886f70d010702"


def digest(data: bytes, name: str = "sha256") -> str:
    return base64.b64encode(hashlib.new(name, data).digest()).decode()


def oid(number: str) -> bytes:
    return der(6, bytes.fromhex(number))


def algorithm(number: str) -> bytes:
    return der(0x30, oid(number) + der(5, b""))


def attribute(number: str, value: bytes) -> bytes:
    return der(0x30, oid(number) + der(0x31, value))


@dataclass(frozen=True)
class Signer:
    """One SignerInfo; fields left out are right."""

    key: SigningKey
    how: Mechanism = EC_SHA256
    signature_oid: str = EC
    name: bytes | None = None
    """In place of issuer and serial number."""
    attributes: Sequence[bytes] | None = None
    signature: bytes | None = None

    def encode(self, signature_file: bytes) -> bytes:
        signed, tagged = signature_file, b""
        if self.attributes is not None:
            body = b"".join(self.attributes)
            signed, tagged = der(0x31, body), der(0xA0, body)
        signature = self.key.sign(self.how, signed) if self.signature is None else self.signature
        name = der(0x30, issuer_and_serial(self.key.certificate))
        return der(
            0x30,
            der(2, b"\1")
            + (name if self.name is None else self.name)
            + algorithm(DIGEST_OIDS[self.how.hash_name])
            + tagged
            + algorithm(self.signature_oid)
            + der(4, signature),
        )


def attributes_for(
    signature_file: bytes, hash_name: str = "sha256", content_type: str = DATA
) -> list[bytes]:
    """The signed attributes that are right for this file."""
    made = hashlib.new(hash_name, signature_file).digest()
    return [
        attribute(_CONTENT_TYPE, oid(content_type)),
        attribute(_MESSAGE_DIGEST, der(4, made)),
    ]


def block(signature_file: bytes, *signers: Signer, certificates: Sequence[bytes] = ()) -> bytes:
    """A signature block."""
    shown = certificates or [signer.key.certificate for signer in signers]
    signed_data = der(
        0x30,
        der(2, b"\1")
        + der(0x31, algorithm(DIGEST_OIDS["sha256"]))
        + der(0x30, oid(DATA))
        + der(0xA0, b"".join(shown))
        + der(0x31, b"".join(signer.encode(signature_file) for signer in signers)),
    )
    return der(0x30, oid(SIGNED_DATA) + der(0xA0, signed_data))


@dataclass(frozen=True)
class Jar:
    """The contents of an APK with the files of its v1 signature; the signature files are right unless replaced."""

    key: SigningKey
    entries: Mapping[str, bytes] = field(default_factory=lambda: {"a": b"1", "b": b"2" * 100})
    hash_name: str = "sha256"
    digest_attribute: str = "SHA-256-Digest"
    target_sdk: int = 28

    def files(self) -> dict[str, bytes]:
        """All entries by name, the manifest with all of them first."""
        unsigned = io.BytesIO()
        made = ApkBuilder(min_sdk=18, target_sdk=self.target_sdk)
        for name, data in self.entries.items():
            made.add(name, data)
        made.write(unsigned)
        with zipfile.ZipFile(unsigned) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    def section(self, name: str, data: bytes) -> bytes:
        return (
            f"Name: {name}\r\n{self.digest_attribute}: {digest(data, self.hash_name)}\r\n\r\n"
        ).encode()

    def manifest(self) -> bytes:
        parts = [self.section(name, data) for name, data in self.files().items()]
        return b"Manifest-Version: 1.0\r\n\r\n" + b"".join(parts)

    def signature_file(
        self, manifest: bytes | None = None, *, main: str = "", whole: bool = True
    ) -> bytes:
        """Of this manifest; `main` are more attributes; without `whole` its sections alone count."""
        data = self.manifest() if manifest is None else manifest
        head = f"Signature-Version: 1.0\r\n{main}"
        if whole:
            head += f"{self.digest_attribute}-Manifest: {digest(data, self.hash_name)}\r\n"
        parts = data.split(b"\r\n\r\n")[1:-1]
        body = b""
        for part in parts:
            name = part.split(b"\r\n")[0].removeprefix(b"Name: ").decode()
            body += self.section(name, part + b"\r\n\r\n")
        return head.encode() + b"\r\n" + body

    def build(self, replaced: Mapping[str, bytes | None] | None = None) -> io.BytesIO:
        """The APK. `replaced` adds files, replaces them or, with None, leaves them out; the block is made last."""
        files: dict[str, bytes | None] = {**self.files(), MANIFEST: self.manifest()}
        changed = dict(replaced or {})
        manifest = changed.get(MANIFEST, files[MANIFEST])
        files["META-INF/CERT.SF"] = self.signature_file(manifest)
        files.update(changed)
        signature_file = files["META-INF/CERT.SF"]
        if "META-INF/CERT.EC" not in changed:
            files["META-INF/CERT.EC"] = block(signature_file or b"", Signer(self.key))
        return self.zipped({name: data for name, data in files.items() if data is not None})

    @staticmethod
    def zipped(files: Mapping[str, bytes]) -> io.BytesIO:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
        return out
