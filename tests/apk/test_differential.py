"""The same verdict as apksigner's on APKs with a bit flipped in the signing block."""

import io
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from avf.apk import ApkError, Rotation, Scheme, SigningKey, rotate, verify
from avf.apk import sign as sign_apk
from avf.apk.signing_block import find_signing_block
from avf.apk.source import FileSource

SEEDS = range(6)
Sign = Callable[[dict[str, SigningKey], io.BytesIO, io.BytesIO], None]


def several_v2(keys: dict[str, SigningKey], source: io.BytesIO, out: io.BytesIO) -> None:
    others = [keys["dsa-1024"], keys["ec-p384"]]
    sign_apk(source, out, keys["rsa-2048"], schemes=[Scheme.V2], others=others)


def rotated_v3(keys: dict[str, SigningKey], source: io.BytesIO, out: io.BytesIO) -> None:
    old, new = keys["dsa-1024"], keys["ec-p256"]
    rotation = Rotation(old, rotate(old, new), 28)
    sign_apk(source, out, new, schemes=[Scheme.V3], rotation=rotation)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("sign", "sdk"), [(several_v2, 24), (rotated_v3, 28)])
def test_same_verdict(
    sign: Sign, sdk: int, seed: int, keys: dict[str, SigningKey], unsigned: Path, tmp_path: Path
) -> None:
    out = io.BytesIO()
    sign(keys, io.BytesIO(unsigned.read_bytes()), out)
    data = bytearray(out.getvalue())
    apk = find_signing_block(FileSource(io.BytesIO(data)))
    _, start, size = next(iter(apk.pairs()))
    if seed:
        chosen = random.Random(seed)
        data[chosen.randrange(start, start + size)] ^= 1 << chosen.randrange(8)
    path = tmp_path / "flipped.apk"
    path.write_bytes(data)
    command = ["apksigner", "verify", "--min-sdk-version", str(sdk), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        verify(io.BytesIO(data), allow_v2=True)
        accepted = True
    except ApkError:
        accepted = False
    assert accepted == (done.returncode == 0), done.stdout + done.stderr
    assert accepted or seed
