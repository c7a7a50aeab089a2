"""APKs of 2 GiB in little memory: every step runs in a process whose address space is limited."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from avf.apk import SignatureAlgorithm, SigningKey
from avf.apk.digest import content_digest, make_contents
from avf.apk.signing import padded_block
from avf.apk.signing_block import BlockId
from avf.apk.source import FdSource
from tests.apk.conftest import builder
from tests.apk.forge import Anatomy, Forger

SIZE = 2 << 30
ADDRESS_SPACE = 192 << 20
PEAK_KIB = 64 << 10
VERITY = SignatureAlgorithm.VERITY_ECDSA_SHA256

RUN = """
import resource, sys
from pathlib import Path
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
from avf.apk.__main__ import main
status = main(sys.argv[1:])
lines = Path("/proc/self/status").read_text().splitlines()
print(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), file=sys.stderr)
sys.exit(status)
"""


@pytest.fixture(scope="module")
def huge(tmp_path_factory: pytest.TempPathFactory, key: SigningKey) -> Path:
    """A sparse APK of 2 GiB with a verity digest, the one that needs a tree."""
    small = tmp_path_factory.mktemp("huge") / "small.apk"
    with small.open("w+b") as out:
        builder(min_sdk=24).build(out, key)
    anatomy = Anatomy.of(small.read_bytes())
    path = small.with_name("huge.apk")
    with path.open("w+b") as file:
        file.write(anatomy.front)
        file.truncate(SIZE)
        file.seek(SIZE)
        file.write(anatomy.directory)
        file.flush()
        size = len(anatomy.directory)
        contents = make_contents(FdSource(file.fileno()), SIZE, SIZE, size, anatomy.eocd)
        digest = content_digest(contents, VERITY.content_digest)
        block = padded_block([(BlockId.V3, Forger(key, [(VERITY, digest)]).block())])
        eocd = bytearray(anatomy.eocd)
        eocd[16:20] = (SIZE + len(block)).to_bytes(4, "little")
        file.seek(SIZE)
        file.write(block + anatomy.directory + eocd)
    return path


def run_limited(*arguments: object) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(ADDRESS_SPACE), *map(str, arguments), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stderr.split()[-1]) < PEAK_KIB
    report = json.loads(done.stdout)
    assert isinstance(report, dict)
    return report


def test_two_gibibytes_in_64_mebibytes(huge: Path, tmp_path: Path) -> None:
    assert huge.stat().st_blocks * 512 < 1 << 20
    idsig = tmp_path / "idsig"
    assert run_limited("idsig", huge, idsig)["written"] is True
    assert run_limited("idsig", huge, idsig)["written"] is False
    report = run_limited("verify", huge, "--idsig", idsig, "--sdk", 34)
    assert report["verified"] is True
    assert report["size"] == huge.stat().st_size


def test_large_values_in_the_signing_block(anatomy: Anatomy, tmp_path: Path) -> None:
    path = tmp_path / "block.apk"
    values = [(number, bytes(4 << 20)) for number in range(20)]
    path.write_bytes(anatomy.with_pairs(*values, *anatomy.pairs).build())
    assert run_limited("verify", path)["verified"] is True
