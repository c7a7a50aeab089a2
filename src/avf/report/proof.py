"""What the files of a VM prove: from the APK over its idsig and the verity root to who signed it."""

import hashlib
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace

from avf.apk import (
    ApkError,
    CertificateError,
    VerifiedApk,
    certificate_subject,
    read_package,
    verify,
    verify_idsig,
)
from avf.causes import words
from avf.client import VmFile
from avf.report.facts import ApkProof, Certificate, FileDigest

MAX_HASHED = 256 << 20
"""Bytes of a file whose digest is computed."""
_CHUNK = 1 << 20
_APK, _IDSIG = "microdroid-apk", "microdroid-apk-idsig"
_EXTRA, _EXTRA_IDSIG = "extra-apk-", "extra-idsig-"


def proofs(files: tuple[VmFile, ...]) -> Iterator[ApkProof]:
    """Of each APK among the files, the main one first."""
    by_label = {file.label: file for file in files}
    for file in files:
        if file.label == _APK:
            yield prove(file, by_label.get(_IDSIG))
        elif file.label.startswith(_EXTRA):
            number = file.label.removeprefix(_EXTRA)
            yield prove(file, by_label.get(f"{_EXTRA_IDSIG}{number}"))


def prove(apk: VmFile, idsig: VmFile | None) -> ApkProof:
    """Verifies the APK and its idsig as they are now, every byte of both."""
    proof = ApkProof(apk, idsig, unchanged=True, problem="")
    with ExitStack() as stack:
        try:
            apk_fd, same = _opened(apk, stack)
            proof = replace(proof, unchanged=same)
            proof = _with_signer(proof, verify(apk_fd, allow_v2=True))
            proof = _with_package(proof, apk_fd)
            if idsig is None:
                return replace(proof, problem="the VM was given no idsig for it")
            idsig_fd, same = _opened(idsig, stack)
            proof = replace(proof, unchanged=proof.unchanged and same)
            found = verify_idsig(apk_fd, idsig_fd, allow_v2=True)
        except (ApkError, OSError) as error:
            return replace(proof, problem=words(error))
        return replace(proof, root_hash=found.root_hash.hex())


def digest(file: VmFile) -> FileDigest:
    """SHA-256 of a file that the guest cannot write, unless it is too large."""
    if file.writable:
        return FileDigest(file, None, "the guest writes it")
    if not file.path:
        return FileDigest(file, None, "made for this VM, in memory")
    if file.size > MAX_HASHED:
        return FileDigest(file, None, "too large to be read for a report")
    with ExitStack() as stack:
        try:
            fd, same = _opened(file, stack)
            found = _sha256(fd, file.size)
        except OSError as error:
            return FileDigest(file, None, words(error))
    return FileDigest(file, found, "" if same else "it has changed since the VM was made")


def _opened(file: VmFile, stack: ExitStack) -> tuple[int, bool]:
    """The file at the path, and whether it is what the VM was given. Raises OSError."""
    fd = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    stack.callback(os.close, fd)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise OSError("it is no regular file any more")
    return fd, file.is_at(status)


def _sha256(fd: int, size: int) -> str:
    hashed, offset = hashlib.sha256(), 0
    while offset < size and (data := os.pread(fd, min(_CHUNK, size - offset), offset)):
        hashed.update(data)
        offset += len(data)
    return hashed.hexdigest()


def _with_signer(proof: ApkProof, verified: VerifiedApk) -> ApkProof:
    former = verified.lineage[:-1]
    return replace(
        proof,
        scheme=verified.scheme.value,
        algorithm=verified.algorithm.name,
        certificate=read_certificate(verified.certificates[0]),
        lineage=tuple(hashlib.sha256(node.certificate).hexdigest() for node in former),
    )


def _with_package(proof: ApkProof, apk: int) -> ApkProof:
    """An APK without a readable manifest is no worse for that."""
    try:
        package = read_package(apk)
    except ApkError:
        return proof
    if package is None:
        return proof
    return replace(proof, package=package.name, version=package.version)


def read_certificate(data: bytes) -> Certificate:
    """Anything may stand in a certificate: what cannot be read is left out."""
    from cryptography import x509

    found = Certificate(hashlib.sha256(data).hexdigest(), "", None, None)
    with suppress(CertificateError):
        found = replace(found, subject=certificate_subject(data))
    with warnings.catch_warnings(), suppress(ValueError, x509.InvalidVersion):
        warnings.simplefilter(
            "ignore"
        )  # of what is odd in a certificate, which is its maker's concern
        read = x509.load_der_x509_certificate(data)
        begin, end = read.not_valid_before_utc, read.not_valid_after_utc
        found = replace(found, not_before=begin, not_after=end)
    return found
