"""An instance over boots and updates: its image, what the host remembers, and guests that are killed in between."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf.aidl.virtualmachineservice import IVirtualMachineService
from avf.binder import RemoteException, Status, StatusError
from avf.client import ErrorCode, PayloadError
from avf.disk import PartitionKind, create_writable_partition
from avf.guest import instance as instance_module
from avf.guest.errors import (
    GuestError,
    InstanceRolledBack,
    PayloadChanged,
    PayloadDowngraded,
    failure_text,
)
from avf.guest.identity import ApkData, FormerKey, FoundApk, PayloadIdentity
from avf.guest.instance import InstanceImage
from avf.guest.payload import Payload
from avf.guest.record import Record, instance_id
from avf.guest.remember import remember
from tests.guest.test_instance import KEY, Disk, Killed, old_identity, write_old_image


class Host(IVirtualMachineService, partial=True):
    """Remembers generations; `fault` is raised instead of an answer."""

    def __init__(self) -> None:
        self.known: dict[bytes, int] = {}
        self.fault: BaseException | None = None
        self.calls: list[str] = []

    def get_instance_generation(self, instance_id: bytes) -> int:
        self._call("get")
        return self.known.get(instance_id, 0)

    def raise_instance_generation(self, instance_id: bytes, generation: int) -> None:
        self._call("raise")
        self.known[instance_id] = max(generation, self.known.get(instance_id, 0))

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if self.fault is not None:
            raise self.fault


class Old(IVirtualMachineService, partial=True):
    """A host that has never heard of generations."""

    def get_instance_generation(self, instance_id: bytes) -> int:
        raise StatusError(Status.UNKNOWN_TRANSACTION)


def version(number: int, key: bytes = b"key", build: str = "") -> FoundApk:
    return FoundApk(ApkData(f"root {number} {key!r} {build}".encode(), key, "com.example", number))


@pytest.fixture
def image(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "instance.img", os.O_RDWR | os.O_CREAT)
    create_writable_partition(fd, 1 << 18, PartitionKind.ANDROID_VM_INSTANCE)
    yield fd
    os.close(fd)


@pytest.fixture
def host() -> Host:
    return Host()


def boot(
    image: int, host: IVirtualMachineService, *apks: FoundApk, key: bytes = KEY
) -> PayloadIdentity:
    """One boot with `apks`; a known root hash is not verified anew."""

    def verify(known: PayloadIdentity | None) -> Payload:
        old = {} if known is None else {apk.root_hash: FoundApk(apk) for apk in known.apks}
        return Payload(tuple(old.get(apk.data.root_hash, apk) for apk in apks), "", ())

    return remember(InstanceImage(image), key, host, verify)[1]


def snapshot(image: int) -> bytes:
    return os.pread(image, 1 << 20, 0)


def put_back(image: int, content: bytes) -> None:
    os.pwrite(image, content, 0)


def test_an_update_keeps_what_secrets_come_from(image: int, host: Host) -> None:
    first = boot(image, host, version(1))
    second = boot(image, host, version(2))
    assert (second.salt, second.first_authority) == (first.salt, first.first_authority)
    assert boot(image, host, version(2)) == second
    with pytest.raises(PayloadDowngraded, match=r"version 1 of com\.example, .* version 2"):
        boot(image, host, version(1))
    with pytest.raises(PayloadChanged):
        boot(image, host, version(3, b"another key"))
    rotated = version(3, b"new key")._replace(former_keys=(FormerKey(b"key", True),))
    assert boot(image, host, rotated).first_authority == first.first_authority
    assert boot(image, host, version(3, b"new key", "rebuilt")).salt == first.salt
    with pytest.raises(PayloadChanged):
        boot(image, host, version(4))


def test_what_is_refused_changes_nothing(image: int, host: Host) -> None:
    boot(image, host, version(1))
    boot(image, host, version(2))
    before, known = snapshot(image), dict(host.known)
    for other in (version(1), version(2, b"another key"), version(9, b"another key")):
        with pytest.raises(PayloadChanged):
            boot(image, host, other)
    assert (snapshot(image), host.known) == (before, known)


def test_an_ordinary_boot_writes_nothing_and_asks_once(image: int, host: Host) -> None:
    boot(image, host, version(1))
    assert host.calls == []
    before = snapshot(image)
    for _ in range(3):
        boot(image, host, version(1))
    assert snapshot(image) == before
    assert host.calls == ["get"] * 3
    assert host.known == {}


def test_an_old_image_that_is_put_back_is_noticed(image: int, host: Host) -> None:
    boot(image, host, version(1))
    old = snapshot(image)
    boot(image, host, version(2))
    boot(image, host, version(3))
    newest = snapshot(image)
    put_back(image, old)
    for apk in (version(1), version(2), version(3), version(4)):
        with pytest.raises(InstanceRolledBack) as caught:
            boot(image, host, apk)
        assert str(caught.value) == (
            "Instance image was rolled back: it is of generation 1, the host has seen generation 3"
        )
        assert failure_text(caught.value).startswith("MICRODROID_UNKNOWN_RUNTIME_ERROR|Instance")
        assert PayloadError(ErrorCode(int(caught.value.code)), str(caught.value)).is_rollback
    assert snapshot(image) == old
    put_back(image, newest)
    assert boot(image, host, version(3)).apk.version == 3


def test_the_newest_record_cannot_be_spoilt_to_get_at_the_one_before(
    image: int, host: Host
) -> None:
    boot(image, host, version(1))
    boot(image, host, version(2))
    spoilt = snapshot(image)
    slot = spoilt.index(instance_module.SLOT_UUIDS[1])
    put_back(image, spoilt[: slot + 600] + bytes(64) + spoilt[slot + 664 :])
    with pytest.raises(InstanceRolledBack):
        boot(image, host, version(1))


def test_a_rebuilt_version_may_go_back_and_forth(image: int, host: Host) -> None:
    boot(image, host, version(1))
    old = snapshot(image)
    boot(image, host, version(1, build="second"))
    boot(image, host, version(1))
    put_back(image, old)
    boot(image, host, version(1, build="second"))
    assert host.known == {}


@pytest.mark.parametrize(
    "host",
    [Old(), None],
    ids=["of before", "without a place"],
)
def test_a_host_that_remembers_nothing(image: int, host: IVirtualMachineService | None) -> None:
    """Everything works but one thing: an old image is not noticed."""
    if host is None:
        host = Host()
        host.fault = RemoteException.unsupported_operation("no place")
    boot(image, host, version(1))
    old = snapshot(image)
    boot(image, host, version(2))
    with pytest.raises(PayloadDowngraded):
        boot(image, host, version(1))
    put_back(image, old)
    boot(image, host, version(1))


def test_a_host_that_starts_to_remember_late_or_has_lost_its_memory(image: int, host: Host) -> None:
    for number in range(1, 5):
        boot(image, Old(), version(number))
    boot(image, host, version(4))
    assert list(host.known.values()) == [4]
    boot(image, host, version(5))
    host.known.clear()
    boot(image, host, version(5))
    assert list(host.known.values()) == [5]


def test_a_host_that_fails_stops_the_guest_and_not_the_instance(image: int, host: Host) -> None:
    boot(image, host, version(1))
    host.fault = RemoteException.service_specific_error(-1, "no answer")
    with pytest.raises(GuestError, match="cannot ask the host for the instance's generation"):
        boot(image, host, version(2))
    host.fault = None
    boot(image, host, version(2))


@pytest.mark.parametrize("old_first", [False, True])
def test_killed_anywhere_in_an_update_the_instance_opens(
    image: int, host: Host, monkeypatch: pytest.MonkeyPatch, old_first: bool
) -> None:
    """The new version always; the old one as long as nothing was written of the new one."""
    key = KEY
    if old_first:
        key = write_old_image(image)
        os.ftruncate(image, 1 << 18)
        apk, extra = old_identity().apks
        before_update = [
            FoundApk(apk._replace(package="com.example", version=1)),
            FoundApk(extra._replace(package="com.example.extra", version=1)),
        ]
    else:
        before_update = [version(1)]
        boot(image, host, *before_update)
    main, *extras = before_update
    update = [
        main._replace(data=main.data._replace(root_hash=b"2" * 32, version=2)),
        *extras,
    ]
    target = before_update if old_first else update
    start = snapshot(image)
    disk = Disk(monkeypatch)
    disk.left = 1 << 30
    boot(image, host, *target, key=key)
    total = disk.written
    host.known.clear()
    opened_old = 0
    for point in sorted({*range(0, total, 4099), 100, 600, 1500, total - 512, total - 1}):
        disk.left = 1 << 30
        put_back(image, start)
        disk.left = point
        with pytest.raises(Killed):
            boot(image, host, *target, key=key)
        disk.left = 1 << 30
        after = snapshot(image)
        host.known.clear()
        try:
            boot(image, host, *before_update, key=key)
            opened_old += 1
        except PayloadDowngraded:
            pass
        put_back(image, after)
        assert boot(image, host, *target, key=key).apk == target[0].data
        host.known.clear()
    assert opened_old


def test_killed_between_image_and_host(image: int, host: Host) -> None:
    boot(image, host, version(1))
    boot(image, host, version(2))
    before = snapshot(image)
    host.fault = None

    class Dying(Host):
        def raise_instance_generation(self, instance_id: bytes, generation: int) -> None:
            raise Killed

    dying = Dying()
    dying.known = host.known
    with pytest.raises(Killed):
        boot(image, dying, version(3))
    assert list(host.known.values()) == [2]
    assert snapshot(image) != before
    boot(image, host, version(3))
    assert list(host.known.values()) == [3]
    put_back(image, before)
    with pytest.raises(InstanceRolledBack):
        boot(image, host, version(2))


def test_an_instance_of_2023_is_taken_over_and_follows_the_rules_of_today(
    image: int, host: Host
) -> None:
    key = write_old_image(image)
    os.ftruncate(image, 1 << 18)
    old = snapshot(image)
    apk, extra = old_identity().apks
    same = FoundApk(apk._replace(package="com.example", version=3))
    other_extra = FoundApk(extra._replace(package="com.example.extra", version=1))

    def newer(number: int) -> FoundApk:
        return FoundApk(same.data._replace(root_hash=bytes([number]) * 32, version=number))

    with pytest.raises(PayloadChanged, match="knows no package"):
        boot(image, host, newer(4), other_extra, key=key)
    assert snapshot(image) == old
    taken = boot(image, host, same, other_extra, key=key)
    assert taken.salt == old_identity().salt
    assert taken.first_authority == old_identity().authority
    assert boot(image, host, same, other_extra, key=key) == taken
    updated = boot(image, host, newer(4), other_extra, key=key)
    assert (updated.salt, updated.first_authority) == (taken.salt, taken.first_authority)
    with pytest.raises(PayloadDowngraded):
        boot(image, host, same, other_extra, key=key)
    put_back(image, old)
    with pytest.raises(InstanceRolledBack, match="generation 0, the host has seen generation 2"):
        boot(image, host, same, other_extra, key=key)


def test_an_old_instance_in_an_image_that_is_too_small_goes_on_as_it_was(
    image: int, host: Host
) -> None:
    key = write_old_image(image)
    before = snapshot(image)
    same = [FoundApk(apk._replace(package="com.example")) for apk in old_identity().apks]
    for _ in range(2):
        identity = boot(image, host, *same, key=key)
        assert identity.first_authority == old_identity().authority
    assert snapshot(image) == before
    with pytest.raises(PayloadChanged):
        boot(image, host, version(9), same[1], key=key)


def test_the_id_says_nothing_of_the_salt_and_is_the_same_in_all_copies() -> None:
    identity = old_identity()
    first = instance_id(identity.salt)
    assert len(first) == 32
    assert first not in identity.salt
    assert first != instance_id(bytes(64))
    assert first == instance_id(Record(identity).identity.salt)
