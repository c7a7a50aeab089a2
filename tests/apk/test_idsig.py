"""The idsig file: its bytes, its reader, and creating or updating it on descriptors."""

import hashlib
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avf.apk import (
    ApkBuilder,
    ApkError,
    Idsig,
    IdsigError,
    InputError,
    Scheme,
    SignatureAlgorithm,
    SigningKey,
    create_or_update_idsig,
    merkle,
    two_cores,
)
from avf.apk.fields import lp32, u32
from avf.apk.signing import sign, sign_idsig
from avf.apk.signing_block import BlockId
from avf.apk.source import FileSource
from tests.apk.conftest import ApkSigner, run_apksigner, sign_with
from tests.apk.forge import Anatomy, Forger


@contextmanager
def opened(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> Iterator[int]:
    fd = os.open(path, flags, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def update(apk: Path, idsig: Path) -> bool:
    with opened(apk, os.O_RDONLY) as apk_fd, opened(idsig) as idsig_fd:
        return create_or_update_idsig(apk_fd, idsig_fd)


def test_every_field_is_where_the_format_says(signed: Path, tmp_path: Path) -> None:
    idsig = tmp_path / "idsig"
    assert update(signed, idsig)
    anatomy = Anatomy.of(signed.read_bytes())
    digest = anatomy.digest(SignatureAlgorithm.ECDSA_SHA256)
    root, tree = merkle.build_in_memory(FileSource(io.BytesIO(signed.read_bytes())))
    empty = lp32(b"")
    expected = (
        u32(2)
        + u32(45)
        + (u32(1) + b"\x0c" + empty + lp32(root))
        + u32(56)
        + (lp32(digest) + empty + empty + empty + u32(0x0201) + empty)
        + u32(len(tree))
        + tree
    )
    assert idsig.read_bytes() == expected


@pytest.mark.parametrize("kind", ["rsa-2048", "rsa-4096", "ec-p256"])
def test_reads_what_apksigner_writes(apksigner: ApkSigner, kind: str) -> None:
    apk = apksigner(kind, "--v4-signing-enabled", "true")
    with Path(f"{apk}.idsig").open("rb") as file, apk.open("rb") as apk_file:
        theirs = Idsig.parse(file.fileno())
        ours = Idsig.create(apk_file.fileno())
        file.seek(theirs.tree_offset)
        assert file.read() == ours.tree
    assert theirs.root_hash == ours.root_hash
    assert theirs.apk_digest == ours.apk_digest
    assert theirs.signature
    assert theirs.certificate


def test_apksigner_verifies_what_we_sign(signed: Path, key: SigningKey, tmp_path: Path) -> None:
    idsig = tmp_path / "v4.idsig"
    with signed.open("rb") as apk, idsig.open("wb") as out:
        made = Idsig.create(apk)
        sign_idsig(made, signed.stat().st_size, key)
        made.write(out.fileno())
    output = run_apksigner("verify", "-v", "--v4-signature-file", str(idsig), str(signed))
    assert "(APK Signature Scheme v4): true" in output


def test_create_parse_and_write_agree(signed: Path, tmp_path: Path) -> None:
    salt = b"salt"
    path = tmp_path / "idsig"
    path.write_bytes(b"longer" * 100_000)
    with signed.open("rb") as apk, path.open("r+b") as file:
        made = Idsig.create(apk.fileno(), salt=salt)
        made.write(file.fileno())
        read = Idsig.parse(file.fileno())
    names = [name for name in Idsig.__slots__ if name != "tree"]
    assert [getattr(made, name) for name in names] == [getattr(read, name) for name in names]
    assert read.salt == salt
    assert read.block_size == 4096
    assert made.tree == path.read_bytes()[read.tree_offset :]
    assert len(made.tree) == read.tree_size


def test_a_parsed_idsig_has_no_tree_to_write(signed: Path, tmp_path: Path) -> None:
    update(signed, tmp_path / "idsig")
    with (tmp_path / "idsig").open("r+b") as file:
        with pytest.raises(IdsigError, match="not in memory"):
            Idsig.parse(file).write(file.fileno())
        assert Idsig.parse(file).tree_size


def test_an_idsig_on_a_padded_partition_is_read(signed: Path, tmp_path: Path) -> None:
    path = tmp_path / "idsig"
    update(signed, path)
    data = path.read_bytes()
    padded = Idsig.parse(io.BytesIO(data + bytes(-len(data) % 4096)))
    assert padded.header() == Idsig.parse(io.BytesIO(data)).header()


def test_only_other_signers_follow_the_signature_in_the_signing_info(signed: Path) -> None:
    """Each is a block ID and its signing info, as apksigner writes them for v3.1."""
    with signed.open("rb") as file:
        made = Idsig.create(file)
    header = made.header()
    first = header[4 + 4 + 45 + 4 : -4]

    def longer(more: bytes) -> io.BytesIO:
        signing = header[: 4 + 4 + 45] + lp32(first + more)
        return io.BytesIO(signing + header[-4:] + (made.tree or b""))

    other = u32(7) + lp32(b"block")
    read = Idsig.parse(longer(other * 64))
    assert read.root_hash == made.root_hash
    assert read.tree_offset == len(header) + 64 * len(other)
    with pytest.raises(IdsigError, match="more than 64 other signers"):
        Idsig.parse(longer(other * 65))
    for junk in (b"x", lp32(b"block"), other + b"\0", other[:-1]):
        with pytest.raises(IdsigError, match="does not fit") as caught:
            Idsig.parse(longer(junk))
        assert caught.value.offset


def test_a_current_idsig_is_left_alone(signed: Path, tmp_path: Path) -> None:
    path = tmp_path / "idsig"
    assert update(signed, path)
    os.utime(path, (1, 1))
    assert not update(signed, path)
    assert path.stat().st_mtime == 1


def test_contents_that_changed_after_the_idsig_make_it_stale(signed: Path, tmp_path: Path) -> None:
    """Though they were not signed anew, so that the recorded digest is the same."""
    apk, path, fresh = tmp_path / "apk", tmp_path / "idsig", tmp_path / "fresh"
    shutil.copy(signed, apk)
    assert update(apk, path)
    with apk.open("r+b") as file:
        file.write(b"!")
    assert update(apk, path)
    assert update(apk, fresh)
    assert path.read_bytes() == fresh.read_bytes()
    assert not update(apk, path)


def test_a_newer_idsig_saves_reading_the_contents(key: SigningKey, tmp_path: Path) -> None:
    apk, path = tmp_path / "apk", tmp_path / "idsig"
    with apk.open("w+b") as out:
        ApkBuilder().add("assets/large", bytes(3 << 20)).build(out, key)
    update(apk, path)
    read: dict[int, int] = {}
    for mtime in (1, 1 << 33):
        os.utime(path, (mtime, mtime))
        with opened(apk, os.O_RDONLY) as apk_fd, opened(path) as fd:

            def note(done: int, mtime: int = mtime) -> None:
                read[mtime] = done

            assert not create_or_update_idsig(apk_fd, fd, progress=note)
    assert read[1] > 3 << 20
    assert read[1 << 33] < 1 << 17


def test_garbage_is_replaced_if_it_was_an_idsig(signed: Path, tmp_path: Path) -> None:
    path, fresh = tmp_path / "idsig", tmp_path / "fresh"
    update(signed, fresh)
    whole = fresh.read_bytes()
    for garbage in (whole + b"x", whole[:-1], whole[:20], whole[:20] + b"Oops" * 100_000):
        path.write_bytes(garbage)
        assert update(signed, path)
        assert path.read_bytes() == whole
    for precious in (b"Oops", b"Oops" * 100_000):
        path.write_bytes(precious)
        with pytest.raises(IdsigError, match="is no idsig: it looks like text"):
            update(signed, path)
        assert path.read_bytes() == precious


def test_any_wrong_byte_makes_it_stale(signed: Path, tmp_path: Path) -> None:
    path = tmp_path / "idsig"
    update(signed, path)
    good = path.read_bytes()
    tree = Idsig.parse(io.BytesIO(good)).tree_offset
    with opened(signed, os.O_RDONLY) as apk_fd, opened(path) as fd:
        for offset in [*range(tree + 160), *range(tree + 160, len(good), 501)]:
            os.pwrite(fd, bytes([good[offset] ^ 1]), offset)
            assert create_or_update_idsig(apk_fd, fd), offset
            assert os.pread(fd, len(good) + 1, 0) == good


def test_any_wrong_byte_of_a_tree_with_levels_makes_it_stale(
    key: SigningKey, tmp_path: Path
) -> None:
    apk, path = tmp_path / "large.apk", tmp_path / "idsig"
    with apk.open("w+b") as out:
        ApkBuilder().add("assets/large", bytes(range(256)) * 3000).build(out, key)
    update(apk, path)
    good = path.read_bytes()
    assert len(merkle.level_sizes(apk.stat().st_size)) == 2
    with opened(apk, os.O_RDONLY) as apk_fd, opened(path) as fd:
        for offset in range(len(good) - 1, 0, -211):
            os.pwrite(fd, bytes([good[offset] ^ 1]), offset)
            assert create_or_update_idsig(apk_fd, fd), offset
            assert os.pread(fd, len(good) + 1, 0) == good


def test_an_apk_of_less_than_a_block_has_no_tree(
    anatomy: Anatomy, key: SigningKey, tmp_path: Path
) -> None:
    ecdsa = SignatureAlgorithm.ECDSA_SHA256
    small = replace(anatomy, front=b"", directory=b"", eocd=EMPTY_ZIP)
    block = Forger(key, [(ecdsa, small.digest(ecdsa))]).block()
    other = Forger(SigningKey.generate(), [(ecdsa, small.digest(ecdsa))]).block()
    apk, path = tmp_path / "small.apk", tmp_path / "idsig"
    apk.write_bytes(small.with_pairs((BlockId.V3, block)).build())
    assert (update(apk, path), update(apk, path)) == (True, False)
    with path.open("rb") as file:
        read = Idsig.parse(file)
    assert read.tree_size == 0
    assert read.root_hash == hashlib.sha256(apk.read_bytes().ljust(4096, b"\0")).digest()
    apk.write_bytes(small.with_pairs((BlockId.V3, other)).build())
    assert (update(apk, path), update(apk, path)) == (True, False)


EMPTY_ZIP = b"PK\5\6" + bytes(18)


def test_a_recorded_digest_of_another_length(
    anatomy: Anatomy, key: SigningKey, tmp_path: Path
) -> None:
    block = Forger(key, [(SignatureAlgorithm.ECDSA_SHA512, bytes(32))]).block()
    apk = tmp_path / "odd.apk"
    apk.write_bytes(anatomy.with_pairs((BlockId.V3, block)).build())
    with pytest.raises(IdsigError, match="ECDSA_SHA512 with a digest of 32 bytes"):
        update(apk, tmp_path / "idsig")


def test_a_digest_for_the_strongest_algorithm_must_be_recorded(
    anatomy: Anatomy, key: SigningKey, tmp_path: Path
) -> None:
    digests = [(SignatureAlgorithm.ECDSA_SHA256, bytes(32))]
    signatures = [(SignatureAlgorithm.ECDSA_SHA512, b"")]
    block = Forger(key, digests, signatures=signatures).block()
    apk = tmp_path / "odd.apk"
    apk.write_bytes(anatomy.with_pairs((BlockId.V3, block)).build())
    with pytest.raises(IdsigError, match="Digest not found for algorithm: ECDSA_SHA512"):
        update(apk, tmp_path / "idsig")


def test_the_same_contents_signed_by_another_key_make_it_stale(
    signed: Path, keys: dict[str, SigningKey], tmp_path: Path
) -> None:
    """Content digest and size are the same then, so the recorded digest alone does not tell."""
    other, idsig, fresh = tmp_path / "other.apk", tmp_path / "idsig", tmp_path / "fresh"
    with signed.open("rb") as source, other.open("w+b") as out:
        sign(source, out, SigningKey.generate("ec-p256"), min_sdk=24)
    assert other.stat().st_size == signed.stat().st_size
    assert update(signed, idsig)
    assert update(other, idsig)
    assert update(other, fresh)
    assert idsig.read_bytes() == fresh.read_bytes()


def test_offsets_do_not_matter_and_stay(signed: Path, tmp_path: Path) -> None:
    path, fresh = tmp_path / "idsig", tmp_path / "fresh"
    update(signed, fresh)
    with opened(signed, os.O_RDONLY) as apk_fd, opened(path) as fd:
        os.lseek(apk_fd, 100, os.SEEK_SET)
        os.lseek(fd, 5000, os.SEEK_SET)
        assert create_or_update_idsig(apk_fd, fd)
        assert os.lseek(apk_fd, 0, os.SEEK_CUR) == 100
        assert os.lseek(fd, 0, os.SEEK_CUR) == 5000
    assert path.read_bytes() == fresh.read_bytes()


def test_a_write_only_output_is_written(signed: Path, tmp_path: Path) -> None:
    path, fresh = tmp_path / "idsig", tmp_path / "fresh"
    update(signed, fresh)
    with (
        opened(signed, os.O_RDONLY) as apk_fd,
        opened(path, os.O_WRONLY | os.O_CREAT) as fd,
    ):
        assert create_or_update_idsig(apk_fd, fd)
    assert path.read_bytes() == fresh.read_bytes()


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR | os.O_APPEND])
def test_an_output_that_cannot_be_written_anywhere_is_refused(
    signed: Path, tmp_path: Path, flags: int
) -> None:
    path = tmp_path / "idsig"
    path.write_bytes(b"Oops")
    with (
        opened(signed, os.O_RDONLY) as apk_fd,
        opened(path, flags) as fd,
        pytest.raises(IdsigError, match=r"output is (not )?open for"),
    ):
        create_or_update_idsig(apk_fd, fd)
    assert path.read_bytes() == b"Oops"


