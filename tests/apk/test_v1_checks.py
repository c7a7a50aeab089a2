"""Entries are checked by several threads: every one of them, and the first wrong one is the one that is named."""

import io
import os
import random
import threading

import pytest

from avf.apk import ApkError, DigestMismatch, EntryNotSigned, SigningKey, verify_v1
from avf.apk.v1.checks import Checker
from tests.apk.jar import MANIFEST, Jar, Signer, block

SF, EC_BLOCK = "META-INF/CERT.SF", "META-INF/CERT.EC"
COUNT = 300
LARGE = 3 << 20


@pytest.fixture(scope="module")
def jar() -> Jar:
    """Small entries of all sizes, and large ones among them."""
    noise = random.Random(1)
    entries = {f"small{number:03}": noise.randbytes(number * 37) for number in range(COUNT)}
    for number in (50, 200):
        entries[f"small{number:03}x"] = noise.randbytes(1000) * (LARGE // 1000)
    return Jar(SigningKey.generate(), dict(sorted(entries.items())))


def built(jar: Jar, changed: dict[str, bytes], added: dict[str, bytes] | None = None) -> io.BytesIO:
    """An APK with other contents than those that were signed."""
    manifest = jar.manifest()
    data = jar.signature_file(manifest)
    files = {**jar.files(), **(added or {}), **changed}
    signed = {MANIFEST: manifest, SF: data, EC_BLOCK: block(data, Signer(jar.key))}
    return Jar.zipped({**files, **signed})


def test_all_entries_are_right(jar: Jar) -> None:
    assert verify_v1(built(jar, {}), min_sdk=18).scheme.value == "v1"


@pytest.mark.parametrize("name", ["small000", "small001", "small050x", "small299"])
def test_each_wrong_entry_is_found(jar: Jar, name: str) -> None:
    with pytest.raises(DigestMismatch, match=f"'{name}'"):
        verify_v1(built(jar, {name: b"other"}), min_sdk=18)


@pytest.mark.parametrize(
    ("wrong", "first"),
    [
        (["small010", "small011"], "small010"),
        (["small010", "small290"], "small010"),
        (["small049", "small050x"], "small049"),
        (["small050x", "small051"], "small050x"),
        (["small199", "small200x", "small299"], "small199"),
    ],
)
def test_the_first_wrong_entry_is_named(jar: Jar, wrong: list[str], first: str) -> None:
    with pytest.raises(DigestMismatch, match=f"'{first}'"):
        verify_v1(built(jar, dict.fromkeys(wrong, b"other")), min_sdk=18)


def test_a_wrong_entry_takes_precedence_over_a_later_one_without_signature(jar: Jar) -> None:
    extra = {"zzz": b"1"}
    with pytest.raises(EntryNotSigned, match="'zzz' is not in the manifest"):
        verify_v1(built(jar, {}, extra), min_sdk=18)
    with pytest.raises(DigestMismatch, match="'small299'"):
        verify_v1(built(jar, {"small299": b"other"}, extra), min_sdk=18)


def test_the_verdict_is_that_of_one_processor(jar: Jar, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file object, which one thread alone can read, as of a descriptor."""
    apk = built(jar, {"small150": b"other"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    with pytest.raises(ApkError, match="'small150'"):
        verify_v1(apk, min_sdk=18)
    fd = os.memfd_create("apk")
    try:
        os.write(fd, apk.getvalue())
        with pytest.raises(ApkError, match="'small150'"):
            verify_v1(fd, min_sdk=18)
    finally:
        os.close(fd)


def test_no_thread_is_left(jar: Jar) -> None:
    before = threading.active_count()
    for changed in ({}, {"small000": b"other"}, {"small050x": b"other"}):
        try:
            verify_v1(built(jar, changed), min_sdk=18)
        except DigestMismatch:
            pass
        assert threading.active_count() == before
    with pytest.raises(ZeroDivisionError), Checker(_Unread(), 0):
        raise ZeroDivisionError
    assert threading.active_count() == before


class _Unread:
    """A source that is not read."""

    size = 0

    def read_into(self, view: memoryview, offset: int) -> None:
        raise AssertionError

    def read_at(self, offset: int, length: int) -> bytes:
        raise AssertionError

    def check_unchanged(self) -> None:
        raise AssertionError
