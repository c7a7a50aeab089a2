"""Builds the sample payloads into one APK and signs it with a key made on the spot.

python examples/build_payload.py build/payload/sample.apk
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from avf.apk import ApkBuilder, SigningKey
from avf.sdk import cflags, libs

SOURCES = Path(__file__).parent / "payload"
LIBRARIES = {
    "libhello.so": "hello.c",
    "libhello_cpp.so": "hello.cpp",
    "libnotebook.so": "notebook.c",
}
SCRIPTS = ("hello.py", "echo.py", "greeter.py", "hello.sh")


def build(apk: Path) -> None:
    """Writes `apk` and, beside it, the key and certificate that signed it, kept for the next time."""
    apk.parent.mkdir(parents=True, exist_ok=True)
    builder = ApkBuilder("com.example.sample")
    for library, source in LIBRARIES.items():
        builder.add_native_library(library, compile_library(SOURCES / source))
    for script in SCRIPTS:
        builder.add(f"bin/{script}", SOURCES / script, mode=0o755)
    for module in sorted((SOURCES / "interfaces").glob("*.py")):
        builder.add(f"bin/interfaces/{module.name}", module)
    builder.add("assets/vm_config.json", SOURCES / "vm_config.json")
    with apk.open("w+b") as file:
        builder.build(file, signing_key(apk.parent))


def compile_library(source: Path) -> bytes:
    """The guest has no libraries for C++ of its own, so these become part of the payload's."""
    plus_plus = source.suffix == ".cpp"
    compiler = ["g++", "-static-libstdc++", "-static-libgcc"] if plus_plus else ["gcc"]
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "library.so")
        options = ["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-s", *cflags()]
        subprocess.run([*compiler, *options, "-o", library, source, *libs()], check=True)
        return library.read_bytes()


def signing_key(folder: Path) -> SigningKey:
    key_file, certificate_file = folder / "key.pem", folder / "certificate.pem"
    if not key_file.exists():
        key, certificate = SigningKey.generate("rsa-2048").to_pem()
        key_file.touch(mode=0o600)
        key_file.write_bytes(key)
        certificate_file.write_bytes(certificate)
    return SigningKey.from_pem(key_file.read_bytes(), certificate_file.read_bytes())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    build(Path(sys.argv[1]))
