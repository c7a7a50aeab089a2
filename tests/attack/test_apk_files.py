"""Archives made to take more of the guest than their share, or to show what is not theirs, when they are mounted."""

import os
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from avf.guest.apk_image import ApkImage
from avf.guest.erofs import BLOCK, ErofsError
from avf.guest.ziptree import ZipTree, ZipTreeError
from tests.attack.counting import peak_memory

MIB = 1 << 20


@contextmanager
def opened(path: Path) -> Iterator[tuple[int, ZipTree]]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd, ZipTree(fd)
    finally:
        os.close(fd)


def test_as_many_files_as_an_archive_can_have(tmp_path: Path) -> None:
    """Written by hand: 65,535 empty files, each in directories of its own."""
    names = [f"{number:05}/a/b/c" for number in range(0xFFFF)]
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 33, 0, 0, 0, 11, 0)
    body = b"".join(local + name.encode() for name in names)
    directory = b"".join(
        struct.pack(
            "<4s6H3I5H2I",
            *(
                b"PK\1\2",
                20,
                20,
                0,
                0,
                0,
                33,
                0,
                0,
                0,
                11,
                0,
                0,
                0,
                0,
                0,
                index * (len(local) + 11),
            ),
        )
        + name.encode()
        for index, name in enumerate(names)
    )
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, *(0xFFFF,) * 2, len(directory), len(body), 0)
    path = tmp_path / "x.zip"
    path.write_bytes(body + directory + end)
    with opened(path) as (fd, tree):
        assert len(tree) == 4 * 0xFFFF + 1
        image = ApkImage(fd, tree)
        assert len(image.made) < 32 * MIB
        assert image.served is None


@pytest.mark.parametrize("size", [4000, 60_000, 3 * MIB])
def test_files_of_zeros_take_little_memory(size: int, tmp_path: Path) -> None:
    count = 64 * MIB // size
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(count):
            archive.writestr(f"{number}", bytes(size))
        archive.writestr("good", b"good" * 2000)
    with opened(path) as (fd, tree):
        image = ApkImage(fd, tree)
        served = image.served
        assert served is not None

        def read_all() -> None:
            for offset in range(0, served.blocks * BLOCK, 128 << 10):
                served.read(offset, 128 << 10)

        assert peak_memory(read_all) < 8 * MIB
        good = tree.find("good")
        assert good is not None
        whole = served.read(served.near.size + (good.block - first_unpacked(image)) * BLOCK, 8000)
        assert whole == b"good" * 2000


def first_unpacked(image: ApkImage) -> int:
    """The block of the image where files begin that are unpacked when they are read."""
    assert image.served is not None
    before = 0
    for part in image.segments:
        if part.blocks == image.served.unpacked.blocks:
            break
        before += part.blocks
    return before


def test_a_large_file_read_backwards_is_not_begun_anew_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else n pieces would cost n * n / 2 of them."""
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x", bytes(48 * MIB))
    with opened(path) as (fd, tree):
        image = ApkImage(fd, tree)
        served = image.served
        assert served is not None
        served.read(48 * MIB - BLOCK, BLOCK)
        stream = next(iter(served.unpacked._streams.values()))
        pieces: list[int] = []
        original = type(stream)._read
        monkeypatch.setattr(type(stream), "_read", lambda self: pieces.append(1) or original(self))
        for offset in range(47 * MIB, 0, -(256 << 10)):
            served.read(offset, BLOCK)
        assert len(pieces) < 4 * 192


def test_files_that_claim_to_be_larger_than_a_file_system(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(2100):
            archive.writestr(f"{number:04}", b"x")
    content = path.read_bytes()
    sizes = bytearray(content)
    at = content.index(b"PK\1\2")
    while content[at : at + 4] == b"PK\1\2":
        sizes[at + 24 : at + 28] = b"\0\0\xf0\xff"
        at += 46 + 4
    path.write_bytes(sizes)
    with opened(path) as (fd, tree), pytest.raises(ErofsError, match="are possible"):
        ApkImage(fd, tree)


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "a//x", "./x", "a/" * 64 + "x"])
def test_names_that_lead_out(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(ZipTreeError, match="leads out"), opened(path):
        pass
