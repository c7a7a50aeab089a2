"""Take signed APKs apart and put them together wrongly."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO

from avf.apk import SignatureAlgorithm, SigningKey
from avf.apk.digest import content_digest, make_contents
from avf.apk.fields import lp32, lp32_items, u32
from avf.apk.signing_block import encode, find_signing_block
from avf.apk.source import FileSource


@dataclass(frozen=True)
class Anatomy:
    """The parts of a signed APK."""

    front: bytes
    pairs: list[tuple[int, bytes]]
    directory: bytes
    eocd: bytes

    @classmethod
    def of(cls, data: bytes) -> "Anatomy":
        apk = find_signing_block(FileSource(BytesIO(data)))
        pairs = [
            (pair_id, data[offset : offset + length]) for pair_id, offset, length in apk.pairs()
        ]
        start, end = apk.zip.cd_offset, apk.zip.eocd_offset
        return cls(data[: apk.block_offset], pairs, data[start:end], data[end:])

    def build(self, block: bytes | None = None) -> bytes:
        """The APK with these parts, or with another signing block."""
        block = encode(self.pairs) if block is None else block
        eocd = bytearray(self.eocd)
        eocd[16:20] = u32(len(self.front) + len(block))
        return self.front + block + self.directory + bytes(eocd)

    def with_pairs(self, *pairs: tuple[int, bytes]) -> "Anatomy":
        return replace(self, pairs=list(pairs))

    def digest(self, algorithm: SignatureAlgorithm) -> bytes:
        """The right content digest."""
        source = FileSource(BytesIO(self.front + self.directory))
        size = len(self.front)
        contents = make_contents(source, size, size, len(self.directory), self.eocd)
        return content_digest(contents, algorithm.content_digest)


@dataclass(frozen=True)
class Forger:
    """Writes one signer of a v3 block; every field can be set wrong, and the signatures are made over the result.

    `digests` are (algorithm ID, digest); `signatures` default to one for each digest.
    """

    key: SigningKey
    digests: Sequence[tuple[int, bytes]]
    certificates: list[bytes] | None = None
    signed_range: tuple[int, int] = (24, 0x7FFFFFFF)
    range: tuple[int, int] | None = None
    attributes: list[bytes] = field(default_factory=list)
    signatures: Sequence[tuple[int, bytes]] | None = None
    public_key: bytes | None = None
    has_range: bool = True

    def signer(self) -> bytes:
        certificates = [self.key.certificate] if self.certificates is None else self.certificates
        low, high = self.signed_range
        signed_data = (
            lp32_items([u32(number) + lp32(digest) for number, digest in self.digests])
            + lp32_items(certificates)
            + ((u32(low) + u32(high)) if self.has_range else b"")
            + lp32_items(self.attributes)
        )
        signatures = self.signatures
        if signatures is None:
            signatures = [(number, self._sign(number, signed_data)) for number, _ in self.digests]
        low, high = self.range or self.signed_range
        public_key = self.key.public_key if self.public_key is None else self.public_key
        return (
            lp32(signed_data)
            + ((u32(low) + u32(high)) if self.has_range else b"")
            + lp32_items([u32(number) + lp32(value) for number, value in signatures])
            + lp32(public_key)
        )

    def block(self) -> bytes:
        return lp32_items([self.signer()])

    def _sign(self, number: int, data: bytes) -> bytes:
        try:
            return self.key.sign(SignatureAlgorithm(number), data)
        except ValueError:
            return b"unknown"
