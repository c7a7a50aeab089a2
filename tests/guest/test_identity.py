"""Which APK may follow which in an instance."""

import pytest

from avf.client import ErrorCode, PayloadError
from avf.guest.errors import PayloadChanged, PayloadDowngraded
from avf.guest.identity import (
    ApkData,
    FormerKey,
    FoundApk,
    PayloadIdentity,
    first_identity,
    followed_by,
    is_step,
    key_digest,
)

SALT = bytes(range(64))
OLD, NEW, NEWEST, EVIL = b"old key", b"new key", b"newest key", b"evil key"
PACKAGE = "com.example.app"
APP = ApkData(b"root 5", OLD, PACKAGE, 5)
EXTRA = ApkData(b"extra 1", OLD, "com.example.extra", 1)
BIG = 1 << 40


def rotated(*keys: bytes, data: bool = True, rollback: bool = False, version: int = 5) -> FoundApk:
    """An APK signed by the last of `keys`; the former ones have the capabilities said."""
    *former, current = keys
    returning = tuple(key_digest(key) for key in former) if rollback else ()
    apk = ApkData(
        b"root of " + b",".join(keys) + bytes([version]), current, PACKAGE, version, returning
    )
    return FoundApk(apk, tuple(FormerKey(key, data) for key in former))


def instance(*apks: ApkData | FoundApk) -> PayloadIdentity:
    found = [apk if isinstance(apk, FoundApk) else FoundApk(apk) for apk in apks]
    return first_identity(SALT, found)


def follow(known: PayloadIdentity, *apks: ApkData | FoundApk) -> PayloadIdentity:
    found = [apk if isinstance(apk, FoundApk) else FoundApk(apk) for apk in apks]
    return followed_by(known, found)


@pytest.mark.parametrize("version", [5, 6, BIG])
def test_the_same_or_a_newer_version_follows(version: int) -> None:
    update = APP._replace(root_hash=b"another", version=version)
    known = instance(APP)
    found = follow(known, update)
    assert found.apk == update
    assert found.salt == SALT
    assert found.first_authority == known.authority
    assert is_step(known, found) is (version > 5)


def test_the_same_apk_is_no_news() -> None:
    known = instance(APP, EXTRA)
    assert follow(known, APP, EXTRA) == known


@pytest.mark.parametrize(("seen", "found"), [(5, 4), (BIG, 5), (BIG + 5, BIG + 4), (1, 0)])
def test_an_older_version_is_a_downgrade_and_both_are_named(seen: int, found: int) -> None:
    known = instance(APP._replace(version=seen))
    with pytest.raises(PayloadDowngraded) as caught:
        follow(known, APP._replace(root_hash=b"older", version=found))
    message = str(caught.value)
    assert message == (
        f"Downgrade refused: the APK is version {found} of com.example.app, this instance has seen version {seen}"
    )
    assert PayloadError(ErrorCode(int(caught.value.code)), message).is_downgrade


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            APP._replace(root_hash=b"x", package="com.example.other", version=6),
            "Payload has changed: the APK is of package com.example.other, this instance of com.example.app",
        ),
        (
            APP._replace(root_hash=b"x", public_key=EVIL, version=6),
            "Payload has changed: the APK of package com.example.app is not by this instance's signer or a successor",
        ),
        (
            APP._replace(root_hash=b"x", package=None, version=0),
            "Payload has changed: the APK does not say which package it is; this instance is of com.example.app",
        ),
    ],
)
def test_another_payload_is_refused(found: ApkData, message: str) -> None:
    with pytest.raises(PayloadChanged) as caught:
        follow(instance(APP), found)
    assert str(caught.value) == message
    assert not isinstance(caught.value, PayloadDowngraded)
    assert not PayloadError(ErrorCode(int(caught.value.code)), message).is_downgrade


def test_an_apk_without_a_package_is_known_by_its_bytes() -> None:
    known = instance(APP._replace(package=None))
    assert follow(known, APP._replace(package=None)) == known
    for other in (APP._replace(root_hash=b"x"), APP._replace(root_hash=b"x", package=None)):
        with pytest.raises(PayloadChanged, match="knows no package of which it could be an update"):
            follow(known, other)