def test_the_apk_itself_is_refused_as_output(signed: Path, tmp_path: Path) -> None:
    apk = Path(shutil.copy(signed, tmp_path / "copy.apk"))
    with pytest.raises(IdsigError, match="same file"):
        update(apk, apk)
    assert apk.read_bytes() == signed.read_bytes()


def test_only_regular_files(signed: Path, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with (
        os.fdopen(reader),
        os.fdopen(writer, "wb"),
        opened(tmp_path, os.O_RDONLY) as directory,
        opened(Path("/dev/zero"), os.O_RDWR) as device,
        opened(tmp_path / "idsig") as idsig,
        opened(signed, os.O_RDONLY) as apk,
    ):
        for bad in (directory, reader, device):
            with pytest.raises(InputError, match=r"^input is not a regular file$"):
                create_or_update_idsig(bad, idsig)
        for bad in (directory, writer, device):
            with pytest.raises(InputError, match=r"^output is not a regular file$"):
                create_or_update_idsig(apk, bad)
        assert os.fstat(idsig).st_size == 0


def test_an_empty_apk_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IdsigError, match="failed to create idsig"):
        update(touched(tmp_path / "empty.apk"), tmp_path / "idsig")


def touched(path: Path) -> Path:
    path.touch()
    return path


def test_an_apk_without_v3_is_an_error_and_the_output_stays(
    tmp_path: Path, key: SigningKey
) -> None:
    apk, idsig = sign_with(tmp_path / "v2.apk", key, Scheme.V2), tmp_path / "idsig"
    idsig.write_bytes(b"Oops")
    with pytest.raises(IdsigError, match=r"failed to create idsig: .*no value with ID 4031998144"):
        update(apk, idsig)
    assert idsig.read_bytes() == b"Oops"


