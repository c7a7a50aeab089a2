"""What a report says of APKs and files, from real ones."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avf.apk import ApkBuilder, Idsig, SigningKey, create_or_update_idsig, sign
from avf.client import VmFile
from avf.report.proof import digest, proofs, prove, read_certificate


def vm_file(path: Path, label: str = "microdroid-apk", *, writable: bool = False) -> VmFile:
    status = path.stat()
    return VmFile(
        label,
        0,
        str(path),
        status.st_size,
        writable,
        status.st_dev,
        status.st_ino,
        status.st_mtime_ns,
    )


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return SigningKey.generate()


@pytest.fixture
def apk(tmp_path: Path, key: SigningKey) -> Path:
    builder = ApkBuilder("com.example.proof", version_code=42)
    builder.add("lib/payload", b"payload" * 5000)
    path = tmp_path / "app.apk"
    with (tmp_path / "plain").open("w+b") as plain, path.open("w+b") as signed:
        builder.write(plain)
        sign(plain, signed, key)
    return path


@pytest.fixture
def idsig(tmp_path: Path, apk: Path) -> Path:
    path = tmp_path / "app.idsig"
    with apk.open("rb") as source, path.open("w+b") as target:
        create_or_update_idsig(source.fileno(), target.fileno())
    return path


def test_a_whole_chain(apk: Path, idsig: Path, key: SigningKey) -> None:
    files = (vm_file(apk), vm_file(idsig, "microdroid-apk-idsig"), vm_file(apk, "extra-apk-0"))
    main, extra = proofs(files)
    with idsig.open("rb") as file:
        root = Idsig.parse(file.fileno()).root_hash
    assert (main.problem, main.unchanged, main.scheme) == ("", True, "v3")
    assert (main.package, main.version) == ("com.example.proof", 42)
    assert main.root_hash == root.hex()
    assert main.certificate is not None
    assert main.algorithm == key.algorithm.name
    assert main.certificate.subject == "CN=AVF payload" and main.certificate.not_after is not None
    assert extra.problem == "the VM was given no idsig for it"
    assert extra.certificate == main.certificate


def test_an_apk_that_was_changed(apk: Path, idsig: Path) -> None:
    files = vm_file(apk), vm_file(idsig, "microdroid-apk-idsig")
    with apk.open("r+b") as file:
        file.seek(100)
        file.write(b"changed")
    proof = prove(*files)
    assert proof.problem and not proof.unchanged
    assert (proof.scheme, proof.certificate, proof.root_hash) == (None, None, None)


def test_the_idsig_of_another_apk(apk: Path, idsig: Path) -> None:
    with idsig.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    proof = prove(vm_file(apk), vm_file(idsig, "microdroid-apk-idsig"))
    assert proof.problem and proof.root_hash is None
    assert proof.certificate is not None  # the APK itself is good


def test_another_file_at_the_place_is_told(apk: Path, idsig: Path, tmp_path: Path) -> None:
    known = vm_file(apk), vm_file(idsig, "microdroid-apk-idsig")
    other = tmp_path / "other"
    other.write_bytes(apk.read_bytes())
    other.replace(apk)
    proof = prove(*known)
    assert proof.problem == "" and not proof.unchanged


@pytest.mark.parametrize("kind", ["missing", "fifo", "folder"])
def test_what_is_no_file_any_more_is_not_waited_for(tmp_path: Path, apk: Path, kind: str) -> None:
    known = vm_file(apk)
    apk.unlink()
    if kind == "fifo":
        os.mkfifo(apk)
    elif kind == "folder":
        apk.mkdir()
    assert prove(known, None).problem
    found = digest(known)
    assert found.sha256 is None and found.remark


def test_digests(apk: Path) -> None:
    assert digest(vm_file(apk)).sha256 == hashlib.sha256(apk.read_bytes()).hexdigest()
    for file, remark in (
        (vm_file(apk, writable=True), "the guest writes it"),
        (replace(vm_file(apk), path=""), "made for this VM, in memory"),
        (replace(vm_file(apk), size=1 << 40), "too large to be read for a report"),
    ):
        found = digest(file)
        assert (found.sha256, found.remark) == (None, remark)
    changed = digest(replace(vm_file(apk), modified_ns=1))
    assert changed.sha256 and changed.remark == "it has changed since the VM was made"


@given(st.binary(max_size=200))
def test_a_certificate_that_cannot_be_read(data: bytes) -> None:
    found = read_certificate(data)
    assert found.sha256 == hashlib.sha256(data).hexdigest()
    assert (found.subject, found.not_after) == ("", None)


@given(data=st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_certificates_that_were_tampered_with(key: SigningKey, data: st.DataObject) -> None:
    certificate = bytearray(key.certificates[0])
    for place in data.draw(st.lists(st.integers(0, len(certificate) - 1), min_size=1, max_size=4)):
        certificate[place] ^= data.draw(st.integers(1, 255))
    found = read_certificate(bytes(certificate))
    assert found.sha256 == hashlib.sha256(certificate).hexdigest()
