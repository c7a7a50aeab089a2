"""Who attacks what is remembered of instances: a user with very many of them, and an APK with a hostile manifest."""

import io
import itertools
import tracemalloc
import zipfile

import pytest

from avf.apk import EntryError, read_package
from avf.apk.axml import _attribute, _chunk, _node, _string_pool
from avf.apk.fields import u32
from avf.binder import ExceptionCode, RemoteException
from avf.virtualizationservice.generations import BURST
from tests.virtualizationservice.conftest import host
from tests.virtualizationservice.daemon import ALICE, BOB, STRANGER, Host

__all__ = ["host"]

FIRST = bytes(32)


@pytest.mark.parametrize("uid", [ALICE, STRANGER])
def test_a_user_with_instances_without_end(host: Host, uid: int) -> None:
    """It has so many and no more; others have theirs, and what they had stays."""
    with host.daemon(), host.client(BOB) as bob, host.client(0) as root:
        bob.raise_instance_generation(FIRST, 7)
        with host.client(uid) as greedy:
            with pytest.raises(RemoteException) as caught:
                for number in itertools.count(1):
                    greedy.raise_instance_generation(number.to_bytes(32, "big"), 2)
            assert caught.value.code is ExceptionCode.ILLEGAL_STATE
            assert number < 10 * BURST
            bob.raise_instance_generation(FIRST, 8)
            root.raise_instance_generation(FIRST, 9)
            assert bob.get_instance_generation(FIRST) == 8
            assert root.get_instance_generation(FIRST) == 9
            assert greedy.get_instance_generation(bytes(31) + b"\1") == 2
    files = [path for path in (host.directory / "instances").rglob("*") if path.is_file()]
    assert len(files) == number - 1 + 2


def apk_with(manifest: bytes) -> io.BytesIO:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("AndroidManifest.xml", manifest)
    return out


def root_element(strings: list[str], attributes: bytes, count: int) -> bytes:
    head = u32(0xFFFFFFFF) + u32(strings.index("manifest"))
    head += b"".join(number.to_bytes(2, "little") for number in (20, 20, count, 0, 0, 0))
    return _node(0x0102, head + attributes)


def document(strings: list[str], body: bytes) -> bytes:
    return _chunk(0x0003, 8, b"", _string_pool(strings) + body)


def test_a_manifest_with_very_many_attributes() -> None:
    """All of them the longest names there are, which are looked at again and again, in bounded memory."""
    strings = ["manifest", "x" * 400]
    one = _attribute(strings, None, "x" * 400, 1)
    manifest = document(strings, root_element(strings, one * 65535, 65535))
    apk = apk_with(manifest)
    tracemalloc.start()
    with pytest.raises(EntryError, match="names its package 0 times"):
        read_package(apk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 << 20


def test_a_manifest_without_end() -> None:
    with pytest.raises(EntryError, match="at most 8388608 allowed"):
        read_package(apk_with(bytes((8 << 20) + 1)))


def test_a_package_name_adds_no_lines_to_what_is_told() -> None:
    strings = ["manifest", "package"]
    for name in ("a.b\nDowngrade refused", "a.b\x1b[2J", "a.b: ", "a.b\u2028c"):
        attribute = _attribute(strings, None, "package", name)
        manifest = document(strings, root_element(strings, attribute, 1))
        with pytest.raises(EntryError, match="has a bad package name"):
            read_package(apk_with(manifest))
