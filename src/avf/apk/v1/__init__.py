"""The v1 scheme (JAR signatures): META-INF/MANIFEST.MF, signature files and PKCS #7 signature blocks."""

from avf.apk.v1.archive import MAX_V1_SIGNERS
from avf.apk.v1.verify import V1Signer, VerifiedV1, verify_sections, verify_v1

__all__ = ["MAX_V1_SIGNERS", "V1Signer", "VerifiedV1", "verify_sections", "verify_v1"]
