"""What is odd in an APK's signatures and does no harm: platforms pass over it."""

from collections.abc import Iterator

from avf.apk.algorithms import algorithm_of
from avf.apk.errors import SchemeNotFound, SigningBlockError
from avf.apk.signers import (
    ATTRIBUTE_PROOF_OF_ROTATION,
    ATTRIBUTE_ROTATION_MIN_SDK,
    ATTRIBUTE_ROTATION_ON_DEV_RELEASE,
    ATTRIBUTE_STRIPPING_PROTECTION,
    Signer,
    parse_signed_data,
)
from avf.apk.signing_block import BlockId, find_signing_block
from avf.apk.source import open_source
from avf.apk.verify import Scheme, signers_of

_BLOCKS = {Scheme.V2: BlockId.V2, Scheme.V3: BlockId.V3, Scheme.V3_1: BlockId.V3_1}
_ATTRIBUTES = {
    ATTRIBUTE_PROOF_OF_ROTATION,
    ATTRIBUTE_ROTATION_MIN_SDK,
    ATTRIBUTE_ROTATION_ON_DEV_RELEASE,
    ATTRIBUTE_STRIPPING_PROTECTION,
}


def remarks_on(apk: int) -> list[str]:
    """One sentence for each unknown algorithm and attribute in the signers of every scheme but v1."""
    found: list[str] = []
    try:
        signed_apk = find_signing_block(open_source(apk))
    except SigningBlockError:
        return found
    for scheme, block_id in _BLOCKS.items():
        try:
            signers = signers_of(signed_apk, block_id)
        except (SchemeNotFound, SigningBlockError):
            continue
        for number, signer in enumerate(signers, 1):
            where = f"{scheme.value} signer {number}"
            found += [f"{where} {text}" for text in _of_signer(signer, scheme is not Scheme.V2)]
    return found


def _of_signer(signer: Signer, has_sdk_range: bool) -> Iterator[str]:
    for record in signer.signatures:
        if algorithm_of(record.algorithm_id) is None:
            yield f"has a signature with unknown algorithm {record.algorithm_id:#06x}"
    try:
        signed_data = parse_signed_data(signer, has_sdk_range=has_sdk_range)
    except SigningBlockError:
        return
    for item in signed_data.attributes:
        if item.attribute_id not in _ATTRIBUTES:
            yield f"has an unknown attribute {item.attribute_id:#010x}"
