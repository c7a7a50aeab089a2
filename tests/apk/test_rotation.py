"""Rotated keys: lineages and v3.1, ours beside apksigner's and with every field set wrong."""

from collections.abc import Callable
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avf.apk import (
    ApkError,
    Capability,
    LineageError,
    LineageNode,
    NoSigner,
    Rotation,
    Scheme,
    SignatureAlgorithm,
    SignatureStripped,
    SigningError,
    SigningKey,
    encode_lineage_file,
    parse_lineage_file,
    rotate,
    verify,
)
from avf.apk import sign as sign_apk
from avf.apk.fields import lp32, u32
from avf.apk.lineage import encode_lineage, parse_lineage, verify_lineage
from avf.apk.signing_block import BlockId
from tests.apk.conftest import key_arguments, run_apksigner
from tests.apk.forge import Anatomy, Forger

ECDSA = SignatureAlgorithm.ECDSA_SHA256
PROOF = 0x3BA06F8C
ROTATION_MIN_SDK = 0x559F8B02
DEV_RELEASE = u32(0xC2A6B3BA)
CHAIN = ("ec-p256", "rsa-2048", "dsa-2048", "ec-p384")
Lineage = tuple[LineageNode, ...]


@pytest.fixture(scope="module")
def lineage(keys: dict[str, SigningKey]) -> Lineage:
    """Four certificates, of every type of key."""
    nodes: Lineage = ()
    for old, new in pairwise(CHAIN):
        nodes = rotate(keys[old], keys[new], nodes)
    return nodes


def test_apksigner_reads_our_lineage(lineage: Lineage, tmp_path: Path) -> None:
    path = tmp_path / "lineage"
    path.write_bytes(encode_lineage_file(lineage))
    output = run_apksigner("lineage", "--in", str(path), "--print-certs", "-v")
    for number in range(1, len(CHAIN) + 1):
        assert f"Signer #{number} in lineage certificate DN" in output
    assert "Has rollback capability      : false" in output
    assert "Has auth capability          : true" in output


def test_we_read_and_write_what_apksigner_writes(
    keys: dict[str, SigningKey], tmp_path: Path
) -> None:
    files = [key_arguments(keys[kind], tmp_path / kind) for kind in CHAIN[:3]]
    first, second = tmp_path / "first", tmp_path / "second"
    run_apksigner("rotate", "--out", str(first), *_rotation(files[0], files[1]))
    more = ["--set-rollback", "true", "--set-auth", "false"]
    run_apksigner(
        *("rotate", "--in", str(first), "--out", str(second)),
        *("--old-signer", *files[1], "--new-signer", *files[2], *more),
    )
    nodes = parse_lineage_file(second.read_bytes())
    verify_lineage(nodes)
    assert [node.certificate for node in nodes] == [keys[kind].certificate for kind in CHAIN[:3]]
    assert nodes[0].capabilities == rotate(keys["ec-p256"], keys["rsa-2048"])[0].capabilities
    assert nodes[2].capabilities & (Capability.ROLLBACK | Capability.AUTH) == Capability.ROLLBACK
    assert encode_lineage_file(nodes) == second.read_bytes()


def _rotation(old: list[str], new: list[str]) -> list[str]:
    return ["--old-signer", *old, "--new-signer", *new]


