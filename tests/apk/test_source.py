"""Sources: reads are exact or refused, and a file that shrinks is noticed."""

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf.apk import InputError
from avf.apk.source import FdSource, FileSource, ReadAhead, Source, WatchedSource, open_source

DATA = bytes(range(200))


@pytest.fixture(params=["descriptor", "file", "read-ahead"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    if request.param == "file":
        return FileSource(io.BytesIO(DATA))
    if request.param == "read-ahead":
        return ReadAhead(FileSource(io.BytesIO(DATA)))
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


class _Ask:
    """Reads of a file of 64 MiB through a ReadAhead, and what they cost."""

    def __init__(self, tmp_path: Path) -> None:
        self.costs = [0]
        with (tmp_path / "sparse").open("w+b") as file:
            file.truncate(64 << 20)
            os.pwrite(file.fileno(), b"mark", 40 << 20)
            self.fd = os.dup(file.fileno())
        self.source = ReadAhead(WatchedSource(FdSource(self.fd), self.costs.append))

    @property
    def cost(self) -> int:
        return self.costs[-1]


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[_Ask]:
    asked = _Ask(tmp_path)
    yield asked
    os.close(asked.fd)


def test_reading_ahead_spares_reads(ask: _Ask) -> None:
    for offset in range(0, 8 << 20, 1000):
        assert ask.source.read_at(offset, 1000) == bytes(1000)
    assert len(ask.costs) < 60
    assert ask.cost < 9 << 20


def test_reading_ahead_in_no_order_costs_a_page_each(ask: _Ask) -> None:
    for number in range(1000):
        offset = number * 7919 * 4096 % (63 << 20)
        assert len(ask.source.read_at(offset, 10)) == 10
    assert ask.cost <= 1000 * 8192


def test_reading_ahead_reads_what_is_there(ask: _Ask) -> None:
    for offset in (0, 10, 4090, 5000, (40 << 20) - 3, (40 << 20) - 2, 3, (64 << 20) - 1):
        expected = os.pread(ask.fd, 8, offset) if offset + 8 <= 64 << 20 else b"\0"
        assert ask.source.read_at(offset, len(expected)) == expected
