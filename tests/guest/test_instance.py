import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avf.disk import PartitionKind, create_writable_partition
from avf.guest.errors import GuestError
from avf.guest.instance import OUR_UUID, ApkData, InstanceImage, PayloadIdentity
from avf.guest.secrets import (
    Cdi,
    agent_cdi,
    config_descriptor,
    derive_cdi,
    instance_key,
    payload_inputs,
    payload_secret,
    storage_key,
)

KEY = bytes(range(32))
APK = ApkData(bytes(32), b"public key")
IDENTITY = PayloadIdentity(bytes(64), APK, (ApkData(b"\x01" * 32, b"other key"),))
OTHER_OWNER = bytes.fromhex("90d2174a038a4bc6adf3824848fc5825")


@pytest.fixture
def image(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "instance.img", os.O_RDWR | os.O_CREAT)
    create_writable_partition(fd, 1 << 20, PartitionKind.ANDROID_VM_INSTANCE)
    yield fd
    os.close(fd)


def test_a_fresh_image_holds_nothing(image: int) -> None:
    assert InstanceImage(image).read(KEY) is None


def test_what_is_written_is_read(image: int) -> None:
    InstanceImage(image).write(KEY, IDENTITY)
    assert InstanceImage(image).read(KEY) == IDENTITY


def test_layout(image: int) -> None:
    """UUID, size, zeros; nonce, ciphertext, tag: what the format's description says, and nothing readable."""
    InstanceImage(image).write(KEY, IDENTITY)
    header = os.pread(image, 512, 512)
    size = int.from_bytes(header[16:24], "little")
    assert header[:16] == OUR_UUID
    assert header[24:] == bytes(488)
    sealed = os.pread(image, size, 1024)
    assert b"public key" not in sealed
    assert b"root_hash" not in sealed
    assert os.pread(image, 512, 1024 + (size + 511) // 512 * 512) == bytes(512)


def test_rewriting_uses_a_fresh_nonce(image: int) -> None:
    InstanceImage(image).write(KEY, IDENTITY)
    first = os.pread(image, 12, 1024)
    InstanceImage(image).write(KEY, IDENTITY)
    assert os.pread(image, 12, 1024) != first
    assert InstanceImage(image).read(KEY) == IDENTITY


def test_size_may_not_change(image: int) -> None:
    InstanceImage(image).write(KEY, IDENTITY)
    with pytest.raises(GuestError, match="Can't change payload size"):
        InstanceImage(image).write(KEY, IDENTITY._replace(extra_apks=()))


def test_partitions_of_others_stay(image: int) -> None:
    header = OTHER_OWNER + (700).to_bytes(8, "little")
    os.pwrite(image, header, 512)
    os.pwrite(image, b"x" * 700, 1024)
    InstanceImage(image).write(KEY, IDENTITY)
    assert InstanceImage(image).read(KEY) == IDENTITY
    assert os.pread(image, 24, 512) == header
    assert os.pread(image, 700, 1024) == b"x" * 700
    assert os.pread(image, 16, 2048) == OUR_UUID


@pytest.mark.parametrize("offset", [512 + 30, 1024, 1024 + 20])
def test_changes_are_seen(image: int, offset: int) -> None:
    InstanceImage(image).write(KEY, IDENTITY)
    byte = os.pread(image, 1, offset)
    os.pwrite(image, bytes([byte[0] ^ 1]), offset)
    with pytest.raises(GuestError, match="cannot be decrypted"):
        InstanceImage(image).read(KEY)


def test_another_key_does_not_fit(image: int) -> None:
    InstanceImage(image).write(KEY, IDENTITY)
    with pytest.raises(GuestError, match="cannot be decrypted"):
        InstanceImage(image).read(bytes(32))


@pytest.mark.parametrize(
    ("offset", "data", "message"),
    [
        (0, b"B", "bad magic"),
        (19, b"\0\0", "version 0"),
        (19, b"\2\0", "version 2"),
        (512, OUR_UUID + b"\x01", "bad payload size 1"),
        (512, OUR_UUID + b"\xff" * 8, "bad payload size"),
        (512, OTHER_OWNER + b"\xff" * 8, "no room"),
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


def payload_cdi(
    identity: PayloadIdentity, debuggable: bool, path: str | None, binary: str | None
) -> Cdi:
    return derive_cdi(agent_cdi(debuggable), payload_inputs(identity, debuggable, path, binary))


def test_secrets_depend_on_everything_that_counts() -> None:
    def secret(
        identity: PayloadIdentity = IDENTITY, debuggable: bool = False, binary: str = "x.so"
    ) -> bytes:
        cdi = payload_cdi(identity, debuggable, None, binary)
        return payload_secret(cdi, b"id", 32)

    # a new root hash (an update by the same signer) or another binary keeps the sealing secrets, as in AVF
    same = IDENTITY._replace(apk=APK._replace(root_hash=b"\x07" * 32))
    assert secret() == secret(same) == secret(binary="y.so")
    others = [
        secret(IDENTITY._replace(salt=b"\x01" * 64)),
        secret(IDENTITY._replace(apk=APK._replace(public_key=b"other signer"))),
        secret(IDENTITY._replace(extra_apks=())),
        secret(debuggable=True),
    ]
    assert len({secret(), *others}) == 5


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
