"""A platform looks at the schemes, algorithms and values that it knows, and at nothing else."""

import io
from pathlib import Path

import pytest

from avf.apk import (
    ApkError,
    NoSigner,
    Rotation,
    Scheme,
    SignatureInvalid,
    SignatureStripped,
    SigningBlockError,
    SigningKey,
    rotate,
    verify,
    verify_range,
)
from avf.apk import sign as sign_apk
from avf.apk.signing_block import BlockId
from tests.apk.forge import Anatomy


@pytest.fixture(scope="module")
def rotated(keys: dict[str, SigningKey], unsigned: Path) -> Anatomy:
    """v2, v3 and v3.1, in this order."""
    old, new = keys["ec-p256"], keys["rsa-2048"]
    out = io.BytesIO()
    rotation = Rotation(old, rotate(old, new))
    sign_apk(io.BytesIO(unsigned.read_bytes()), out, new, min_sdk=24, rotation=rotation)
    return Anatomy.of(out.getvalue())


@pytest.mark.parametrize(("block_id", "first"), [(BlockId.V3, 28), (BlockId.V3_1, 33)])
@pytest.mark.parametrize("value", [b"", b"\xff\xff\xff\xff", b"\4\0\0\0\xff\xff\xff\xff"])
def test_a_broken_scheme_is_broken_for_platforms_that_know_it(
    rotated: Anatomy, block_id: BlockId, first: int, value: bytes
) -> None:
    pairs = [(item, value if item == block_id else data) for item, data in rotated.pairs]
    apk = io.BytesIO(rotated.with_pairs(*pairs).build())
    assert verify_range(apk, min_sdk=24, max_sdk=first - 1)
    with pytest.raises(ApkError, match=f"^SDK {first}: "):
        verify_range(apk, min_sdk=24)
    assert verify(apk, sdk=first - 1, allow_v2=True).signers


def cut(anatomy: Anatomy, behind: BlockId) -> io.BytesIO:
    """The signing block with a pair behind that of `behind` whose length is out of all bounds."""
    from avf.apk import signing_block

    kept = []
    for item, data in anatomy.pairs:
        kept.append((int(item), data))
        if item == behind:
            break
    block = bytearray(signing_block.encode([*kept, (7, bytes(4))]))
    at = block.rindex((8).to_bytes(8, "little") + (7).to_bytes(4, "little"))
    block[at : at + 8] = b"\xff" * 8
    return io.BytesIO(anatomy.build(bytes(block)))


def test_what_comes_before_a_broken_pair_is_found(rotated: Anatomy) -> None:
    """As on Android, where what comes behind it is not there."""
    order = [item for item, _ in rotated.pairs]
    assert order[:3] == [BlockId.V2, BlockId.V3, BlockId.V3_1]
    after_v3_1 = verify_range(cut(rotated, BlockId.V3_1), min_sdk=24)
    assert [item.apk.scheme for item in after_v3_1] == [Scheme.V2, Scheme.V3, Scheme.V3_1]
    after_v3 = cut(rotated, BlockId.V3)
    assert verify_range(after_v3, min_sdk=24, max_sdk=32)
    with pytest.raises(NoSigner):
        verify(after_v3, sdk=33)
    after_v2 = cut(rotated, BlockId.V2)
    assert verify_range(after_v2, min_sdk=24, max_sdk=27)
    with pytest.raises(SignatureStripped):
        verify(after_v2, sdk=28, allow_v2=True)
    with pytest.raises(SigningBlockError, match="pair 1 has length"):
        verify(after_v2, sdk=28)


@pytest.mark.parametrize("kind", ["rsa-2048", "ec-p256", "dsa-2048"])
def test_verity_digests_are_unknown_before_sdk_28(
    keys: dict[str, SigningKey], unsigned: Path, kind: str
) -> None:
    """The older platforms check the signature over the other digest, which the newer ones pass over."""
    key, out = keys[kind], io.BytesIO()
    with unsigned.open("rb") as apk:
        sign_apk(apk, out, key, min_sdk=24, schemes=[Scheme.V2], verity=True)
    assert verify(out, sdk=24, allow_v2=True).algorithm is key.algorithm
    assert verify(out, sdk=28, allow_v2=True).algorithm.name.startswith("VERITY_")
    anatomy = Anatomy.of(out.getvalue())
    (_, block), *others = anatomy.pairs
    record = key.algorithm.to_bytes(4, "little")
    at = block.rindex(record) + 8
    broken = block[: at + 20] + bytes([block[at + 20] ^ 1]) + block[at + 21 :]
    data = io.BytesIO(anatomy.with_pairs((BlockId.V2, broken), *others).build())
    assert verify(data, sdk=28, allow_v2=True)
    with pytest.raises(SignatureInvalid):
        verify(data, sdk=24, allow_v2=True)
    with pytest.raises(SignatureInvalid, match=r"^SDK 24: "):
        verify_range(data, min_sdk=24)
