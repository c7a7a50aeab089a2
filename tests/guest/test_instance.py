"""The instance image: what is written is read, whatever a write was cut off by, and whoever wrote it."""

import base64
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avf.disk import PartitionKind, create_writable_partition
from avf.guest.cbor import CborError, decode, encode
from avf.guest.crypto import encrypt
from avf.guest.errors import GuestError
from avf.guest.identity import ApkData, PayloadIdentity
from avf.guest.instance import AVF_UUID, SLOT_UUIDS, InstanceImage, NoRoom
from avf.guest.record import (
    Record,
    decode_old_record,
    decode_record,
    encode_record,
    instance_id,
)
from avf.guest.secrets import (
    Cdi,
    agent_cdi,
    code_secret,
    config_descriptor,
    derive_cdi,
    instance_key,
    payload_inputs,
    payload_layer,
    payload_secret,
    storage_key,
)

KEY = bytes(range(32))
APK = ApkData(bytes(32), b"public key", "com.example.app", 7, (b"\x03" * 32,))
FIRST = PayloadIdentity(bytes(range(64)), APK, (ApkData(b"\x01" * 32, b"other key"),))
IDENTITY = FIRST._replace(first_authority=FIRST.authority)
RECORD = Record(IDENTITY)
OTHER_OWNER = bytes.fromhex("90d2174a038a4bc6adf3824848fc5825")
SLOT_SIZE = 32 << 10
OLD = json.loads(Path(__file__).with_name("data").joinpath("instance_of_1.json").read_text())
"""An instance image as the first agents wrote it, and what they derived for it."""


def old_identity() -> PayloadIdentity:
    apk, extra = [ApkData(bytes.fromhex(root), bytes.fromhex(key)) for root, key in OLD["apks"]]
    return PayloadIdentity(bytes.fromhex(OLD["salt"]), apk, (extra,))


def write_old_image(fd: int) -> bytes:
    """The stored image; the key that it is sealed with."""
    os.ftruncate(fd, 0)
    os.ftruncate(fd, OLD["size"])
    os.pwrite(fd, base64.b64decode(OLD["image"]), 0)
    return instance_key(agent_cdi(False))


@pytest.fixture
def image(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "instance.img", os.O_RDWR | os.O_CREAT)
    create_writable_partition(fd, 1 << 20, PartitionKind.ANDROID_VM_INSTANCE)
    yield fd
    os.close(fd)


def test_a_fresh_image_holds_nothing(image: int) -> None:
    assert InstanceImage(image).read(KEY) is None


def test_what_is_written_last_is_read(image: int) -> None:
    for number in range(1, 6):
        record = RECORD._replace(generation=number)
        InstanceImage(image).write(KEY, record)
        assert InstanceImage(image).read(KEY) == record._replace(serial=number)


