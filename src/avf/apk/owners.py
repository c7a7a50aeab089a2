"""Has an APK the same owner on all platforms of a range? apksigner asks so; each platform sees its own part only."""

from collections.abc import Iterable

from avf.apk.errors import SignerMismatch
from avf.apk.v1 import VerifiedV1
from avf.apk.verify import Scheme, VerifiedApk


def check_owners(verified: Iterable[VerifiedApk | VerifiedV1]) -> None:
    """SignerMismatch if the signers of v1 and v2 differ, or v3 has others and no lineage that begins with them."""
    found = {item.scheme: item for item in verified}
    v1, v2, v3 = found.get(Scheme.V1), found.get(Scheme.V2), found.get(Scheme.V3)
    if v1 and v2 and _certificates(v1) != _certificates(v2):
        raise SignerMismatch("the signers of v1 and of v2 are not the same")
    past = v1 or v2
    if not past or not v3:
        return
    before = _certificates(past)
    if before != {_first_owner(v3, found.get(Scheme.V3_1))}:
        raise SignerMismatch(
            f"the signers of {past.scheme.value} and of v3 are not the same, and no lineage leads from one to the other"
        )


def _certificates(verified: VerifiedApk | VerifiedV1) -> set[bytes]:
    return {signer.certificates[0] for signer in verified.signers}


def _first_owner(v3: VerifiedApk | VerifiedV1, v3_1: VerifiedApk | VerifiedV1 | None) -> bytes:
    for item in (v3_1, v3):
        if isinstance(item, VerifiedApk) and item.lineage:
            return item.lineage[0].certificate
    return v3.signers[0].certificates[0]
