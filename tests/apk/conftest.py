"""Signed APKs: by us, and by apksigner (one run per variant and test session)."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from avf.apk import ApkBuilder, Scheme, SigningKey
from tests.apk.forge import Anatomy

KINDS = ("rsa-2048", "rsa-4096", "ec-p256", "ec-p384", "dsa-1024", "dsa-2048")
LIBRARY = bytes(range(256)) * 40
TEXT = b"all work and no play makes Jack a dull boy\n" * 500


@pytest.fixture(scope="session")
def keys() -> dict[str, SigningKey]:
    """One key of each kind that apksigner takes."""
    return {kind: SigningKey.generate(kind) for kind in KINDS}


@pytest.fixture(scope="session")
def key(keys: dict[str, SigningKey]) -> SigningKey:
    return keys["ec-p256"]


def builder(min_sdk: int) -> ApkBuilder:
    made = ApkBuilder(min_sdk=min_sdk)
    made.add("assets/text", TEXT, compress=True)
    made.add_native_library("libpayload.so", LIBRARY)
    return made


@pytest.fixture(scope="session")
def unsigned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("apk") / "unsigned.apk"
    with path.open("wb") as out:
        builder(min_sdk=24).write(out)
    return path


@pytest.fixture(scope="session")
def signed(tmp_path_factory: pytest.TempPathFactory, key: SigningKey) -> Path:
    """A good APK with v2 and v3 signatures of ours. Copy before changing."""
    path = tmp_path_factory.mktemp("apk") / "signed.apk"
    with path.open("w+b") as out:
        builder(min_sdk=24).build(out, key)
    return path


@pytest.fixture
def anatomy(signed: Path) -> Anatomy:
    """The good APK, taken apart."""
    return Anatomy.of(signed.read_bytes())


ApkSigner = Callable[..., Path]


@pytest.fixture(scope="session")
def apksigner(
    tmp_path_factory: pytest.TempPathFactory, keys: dict[str, SigningKey], unsigned: Path
) -> ApkSigner:
    """apksigner(kind, *options) -> an APK that apksigner signed; the same call gives the same file."""
    directory = tmp_path_factory.mktemp("apksigner")
    made: dict[tuple[str, ...], Path] = {}

    def sign(kind: str, *options: str) -> Path:
        if (kind, *options) not in made:
            out = directory / f"{len(made)}.apk"
            files = key_arguments(keys[kind], directory / kind)
            run_apksigner("sign", *files, *options, "--out", str(out), str(unsigned))
            made[kind, *options] = out
        return made[kind, *options]

    return sign


def key_arguments(key: SigningKey, stem: Path) -> list[str]:
    """apksigner's options for a key, whose files are made next to `stem`."""
    private, certificate = stem.with_suffix(".pk8"), stem.with_suffix(".pem")
    pem, certificate_pem = key.to_pem()
    certificate.write_bytes(certificate_pem)
    loaded = load_pem_private_key(pem, None)
    private.write_bytes(loaded.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
    return ["--key", str(private), "--cert", str(certificate)]


def run_apksigner(*arguments: str) -> str:
    """Its output; AssertionError with all of it if it fails."""
    done = subprocess.run(["apksigner", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def sign_with(path: Path, key: SigningKey, *schemes: Scheme) -> Path:
    with path.open("w+b") as out:
        builder(min_sdk=24).build(out, key, schemes=schemes)
    return path
