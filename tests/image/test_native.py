import subprocess
from pathlib import Path

import pytest

from avf.image import ImageError
from avf.image.initramfs import GUEST_SOURCES
from avf.image.native import compile_native

SOURCE = GUEST_SOURCES / "native/vm_payload.c"
FLAGS = ("-shared", "-fPIC", "-fvisibility=hidden")


def test_no_warnings_and_the_same_bytes_again() -> None:
    assert compile_native(SOURCE, "-Werror", *FLAGS) == compile_native(SOURCE, *FLAGS)


def test_native_code_is_there_for_the_payload_abi_alone() -> None:
    assert list(GUEST_SOURCES.rglob("*.c")) == [SOURCE]


def test_the_payload_library_exports_the_api_and_no_more(tmp_path: Path) -> None:
    library = tmp_path / "libvm_payload.so"
    library.write_bytes(compile_native(SOURCE, *FLAGS))
    output = subprocess.run(
        ["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True
    ).stdout
    header = (GUEST_SOURCES / "native/vm_payload.h").read_text()
    exported = {line.split()[-1] for line in output.splitlines()}
    assert "avf_payload_set_calls" in exported
    assert exported - {"avf_payload_set_calls"} == {
        name
        for name in header.replace("*", " ").replace("(", " ").split()
        if name.startswith("AVmPayload_")
    } - {"AVmPayload_main"}


def test_what_does_not_compile_is_told(tmp_path: Path) -> None:
    (tmp_path / "bad.c").write_text("int main(void) { return nothing; }\n")
    with pytest.raises(ImageError, match="nothing"):
        compile_native(tmp_path / "bad.c")


def test_a_host_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImageError, match="install gcc"):
        compile_native(tmp_path / "x.c")
