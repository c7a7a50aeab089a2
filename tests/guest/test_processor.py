from pathlib import Path

import pytest

from avf.guest import libc, processor

TCG = "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: QEMU TCG CPU version 2.5+\nflags\t\t: fpu aes avx2\n"
PLAIN = "processor\t: 0\nmodel name\t: QEMU Virtual CPU version 2.5+\n"
REAL = "processor\t: 0\nmodel name\t: AMD EPYC 7B13\nflags\t\t: fpu aes avx2 sha_ni\n"
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd aes sha2\n"


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lists of modules that were loaded."""
    lists: list[str] = []
    monkeypatch.setattr(libc, "load_modules", lists.append)
    return lists


def set_processor(monkeypatch: pytest.MonkeyPatch, path: Path, text: str) -> None:
    path.write_text(text)
    monkeypatch.setattr(processor, "_PROCESSORS", str(path))


@pytest.mark.parametrize("text", [TCG, PLAIN], ids=["max", "qemu64"])
def test_emulated_processors_do_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded: list[str], text: str
) -> None:
    set_processor(monkeypatch, tmp_path / "cpuinfo", text)
    processor.load_processor_modules("list")
    assert loaded == []


@pytest.mark.parametrize("text", [REAL, ARM], ids=["x86", "arm"])
def test_real_processors_get_their_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded: list[str], text: str
) -> None:
    set_processor(monkeypatch, tmp_path / "cpuinfo", text)
    processor.load_processor_modules("list")
    assert loaded == ["list"]


def test_a_module_that_cannot_be_loaded_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_processor(monkeypatch, tmp_path / "cpuinfo", REAL)
    processor.load_processor_modules(str(tmp_path / "no such list"))