def headers(fd: int) -> list[tuple[bytes, int, int]]:
    """UUID, size and offset of all entries."""
    found, offset = [], 512
    while (header := os.pread(fd, 512, offset))[:16] != bytes(16) and len(header) == 512:
        size = int.from_bytes(header[16:24], "little")
        found.append((header[:16], size, offset))
        offset += 512 + -(-size // 512) * 512
    return found


def test_layout(image: int) -> None:
    """UUID, size, instance ID, zeros; nonce, ciphertext, tag; and nothing readable."""
    InstanceImage(image).write(KEY, RECORD)
    first = 512 + 2 * 512
    assert headers(image) == [
        (AVF_UUID, 28, 512),
        (SLOT_UUIDS[0], SLOT_SIZE, first),
        (SLOT_UUIDS[1], SLOT_SIZE, first + 512 + SLOT_SIZE),
    ]
    header = os.pread(image, 512, first)
    assert header[24:56] == instance_id(IDENTITY.salt)
    assert header[56:] == bytes(456)
    assert IDENTITY.salt not in header
    content = os.pread(image, 1 << 20, 0)
    assert b"public key" not in content
    assert b"com.example" not in content


def test_each_write_has_a_fresh_nonce(image: int) -> None:
    nonces = set()
    for _ in range(4):
        InstanceImage(image).write(KEY, RECORD)
        nonces |= {os.pread(image, 12, offset + 512) for uuid, _, offset in headers(image)[1:]}
    assert len(nonces) == 1 + 4


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


class Disk:
    """Lets so many bytes through, then nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 0
        self.written = 0
        self._pwrite = os.pwrite
        monkeypatch.setattr(os, "pwrite", self.pwrite)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        count = self._pwrite(fd, data[: self.left], offset) if self.left else 0
        self.left -= count
        self.written += count
        if count < len(data):
            raise Killed
        return count


POINTS = [0, 1, 100, 511, 512, 513, 600, 1024, 2048, SLOT_SIZE, SLOT_SIZE + 512, SLOT_SIZE + 1100]


def snapshots(fd: int, disk: Disk, act: Callable[[], None]) -> Iterator[None]:
    """The image after `act` was cut off, once for each of many places."""
    before = os.pread(fd, 1 << 20, 0)
    disk.left, disk.written = 1 << 30, 0
    act()
    total = disk.written
    for point in sorted({*(p for p in POINTS if p < total), total - 513, total - 512, total - 1}):
        disk.left = 1 << 30
        os.pwrite(fd, before, 0)
        disk.left = point
        with pytest.raises(Killed):
            act()
        disk.left = 1 << 30
        yield


def test_a_write_that_is_cut_off_leaves_what_was_there(
    image: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    for number in (1, 2, 3):
        before = InstanceImage(image).read(KEY)
        record = RECORD._replace(generation=number)
        whole = record._replace(serial=before.serial + 1 if before else 1)
        found = [
            InstanceImage(image).read(KEY)
            for _ in snapshots(image, disk, lambda r=record: InstanceImage(image).write(KEY, r))
        ]
        assert found[0] == before
        assert all(each in (before, whole) for each in found)
        InstanceImage(image).write(KEY, record)


def test_an_old_image_is_read_and_taken_over_whatever_cuts_that_off(
    image: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = write_old_image(image)
    os.ftruncate(image, 1 << 20)
    old = InstanceImage(image).read(key)
    assert old is not None and old.is_old
    assert old.identity == old_identity()._replace(first_authority=old_identity().authority)
    new = old._replace(generation=1)
    disk = Disk(monkeypatch)
    seen = []
    for _ in snapshots(image, disk, lambda: InstanceImage(image).write(key, new)):
        found = InstanceImage(image).read(key)
        assert found is not None and found.identity == old.identity
        seen.append(found.is_old)
        InstanceImage(image).wipe_old_record()
        assert any(os.pread(image, 400, 1024)) is found.is_old
    assert seen[0] is True
    assert seen[-1] is False
    InstanceImage(image).write(key, new)
    uuid, size, offset = headers(image)[0]
    assert (uuid, os.pread(image, size, offset + 512)) == (AVF_UUID, bytes(size))


def test_an_old_image_has_the_secrets_it_had() -> None:
    known = old_identity()
    identity = known._replace(
        apk=known.apk._replace(root_hash=b"new" * 10, public_key=b"rotated"),
        first_authority=known.authority,
    )
    for each, attested in ((known, True), (identity, False)):
        inputs = payload_inputs(each, False, None, "libhello.so")
        cdi = payload_layer(agent_cdi(False), inputs, each.first_authority).cdi
        assert payload_secret(cdi, b"id", 32).hex() == OLD["secret"]
        assert storage_key(cdi, 32).hex() == OLD["storage_key_32"]
        assert storage_key(cdi, 64).hex() == OLD["storage_key_64"]
        assert (cdi.attest.hex() == OLD["attest"]) is attested


def test_the_smallest_image(tmp_path: Path) -> None:
    """4096 bytes are enough for an APK and no extra one; where they are not, it is said how many are."""
    one = RECORD._replace(identity=IDENTITY._replace(extra_apks=()))
    many = RECORD._replace(identity=IDENTITY._replace(extra_apks=IDENTITY.extra_apks * 9))
    fd = os.open(tmp_path / "small.img", os.O_RDWR | os.O_CREAT)
    create_writable_partition(fd, 8192, PartitionKind.ANDROID_VM_INSTANCE)
    os.ftruncate(fd, 4096)
    with pytest.raises(NoRoom, match=r"it has 4096 bytes, but this instance needs at least 5632"):
        InstanceImage(fd).write(KEY, many)
    assert InstanceImage(fd).read(KEY) is None
    InstanceImage(fd).write(KEY, one)
    assert InstanceImage(fd).read(KEY) == one
    InstanceImage(fd).write(KEY, one._replace(generation=2))
    with pytest.raises(GuestError, match=r"a record of \d+ bytes does not fit into \d+"):
        InstanceImage(fd).write(KEY, many)
    assert InstanceImage(fd).read(KEY) == Record(one.identity, 2, 2)
    os.close(fd)


def test_partitions_of_others_stay(image: int) -> None:
    header = OTHER_OWNER + (700).to_bytes(8, "little")
    os.pwrite(image, header, 512)
    os.pwrite(image, b"x" * 700, 1024)
    InstanceImage(image).write(KEY, RECORD)
    InstanceImage(image).write(KEY, RECORD)
    assert InstanceImage(image).read(KEY) == RECORD._replace(serial=2)
    assert os.pread(image, 24, 512) == header
    assert os.pread(image, 700, 1024) == b"x" * 700
    assert [uuid for uuid, _, _ in headers(image)] == [OTHER_OWNER, AVF_UUID, *SLOT_UUIDS]


@pytest.mark.parametrize("part", ["header", "id", "nonce", "text", "tag"])
def test_changes_are_seen(image: int, part: str) -> None:
    """A slot that was tampered with does not count; if both were, the instance does not open."""
    for _ in range(2):
        InstanceImage(image).write(KEY, RECORD)
    places = {"header": 400, "id": 30, "nonce": 512, "text": 1000, "tag": 512 + SLOT_SIZE - 1}
    flip(image, headers(image)[2][2] + places[part])
    assert InstanceImage(image).read(KEY) == RECORD._replace(serial=1)
    flip(image, headers(image)[1][2] + places[part])
    with pytest.raises(GuestError, match="cannot be decrypted"):
        InstanceImage(image).read(KEY)


def flip(fd: int, offset: int) -> None:
    (byte,) = os.pread(fd, 1, offset)
    os.pwrite(fd, bytes([byte ^ 1]), offset)


def test_slots_cannot_be_swapped(image: int) -> None:
    for generation in (1, 2):
        InstanceImage(image).write(KEY, RECORD._replace(generation=generation))
    (_, size, first), (_, _, second) = headers(image)[1:]
    os.pwrite(image, os.pread(image, size, first + 512), second + 512)
    assert InstanceImage(image).read(KEY) == RECORD


def test_another_key_does_not_fit(image: int) -> None:
    InstanceImage(image).write(KEY, RECORD)
    with pytest.raises(GuestError, match="cannot be decrypted"):
        InstanceImage(image).read(bytes(32))


def test_an_older_guest_image_refuses_a_newer_format() -> None:
    data = encode_record(RECORD)
    newer = data.replace(b"format\x01", b"format\x02")
    assert newer != data
    with pytest.raises(GuestError, match="format 2, this guest image knows 1: it is too old"):
        decode_record(newer)


@pytest.mark.parametrize("value", [1 << 40, "text", b"bytes", [256], None])
def test_an_old_record_with_anything_else_for_its_bytes(value: object) -> None:
    apk = {"root_hash": [1] * 32, "pubkey": [2]}
    whole = {"salt": [0] * 64, "apk_data": apk, "extra_apks_data": []}
    assert decode_old_record(encode(whole)).is_old
    for wrong in (
        {**whole, "salt": value},
        {**whole, "apk_data": {**apk, "root_hash": value}},
        {**whole, "extra_apks_data": [{**apk, "pubkey": value}]},
    ):
        with pytest.raises(CborError, match="not the data of a payload"):
            decode_old_record(encode(wrong))


def test_agents_of_2023_do_not_open_what_is_kept_in_slots(image: int) -> None:
    """They look for AVF's entry and, if there were none, would take the image for fresh."""
    InstanceImage(image).write(KEY, RECORD)
    uuid, size, offset = headers(image)[0]
    assert (uuid, size) == (AVF_UUID, 28)
    assert os.pread(image, size, offset + 512) == bytes(28)


@pytest.mark.parametrize(
    ("offset", "data", "message"),
    [
        (0, b"B", "bad magic"),
        (19, b"\0\0", "version 0"),
        (19, b"\2\0", "version 2"),
        (512, AVF_UUID + b"\x01", "bad payload size 1"),
        (512, AVF_UUID + b"\xff" * 8, "bad payload size"),
        (512, SLOT_UUIDS[0] + b"\x01", "bad payload size 1"),
        (512, OTHER_OWNER + b"\xff" * 8, "bad payload size"),
        (512, OTHER_OWNER + (1 << 20).to_bytes(8, "little"), "no room"),
    ],
)
def test_damage_is_named(image: int, offset: int, data: bytes, message: str) -> None:
    os.pwrite(image, data, offset)
    with pytest.raises(GuestError, match=message):
        InstanceImage(image).read(KEY)


@given(st.binary(max_size=300))
def test_hostile_partitions_never_crash(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("i") / "image"
    path.write_bytes((b"Android-VM-instance\x01\0".ljust(512, b"\0") + data).ljust(4096, b"\0"))
    fd = os.open(path, os.O_RDONLY)
    try:
        InstanceImage(fd).read(KEY)
    except GuestError:
        pass
    finally:
        os.close(fd)


ANYTHING: list[object] = [None, -1, 0, 1 << 63, b"", b"x", "text", [], [1], {}, {"root_hash": b""}]
FIELDS = ["format", "serial", "generation", "salt", "first_authority", "apks"]


@pytest.mark.parametrize("field", FIELDS)
def test_records_of_any_form_are_read_or_refused(tmp_path: Path, field: str) -> None:
    """Sealed with the right key, too: that one is no secret."""
    fd = os.open(tmp_path / "image", os.O_RDWR | os.O_CREAT)
    valid = decode(encode_record(RECORD))
    for value in ANYTHING:
        data = encode({**valid, field: value})
        header = (SLOT_UUIDS[0] + (1024).to_bytes(8, "little")).ljust(512, b"\0")
        plain = (len(data).to_bytes(4, "little") + data).ljust(1024 - 28, b"\0")
        create_writable_partition(fd, 8192, PartitionKind.ANDROID_VM_INSTANCE)
        os.pwrite(fd, header + bytes(12) + encrypt(KEY, bytes(12), plain, header), 512)
        with pytest.raises(GuestError):
            InstanceImage(fd).read(KEY)
    os.close(fd)


def payload_cdi(
    identity: PayloadIdentity, debuggable: bool, path: str | None, binary: str | None
) -> Cdi:
    inputs = payload_inputs(identity, debuggable, path, binary)
    return derive_cdi(agent_cdi(debuggable), inputs, identity.first_authority)


def test_secrets_depend_on_everything_that_counts() -> None:
    def secret(
        identity: PayloadIdentity = IDENTITY, debuggable: bool = False, binary: str = "x.so"
    ) -> bytes:
        cdi = payload_cdi(identity, debuggable, None, binary)
        return payload_secret(cdi, b"id", 32)

    # an update, be it by a rotated key, or another binary keeps the sealing secrets
    successor = APK._replace(root_hash=b"\x07" * 32, public_key=b"successor", version=8)
    same = IDENTITY._replace(apk=successor)
    assert secret() == secret(same) == secret(binary="y.so")
    others = [
        secret(IDENTITY._replace(salt=b"\x01" * 64)),
        secret(FIRST._replace(apk=APK._replace(public_key=b"other signer"))),
        secret(FIRST._replace(extra_apks=())),
        secret(debuggable=True),
    ]
    assert len({secret(), *others}) == 5


def test_secrets_of_the_exact_code() -> None:
    def secret(
        identity: PayloadIdentity = IDENTITY, binary: str = "x.so", identifier: bytes = b"id"
    ) -> bytes:
        inputs = payload_inputs(identity, False, None, binary)
        layer = payload_layer(agent_cdi(False), inputs, identity.first_authority)
        return code_secret(layer, identifier, 32)

    inputs = payload_inputs(IDENTITY, False, None, "x.so")
    layer = payload_layer(agent_cdi(False), inputs, IDENTITY.first_authority)
    extra = IDENTITY.extra_apks[0]._replace(root_hash=b"\x07" * 32)
    others = [
        secret(IDENTITY._replace(salt=b"\x01" * 64)),
        secret(IDENTITY._replace(apk=APK._replace(root_hash=b"\x07" * 32))),
        secret(IDENTITY._replace(apk=APK._replace(public_key=b"successor"))),
        secret(IDENTITY._replace(extra_apks=(extra,))),
        secret(binary="y.so"),
        secret(identifier=b"other"),
        payload_secret(layer.cdi, b"id", 32),
    ]
    assert secret() == code_secret(layer, b"id", 32)
    assert len({secret(), *others}) == 8
    with pytest.raises(ValueError, match="at most 32"):
        code_secret(layer, b"id", 33)


def test_secrets_by_identifier_and_size() -> None:
    cdi = payload_cdi(IDENTITY, False, "/mnt/apk/assets/c.json", None)
    assert payload_secret(cdi, b"a", 32) != payload_secret(cdi, b"b", 32)
    assert payload_secret(cdi, b"a", 32).startswith(payload_secret(cdi, b"a", 8))
    assert payload_secret(cdi, b"a", 0) == b""
    assert instance_key(cdi) != storage_key(cdi)
    for size in (-1, 33):
        with pytest.raises(ValueError, match="at most 32"):
            payload_secret(cdi, b"a", size)


def test_config_descriptor() -> None:
    """The CBOR of AVF's component descriptor: -70002 is the component's name, -71000 or -71001 its configuration."""
    name = "3a00011171" + "72" + b"Microdroid payload".hex()
    assert config_descriptor("/c", None).hex() == "a2" + name + "3a00011557" + "62" + b"/c".hex()
    assert config_descriptor(None, "b").hex() == "a2" + name + "3a00011558" + "a10161" + b"b".hex()
