"""verify: what apksigner signs is accepted, what is wrong is refused with the reason."""

import os
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest

from avf.apk import (
    ApkError,
    ContentDigest,
    DigestMismatch,
    FileChanged,
    NoSigner,
    PublicKeyError,
    Scheme,
    SchemeNotFound,
    SignatureAlgorithm,
    SigningBlockError,
    SigningKey,
    UnsupportedAlgorithm,
    VerificationError,
    claimed_public_key,
    verify,
)
from avf.apk.fields import lp32_items, u32
from avf.apk.signing_block import BlockId
from tests.apk.conftest import ApkSigner, key_arguments, run_apksigner, sign_with
from tests.apk.forge import Anatomy, Forger

ECDSA = SignatureAlgorithm.ECDSA_SHA256
UNKNOWN = 0x9999


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [
        ("rsa-2048", SignatureAlgorithm.RSA_PKCS1_V1_5_SHA256),
        ("rsa-4096", SignatureAlgorithm.RSA_PKCS1_V1_5_SHA512),
        ("ec-p256", SignatureAlgorithm.ECDSA_SHA256),
        ("ec-p384", SignatureAlgorithm.ECDSA_SHA512),
        ("dsa-1024", SignatureAlgorithm.DSA_SHA256),
        ("dsa-2048", SignatureAlgorithm.DSA_SHA256),
    ],
)
def test_accepts_what_apksigner_signs(
    apksigner: ApkSigner, keys: dict[str, SigningKey], kind: str, algorithm: SignatureAlgorithm
) -> None:
    path = apksigner(kind)
    with path.open("rb") as file:
        verified = verify(file.fileno())
    assert verified.scheme is Scheme.V3
    assert verified.algorithm is algorithm
    assert verified.public_key == keys[kind].public_key
    assert verified.certificates == (keys[kind].certificate,)
    assert verified.size == path.stat().st_size


@pytest.mark.parametrize("kind", ["rsa-2048", "ec-p256", "dsa-2048"])
def test_verity_digest_is_the_one_apksigner_makes(apksigner: ApkSigner, kind: str) -> None:
    with apksigner(kind, "--verity-enabled").open("rb") as file:
        verified = verify(file)
    assert verified.algorithm.content_digest is ContentDigest.VERITY_SHA256
    assert len(verified.digest) == 40


def test_a_rotated_key_of_apksigner_is_the_newest_signer(
    apksigner: ApkSigner, keys: dict[str, SigningKey], tmp_path: Path, unsigned: Path
) -> None:
    old = key_arguments(keys["ec-p256"], tmp_path / "old")
    new = key_arguments(keys["rsa-2048"], tmp_path / "new")
    lineage, out = tmp_path / "lineage", tmp_path / "rotated.apk"
    run_apksigner("rotate", "--out", str(lineage), "--old-signer", *old, "--new-signer", *new)
    both = [*old, "--next-signer", *new, "--lineage", str(lineage)]
    run_apksigner("sign", *both, "--out", str(out), str(unsigned))
    with out.open("rb") as file:
        assert verify(file).public_key == keys["rsa-2048"].public_key


def test_v2_alone_counts_only_on_request(apksigner: ApkSigner) -> None:
    path = apksigner("ec-p256", "--v3-signing-enabled", "false")
    with path.open("rb") as file:
        with pytest.raises(SchemeNotFound, match=str(int(BlockId.V3))):
            verify(file)
        assert verify(file, allow_v2=True).scheme is Scheme.V2


def test_v3_counts_even_where_v2_would_do(signed: Path) -> None:
    with signed.open("rb") as file:
        assert verify(file, allow_v2=True).scheme is Scheme.V3


def test_descriptor_and_file_give_the_same_and_the_offset_stays(signed: Path) -> None:
    with signed.open("rb") as file:
        os.lseek(file.fileno(), 7, os.SEEK_SET)
        by_descriptor = verify(file.fileno())
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 7
        assert verify(BytesIO(signed.read_bytes())) == by_descriptor


