"""The header of a swap area, against mkswap."""

import subprocess
from pathlib import Path

import pytest

from avf.guest import libc, swap
from tests.programs import path_of


@pytest.mark.parametrize("size", [40960, 1 << 20, 256 << 20])
def test_as_mkswap_makes_it(tmp_path: Path, size: int) -> None:
    file = tmp_path / "swap"
    with file.open("wb") as created:
        created.truncate(size)
    file.chmod(0o600)
    command = [path_of("mkswap"), "-U", "clear", file]
    subprocess.run(command, check=True, capture_output=True)
    assert file.read_bytes()[:4096] == swap.swap_header(size)


def test_memory_size_is_in_whole_pages() -> None:
    size = swap.memory_size()
    assert size > 0
    assert size % 4096 == 0


def test_without_zram_there_is_a_log_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(swap, "_DISK_SIZE", str(tmp_path / "absent"))
    swap.enable_swap()
    assert "no swap: " in capfd.readouterr().err


def test_lists_of_modules_name_files_that_must_be_there(tmp_path: Path) -> None:
    modules = tmp_path / "list"
    modules.write_text(f"{tmp_path}/absent.ko\n")
    with pytest.raises(FileNotFoundError):
        libc.load_modules(str(modules))
