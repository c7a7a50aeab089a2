"""Sources: reads are exact or refused, and a file that shrinks is noticed."""

import io
import os
from pathlib import Path

import pytest

from avf.apk import InputError
from avf.apk.source import FdSource, FileSource, Source, open_source

DATA = bytes(range(200))


@pytest.fixture(params=["descriptor", "file"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    if request.param == "file":
        return FileSource(io.BytesIO(DATA))
    path = tmp_path / "data"
    path.write_bytes(DATA)
    fd = os.open(path, os.O_RDONLY)
    request.addfinalizer(lambda: os.close(fd))
    return open_source(fd)


def test_reads_are_exact(source: Source) -> None:
    buffer = bytearray(7)
    source.read_into(memoryview(buffer), 150)
    assert buffer == DATA[150:157]
    assert source.read_at(0, 200) == DATA
    assert source.read_at(200, 0) == b""


@pytest.mark.parametrize(("offset", "length"), [(0, 201), (200, 1), (-1, 2), (5, -1), (1 << 62, 1)])
def test_reads_outside_are_refused(source: Source, offset: int, length: int) -> None:
    with pytest.raises(InputError, match="outside of the file's 200"):
        source.read_at(offset, length)


def test_a_file_that_shrinks_is_noticed(tmp_path: Path) -> None:
    with (tmp_path / "data").open("w+b", buffering=0) as file:
        file.write(DATA)
        sources: list[Source] = [FdSource(file.fileno()), FileSource(file)]
        file.truncate(100)
        for source in sources:
            with pytest.raises(InputError, match="the file ends at byte 100"):
                source.read_at(90, 20)


def test_only_regular_files_and_block_devices() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader), os.fdopen(writer, "wb"), open("/dev/zero", "rb") as device:
        for fd in (reader, device.fileno()):
            with pytest.raises(InputError, match="input is not a regular file"):
                open_source(fd)
