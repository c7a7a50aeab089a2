"""What the command tells, as JSON objects. The keys are documented in docs/apk.md and stay."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from avf.apk.algorithms import algorithm_text
from avf.apk.crypto import certificate_public_key, read_public_key
from avf.apk.crypto.names import certificate_subject
from avf.apk.errors import ApkError, SchemeNotFound, SigningBlockError
from avf.apk.idsig import Idsig
from avf.apk.idsig_verify import VerifiedIdsig
from avf.apk.lineage import LineageNode
from avf.apk.sdk_range import PlatformVerdict
from avf.apk.signers import parse_signed_data, parse_signers
from avf.apk.signing_block import MAGIC, BlockId, SignedApk, find_signing_block
from avf.apk.source import Source
from avf.apk.stamp import SourceStamp
from avf.apk.v1 import V1Signer, VerifiedV1
from avf.apk.verify import Scheme, VerifiedApk, VerifiedSigner
from avf.apk.zip import Entry, ZipSections, find_sections, iter_entries

Report: TypeAlias = dict[str, object]

_BLOCKS = {Scheme.V2: BlockId.V2, Scheme.V3: BlockId.V3, Scheme.V3_1: BlockId.V3_1}


def failure(error: ApkError | OSError, file: str) -> Report:
    """Why something did not work."""
    if isinstance(error, OSError):
        return {"code": "io", "message": error.strerror or str(error), "file": file, "offset": None}
    return {"code": error.code, "message": str(error), "file": file, "offset": error.offset}


def verified_apk(
    verified: VerifiedApk | VerifiedV1, sdk: int, *, certificates: bool = False, keys: bool = False
) -> Report:
    """What `verify` found; with more of the certificates and keys if asked."""
    return {
        "verified": True,
        "scheme": verified.scheme.value,
        "sdk": sdk,
        "size": verified.size,
        "signers": [
            {
                **_verified_signer(signer),
                **details(signer.certificates, certificates=certificates, keys=keys),
            }
            for signer in verified.signers
        ],
    }


def verified_range(
    verdicts: Iterable[PlatformVerdict], *, certificates: bool = False, keys: bool = False
) -> Report:
    """What `verify` found for a range of SDKs, lowest first; the rest is the highest platform's."""
    found = list(verdicts)
    last = found[-1]
    platforms = [
        {
            "min_sdk": verdict.min_sdk,
            "max_sdk": verdict.max_sdk,
            "scheme": verdict.apk.scheme.value,
            "certificate_sha256": [_sha256(item.certificates[0]) for item in verdict.apk.signers],
        }
        for verdict in found
    ]
    highest = verified_apk(last.apk, last.max_sdk, certificates=certificates, keys=keys)
    return {**highest, "platforms": platforms}


def _verified_signer(signer: VerifiedSigner | V1Signer) -> Report:
    known: Report = {
        "public_key_sha256": _sha256(signer.public_key),
        "certificate_sha256": _sha256(signer.certificates[0]),
    }
    if isinstance(signer, V1Signer):
        return {**known, "name": signer.name, "algorithm": signer.mechanism.name}
    return {
        **known,
        "algorithm": signer.algorithm.name,
        "algorithm_id": signer.algorithm.value,
        "digest_algorithm": signer.algorithm.content_digest.name,
        "digest_hex": signer.digest.hex(),
        "min_sdk": signer.min_sdk,
        "max_sdk": signer.max_sdk,
        "lineage": lineage(signer.lineage),
    }


def lineage(
    nodes: Iterable[LineageNode], *, certificates: bool = False, keys: bool = False
) -> list[Report]:
    """Certificates, oldest first."""
    return [
        {
            "certificate_sha256": _sha256(node.certificate),
            "capabilities": [flag.name for flag in node.capabilities],
            **details([node.certificate], certificates=certificates, keys=keys),
        }
        for node in nodes
    ]


