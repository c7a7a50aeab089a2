"""What the guest needs: few imports, no packages, block devices."""

import os
import subprocess
import sys
from pathlib import Path

HEAVY = {
    *("argparse", "asyncio", "concurrent", "cryptography", "dataclasses", "email", "inspect"),
    *("json", "logging", "pathlib", "shutil", "ssl", "subprocess", "tempfile", "zipfile"),
}

IMPORTS = """
import sys
import avf.apk
print(*sys.modules)
"""

WITHOUT_PACKAGES = """
import os, sys
sys.modules["cryptography"] = None
from avf.apk import Idsig, entries, read_entry, verify
from avf.apk.crypto import backend
fd = os.open(sys.argv[1], os.O_RDONLY)
assert backend().__name__ == "avf.apk.crypto.libcrypto"
print(verify(fd).public_key.hex())
assert len(read_entry(fd, "lib/x86_64/libpayload.so", limit=1 << 20)) == 10240
assert not {name for name in sys.argv[2].split() if name in sys.modules} - {"cryptography"}
"""


def run(code: str, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-S", "-c", code, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
    ).stdout


def test_importing_the_face_is_light() -> None:
    loaded = run(IMPORTS).split()
    assert "avf.apk.verify" in loaded
    assert not HEAVY & set(loaded)
    assert "ctypes" not in loaded


def test_an_apk_is_verified_without_cryptography(signed: Path) -> None:
    from avf.apk import verify

    with signed.open("rb") as file:
        expected = verify(file).public_key.hex()
    assert run(WITHOUT_PACKAGES, str(signed), " ".join(HEAVY)).strip() == expected
