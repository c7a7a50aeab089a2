"""Which images are recognised, what they measure, and what is no image at all."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import avf.disk
from avf.disk import ImageError, ImageFormat, UnsupportedImage, image_format, image_size
from avf.disk.files import reopen
from tests.disk.conftest import MakeFile


def test_raw_images_have_their_files_size(make_file: MakeFile) -> None:
    fd = make_file(b"anything", size=12345)
    os.lseek(fd, 99, os.SEEK_SET)
    assert image_format(fd) is ImageFormat.RAW
    assert image_size(fd) == 12345
    assert os.lseek(fd, 0, os.SEEK_CUR) == 99


def test_android_sparse_images_are_named(make_file: MakeFile) -> None:
    with pytest.raises(UnsupportedImage, match=r"Android sparse.*simg2img"):
        image_size(make_file(bytes.fromhex("3aff26ed") + bytes(24)))


def test_absurd_sizes_are_refused() -> None:
    fd = os.memfd_create("huge")
    try:
        os.ftruncate(fd, (16 << 40) + 4096)
        with pytest.raises(ImageError, match="more than"):
            image_size(fd)
    finally:
        os.close(fd)


def test_directories_are_no_images(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(ImageError, match=str(tmp_path)):
            image_size(fd)
    finally:
        os.close(fd)


def test_pipes_are_no_images_and_are_not_read() -> None:
    read, write = os.pipe()
    try:
        os.write(write, b"data")
        with pytest.raises(ImageError):
            image_size(read)
        assert os.read(read, 10) == b"data"
    finally:
        os.close(read)
        os.close(write)


@pytest.mark.parametrize("writable", [False, True])
def test_reopening_gives_exactly_the_wanted_mode(make_file: MakeFile, writable: bool) -> None:
    fd = make_file(b"data")
    opened = reopen(fd, writable=writable)
    try:
        assert opened.own_description
        assert os.lseek(opened.fd, 2, os.SEEK_SET) == 2
        assert os.lseek(fd, 0, os.SEEK_CUR) == 0
        assert not os.get_inheritable(opened.fd)
    finally:
        os.close(opened.fd)


def test_reopening_never_adds_rights(make_file: MakeFile) -> None:
    with pytest.raises(ImageError, match="open for reading only"):
        reopen(make_file(flags=os.O_RDONLY), writable=True)
    with pytest.raises(ImageError, match="not open for reading"):
        reopen(make_file(flags=os.O_WRONLY), writable=False)


def test_what_virtmgr_needs_is_imported_alone() -> None:
    """virtmgr starts once per client; the readers are for those who look into disks."""
    program = (
        "import sys, avf.disk\n"
        "late = ['avf.disk.gpt_reader', 'avf.disk.instance', 'avf.disk.opening', 'cryptography', 'uuid']\n"
        "assert not [name for name in late if name in sys.modules]\n"
        "assert all(hasattr(avf.disk, name) for name in avf.disk.__all__)\n"
        "assert 'cryptography' not in sys.modules\n"
        "assert not hasattr(avf.disk, 'nothing')\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_reference_has_every_name() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "disk.md").read_text()
    missing = [name for name in avf.disk.__all__ if not re.search(rf"\b{name}\b", guide)]
    assert not missing
