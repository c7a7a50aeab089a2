"""Who a payload is, and which APK may follow another one in an instance.

As in later versions of AVF, an APK is known by its package, its signer and its version. One of the same package, by the
same signer or a successor, and of no lower version takes the place of the one before; whatever is kept for the instance
is kept. A successor proves itself by the lineage in its signature (proof of rotation), under the rules of Android's
package manager: the old key's certificate there must have the capability INSTALLED_DATA. A key that was rotated out may
come back only if its successor's lineage grants it ROLLBACK. Certificates are not compared, only their keys.

Extra APKs are part of who a payload is: each follows the one in its own place by the same rules.
"""

import hashlib
from collections.abc import Sequence

from avf.guest.errors import PayloadChanged, PayloadDowngraded
from avf.named import NamedTuple


class ApkData(NamedTuple):
    """Who an APK is."""

    root_hash: bytes
    """Of its Merkle tree: exactly these bytes."""
    public_key: bytes
    """The signer's, SubjectPublicKeyInfo (DER)."""
    package: str | None = None
    """None: it does not say, so nothing but its root hash tells it from others."""
    version: int = 0
    returning_keys: tuple[bytes, ...] = ()
    """SHA-256 of former keys of the signer that may come back."""


class FormerKey(NamedTuple):
    """A key that an APK's signer had before."""

    public_key: bytes
    hands_over: bool
    """Its data are the new key's, too: INSTALLED_DATA."""


class FoundApk(NamedTuple):
    """An APK as it is now; `former_keys` are what its lineage proves."""

    data: ApkData
    former_keys: tuple[FormerKey, ...] = ()


class PayloadIdentity(NamedTuple):
    """All that decides which secrets an instance gets."""

    salt: bytes
    apk: ApkData
    extra_apks: tuple[ApkData, ...] = ()
    first_authority: bytes | None = None
    """The authority hash of the first boot, which sealed secrets derive from for ever; None: at the first boot."""

    @property
    def apks(self) -> tuple[ApkData, ...]:
        return (self.apk, *self.extra_apks)

    @property
    def authority(self) -> bytes:
        """SHA-512 of the signers' keys, now."""
        return hashlib.sha512(b"".join(apk.public_key for apk in self.apks)).digest()


def first_identity(salt: bytes, found: Sequence[FoundApk]) -> PayloadIdentity:
    """That of an instance at its first boot. `found`: the main APK, then the extra ones."""
    apk, *extras = [each.data for each in found]
    identity = PayloadIdentity(salt, apk, tuple(extras))
    return identity._replace(first_authority=identity.authority)


def followed_by(known: PayloadIdentity, found: Sequence[FoundApk]) -> PayloadIdentity:
    """The identity of the instance `known` with the APKs `found`.

    Raises PayloadChanged or PayloadDowngraded if they may not follow those that it had.
    """
    if len(found) != len(known.apks):
        raise PayloadChanged(
            f"Payload has changed: the VM has {len(found) - 1} extra APKs, this instance was made with "
            f"{len(known.extra_apks)}"
        )
    for index, (old, new) in enumerate(zip(known.apks, found, strict=True)):
        _check("the APK" if index == 0 else f"the extra APK #{index - 1}", old, new)
    apk, *extras = [each.data for each in found]
    first = known.first_authority or known.authority
    return PayloadIdentity(known.salt, apk, tuple(extras), first)


def is_step(old: PayloadIdentity, new: PayloadIdentity) -> bool:
    """Whether going from `old` to `new` must not be undone: a version, a signer, or what former signers may do."""

    def state(identity: PayloadIdentity) -> list[tuple[int, bytes, tuple[bytes, ...]]]:
        return [(apk.version, apk.public_key, apk.returning_keys) for apk in identity.apks]

    return state(old) != state(new)


def key_digest(public_key: bytes) -> bytes:
    """How a key stands in `returning_keys`."""
    return hashlib.sha256(public_key).digest()


def _check(what: str, old: ApkData, new: FoundApk) -> None:
    if new.data.root_hash == old.root_hash:
        return
    if old.package is None:
        raise _changed(
            what,
            "has other contents, and this instance knows no package of which it could be an update",
        )
    if new.data.package is None:
        raise _changed(what, f"does not say which package it is; this instance is of {old.package}")
    if new.data.package != old.package:
        raise _changed(what, f"is of package {new.data.package}, this instance of {old.package}")
    _check_signer(what, old, new)
    if new.data.version < old.version:
        raise PayloadDowngraded(
            f"Downgrade refused: {what} is version {new.data.version} of {old.package}, this instance has seen "
            f"version {old.version}"
        )


def _check_signer(what: str, old: ApkData, new: FoundApk) -> None:
    if new.data.public_key == old.public_key:
        return
    former = {key.public_key: key.hands_over for key in new.former_keys}
    if old.public_key in former:
        if not former[old.public_key]:
            raise _changed(
                what,
                "is signed by a successor of this instance's signer whose lineage takes the data of the former key "
                "away (no INSTALLED_DATA)",
            )
    elif key_digest(new.data.public_key) not in old.returning_keys:
        raise _changed(
            what, f"of package {old.package} is not by this instance's signer or a successor"
        )


def _changed(what: str, why: str) -> PayloadChanged:
    return PayloadChanged(f"Payload has changed: {what} {why}")
