"""verify_idsig and open_verified: ours and apksigner's are accepted, everything else is refused by name."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from avf.apk import (
    ApkError,
    Idsig,
    IdsigError,
    IdsigMismatch,
    Rotation,
    Scheme,
    SignatureAlgorithm,
    SignatureInvalid,
    SignerMismatch,
    SigningKey,
    TreeMismatch,
    entries,
    open_verified,
    read_entry,
    rotate,
    sign_idsig,
    verify,
    verify_idsig,
)
from avf.apk import sign as sign_apk
from avf.apk.fields import lp32, u32
from avf.apk.signing_block import BlockId
from tests.apk.conftest import KINDS, TEXT, ApkSigner, sign_with
from tests.apk.forge import Anatomy


def idsig_of(
    apk: bytes, key: SigningKey | None = None, change: Callable[[Idsig], None] | None = None
) -> bytes:
    made = Idsig.create(io.BytesIO(apk))
    if key:
        sign_idsig(made, len(apk), key)
    if change:
        change(made)
    assert made.tree is not None
    return made.header() + bytes(made.tree)


@pytest.mark.parametrize("kind", KINDS)
def test_accepts_what_apksigner_signs(
    apksigner: ApkSigner, keys: dict[str, SigningKey], kind: str
) -> None:
    path = apksigner(kind, "--v4-signing-enabled", "true")
    with path.open("rb") as apk, Path(f"{path}.idsig").open("rb") as idsig:
        verified = verify_idsig(apk.fileno(), idsig.fileno(), require_signature=True)
        assert verified.certificate == keys[kind].certificate
        assert verified.apk_digest == verify(apk).digest


def test_a_signature_is_asked_for_on_request_only(signed: Path, key: SigningKey) -> None:
    apk = signed.read_bytes()
    unsigned, with_key = io.BytesIO(idsig_of(apk)), io.BytesIO(idsig_of(apk, key))
    assert verify_idsig(io.BytesIO(apk), unsigned).certificate is None
    assert verify_idsig(io.BytesIO(apk), with_key).certificate == key.certificate
    with pytest.raises(IdsigError, match="it has no signature"):
        verify_idsig(io.BytesIO(apk), unsigned, require_signature=True)


def test_salt_and_padding_make_no_difference(signed: Path) -> None:
    apk = signed.read_bytes()
    made = Idsig.create(io.BytesIO(apk), salt=b"some salt")
    data = made.header() + bytes(made.tree or b"")
    padded = io.BytesIO(apk + bytes(-len(apk) % 4096))
    verified = verify_idsig(padded, io.BytesIO(data + bytes(-len(data) % 4096)))
    assert verified.salt == b"some salt"


def set_field(name: str, value: object) -> Callable[[Idsig], None]:
    return lambda made: setattr(made, name, value)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (set_field("root_hash", bytes(32)), TreeMismatch, "block 0 of level 0 of the tree"),
        (set_field("salt", b"1"), TreeMismatch, "block 0 of level 0 of the tree"),
        (set_field("apk_digest", bytes(32)), IdsigMismatch, "none of those that the APK records"),
        (set_field("public_key", b"?"), ApkError, "Public key cannot be read"),
    ],
)
def test_a_wrong_field_is_named(
    signed: Path, change: Callable[[Idsig], None], error: type[ApkError], message: str
) -> None:
    apk = signed.read_bytes()
    with pytest.raises(error, match=message):
        verify_idsig(io.BytesIO(apk), io.BytesIO(idsig_of(apk, None, change)))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (set_field("root_hash", bytes(32)), SignatureInvalid, r"^idsig: Signature is invalid\.$"),
        (set_field("salt", b"1"), SignatureInvalid, "Signature is invalid"),
        (set_field("additional_data", b"1"), SignatureInvalid, "Signature is invalid"),
        (set_field("certificate", b""), SignatureInvalid, "Signature is invalid"),
        (set_field("signature", b""), SignatureInvalid, "Signature is invalid"),
        (set_field("public_key", b""), ApkError, "Public key cannot be read"),
        (set_field("signature_algorithm_id", 0x0103), ApkError, "Public key has the wrong ID"),
    ],
)
def test_a_wrong_signed_field_is_named(
    signed: Path,
    key: SigningKey,
    change: Callable[[Idsig], None],
    error: type[ApkError],
    message: str,
) -> None:
    apk = signed.read_bytes()
    with pytest.raises(error, match=message):
        verify_idsig(io.BytesIO(apk), io.BytesIO(idsig_of(apk, key, change)))


def test_the_size_is_signed(signed: Path, key: SigningKey) -> None:
    apk = signed.read_bytes()
    made = Idsig.create(io.BytesIO(apk))
    sign_idsig(made, len(apk) + 1, key)
    with pytest.raises(SignatureInvalid):
        verify_idsig(io.BytesIO(apk), io.BytesIO(made.header() + bytes(made.tree or b"")))


def test_certificate_and_signer_must_fit(signed: Path, keys: dict[str, SigningKey]) -> None:
    apk = signed.read_bytes()
    stranger = keys["rsa-2048"]
    with pytest.raises(SignerMismatch, match="not signed by the signer of the APK"):
        verify_idsig(io.BytesIO(apk), io.BytesIO(idsig_of(apk, stranger)))

    def swap(made: Idsig) -> None:
        made.certificate = keys["ec-p256"].certificate
        made.signature = stranger.sign(stranger.algorithm, made.signed_bytes(len(apk)))

    with pytest.raises(SignerMismatch, match="Public key mismatch between certificate"):
        verify_idsig(io.BytesIO(apk), io.BytesIO(idsig_of(apk, stranger, swap)))


def test_another_apk(signed: Path, keys: dict[str, SigningKey], tmp_path: Path) -> None:
    other = sign_with(tmp_path / "other.apk", keys["rsa-4096"], Scheme.V3).read_bytes()
    idsig = io.BytesIO(idsig_of(signed.read_bytes()))
    with pytest.raises(IdsigMismatch, match="none of those that the APK records"):
        verify_idsig(io.BytesIO(other), idsig)
    with pytest.raises(IdsigMismatch, match=r"tree of 4096 bytes, but an APK of \d+ has one of"):
        open_verified(io.BytesIO(bytes(4096 * 300)), idsig)


def test_an_apk_that_was_tampered_with(signed: Path) -> None:
    apk = bytearray(signed.read_bytes())
    idsig = io.BytesIO(idsig_of(bytes(apk)))
    apk[5000] ^= 1
    with pytest.raises(TreeMismatch, match="the block at byte 4096") as caught:
        verify_idsig(io.BytesIO(apk), idsig)
    assert caught.value.offset == 4096


def test_a_v31_signer_signs_behind_the_v3_one(
    anatomy: Anatomy, keys: dict[str, SigningKey], unsigned: Path
) -> None:
    old, new = keys["ec-p256"], keys["rsa-2048"]
    out = io.BytesIO()
    with unsigned.open("rb") as source:
        rotation = Rotation(old, rotate(old, new))
        sign_apk(source, out, new, min_sdk=24, rotation=rotation)
    apk = out.getvalue()

    def add(made: Idsig) -> None:
        info = made.signing_info()._replace(
            certificate=new.certificate,
            public_key=new.public_key,
            signature_algorithm_id=new.algorithm,
        )
        signature = new.sign(new.algorithm, made.signed_bytes(len(apk), info))
        block = info._replace(signature=signature).encode()
        made.other_signers = u32(7) + lp32(b"?") + u32(BlockId.V3_1) + lp32(block)
        made.tree_offset = len(made.header())

    idsig = idsig_of(apk, old, add)
    read = Idsig.parse(io.BytesIO(idsig))
    assert read.header() + idsig[read.tree_offset :] == idsig
    for sdk, key in ((32, old), (33, new)):
        verified = verify_idsig(io.BytesIO(apk), io.BytesIO(idsig), sdk=sdk)
        assert verified.certificate == key.certificate
    with pytest.raises(SignerMismatch, match="not signed by the signer"):
        verify_idsig(io.BytesIO(apk), io.BytesIO(idsig_of(apk, old)), sdk=33)

    def truncate(made: Idsig) -> None:
        add(made)
        made.other_signers = made.other_signers[:-1]
        made.tree_offset = len(made.header())

    with pytest.raises(IdsigError, match=r"signing info of \d+ bytes does not fit") as caught:
        verify_idsig(io.BytesIO(apk), io.BytesIO(idsig_of(apk, old, truncate)), sdk=33)
    assert caught.value.offset


def test_v2_on_request(anatomy: Anatomy, tmp_path: Path, key: SigningKey) -> None:
    apk = sign_with(tmp_path / "v2.apk", key, Scheme.V2).read_bytes()
    made = Idsig.create(io.BytesIO(apk), allow_v2=True)
    idsig = io.BytesIO(made.header() + bytes(made.tree or b""))
    verify_idsig(io.BytesIO(apk), idsig, allow_v2=True)
    with pytest.raises(ApkError, match="not signed with a scheme accepted"):
        verify_idsig(io.BytesIO(apk), idsig)


def test_no_byte_of_a_signed_idsig_goes_unseen(signed: Path, key: SigningKey) -> None:
    apk = signed.read_bytes()
    good = idsig_of(apk, key)
    tree = Idsig.parse(io.BytesIO(good)).tree_offset
    for offset in [*range(tree), *range(tree, len(good), 61)]:
        bad = bytearray(good)
        bad[offset] ^= 1
        with pytest.raises(ApkError):
            verify_idsig(io.BytesIO(apk), io.BytesIO(bad))
            pytest.fail(f"a flip of byte {offset} went unnoticed")


def test_an_apk_is_read_and_verified_through_its_tree(signed: Path) -> None:
    apk = signed.read_bytes()
    idsig = io.BytesIO(idsig_of(apk))
    with open_verified(io.BytesIO(apk), idsig) as file:
        assert file.read() == apk
        assert verify(file) == verify(io.BytesIO(apk))
        assert read_entry(file, "assets/text", limit=1 << 20) == TEXT
    root = Idsig.parse(idsig).root_hash
    with open_verified(io.BytesIO(apk), idsig, root_hash=root) as file:
        assert len(entries(file)) == 3
    with pytest.raises(IdsigMismatch, match="root hash is not the expected one"):
        open_verified(io.BytesIO(apk), idsig, root_hash=bytes(32))


def test_a_wrong_block_is_not_read(anatomy: Anatomy) -> None:
    apk = bytearray(anatomy.build())
    idsig = io.BytesIO(idsig_of(bytes(apk)))
    apk[0] ^= 1
    with open_verified(io.BytesIO(apk), idsig) as file:
        file.seek(4096)
        assert file.read(100) == apk[4096:4196]
        file.seek(0)
        with pytest.raises(TreeMismatch):
            file.read(1)


def test_digests_of_other_algorithms_count_too(anatomy: Anatomy, key: SigningKey) -> None:
    """apksigner may take any of the digests that the APK records."""
    from tests.apk.forge import Forger

    strong, weak = SignatureAlgorithm.ECDSA_SHA512, SignatureAlgorithm.ECDSA_SHA256
    digests = [(strong, anatomy.digest(strong)), (weak, anatomy.digest(weak))]
    parts = replace(anatomy, pairs=[(BlockId.V3, Forger(key, digests).block())])
    apk = parts.build()
    idsig = idsig_of(apk, None, set_field("apk_digest", digests[1][1]))
    header = Idsig.parse(io.BytesIO(idsig))
    assert header.apk_digest == digests[1][1]
    verify_idsig(io.BytesIO(apk), io.BytesIO(idsig))