def test_an_instance_that_knew_no_packages_learns_of_them_from_the_same_apk() -> None:
    known = instance(ApkData(b"root 5", OLD))
    found = follow(known, APP)
    assert found.apk == APP
    assert follow(found, APP._replace(root_hash=b"6", version=6)).apk.version == 6


def test_a_successor_follows_and_the_first_signer_stays_in_the_secrets() -> None:
    known = instance(rotated(OLD))
    second = follow(known, rotated(OLD, NEW))
    assert is_step(known, second)
    third = follow(second, rotated(OLD, NEW, NEWEST))
    jump = follow(known, rotated(OLD, NEW, NEWEST))
    assert jump == third
    assert third.apk.public_key == NEWEST
    assert third.first_authority == known.authority != third.authority


@pytest.mark.parametrize(
    ("known", "found"),
    [
        ((OLD,), rotated(EVIL, NEW)),
        ((OLD, NEW), rotated(OLD, EVIL)),
        ((OLD, NEW), rotated(OLD, EVIL, NEWEST)),
        ((NEW,), rotated(NEWEST, OLD)),
        ((OLD, NEW), rotated(OLD)),
        ((OLD, NEW, NEWEST), rotated(OLD, NEW)),
    ],
)
def test_who_is_no_successor_is_refused(known: tuple[bytes, ...], found: FoundApk) -> None:
    """The lineage must hold the key that the instance knows now; a former key does not come back by itself."""
    with pytest.raises(PayloadChanged, match="not by this instance's signer or a successor"):
        follow(instance(rotated(*known)), found)


def test_a_successor_without_the_right_to_the_data() -> None:
    with pytest.raises(PayloadChanged, match="no INSTALLED_DATA"):
        follow(instance(rotated(OLD)), rotated(OLD, NEW, data=False, version=9))


def test_a_former_key_comes_back_where_the_successor_grants_rollback() -> None:
    known = instance(rotated(OLD, NEW, rollback=True))
    back = follow(known, rotated(OLD))
    assert back.apk.public_key == OLD
    assert is_step(known, back)
    again = follow(back, rotated(OLD, NEW, rollback=True))
    assert again.first_authority == known.first_authority
    with pytest.raises(PayloadChanged):
        follow(known, rotated(EVIL))


def test_a_former_key_that_comes_back_brings_no_older_version() -> None:
    with pytest.raises(PayloadDowngraded):
        follow(instance(rotated(OLD, NEW, rollback=True)), rotated(OLD, version=4))


def test_taking_rollback_away_must_not_be_undone() -> None:
    known = instance(rotated(OLD, NEW, rollback=True))
    revoked = follow(
        known,
        rotated(OLD, NEW, version=5)._replace(
            data=rotated(OLD, NEW).data._replace(root_hash=b"rebuilt")
        ),
    )
    assert is_step(known, revoked)
    with pytest.raises(PayloadChanged):
        follow(revoked, rotated(OLD))


def test_extra_apks_follow_each_in_its_place() -> None:
    known = instance(APP, EXTRA)
    newer = EXTRA._replace(root_hash=b"extra 2", version=2)
    found = follow(known, APP, newer)
    assert found.extra_apks == (newer,)
    assert is_step(known, found)
    message = "the extra APK #0 is version 1 of com.example.extra, this instance has seen version 2"
    with pytest.raises(PayloadDowngraded, match=message):
        follow(found, APP, EXTRA)
    with pytest.raises(PayloadChanged, match=r"the extra APK #0 is of package com\.example\.other"):
        follow(known, APP, newer._replace(package="com.example.other"))
    other = EXTRA._replace(root_hash=b"other", package="com.example.other")
    with pytest.raises(PayloadChanged, match="the extra APK #0 is of package"):
        follow(instance(APP, EXTRA, other), APP, other, EXTRA)


@pytest.mark.parametrize(("before", "after"), [(0, 1), (1, 0), (1, 2)])
def test_the_number_of_extra_apks_stays(before: int, after: int) -> None:
    message = f"the VM has {after} extra APKs, this instance was made with {before}"
    with pytest.raises(PayloadChanged, match=message):
        follow(instance(APP, *[EXTRA] * before), APP, *[EXTRA] * after)
