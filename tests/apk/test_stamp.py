"""Source stamps: those that apksigner makes, and each way to break one."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from avf.apk import (
    ApkBuilder,
    SigningKey,
    StampSigner,
    parse_lineage_file,
    rotate,
    sign,
    source_stamp,
)
from avf.apk.__main__ import main
from avf.apk.algorithms import SignatureAlgorithm
from avf.apk.fields import lp32, lp32_items, u32
from avf.apk.lineage import encode_lineage, encode_lineage_file
from avf.apk.signing_block import BlockId
from avf.apk.stamp import SourceStamp, StampStatus
from tests.apk.conftest import ApkSigner, key_arguments
from tests.apk.forge import Anatomy

ALGORITHM = SignatureAlgorithm.ECDSA_SHA256
TIME, LINEAGE = 0xE43C5946, 0x9D6303F7


@pytest.fixture(scope="module")
def stamp_key() -> SigningKey:
    return SigningKey.generate()


def stamp_options(key: SigningKey, stem: Path) -> list[str]:
    return ["--stamp-signer", *key_arguments(key, stem)]


@pytest.mark.parametrize("enabled", ["100", "010", "001", "111"])
def test_stamps_that_apksigner_made(
    apksigner: ApkSigner, keys: dict[str, SigningKey], tmp_path: Path, enabled: str
) -> None:
    stamp_key = keys["rsa-4096"]
    options = [
        f"--v{n}-signing-enabled={str(on == '1').lower()}" for n, on in enumerate(enabled, 1)
    ]
    path = apksigner("rsa-2048", *options, *stamp_options(stamp_key, tmp_path / "stamp"))
    with path.open("rb") as apk:
        stamp = source_stamp(apk, with_v1=enabled == "100")
    assert (stamp.status, stamp.reason, stamp.version) == (StampStatus.VERIFIED, None, 2)
    assert stamp.certificate == stamp_key.certificate


class Stamped:
    """An APK with v2 and v3 whose stamp is made by hand."""

    def __init__(self, key: SigningKey, stamp_key: SigningKey) -> None:
        self.key = stamp_key
        unsigned, out = io.BytesIO(), io.BytesIO()
        ApkBuilder(min_sdk=24).write(unsigned)
        sign(unsigned, out, key, stamp=StampSigner(stamp_key))
        parts = Anatomy.of(out.getvalue())
        kept = [pair for pair in parts.pairs if pair[0] != BlockId.STAMP_V2]
        self.parts = parts.with_pairs(*kept)
        digest = self.parts.digest(ALGORITHM)
        self.digests = lp32(u32(1) + lp32(digest))

    def signatures(self, data: bytes, key: SigningKey | None = None) -> bytes:
        signature = (key or self.key).sign(ALGORITHM, data)
        return lp32_items([u32(0x9999) + lp32(b"?"), u32(ALGORITHM) + lp32(signature)])

    def schemes(self, *numbers: int, data: bytes | None = None) -> bytes:
        signed = self.signatures(self.digests if data is None else data)
        return lp32_items([u32(number) + signed for number in numbers])

    def attributes(self, *items: tuple[int, bytes]) -> bytes:
        data = lp32_items([u32(number) + value for number, value in items])
        return lp32(data) + self.signatures(data)

    def block(self, *fields: bytes, certificate: bytes | None = None) -> bytes:
        return lp32(lp32(certificate or self.key.certificate) + b"".join(fields))

    def check(self, block: bytes, block_id: int = BlockId.STAMP_V2) -> SourceStamp:
        data = self.parts.with_pairs(*self.parts.pairs, (block_id, block)).build()
        return source_stamp(io.BytesIO(data), with_v1=False)


@pytest.fixture(scope="module")
def stamped(key: SigningKey, stamp_key: SigningKey) -> Stamped:
    return Stamped(key, stamp_key)


def test_a_stamp_made_by_hand_is_good(stamped: Stamped, keys: dict[str, SigningKey]) -> None:
    """With a time and a lineage, and with attributes that nobody knows."""
    plain = stamped.check(stamped.block(stamped.schemes(2, 3)))
    assert plain.status is StampStatus.VERIFIED
    assert (plain.timestamp, plain.lineage) == (None, ())
    nodes = rotate(keys["ec-p384"], stamped.key)
    attributes = stamped.attributes(
        (TIME, (1_700_000_000).to_bytes(8, "little")), (LINEAGE, encode_lineage(nodes)), (1, b"x")
    )
    full = stamped.check(stamped.block(stamped.schemes(1, 2, 3), attributes))
    assert (full.status, full.timestamp) == (StampStatus.VERIFIED, 1_700_000_000)
    assert full.lineage == parse_lineage_file(encode_lineage_file(nodes))


def test_the_first_version_of_stamps(stamped: Stamped) -> None:
    block = stamped.block(stamped.signatures(stamped.digests))
    stamp = stamped.check(block, BlockId.STAMP_V1)
    assert (stamp.status, stamp.version) == (StampStatus.VERIFIED, 1)
    wrong = stamped.block(stamped.signatures(b"x"))
    assert stamped.check(wrong, BlockId.STAMP_V1).status is StampStatus.NOT_VERIFIED


OTHER = SigningKey.generate()
BROKEN: list[tuple[str, Callable[[Stamped], bytes], str]] = [
    ("nothing", lambda s: b"", "does not fit"),
    ("cut short", lambda s: s.block(s.schemes(2, 3))[:-5], "does not fit"),
    ("another certificate", lambda s: s.block(certificate=OTHER.certificate), "has the SHA-256"),
    ("v3 unsigned", lambda s: s.block(s.schemes(2)), "does not sign the digests of v3"),
    ("other digests", lambda s: s.block(s.schemes(2, 3, data=b"x")), "digests of v2 are not right"),
    ("unknown algorithms", lambda s: s.block(lp32_items([u32(2) + lp32_items([u32(9) + lp32(b"")])])),
     "known algorithm"),
    ("attributes of somebody else", lambda s: s.block(
        s.schemes(2, 3), lp32(lp32(b"")) + s.signatures(lp32(b""), OTHER)), "attributes are not right"),
    ("no time", lambda s: s.block(s.schemes(2, 3), s.attributes((TIME, bytes(8)))), "before 1970"),
    ("a short time", lambda s: s.block(s.schemes(2, 3), s.attributes((TIME, b"1234"))), "does not fit"),
    ("lineage of somebody else", lambda s: s.block(s.schemes(2, 3), s.attributes(
        (LINEAGE, encode_lineage(rotate(s.key, OTHER))))), "does not end with its certificate"),
    ("broken lineage", lambda s: s.block(s.schemes(2, 3), s.attributes((LINEAGE, u32(2)))), "version"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("block", "reason"), [item[1:] for item in BROKEN], ids=[item[0] for item in BROKEN]
)
def test_each_way_to_break_a_stamp(
    stamped: Stamped, block: Callable[[Stamped], bytes], reason: str
) -> None:
    stamp = stamped.check(block(stamped))
    assert stamp.status is StampStatus.NOT_VERIFIED
    assert reason in (stamp.reason or "")
    assert stamp.certificate is None


def test_half_a_stamp_is_none(stamped: Stamped, signed: Path, anatomy: Anatomy) -> None:
    with signed.open("rb") as apk:
        assert source_stamp(apk, with_v1=False) == SourceStamp(StampStatus.MISSING)
    without_block = source_stamp(io.BytesIO(stamped.parts.build()), with_v1=False)
    assert "no source stamp in the signing block" in (without_block.reason or "")
    block = stamped.block(stamped.schemes(2, 3))
    alone = anatomy.with_pairs(*anatomy.pairs, (BlockId.STAMP_V2, block)).build()
    assert "there is no entry" in (source_stamp(io.BytesIO(alone), with_v1=False).reason or "")


def test_the_command_can_ask_for_a_stamp(
    stamped: Stamped, signed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "stamped.apk"
    block = stamped.block(stamped.schemes(2, 3))
    path.write_bytes(
        stamped.parts.with_pairs(*stamped.parts.pairs, (BlockId.STAMP_V2, block)).build()
    )
    digest = hashlib.sha256(stamped.key.certificate).hexdigest()
    assert main(["verify", str(path), "--stamp-cert-digest", digest.upper()]) == 0
    assert "status: verified" in capsys.readouterr().out
    assert main(["verify", str(path), "--stamp-cert-digest", "0" * 64]) == 1
    assert digest in capsys.readouterr().err
    assert main(["verify", str(signed), "--verify-source-stamp"]) == 1
    assert "the source stamp is not verified: the APK has none" in capsys.readouterr().err
    assert main(["verify", str(signed)]) == 0
    assert main(["info", str(path)]) == 0
    assert f"certificate sha256: {digest}" in capsys.readouterr().out