def test_zero_padding_to_4096_is_no_part_of_the_apk(signed: Path) -> None:
    data = signed.read_bytes()
    padded = data + bytes(-len(data) % 4096)
    assert len(padded) > len(data)
    assert verify(BytesIO(padded)) == verify(BytesIO(data))


@pytest.mark.parametrize("extra", [b"\0", b"\0" * 5000])
def test_other_trailing_zeros_are_refused(signed: Path, extra: bytes) -> None:
    with pytest.raises(ApkError, match="no end of central directory"):
        verify(BytesIO(signed.read_bytes() + extra))


def test_padding_must_be_zeros(signed: Path) -> None:
    data = signed.read_bytes()
    padded = data + bytes(-len(data) % 4096 - 1) + b"x"
    with pytest.raises(ApkError, match="no end of central directory"):
        verify(BytesIO(padded))


def test_size_limits_what_is_read(signed: Path) -> None:
    data = signed.read_bytes()
    assert verify(BytesIO(data + b"more"), size=len(data)).size == len(data)
    with pytest.raises(ApkError, match="not within"):
        verify(BytesIO(data), size=len(data) + 1)


def test_claimed_public_key_needs_no_contents(anatomy: Anatomy, key: SigningKey) -> None:
    tampered = replace(anatomy, front=bytes(len(anatomy.front))).build()
    assert claimed_public_key(BytesIO(tampered)) == key.public_key


@pytest.mark.parametrize("mask", [0x01, 0x80])
def test_every_byte_that_matters_matters(anatomy: Anatomy, key: SigningKey, mask: int) -> None:
    """In an APK with v3 alone: all of signing block, directory and EOCD, and every 97th byte before."""
    forger = Forger(key, [(ECDSA, anatomy.digest(ECDSA))])
    small = anatomy.with_pairs((BlockId.V3, forger.block()))
    data = small.build()
    verify(BytesIO(data))
    front = len(small.front)
    interesting = [*range(0, front, 97), *range(front, len(data))]
    for offset in interesting:
        flipped = bytearray(data)
        flipped[offset] ^= mask
        with pytest.raises(ApkError):
            verify(BytesIO(flipped))
            pytest.fail(f"a flip of byte {offset} of {len(data)} went unnoticed")


def forged(anatomy: Anatomy, key: SigningKey, **fields: object) -> bytes:
    """The good APK with one v3 signer that differs in `fields`."""
    right: dict[str, object] = {"digests": [(ECDSA, anatomy.digest(ECDSA))]}
    forger = Forger(key, **{**right, **fields})  # type: ignore[arg-type]
    return anatomy.with_pairs((BlockId.V3, forger.block())).build()


