"""v1 signatures that try the memory and the patience of whoever checks them."""

import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from avf.apk import ApkError, EntryError, NoSigner, SigningKey, V1SignatureError, verify_v1
from avf.apk.crypto.spki import der
from avf.apk.v1.archive import MAX_BLOCK, MAX_FILE
from avf.apk.v1.ber import BadBer, first
from tests.apk.jar import MANIFEST, Jar, Signer, block

PEAK_KIB = 64 << 10
SF, EC_BLOCK = "META-INF/CERT.SF", "META-INF/CERT.EC"
RUN = """
import sys
from pathlib import Path
from avf.apk import ApkError, verify_v1
with open(sys.argv[1], "rb") as apk:
    try:
        verify_v1(apk.fileno(), min_sdk=18)
        print("verified")
    except ApkError as error:
        print(error.code)
lines = Path("/proc/self/status").read_text().splitlines()
print(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")))
"""


@pytest.fixture(scope="module")
def jar() -> Jar:
    return Jar(SigningKey.generate())


def outcome(path: Path) -> tuple[str, int]:
    """The verdict of a process of its own, and its peak memory in KiB."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(path)], capture_output=True, text=True, check=True
    )
    verdict, peak = done.stdout.split()
    return verdict, int(peak)


def test_the_largest_signature_fits_in_64_mebibytes(jar: Jar, tmp_path: Path) -> None:
    """A manifest and a signature file, each as large as allowed, of 16,000 entries."""
    room = MAX_FILE // 16000 - 90
    names = [f"{number:05}{'n' * (room - 5)}" for number in range(16000)]
    files: dict[str, bytes] = dict.fromkeys(names, b"x")
    parts = {name: jar.section(name, b"x") for name in files}
    manifest = b"Manifest-Version: 1.0\r\n\r\n" + b"".join(parts.values())
    data = b"Signature-Version: 1.0\r\n\r\n"
    data += b"".join(jar.section(name, part) for name, part in parts.items())
    assert MAX_FILE * 0.95 < len(data) <= MAX_FILE
    files |= {MANIFEST: manifest, SF: data, EC_BLOCK: block(data, Signer(jar.key))}
    path = tmp_path / "large.apk"
    path.write_bytes(Jar.zipped(files).getvalue())
    verdict, peak = outcome(path)
    assert verdict == "verified"
    assert peak < PEAK_KIB


def test_an_entry_that_inflates_to_a_gibibyte(jar: Jar, tmp_path: Path) -> None:
    """A megabyte in the file."""
    path = tmp_path / "bomb.apk"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        files = jar.files()
        section = jar.section("bomb", b"wrong")
        manifest = jar.manifest() + section
        data = jar.signature_file(manifest)
        for name, item in {**files, MANIFEST: manifest, SF: data}.items():
            archive.writestr(name, item)
        archive.writestr(EC_BLOCK, block(data, Signer(jar.key)))
        with archive.open("bomb", "w") as bomb:
            for _ in range(1024):
                bomb.write(bytes(1 << 20))
    assert path.stat().st_size < 2 << 20
    verdict, peak = outcome(path)
    assert verdict == "digest-mismatch"
    assert peak < PEAK_KIB


@pytest.mark.parametrize(
    ("name", "limit"), [(MANIFEST, MAX_FILE), (SF, MAX_FILE), (EC_BLOCK, MAX_BLOCK)]
)
def test_the_size_of_each_file_is_bounded(jar: Jar, name: str, limit: int) -> None:
    with pytest.raises(EntryError, match=f"{name}' has {limit + 1} bytes, at most {limit} allowed"):
        verify_v1(jar.build({name: bytes(limit + 1)}), min_sdk=18)


def test_an_entry_that_is_longer_than_it_says(jar: Jar) -> None:
    """Nothing behind the recorded length is inflated."""
    data = bytearray(jar.build().getvalue())
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        info = archive.getinfo("b")
    size = info.file_size.to_bytes(4, "little")
    start = info.header_offset + 22
    assert data[start : start + 4] == size
    directory = data.rindex(b"PK\x01\x02", 0, data.rindex(b"b"))
    data[start : start + 4] = data[directory + 24 : directory + 28] = b"\x03\0\0\0"
    with pytest.raises(EntryError, match="'b' is longer than recorded"):
        verify_v1(io.BytesIO(bytes(data)), min_sdk=18)


def test_ten_thousand_signature_files(jar: Jar) -> None:
    """They are counted before the first one is read."""
    files: dict[str, bytes | None] = {}
    for number in range(5000):
        files |= {f"META-INF/{number}.SF": b"", f"META-INF/{number}.RSA": b""}
    with pytest.raises(NoSigner, match="5001 signers"):
        verify_v1(jar.build(files), min_sdk=18)


NESTED = b"\x30\x80" * 100_000
BLOCKS: dict[str, Callable[[Jar], bytes]] = {
    "values without end in each other": lambda jar: NESTED,
    "a length of four gibibytes": lambda jar: b"\x30\x84\xff\xff\xff\xff",
    "a hundred signers": lambda jar: block(b"x", *[Signer(jar.key, signature=b"")] * 100),
    "a number in an OID without end": lambda jar: der(0x30, der(6, b"\xff" * 100_000)),
    "a tag number without end": lambda jar: b"\x3f" + b"\xff" * 100_000,
}


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_that_is_hard_to_read_is_refused(jar: Jar, name: str) -> None:
    with pytest.raises(V1SignatureError):
        verify_v1(jar.build({EC_BLOCK: BLOCKS[name](jar)}), min_sdk=18)


def test_values_in_each_other_are_counted() -> None:
    with pytest.raises(BadBer, match="more than 32 values"):
        first(NESTED)


def test_no_signature_is_believed_that_covers_nothing(jar: Jar) -> None:
    """A signature file without sections signs no entry, and neither does a manifest without any."""
    for manifest in (jar.manifest(), b"Manifest-Version: 1.0\r\n\r\n"):
        data = jar.signature_file(manifest).split(b"\r\n\r\n")[0] + b"\r\n\r\n"
        with pytest.raises(ApkError, match=r"not signed|not in the manifest"):
            verify_v1(jar.build({MANIFEST: manifest, SF: data}), min_sdk=18)