def test_an_interruption_leaves_nothing_that_passes_for_an_idsig(
    signed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "idsig"
    update(signed, path)
    with path.open("r+b") as file:
        file.seek(60)
        file.write(b"!")

    def fail(*_: object) -> bytes:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(two_cores, "build", fail)
        with pytest.raises(OSError, match="disk full"):
            update(signed, path)
    with path.open("rb") as broken, pytest.raises(IdsigError, match="hash algorithm"):
        Idsig.parse(broken)
    assert update(signed, path)


def good_header() -> bytes:
    return Idsig(
        root_hash=bytes(range(32)),
        apk_digest=bytes(32),
        signature_algorithm_id=0x0201,
        tree_size=4096,
        salt=b"1234",
        certificate=b"certificate",
        additional_data=b"data",
        public_key=b"key",
        signature=b"signature",
    ).header()


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (0, 3, "version 3"),
        (4, 0xFFFFFFFF, "hashing info of 4294967295 bytes is too long"),
        (8, 2, "hash algorithm 2"),
        (12, 13 | 4 << 8, "log2 of block size 13"),
        (13, 0xFFFFFFF0, "salt has 4294967280 bytes"),
        (21, 31, "root hash has 31 bytes"),
        (21, 33, "root hash has 33 bytes"),
        (57, 0x10000000, "signing info of 268435456 bytes is too long"),
        (61, 31, "APK digest has 31 bytes"),
        (61, 0x7FFFFFFF, "APK digest of 2147483647 bytes does not fit"),
        (97, 0x7FFFFFFF, "certificate of"),
        (112, 0x7FFFFFFF, "additional data of"),
        (120, 0x7FFFFFFF, "public key of"),
        (127, 0x0999, "unknown signature algorithm ID 0x999"),
        (131, 0x7FFFFFFF, "signature of"),
        (144, 4097, "tree of 4097 bytes does not fit in the 4096 left"),
    ],
)
def test_a_wrong_field_is_named(offset: int, value: int, message: str) -> None:
    data = bytearray(good_header() + bytes(4096))
    assert Idsig.parse(io.BytesIO(data)).signature == b"signature"
    data[offset : offset + 4] = u32(value)
    with pytest.raises(IdsigError, match=message) as caught:
        Idsig.parse(io.BytesIO(data))
    assert caught.value.offset is not None
    assert offset <= caught.value.offset <= offset + 4


@pytest.mark.parametrize(
    ("change", "message"), [(-1, "root hash of 32 bytes does not fit"), (1, "1 bytes too many")]
)
def test_the_length_of_the_hashing_info_must_be_right(change: int, message: str) -> None:
    header = good_header()
    hashing = (header[8:57] + b"\0")[: 49 + change]
    data = u32(2) + lp32(hashing) + header[57:] + bytes(4096)
    with pytest.raises(IdsigError, match=message):
        Idsig.parse(io.BytesIO(data))


@pytest.mark.parametrize("length", range(len(good_header()) + 1))
def test_every_truncation_is_an_error(length: int) -> None:
    with pytest.raises(IdsigError):
        Idsig.parse(io.BytesIO(good_header()[:length]))


@given(st.binary(max_size=300), st.integers(0, 148))
def test_junk_never_escapes_as_another_error(junk: bytes, offset: int) -> None:
    data = good_header()[:offset] + junk
    try:
        Idsig.parse(io.BytesIO(data))
    except ApkError:
        pass


def test_a_long_salt_is_refused(signed: Path) -> None:
    with signed.open("rb") as file, pytest.raises(IdsigError, match="salt has 65 bytes"):
        Idsig.create(file, salt=bytes(65))