def test_the_forger_can_do_right(anatomy: Anatomy, key: SigningKey) -> None:
    assert verify(BytesIO(forged(anatomy, key))).public_key == key.public_key


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"digests": [(ECDSA, bytes(32))]},
            r"Digest mismatch: computed=[0-9a-f]{64} vs expected=0+$",
        ),
        ({"certificates": []}, "No certificates listed"),
        ({"certificates": [b"\x30\x00"]}, "Certificate: no to-be-signed part"),
        ({"range": (24, 99)}, "SDK versions mismatch between signed and unsigned"),
        ({"signatures": [(ECDSA, b"")]}, "Signature is invalid"),
        ({"signatures": [(ECDSA, b"\x30\x06\x02\x01\x01\x02\x01\x01")]}, "Signature is invalid"),
        (
            {"signatures": [(SignatureAlgorithm.RSA_PKCS1_V1_5_SHA256, b"")]},
            "Public key has the wrong ID",
        ),
        ({"public_key": b""}, "Public key cannot be read"),
        (
            {"attributes": [u32(0x559F8B02) + u32(33)]},
            "Expected a v3.1 signer from SDK 33 on, but there is none",
        ),
    ],
)
def test_a_wrong_field_is_named(
    anatomy: Anatomy, key: SigningKey, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(VerificationError, match=message):
        verify(BytesIO(forged(anatomy, key, **fields)))


def test_certificate_of_another_key(
    anatomy: Anatomy, key: SigningKey, keys: dict[str, SigningKey]
) -> None:
    other = keys["rsa-2048"].certificate
    with pytest.raises(VerificationError, match="Public key mismatch between certificate"):
        verify(BytesIO(forged(anatomy, key, certificates=[other])))


def test_digests_and_signatures_must_list_the_same_algorithms(
    anatomy: Anatomy, key: SigningKey
) -> None:
    strong = SignatureAlgorithm.ECDSA_SHA512
    digests = [(ECDSA, anatomy.digest(ECDSA)), (strong, anatomy.digest(strong))]
    good = Forger(key, digests)
    verify(BytesIO(anatomy.with_pairs((BlockId.V3, good.block())).build()))
    signed_data = Forger(key, digests).signer()
    length = int.from_bytes(signed_data[:4], "little")
    body = signed_data[4 : 4 + length]
    swapped = [(strong, key.sign(strong, body)), (ECDSA, key.sign(ECDSA, body))]
    bad = replace(good, signatures=swapped)
    with pytest.raises(VerificationError, match="Signature algorithms don't match"):
        verify(BytesIO(anatomy.with_pairs((BlockId.V3, bad.block())).build()))


def test_the_strongest_digest_counts(anatomy: Anatomy, key: SigningKey) -> None:
    """A wrong weak digest goes unseen, a wrong strong one does not: as on Android."""
    strong = SignatureAlgorithm.ECDSA_SHA512
    weak_wrong = [(strong, anatomy.digest(strong)), (ECDSA, bytes(32))]
    assert verify(BytesIO(forged(anatomy, key, digests=weak_wrong))).algorithm is strong
    strong_wrong = [(ECDSA, anatomy.digest(ECDSA)), (strong, bytes(64))]
    with pytest.raises(VerificationError, match="Digest mismatch"):
        verify(BytesIO(forged(anatomy, key, digests=strong_wrong)))


def test_unknown_algorithms_are_passed_over(anatomy: Anatomy, key: SigningKey) -> None:
    digests = [(UNKNOWN, b"?"), (ECDSA, anatomy.digest(ECDSA)), (UNKNOWN, b"")]
    assert verify(BytesIO(forged(anatomy, key, digests=digests))).algorithm is ECDSA


def test_unsupported_algorithms(anatomy: Anatomy, key: SigningKey) -> None:
    unknown = [(UNKNOWN, b"")]
    with pytest.raises(UnsupportedAlgorithm, match="No supported APK signatures found"):
        verify(BytesIO(forged(anatomy, key, digests=unknown, signatures=unknown)))


@pytest.mark.parametrize(
    ("sdk", "accepted"), [(28, False), (29, True), (30, True), (32, True), (33, False)]
)
def test_both_ends_of_the_sdk_range_are_inclusive(
    anatomy: Anatomy, key: SigningKey, sdk: int, accepted: bool
) -> None:
    data = BytesIO(forged(anatomy, key, signed_range=(29, 32)))
    if accepted:
        assert verify(data, sdk=sdk).max_sdk == 32
    else:
        with pytest.raises(VerificationError, match="only supports one signer: 0 signers found"):
            verify(data, sdk=sdk)


@pytest.mark.parametrize("field", ["signatures", "certificates", "attributes"])
def test_lists_are_bounded(anatomy: Anatomy, key: SigningKey, field: str) -> None:
    item: object = {"signatures": (ECDSA, b""), "certificates": b""}.get(field, u32(0))
    with pytest.raises(SigningBlockError, match="more than 64"):
        verify(BytesIO(forged(anatomy, key, **{field: [item] * 65})))


def test_two_signers_for_one_sdk(anatomy: Anatomy, key: SigningKey) -> None:
    signer = Forger(key, [(ECDSA, anatomy.digest(ECDSA))]).signer()
    data = anatomy.with_pairs((BlockId.V3, lp32_items([signer, signer]))).build()
    with pytest.raises(VerificationError, match="2 signers found"):
        verify(BytesIO(data))


def test_v31_takes_over_from_its_sdk_on(
    anatomy: Anatomy, key: SigningKey, keys: dict[str, SigningKey]
) -> None:
    new = keys["rsa-2048"]
    rsa = SignatureAlgorithm.RSA_PSS_SHA256
    rotation = u32(0x559F8B02) + u32(33)
    digest = anatomy.digest(ECDSA)
    old_signer = Forger(key, [(ECDSA, digest)], signed_range=(24, 32), attributes=[rotation])
    new_signer = Forger(new, [(rsa, digest)], signed_range=(33, 0x7FFFFFFF))
    both = anatomy.with_pairs((BlockId.V3, old_signer.block()), (BlockId.V3_1, new_signer.block()))
    data = BytesIO(both.build())
    assert verify(data, sdk=32).public_key == key.public_key
    on_33 = verify(data, sdk=33)
    assert (on_33.scheme, on_33.public_key) == (Scheme.V3_1, new.public_key)


def test_stripping_v3_is_noticed_by_v2(tmp_path: Path, key: SigningKey) -> None:
    path = sign_with(tmp_path / "both.apk", key, Scheme.V2, Scheme.V3)
    anatomy = Anatomy.of(path.read_bytes())
    v2 = [pair for pair in anatomy.pairs if pair[0] == BlockId.V2]
    with pytest.raises(VerificationError, match="one of v3"):
        verify(BytesIO(anatomy.with_pairs(*v2).build()), allow_v2=True)


def test_other_attributes_say_nothing(anatomy: Anatomy, key: SigningKey) -> None:
    """The stripping attribute counts in v2 only, the rotation attribute in v3 only."""
    attributes = [u32(0x12345678) + b"?", u32(0xBEEFF00D) + u32(3)]
    assert verify(BytesIO(forged(anatomy, key, attributes=attributes))).scheme is Scheme.V3
    digests = [(ECDSA, anatomy.digest(ECDSA))]
    v2 = Forger(key, digests, attributes=[u32(0x559F8B02) + u32(33)], has_range=False)
    data = anatomy.with_pairs((BlockId.V2, v2.block())).build()
    assert verify(BytesIO(data), allow_v2=True).scheme is Scheme.V2


def test_a_rotation_attribute_that_is_too_short(anatomy: Anatomy, key: SigningKey) -> None:
    with pytest.raises(SigningBlockError, match="rotation min SDK attribute is not 4 bytes"):
        verify(BytesIO(forged(anatomy, key, attributes=[u32(0x559F8B02) + bytes(3)])))


def test_a_verity_digest_needs_an_aligned_block(anatomy: Anatomy, key: SigningKey) -> None:
    verity = SignatureAlgorithm.VERITY_ECDSA_SHA256
    shifted = replace(anatomy, front=anatomy.front + b"x")
    data = forged(shifted, key, digests=[(verity, bytes(40))])
    with pytest.raises(VerificationError, match="4096-byte boundary"):
        verify(BytesIO(data))


def test_rsa_pss(anatomy: Anatomy, keys: dict[str, SigningKey]) -> None:
    for algorithm in (SignatureAlgorithm.RSA_PSS_SHA256, SignatureAlgorithm.RSA_PSS_SHA512):
        digests = [(algorithm, anatomy.digest(algorithm))]
        data = forged(anatomy, keys["rsa-2048"], digests=digests)
        assert verify(BytesIO(data)).algorithm is algorithm


@pytest.mark.parametrize("cut", range(0, 400, 13))
def test_a_truncated_v3_value_is_a_format_error(
    anatomy: Anatomy, key: SigningKey, cut: int
) -> None:
    block = Forger(key, [(ECDSA, anatomy.digest(ECDSA))]).block()[: -1 - cut]
    with pytest.raises(SigningBlockError, match="does not fit"):
        verify(BytesIO(anatomy.with_pairs((BlockId.V3, block)).build()))


def test_all_signers_of_v2_that_apksigner_makes(
    keys: dict[str, SigningKey], tmp_path: Path, unsigned: Path
) -> None:
    kinds = ("ec-p256", "rsa-4096", "dsa-2048")
    files = [key_arguments(keys[kind], tmp_path / kind) for kind in kinds]
    signers = [*files[0], "--next-signer", *files[1], "--next-signer", *files[2]]
    out = tmp_path / "several.apk"
    run_apksigner(
        "sign", *signers, "--v3-signing-enabled", "false", "--out", str(out), str(unsigned)
    )
    with out.open("rb") as file:
        verified = verify(file, allow_v2=True)
    assert [signer.public_key for signer in verified.signers] == [
        keys[kind].public_key for kind in kinds
    ]
    assert {len(signer.digest) for signer in verified.signers} == {32, 64}


def v2_block(signers: list[Forger]) -> tuple[int, bytes]:
    return BlockId.V2, lp32_items([signer.signer() for signer in signers])


def test_every_signer_of_v2_must_be_good(
    anatomy: Anatomy, key: SigningKey, keys: dict[str, SigningKey]
) -> None:
    good = Forger(key, [(ECDSA, anatomy.digest(ECDSA))], has_range=False)
    bad = replace(good, digests=[(ECDSA, bytes(32))])
    forged_key = replace(good, public_key=keys["rsa-2048"].public_key)
    for signers, error in (([good, bad], DigestMismatch), ([good, forged_key], PublicKeyError)):
        data = BytesIO(anatomy.with_pairs(v2_block(signers)).build())
        with pytest.raises(error):
            verify(data, allow_v2=True)


@pytest.mark.parametrize("count", [0, 1, 10, 11])
def test_v2_has_one_to_ten_signers(anatomy: Anatomy, key: SigningKey, count: int) -> None:
    good = Forger(key, [(ECDSA, anatomy.digest(ECDSA))], has_range=False)
    data = BytesIO(anatomy.with_pairs(v2_block([good] * count)).build())
    if 1 <= count <= 10:
        assert len(verify(data, allow_v2=True).signers) == count
    else:
        with pytest.raises(NoSigner, match=f": {count} signers found"):
            verify(data, allow_v2=True)


def test_all_recorded_digests_are_told(anatomy: Anatomy, key: SigningKey) -> None:
    strong = SignatureAlgorithm.ECDSA_SHA512
    digests = [(ECDSA, anatomy.digest(ECDSA)), (strong, anatomy.digest(strong))]
    verified = verify(BytesIO(forged(anatomy, key, digests=digests)))
    assert list(verified.signers[0].digests) == digests


def test_a_file_that_is_written_to_meanwhile(signed: Path, tmp_path: Path) -> None:
    path = tmp_path / "changing.apk"
    path.write_bytes(signed.read_bytes())
    os.utime(path, (1, 1))
    with path.open("r+b", buffering=0) as file:

        def write(done: int) -> None:
            os.pwrite(file.fileno(), b"P", 0)

        with pytest.raises(FileChanged, match="written to while it was read"):
            verify(file.fileno(), progress=write)


def test_progress_counts_up_to_the_size(signed: Path) -> None:
    told: list[int] = []
    with signed.open("rb") as file:
        size = verify(file, progress=told.append).size
    assert told == sorted(told)
    assert told[-1] > size * 0.9