@pytest.fixture(scope="module")
def rotated(
    keys: dict[str, SigningKey], unsigned: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Signed by apksigner: v3 with a lineage of two."""
    directory = tmp_path_factory.mktemp("rotated")
    old, new = (key_arguments(keys[kind], directory / kind) for kind in ("ec-p256", "rsa-2048"))
    lineage, out = directory / "lineage", directory / "rotated.apk"
    run_apksigner("rotate", "--out", str(lineage), *_rotation(old, new))
    both = [*old, "--next-signer", *new, "--lineage", str(lineage)]
    run_apksigner("sign", *both, "--out", str(out), str(unsigned))
    return out


def test_the_lineage_of_an_apk_is_told(rotated: Path, keys: dict[str, SigningKey]) -> None:
    with rotated.open("rb") as file:
        verified = verify(file)
    assert verified.public_key == keys["rsa-2048"].public_key
    certificates = [node.certificate for node in verified.lineage]
    assert certificates == [keys["ec-p256"].certificate, keys["rsa-2048"].certificate]


def test_apksigner_verifies_an_early_rotation_of_ours(
    keys: dict[str, SigningKey], lineage: Lineage, unsigned: Path, tmp_path: Path
) -> None:
    path = sign_rotated(tmp_path / "ours.apk", unsigned, keys, lineage, min_sdk=28)
    output = run_apksigner("verify", "-v", "--print-certs", str(path))
    assert "(APK Signature Scheme v2): true" in output
    assert "(APK Signature Scheme v3): true" in output
    with path.open("rb") as file:
        verified = verify(file)
        assert verify(file, sdk=28).public_key == keys["ec-p384"].public_key
        before = verify(file, sdk=27, allow_v2=True)
    assert (before.scheme, before.public_key) == (Scheme.V2, keys["ec-p256"].public_key)
    assert (verified.scheme, verified.lineage) == (Scheme.V3, lineage)


def test_a_late_rotation_of_ours_has_v3_and_v31(
    keys: dict[str, SigningKey], lineage: Lineage, unsigned: Path, tmp_path: Path
) -> None:
    path = sign_rotated(tmp_path / "ours.apk", unsigned, keys, lineage)
    run_apksigner("verify", "-v", "--max-sdk-version", "32", str(path))
    with path.open("rb") as file:
        before, since = verify(file, sdk=32), verify(file, sdk=33)
    assert (before.scheme, before.public_key) == (Scheme.V3, keys["ec-p256"].public_key)
    assert (before.min_sdk, before.max_sdk, before.lineage) == (24, 32, ())
    assert (since.scheme, since.public_key) == (Scheme.V3_1, keys["ec-p384"].public_key)
    assert (since.min_sdk, since.lineage) == (33, lineage)


def sign_rotated(
    out_path: Path,
    unsigned: Path,
    keys: dict[str, SigningKey],
    lineage: Lineage,
    min_sdk: int = 33,
) -> Path:
    rotation = Rotation(keys[CHAIN[0]], lineage, min_sdk)
    with unsigned.open("rb") as source, out_path.open("w+b") as out:
        sign_apk(source, out, keys[CHAIN[-1]], min_sdk=24, rotation=rotation)
    return out_path


def test_what_cannot_be_rotated(keys: dict[str, SigningKey], lineage: Lineage) -> None:
    ec, rsa = keys["ec-p256"], keys["rsa-2048"]
    with pytest.raises(SigningError, match="does not end with the old key"):
        rotate(ec, rsa, lineage)
    with pytest.raises(SigningError, match="a certificate occurs twice"):
        rotate(ec, ec)
    for key, old in ((rsa, ec), (keys["ec-p384"], rsa)):
        with pytest.raises(SigningError, match="does not lead from the old key to the new"):
            sign_apk(BytesIO(), BytesIO(), key, rotation=Rotation(old, lineage))
    with pytest.raises(SigningError, match="v1 and v2 know no rotated keys"):
        sign_apk(
            BytesIO(),
            BytesIO(),
            keys["ec-p384"],
            schemes=[Scheme.V2],
            rotation=Rotation(ec, lineage),
        )


# A lineage with one thing wrong


def changed(lineage: Lineage, number: int, **fields: object) -> Lineage:
    nodes = list(lineage)
    nodes[number] = nodes[number]._replace(**fields)  # type: ignore[arg-type]
    return tuple(nodes)


@pytest.mark.parametrize(
    ("number", "fields", "message"),
    [
        (1, {"signature": b""}, "certificate #2: Signature is invalid"),
        (3, {"signature": b"\x30\0"}, "certificate #4: Signature is invalid"),
        (0, {"algorithm_id": 0}, "algorithm mismatch for certificate #2"),
        (2, {"parent_algorithm_id": 0x0104}, "algorithm mismatch for certificate #3"),
        (1, {"certificate": b"\x30\0"}, "certificate #2: Signature is invalid"),
        (0, {"certificate": b"\x30\0"}, "certificate #2: Certificate: no to-be-signed part"),
    ],
)
def test_a_wrong_link_is_named(
    lineage: Lineage, number: int, fields: dict[str, object], message: str
) -> None:
    verify_lineage(lineage)
    with pytest.raises(LineageError, match=message):
        verify_lineage(changed(lineage, number, **fields))


def test_other_broken_chains(lineage: Lineage) -> None:
    with pytest.raises(LineageError, match="holds no certificate"):
        verify_lineage(())
    with pytest.raises(LineageError, match="mismatch for certificate #2"):
        verify_lineage((lineage[0], *lineage[2:]))
    with pytest.raises(LineageError, match="occurs twice"):
        verify_lineage((*lineage, lineage[0]))
    unknown = changed(changed(lineage, 0, algorithm_id=0x999), 1, parent_algorithm_id=0x999)
    with pytest.raises(LineageError, match="#2 is signed with unknown algorithm 0x0999"):
        verify_lineage(unknown)


def test_every_bit_of_a_signed_lineage_matters(lineage: Lineage) -> None:
    """All but the capabilities, which the APK's signature covers, and the oldest node's unused fields."""
    data = encode_lineage(lineage[:2])
    certificate = 16
    first = certificate + len(lineage[0].certificate)
    unused = {*range(first, first + 8), *range(first + 12, first + 16)}
    second = first + 16
    flags = second + 12 + len(lineage[1].certificate) + 4
    unused |= {*range(flags, flags + 8)}
    key = data.index(_public_key_bits(lineage[0]))
    for offset in range(len(data)):
        if offset in unused or certificate <= offset < key or key + 64 <= offset < first:
            continue
        flipped = bytearray(data)
        flipped[offset] ^= 1
        with pytest.raises(LineageError):
            verify_lineage(parse_lineage(bytes(flipped)))
            pytest.fail(f"a flip of byte {offset} of {len(data)} went unnoticed")


def _public_key_bits(node: LineageNode) -> bytes:
    from avf.apk.crypto import certificate_public_key

    return certificate_public_key(node.certificate)[-64:]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "proof of rotation: version of 4 bytes does not fit"),
        (u32(2), "proof of rotation: version 0x2"),
        (u32(1) + u32(5) + b"1234", "node of 5 bytes does not fit"),
        (u32(1) + lp32(lp32(lp32(b"c") + u32(0) + b"x")), "1 bytes too many"),
        (u32(1) + lp32(lp32(lp32(b"c"))), "parent's algorithm ID of 4 bytes does not fit"),
        (u32(1) + lp32(lp32(lp32(b"c") + u32(0)) + u32(0)), "algorithm ID of 4 bytes"),
    ],
)
def test_a_wrong_field_is_named(data: bytes, message: str) -> None:
    with pytest.raises(LineageError, match=message):
        parse_lineage(data)


def test_a_lineage_file_ends_with_its_lineage() -> None:
    file = u32(0x3EFF39D1) + u32(1) + lp32(u32(1))
    assert parse_lineage_file(file) == ()
    with pytest.raises(LineageError, match="lineage file: 1 bytes too many") as caught:
        parse_lineage_file(file + b"x")
    assert caught.value.offset == len(file)


def test_a_lineage_is_bounded() -> None:
    node = lp32(lp32(lp32(b"") + u32(0)) + u32(0) + u32(0) + lp32(b""))
    with pytest.raises(LineageError, match="more than 64 certificates"):
        parse_lineage(u32(1) + node * 65)


@given(st.binary(max_size=200))
def test_junk_never_escapes_as_another_error(junk: bytes) -> None:
    for parse in (parse_lineage, parse_lineage_file):
        for data in (junk, u32(1) + junk, u32(0x3EFF39D1) + u32(1) + junk):
            try:
                parse(data)
            except LineageError as error:
                assert error.code == "lineage"


nodes = st.builds(
    LineageNode,
    st.binary(max_size=50),
    st.integers(0, 31).map(Capability),
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.binary(max_size=50),
)


@settings(deadline=None)
@given(st.lists(nodes, max_size=64).map(tuple))
def test_encode_and_parse_agree(lineage: Lineage) -> None:
    assert parse_lineage(encode_lineage(lineage)) == lineage
    assert parse_lineage_file(encode_lineage_file(lineage)) == lineage


# An APK with one thing wrong in its lineage or in v3.1

Forge = Callable[..., BytesIO]


@pytest.fixture
def forge(anatomy: Anatomy, keys: dict[str, SigningKey]) -> Forge:
    """forge(attributes, rotated=None): v3 by ec-p256 for SDK 24 on; v3.1 by rsa-2048 as `rotated` says."""

    def build(attributes: list[bytes], rotated: dict[str, object] | None = None) -> BytesIO:
        digests = [(ECDSA, anatomy.digest(ECDSA))]
        v3 = Forger(keys["ec-p256"], digests, attributes=attributes)
        pairs = [(BlockId.V3, v3.block())]
        if rotated is not None:
            rsa = SignatureAlgorithm.RSA_PKCS1_V1_5_SHA256
            new = Forger(keys["rsa-2048"], [(rsa, digests[0][1])], **rotated)  # type: ignore[arg-type]
            pairs.append((BlockId.V3_1, new.block()))
        return BytesIO(anatomy.with_pairs(*pairs).build())

    return build


def test_a_lineage_must_end_with_the_signer(
    forge: Forge, keys: dict[str, SigningKey], lineage: Lineage
) -> None:
    good = rotate(keys["rsa-2048"], keys["ec-p256"])
    attribute = u32(PROOF) + encode_lineage(good)
    assert verify(forge([attribute])).lineage == good
    with pytest.raises(LineageError, match="its last certificate is not the signer's"):
        verify(forge([u32(PROOF) + encode_lineage(lineage)]))
    with pytest.raises(LineageError, match="there are several"):
        verify(forge([attribute, attribute]))
    with pytest.raises(LineageError, match="Signature is invalid") as caught:
        verify(forge([u32(PROOF) + encode_lineage(changed(good, 1, signature=b""))]))
    assert caught.value.offset
    with pytest.raises(LineageError, match="version of 4 bytes does not fit") as caught:
        verify(forge([u32(PROOF)]))
    assert caught.value.offset


def rotation_min_sdk(sdk: int) -> bytes:
    return u32(ROTATION_MIN_SDK) + u32(sdk)


@pytest.mark.parametrize(
    ("promised", "low", "sdk", "message"),
    [
        (33, None, 34, "from SDK 33 on, but there is none"),
        (33, None, 33, "from SDK 33 on, but there is none"),
        (33, 35, 33, "from SDK 33 on, but it counts from 35 on"),
        (36, 38, 34, "from SDK 36 on, but it counts from 38 on"),
    ],
)
def test_what_v3_promises_must_be_there(
    forge: Forge, promised: int, low: int | None, sdk: int, message: str
) -> None:
    rotated = None if low is None else {"signed_range": (low, 99)}
    with pytest.raises(SignatureStripped, match=message):
        verify(forge([rotation_min_sdk(promised)], rotated), sdk=sdk)


def test_v31_must_reach_as_far_as_v3_promises(forge: Forge) -> None:
    data = forge([rotation_min_sdk(33)], {"signed_range": (33, 33)})
    assert verify(data, sdk=33).scheme is Scheme.V3_1
    with pytest.raises(SignatureStripped, match="none covers SDK 34"):
        verify(data, sdk=34)


def test_a_signer_for_a_release_under_development_does_not_count(forge: Forge) -> None:
    """As for SDK 33 while that still was 32."""
    rotated = {"signed_range": (32, 99), "attributes": [DEV_RELEASE]}
    for promised in (32, 33):
        data = forge([rotation_min_sdk(promised)], rotated)
        assert verify(data, sdk=31).scheme is Scheme.V3
        assert verify(data, sdk=32).scheme is Scheme.V3
        assert verify(data, sdk=33).scheme is Scheme.V3_1


def test_two_rotated_signers_for_one_sdk(
    anatomy: Anatomy, keys: dict[str, SigningKey], key: SigningKey
) -> None:
    from avf.apk.fields import lp32_items

    signer = Forger(key, [(ECDSA, anatomy.digest(ECDSA))], signed_range=(33, 40)).signer()
    data = anatomy.with_pairs((BlockId.V3_1, lp32_items([signer, signer]))).build()
    with pytest.raises(NoSigner, match=r"V3\.1 only supports one signer: 2 signers found"):
        verify(BytesIO(data))


def test_a_broken_v31_signer_is_not_passed_over(forge: Forge) -> None:
    rotated = {"signed_range": (33, 99), "signatures": [(ECDSA, b"")]}
    with pytest.raises(ApkError, match="Public key has the wrong ID"):
        verify(forge([rotation_min_sdk(33)], rotated))
