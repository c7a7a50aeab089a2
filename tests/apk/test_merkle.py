"""The Merkle tree beside `fsverity` and `veritysetup`, and beside the definition written down naively."""

import hashlib
import io
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avf.apk import InputError, merkle
from avf.apk.source import FdSource, FileSource
from tests.programs import path_of

SIZES = [0, 1, 4095, 4096, 4097, 524287, 524288, 524289, 1 << 20, (1 << 20) + 1, 3_000_001]
SALTS = [b"", b"\1\2\3\4\5\6", bytes(range(32)), bytes(range(7, 71))]


def content(size: int) -> bytes:
    pattern = b"".join(hashlib.sha256(bytes([n])).digest() for n in range(251))
    return (pattern * (size // len(pattern) + 1))[:size]


@pytest.mark.parametrize("size", SIZES[1:])
def test_same_tree_and_root_as_fsverity(tmp_path: Path, size: int) -> None:
    data, tree, descriptor = tmp_path / "data", tmp_path / "tree", tmp_path / "descriptor"
    data.write_bytes(content(size))
    outputs = [f"--out-merkle-tree={tree}", f"--out-descriptor={descriptor}"]
    options = ["--hash-alg=sha256", "--block-size=4096"]
    subprocess.run(["fsverity", "digest", *options, *outputs, str(data)], check=True)
    with data.open("rb") as file:
        root, ours = merkle.build_in_memory(FdSource(file.fileno()))
    assert ours == tree.read_bytes()
    assert root == descriptor.read_bytes()[16:48]


@pytest.mark.parametrize("salt", [salt for salt in SALTS if len(salt) <= 32])
def test_same_tree_as_fsverity_with_salt(tmp_path: Path, salt: bytes) -> None:
    data, tree = tmp_path / "data", tmp_path / "tree"
    data.write_bytes(content(600_000))
    options = [f"--salt={salt.hex()}"] if salt else []
    subprocess.run(
        ["fsverity", "digest", *options, f"--out-merkle-tree={tree}", str(data)], check=True
    )
    assert merkle.build_in_memory(FileSource(io.BytesIO(data.read_bytes())), salt)[1] == (
        tree.read_bytes()
    )


@pytest.mark.parametrize("salt", SALTS)
@pytest.mark.parametrize("size", [4097, 524289, 1 << 20, 3_000_001])
def test_same_tree_and_root_as_veritysetup(tmp_path: Path, size: int, salt: bytes) -> None:
    data, tree = tmp_path / "data", tmp_path / "tree"
    padded = content(size) + bytes(-size % 4096)
    data.write_bytes(padded)
    done = subprocess.run(
        [
            *(path_of("veritysetup"), "format", "--no-superblock", "--format=1", "--hash=sha256"),
            *("--data-block-size=4096", "--hash-block-size=4096"),
            f"--data-blocks={len(padded) // 4096}",
            f"--salt={merkle.pad_salt(salt).hex() or '-'}",
            str(data),
            str(tree),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    root, ours = merkle.build_in_memory(FileSource(io.BytesIO(content(size))), salt)
    assert ours == tree.read_bytes()
    found = re.search(r"Root hash:\s*([0-9a-f]+)", done.stdout)
    assert found
    assert root.hex() == found[1]


def test_an_empty_file_hashes_like_one_block_of_zeros() -> None:
    """As in AVF; fs-verity has a root of zeros there."""
    root, tree = merkle.build_in_memory(FileSource(io.BytesIO()))
    assert (root, tree) == (hashlib.sha256(bytes(4096)).digest(), b"")


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (4096, "cd0875ca59c7d37e962c5e8f5acd3770750ac80225e2df652ce5672fd34500af"),
        (4097, "2901b849fda2d91e3929524561c4a47e77bb64734319759507b2029f18b9cc52"),
        (8192, "2a476d58eb80394052a3a783111e1458ac3ecf68a7878183fed86ca0ff47ec0d"),
        (16384, "7d3c0d2e1dc54230b20ed875f5f3a4bd3f9873df601936b3ca8127d4db3548f3"),
        (524288, "26b7c190a34e19f420808ee7ec233b09fa6c34543b5a9d2950530114c205d14f"),
        (524289, "316835d9be1c95b5cd55d07ae7965d651689efad186e26cbf680e40b683a3262"),
    ],
)
def test_known_fsverity_digests(size: int, expected: str) -> None:
    """Files of 0x01 bytes; the digest hashes a descriptor that holds the root hash."""
    root, _ = merkle.build_in_memory(FileSource(io.BytesIO(b"\1" * size)))
    descriptor = b"\1\1\x0c\0" + bytes(4) + size.to_bytes(8, "little") + root.ljust(64, b"\0")
    assert hashlib.sha256(descriptor.ljust(256, b"\0")).hexdigest() == expected


def naive(data: bytes, salt: bytes) -> tuple[bytes, bytes]:
    """Straight from the definition."""

    def level(blocks: bytes) -> bytes:
        blocks += bytes(-len(blocks) % 4096)
        starts = range(0, len(blocks), 4096)
        padded = salt + bytes(-len(salt) % 64)
        return b"".join(hashlib.sha256(padded + blocks[i : i + 4096]).digest() for i in starts)

    tree = b""
    current = data or bytes(4096)
    while len(current) > 4096:
        digests = level(current)
        current = digests + bytes(-len(digests) % 4096)
        tree = current + tree
    return level(current), tree


@given(
    size=st.integers(0, 40).map(lambda n: n * 4096) | st.integers(0, 1_300_000),
    salt=st.binary(max_size=80),
    seed=st.binary(min_size=1, max_size=8),
)
def test_equals_the_definition(size: int, salt: bytes, seed: bytes) -> None:
    data = (seed * (size // len(seed) + 1))[:size]
    assert merkle.build_in_memory(FileSource(io.BytesIO(data)), salt) == naive(data, salt)


@pytest.mark.parametrize("read_size", [4096, 3 * 4096, 1 << 19])
def test_result_does_not_depend_on_the_buffer(
    monkeypatch: pytest.MonkeyPatch, read_size: int
) -> None:
    monkeypatch.setattr(merkle, "READ_SIZE", read_size)
    data = content(1_234_567)
    assert merkle.build_in_memory(FileSource(io.BytesIO(data))) == naive(data, b"")


@given(st.integers(0, 1 << 40))
def test_levels_are_what_the_size_says(size: int) -> None:
    sizes = merkle.level_sizes(size)
    below = size
    for level in sizes:
        assert level % 4096 == 0
        assert level >= -(-below // 4096) * 32 > level - 4096
        below = level
    assert below <= 4096
    assert merkle.tree_size(size) == sum(sizes)


def test_a_file_that_shrinks_while_it_is_hashed_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(10_000))
    with path.open("r+b") as file:
        source = FdSource(file.fileno())
        file.truncate(5_000)
        with pytest.raises(InputError, match="ends at byte 5000"):
            merkle.build_in_memory(source)
