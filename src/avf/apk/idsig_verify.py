"""Is an idsig that of an APK, and who signed it?

Source: https://source.android.com/docs/security/features/apksigning/v4 "Verification".
"""

import io
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

from avf.apk import merkle
from avf.apk.algorithms import SignatureAlgorithm
from avf.apk.crypto import certificate_public_key, read_public_key, verify_signature
from avf.apk.errors import IdsigError, IdsigMismatch, SignatureInvalid, SignerMismatch
from avf.apk.idsig import Idsig, SigningInfo, other_signing_infos, parse_signing_info
from avf.apk.signers import parse_signed_data
from avf.apk.signing_block import BlockId, SignedApk, find_signing_block
from avf.apk.source import Progress, Source, open_source
from avf.apk.tree_check import CheckedReader, Tree
from avf.apk.verify import DEFAULT_SDK, Choice, Scheme, choose_signers


class VerifiedIdsig(NamedTuple):
    """What a verified idsig has proved. `certificate` (DER) is of its v4 signer, None if nobody signed it."""

    root_hash: bytes
    apk_digest: bytes
    salt: bytes
    certificate: bytes | None


def verify_idsig(
    apk: int | BinaryIO,
    idsig: int | BinaryIO,
    *,
    sdk: int = DEFAULT_SDK,
    allow_v2: bool = False,
    require_signature: bool = False,
    progress: Progress | None = None,
) -> VerifiedIdsig:
    """Check an idsig against its APK: digest, every block of the tree and of the APK, and the v4 signature.

    An idsig without a signature, as AVF makes them, is accepted unless `require_signature`. The APK's own signatures
    are left to `verify`. IdsigError if the idsig is broken, IdsigMismatch (TreeMismatch) if it is another file's,
    VerificationError if its signature is wrong or not by the APK's signer.
    """
    return verify_idsig_for(
        apk,
        idsig,
        [sdk],
        allow_v2=allow_v2,
        require_signature=require_signature,
        progress=progress,
    )


def verify_idsig_for(
    apk: int | BinaryIO,
    idsig: int | BinaryIO,
    sdks: Sequence[int],
    *,
    allow_v2: bool = False,
    require_signature: bool = False,
    allow_no_tree: bool = False,
    progress: Progress | None = None,
) -> VerifiedIdsig:
    """As `verify_idsig`, for the signers of several platforms, at least one; the result is the last one's.

    With `allow_no_tree` the idsig may lack its tree, which is then computed.
    """
    source = open_source(apk, None, progress)
    signed_apk = find_signing_block(source)
    found = Idsig.parse(idsig, allow_no_tree=allow_no_tree)
    for sdk in sdks:
        info, certificate = _check_signer(found, signed_apk, sdk, allow_v2)
        if certificate is None and require_signature:
            raise IdsigError("idsig: it has no signature")
    if allow_no_tree and not found.tree_size:
        _check_root(found, source)
    else:
        tree = _tree(found, source.size, idsig)
        tree.check()
        tree.check_data(source)
    source.check_unchanged()
    return VerifiedIdsig(found.root_hash, info.apk_digest, found.salt, certificate)


def check_idsig_signers(
    apk: int, idsig: int, sdks: Sequence[int], *, allow_v2: bool = False
) -> None:
    """Check digest and v4 signature of an idsig as `verify_idsig_for` does, and neither tree nor contents."""
    signed_apk = find_signing_block(open_source(apk))
    found = Idsig.parse(idsig, allow_no_tree=True)
    for sdk in sdks:
        _check_signer(found, signed_apk, sdk, allow_v2)


def _check_signer(
    found: Idsig, apk: SignedApk, sdk: int, allow_v2: bool
) -> tuple[SigningInfo, bytes | None]:
    """What the signer for a platform says, and its certificate if it signed."""
    choice = choose_signers(apk, sdk, allow_v2=allow_v2)
    info = _info_of(found, choice)
    _check_digest(info, choice)
    return info, _check_signature(found, info, choice, apk)


def _check_root(found: Idsig, source: Source) -> None:
    if merkle.build(source, found.salt, lambda _offset, _data: None) != found.root_hash:
        raise IdsigMismatch("idsig: its root hash is not that of the APK")


def open_verified(
    apk: int | BinaryIO, idsig: int | BinaryIO, *, root_hash: bytes | None = None
) -> io.BufferedReader:
    """The APK as a file each block of which is checked against the idsig's tree before it is returned.

    Reading a wrong block raises TreeMismatch. `root_hash` is the one to trust, by default the idsig's own;
    IdsigMismatch if the idsig has another. Borrows both files, which must stay open.
    """
    found = Idsig.parse(idsig)
    if root_hash is not None and found.root_hash != root_hash:
        raise IdsigMismatch("idsig: its root hash is not the expected one")
    source = open_source(apk)
    reader = CheckedReader(source, _tree(found, source.size, idsig))
    return io.BufferedReader(reader, merkle.BLOCK_SIZE)


def _tree(found: Idsig, apk_size: int, idsig: int | BinaryIO) -> Tree:
    expected = merkle.tree_size(apk_size)
    if found.tree_size != expected:
        raise IdsigMismatch(
            f"idsig: tree of {found.tree_size} bytes, but an APK of {apk_size} has one of {expected}",
            offset=found.tree_offset - 4,
        )
    return Tree(open_source(idsig), found.tree_offset, apk_size, found.root_hash, found.salt)


def _info_of(found: Idsig, choice: Choice) -> SigningInfo:
    """What the signer of this platform says: a v3.1 signer stands behind the v3 one, if at all."""
    if choice.scheme is Scheme.V3_1:
        base = len(found.header()) - 4 - len(found.other_signers)
        for block_id, reader in other_signing_infos(found.other_signers, base):
            if block_id != BlockId.V3_1:
                continue
            info = parse_signing_info(reader)
            if reader.remaining:
                raise reader.failure(f"{reader.remaining} bytes too many")
            return info
    return found.signing_info()


def _check_digest(info: SigningInfo, choice: Choice) -> None:
    """The digest must be one of those recorded in the APK."""
    for signer in choice.signers:
        signed_data = parse_signed_data(signer, has_sdk_range=choice.has_sdk_range)
        if info.apk_digest in [record.value for record in signed_data.digests]:
            return
    raise IdsigMismatch("idsig: its APK digest is none of those that the APK records")


def _check_signature(
    found: Idsig, info: SigningInfo, choice: Choice, apk: SignedApk
) -> bytes | None:
    """The certificate of the signer, None if there is none."""
    if not (info.signature or info.public_key or info.certificate):
        return None
    algorithm = SignatureAlgorithm(info.signature_algorithm_id)
    signed = found.signed_bytes(apk.zip.size, info)
    try:
        verify_signature(algorithm, info.public_key, signed, info.signature)
    except SignatureInvalid:
        raise SignatureInvalid("idsig: Signature is invalid.") from None
    expected = read_public_key(certificate_public_key(info.certificate)).der
    if expected != info.public_key:
        raise SignerMismatch("idsig: Public key mismatch between certificate and signature record")
    for signer in choice.signers:
        chain = parse_signed_data(signer, has_sdk_range=choice.has_sdk_range).certificates
        if chain and chain[0] == info.certificate:
            return info.certificate
    raise SignerMismatch("idsig: it is not signed by the signer of the APK")
