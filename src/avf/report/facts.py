"""What a report is made of."""

from dataclasses import dataclass
from datetime import datetime

from avf.client import DeathReport, MetricsSample, Timeline, VmDetails, VmFile, VmMetrics, VmParts


@dataclass(frozen=True, slots=True)
class Certificate:
    """A signer's, as far as it can be read."""

    sha256: str
    subject: str
    not_before: datetime | None
    not_after: datetime | None


@dataclass(frozen=True, slots=True)
class ApkProof:
    """What an APK proves when the report is made. Each part is None where the one before it failed."""

    file: VmFile
    idsig: VmFile | None
    unchanged: bool
    """Whether both files are still what the VM was given."""
    problem: str
    """Why the proof ends where it does; empty if it is whole."""
    scheme: str | None = None
    algorithm: str | None = None
    """Of the signature, such as `ECDSA_SHA256`."""
    package: str | None = None
    version: int | None = None
    certificate: Certificate | None = None
    lineage: tuple[str, ...] = ()
    """SHA-256 of the signer's former certificates, oldest first."""
    root_hash: str | None = None
    """Of the idsig, once it was seen to be this APK's: what the guest's dm-verity is given."""


@dataclass(frozen=True, slots=True)
class FileDigest:
    """A file of a VM; its digest is of what was found at its path when the report was made."""

    file: VmFile
    sha256: str | None
    remark: str
    """Why there is no digest, or what to keep in mind of it."""


@dataclass(frozen=True, slots=True)
class VmReport:
    """All that is known of a VM at one moment. Texts are partly the guest's own: not to be believed."""

    made: datetime
    version: str
    """Of this package."""
    host: str
    details: VmDetails
    parts: VmParts
    timeline: Timeline
    metrics: VmMetrics
    history: tuple[MetricsSample, ...]
    apks: tuple[ApkProof, ...]
    files: tuple[FileDigest, ...]
    console: str | None
    """The last of it; None: it has none to show."""
    log: str | None
    death: DeathReport | None