def details(chain: Sequence[bytes], *, certificates: bool, keys: bool) -> Report:
    """More of a signer's certificates, as far as asked."""
    report: Report = {}
    if certificates:
        report["certificates"] = [
            {"subject": certificate_subject(item), **_digests(item)} for item in chain
        ]
    if keys:
        encoded = certificate_public_key(chain[0])
        key = read_public_key(encoded)
        size = {"algorithm": key.type.value, "bits": key.bits}
        report["public_key"] = {**size, **_digests(key.der)}
    return report


def _digests(data: bytes) -> Report:
    """In hexadecimal; the shorter ones are what older tools show."""
    return {
        name: hashlib.new(name, data, usedforsecurity=False).hexdigest()
        for name in ("sha256", "sha1", "md5")
    }


def verified_idsig(verified: VerifiedIdsig) -> Report:
    """What `verify --idsig` found."""
    certificate = verified.certificate
    return {
        "root_hash_hex": verified.root_hash.hex(),
        "apk_digest_hex": verified.apk_digest.hex(),
        "salt_hex": verified.salt.hex(),
        "signed": certificate is not None,
        "certificate_sha256": None if certificate is None else _sha256(certificate),
    }


def stamp(found: SourceStamp) -> Report:
    """What a source stamp says, and whether it is good."""
    certificate = found.certificate
    return {
        "status": found.status.value,
        "reason": found.reason,
        "version": found.version,
        "certificate_sha256": None if certificate is None else _sha256(certificate),
        "timestamp": found.timestamp,
        "lineage": [_sha256(node.certificate) for node in found.lineage],
    }


def made_idsig(idsig: Idsig, written: bool) -> Report:
    """What `idsig` made."""
    return {
        "written": written,
        "root_hash_hex": idsig.root_hash.hex(),
        "apk_digest_hex": idsig.apk_digest.hex(),
        "algorithm": algorithm_text(idsig.signature_algorithm_id),
        "tree_offset": idsig.tree_offset,
        "tree_size": idsig.tree_size,
    }


def contents(source: Source, source_stamp: SourceStamp) -> Report:
    """What is in an APK, nothing proved but what the source stamp says."""
    sections = find_sections(source)
    apk = _signed(source, sections)
    return {
        "size": sections.size,
        "signing_block": _signing_block(apk) if apk else None,
        "claims": _claims(apk) if apk else [],
        "source_stamp": stamp(source_stamp),
        "entries": [_entry(entry) for entry in iter_entries(source, sections)],
    }


def _signed(source: Source, sections: ZipSections) -> SignedApk | None:
    """None for an APK without a signing block; SigningBlockError for a broken one."""
    start = sections.cd_offset - len(MAGIC)
    if start < 0 or source.read_at(start, len(MAGIC)) != MAGIC:
        return None
    return find_signing_block(source)


def _signing_block(apk: SignedApk) -> Report:
    values = [{"id": f"{pair_id:#010x}", "size": size} for pair_id, _, size in apk.pairs()]
    return {"offset": apk.block_offset, "size": apk.block_size, "values": values}


def _claims(apk: SignedApk) -> list[Report]:
    """What the signers of every scheme claim."""
    claims: list[Report] = []
    for scheme, block_id in _BLOCKS.items():
        try:
            block, offset = apk.find(block_id)
        except SchemeNotFound:
            continue
        has_range = scheme is not Scheme.V2
        for signer in parse_signers(block, has_sdk_range=has_range, offset=offset):
            try:
                signed_data = parse_signed_data(signer, has_sdk_range=has_range)
                attributes = [f"{item.attribute_id:#010x}" for item in signed_data.attributes]
            except SigningBlockError:
                attributes = []
            claims.append(
                {
                    "scheme": scheme.value,
                    "public_key_sha256": _sha256(signer.public_key),
                    "algorithms": [algorithm_text(item.algorithm_id) for item in signer.signatures],
                    "min_sdk": signer.min_sdk,
                    "max_sdk": signer.max_sdk,
                    "attributes": attributes,
                }
            )
    return claims


def _entry(entry: Entry) -> Report:
    return {
        "name": entry.name,
        "size": entry.size,
        "compressed_size": entry.compressed_size,
        "mode": f"{entry.mode:o}",
    }


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
