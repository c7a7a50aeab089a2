import re
import subprocess
from pathlib import Path

import pytest

import avf
from avf.image import ImageError
from avf.image.native import PAYLOAD_LIBRARY, SOURCES, compile_native, compile_payload_library
from avf.sdk import INCLUDE

SOURCE = SOURCES / "vm_payload.c"
DECLARED = re.compile(r"\b((?:AVmPayload|AVmAttestation\w+|AvfPayload|AvfRpc)_\w+)\(")


def test_no_warnings_and_the_same_bytes_again() -> None:
    assert compile_payload_library("-Werror") == compile_payload_library()


def test_native_code_is_there_for_the_payload_abi_alone() -> None:
    assert list(Path(avf.__file__).parent.rglob("*.c")) == [SOURCE]


def symbols(library: Path) -> list[str]:
    """NAME@@VERSION of what a library exports."""
    command = ["nm", "-D", "--defined-only", "--with-symbol-versions", library]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line.split()[-1] for line in output.splitlines() if "@" in line]


def test_the_payload_library_exports_the_api_with_its_versions_and_no_more(tmp_path: Path) -> None:
    """The version of AVF's own functions is that of Android's library."""
    library = tmp_path / PAYLOAD_LIBRARY
    library.write_bytes(compile_payload_library())
    headers = "".join(path.read_text() for path in sorted(INCLUDE.glob("*.h")))
    declared = set(DECLARED.findall(re.sub(r"/\*.*?\*/", "", headers, flags=re.DOTALL)))
    expected = {
        f"{name}@@{'AVF_LINUX_PAYLOAD' if name.startswith('Avf') else 'LIBVM_PAYLOAD'}"
        for name in declared - {"AVmPayload_main", "AVmPayload_main_t"}
    }
    assert len(expected) >= 18
    assert set(symbols(library)) == expected | {
        f"avf_payload_set_{what}@@AVF_LINUX_PRIVATE" for what in ("arguments", "calls")
    }


def test_the_name_that_android_gives_it(tmp_path: Path) -> None:
    library = tmp_path / "any"
    library.write_bytes(compile_payload_library())
    command = ["readelf", "-d", library]
    dynamic = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Library soname: [libvm_payload.so]" in dynamic


def test_what_does_not_compile_is_told(tmp_path: Path) -> None:
    (tmp_path / "bad.c").write_text("int main(void) { return nothing; }\n")
    with pytest.raises(ImageError, match="nothing"):
        compile_native(tmp_path / "bad.c")


def test_a_host_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImageError, match="install gcc"):
        compile_native(tmp_path / "x.c")
