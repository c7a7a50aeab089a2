"""The image of an APK: what is read where it lies, what is made, and that a reader finds the archive's contents."""

import random
import zipfile
from pathlib import Path

import pytest

from avf.apk import ApkBuilder
from avf.guest.apk_image import ApkImage, Broken, InApk, Made
from avf.guest.erofs import BLOCK
from avf.guest.ziptree import ZipTree, ZipTreeError
from tests.guest.erofs_image import BROKEN, assembled, contents, extracted, image_of

RANDOM = random.Random(3)
BIG = RANDOM.randbytes(300_000)


def archive_of(builder: ApkBuilder, folder: Path) -> Path:
    path = folder / "x.apk"
    with path.open("w+b") as file:
        builder.write(file)
    return path


def zip_of(files: dict[str, bytes], folder: Path, method: int = zipfile.ZIP_STORED) -> Path:
    path = folder / "x.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def found(archive: Path, folder: Path) -> dict[str, bytes | None]:
    """The files of an archive as its image shows them."""
    _, data = image_of(archive)
    shown = contents(extracted(data, folder))
    return {name: content for name, content in shown.items() if content is not None}


def test_a_small_archive_needs_no_server(tmp_path: Path) -> None:
    files = {f"a/{number}": b"x" * number * 50 for number in range(40)}
    archive = zip_of(files, tmp_path, zipfile.ZIP_DEFLATED)
    image, _ = image_of(archive)
    assert image.served is None
    assert {type(part) for part in image.segments} == {Made, Broken}
    assert found(archive, tmp_path) == files


def test_many_small_files_are_made_when_they_are_read(tmp_path: Path) -> None:
    files = {f"a/{number}": RANDOM.randbytes(number * 40) for number in range(200)}
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
        folder = tmp_path / str(method)
        folder.mkdir()
        archive = zip_of(files, folder, method)
        image, _ = image_of(archive)
        assert image.served is not None
        assert len(image.made) < 20_000
        assert found(archive, folder) == files


def test_large_files_are_read_where_they_lie(tmp_path: Path) -> None:
    builder = ApkBuilder().add("assets/big", BIG).add("assets/whole", BIG[: 64 * BLOCK])
    archive = archive_of(builder, tmp_path)
    image, _ = image_of(archive)
    lying = [part for part in image.segments if isinstance(part, InApk)]
    assert [(part.shift, part.blocks) for part in lying] == [(0, 73), (0, 64)]
    shown = found(archive, tmp_path)
    assert shown["assets/big"] == BIG
    assert shown["assets/whole"] == BIG[: 64 * BLOCK]


def test_nothing_of_the_archive_shows_behind_the_end_of_a_file(tmp_path: Path) -> None:
    archive = archive_of(ApkBuilder().add("big", BIG).add("next", b"next"), tmp_path)
    image, data = image_of(archive)
    (lying,) = [part for part in image.segments if isinstance(part, InApk)]
    before = sum(part.blocks for part in image.segments[: image.segments.index(lying)])
    end = (before + lying.blocks + 1) * BLOCK
    assert data[end - BLOCK : end] == BIG[73 * BLOCK :].ljust(BLOCK, b"\0")


def test_large_files_that_are_not_aligned(tmp_path: Path) -> None:
    data = {f"f{number}": RANDOM.randbytes((1 << 20) + number) for number in range(12)}
    archive = zip_of(data, tmp_path)
    image, _ = image_of(archive)
    shifts = {part.shift for part in image.segments if isinstance(part, InApk)}
    assert 1 < len(shifts) <= 9
    assert image.served is not None
    assert found(archive, tmp_path) == data


def test_no_more_than_256_files_are_looked_at_in_advance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    monkeypatch.setattr(
        ZipTree, "data_offset", lambda _, inode: looked.append(inode.number) or 1 << 20
    )
    archive = zip_of({f"{number}": bytes(65_537) for number in range(300)}, tmp_path)
    with archive.open("rb") as file:
        ApkImage(file.fileno(), ZipTree(file.fileno()))
    assert len(set(looked)) == 256


@pytest.mark.parametrize("count", [20, 100, 300])
def test_a_broken_file_does_not_take_the_others_along(count: int, tmp_path: Path) -> None:
    files = {f"{number}": b"text %d " % number * 50 for number in range(count)}
    files["large"] = BIG[:20_000]
    archive = zip_of(files, tmp_path, zipfile.ZIP_DEFLATED)
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\3\4", 500) + 40] ^= 0xFF
    archive.write_bytes(content)
    shown = found(archive, tmp_path)
    (broken,) = [name for name, data in files.items() if shown[name] != data]
    assert shown[broken] == BROKEN[: len(files[broken])]


def test_a_broken_file_of_more_than_a_block(tmp_path: Path) -> None:
    files = {"good": b"good" * 5000, "bad": BIG[:20_000], "small": b"small"}
    archive = zip_of(files, tmp_path, zipfile.ZIP_DEFLATED)
    content = bytearray(archive.read_bytes())
    content[content.index(b"bad") + 100] ^= 0xFF
    archive.write_bytes(content)
    with archive.open("rb") as file:
        image = ApkImage(file.fileno(), ZipTree(file.fileno()))
        served = image.served
        assert served is not None
        near = served.near.size
        assert served.read(near, 20_000)[:20_000] == files["good"]
        with pytest.raises(ZipTreeError):
            served.read(near + 5 * BLOCK, 1)
        assert b"small" in served.read(0, near)


def test_files_that_share_their_bytes(tmp_path: Path) -> None:
    """Extra fields in local headers can make entries overlap, which the central directory does not show."""
    archive = archive_of(ApkBuilder().add("one", BIG).add("two", BIG[::-1]), tmp_path)
    content = bytearray(archive.read_bytes())
    header = content.index(b"one") - 30
    content[header + 28 : header + 30] = (4096 + 4096 - 30 - 3 - header).to_bytes(2, "little")
    archive.write_bytes(content)
    with archive.open("rb") as file:
        tree = ZipTree(file.fileno())
        image = ApkImage(file.fileno(), tree)
        data = assembled(image, file.fileno())
    shown = {
        node.entry.name: data[node.block * BLOCK :][: node.size]
        for node in tree.files()
        if node.entry
    }
    assert shown["two"] == BIG[::-1]
    assert shown["one"] == bytes(content[8192 : 8192 + len(BIG)])


def test_a_name_too_long_is_told(tmp_path: Path) -> None:
    archive = zip_of({"n" * 256: b""}, tmp_path)
    with archive.open("rb") as file, pytest.raises(ValueError, match="255 are possible"):
        ApkImage(file.fileno(), ZipTree(file.fileno()))


def test_an_empty_archive(tmp_path: Path) -> None:
    assert found(zip_of({}, tmp_path), tmp_path) == {}
