"""One instance in real machines: taken over from before, updated by a rotated key, sent back, and put back."""

from dataclasses import replace
from pathlib import Path

import pytest

from avf.apk import ApkBuilder, Rotation, SigningKey, rotate, sign
from avf.client import (
    AppConfig,
    DebugLevel,
    ErrorCode,
    PartitionType,
    PayloadError,
    PayloadFinished,
    VirtualizationService,
)
from avf.disk import MICRODROID_UUID, PartitionKind, create_writable_partition, seal
from avf.guest.cbor import encode
from avf.guest.identity import ApkData
from avf.guest.instance import InstanceImage
from avf.guest.secrets import agent_cdi, instance_key
from avf.guest.storage import MAGIC as FRESH_STORAGE

pytestmark = pytest.mark.vm

PAYLOAD = Path(__file__).with_name("identity.py")
KEY = instance_key(agent_cdi(debuggable=True))
OLD, NEW = SigningKey.generate(), SigningKey.generate()


@pytest.fixture
def config(service: VirtualizationService, tmp_path: Path) -> AppConfig:
    config = AppConfig(
        apk=tmp_path / "app.apk",
        idsig=tmp_path / "app.idsig",
        instance_image=tmp_path / "instance.img",
        encrypted_storage_image=tmp_path / "storage.img",
        payload_binary_name="identity.py",
        debug_level=DebugLevel.FULL,
    )
    for name, kind in (
        ("instance.img", PartitionType.ANDROID_VM_INSTANCE),
        ("storage.img", PartitionType.ENCRYPTEDSTORE),
    ):
        (tmp_path / name).touch()
        service.initialize_writable_partition(tmp_path / name, 8 << 20, kind)
    return config


def build(path: Path, version: int, key: SigningKey, rotation: Rotation | None = None) -> Path:
    builder = ApkBuilder("com.example.identity", version_code=version)
    builder.add("bin/identity.py", PAYLOAD, mode=0o755)
    builder.add("assets/version", str(version).encode())
    unsigned = path.with_suffix(".unsigned")
    with unsigned.open("w+b") as plain, path.open("w+b") as signed:
        builder.write(plain)
        sign(plain, signed, key, rotation=rotation)
    return path


def run(
    service: VirtualizationService, config: AppConfig, apk: Path
) -> dict[str, str] | PayloadError:
    """What the payload said, by the first word; or why it was not run."""
    idsig = apk.with_suffix(".idsig")
    idsig.touch()
    service.create_or_update_idsig_file(apk, idsig)
    log = apk.with_suffix(".log")
    with service.create_vm(replace(config, apk=apk, idsig=idsig), log=log) as vm:
        vm.start()
        events = list(vm.events())
    errors = [event for event in events if isinstance(event, PayloadError)]
    if errors:
        (error,) = errors
        return error
    assert PayloadFinished(0) in events, log.read_text()
    lines = [line.partition(" ") for line in log.read_text().splitlines()]
    return {word: rest.strip() for word, _, rest in lines if word in ("instance", "code", "boots")}


def make_old(path: Path) -> None:
    """The image as agents wrote it that knew no packages: AVF's entry alone, with the same salt."""
    with path.open("r+b") as file:
        record = InstanceImage(file.fileno()).read(KEY)
        assert record is not None
        create_writable_partition(
            file.fileno(), path.stat().st_size, PartitionKind.ANDROID_VM_INSTANCE
        )
        identity = record.identity
        content = {
            "salt": list(identity.salt),
            "apk_data": old_form(identity.apk),
            "extra_apks_data": [],
            "apex_data": [],
        }
        seal(file.fileno(), KEY, encode(content), MICRODROID_UUID)


def old_form(apk: ApkData) -> dict[str, list[int]]:
    return {"root_hash": list(apk.root_hash), "pubkey": list(apk.public_key)}


def test_an_instance_over_its_life(
    service: VirtualizationService, config: AppConfig, tmp_path: Path
) -> None:
    instance = tmp_path / "instance.img"
    first = build(tmp_path / "first.apk", 1, OLD)
    rotation = Rotation(OLD, rotate(OLD, NEW))
    second = build(tmp_path / "second.apk", 2, NEW, rotation)
    first_by_successor = build(tmp_path / "back.apk", 1, NEW, rotation)

    made = run(service, config, first)
    assert isinstance(made, dict), made
    assert made["boots"] == "1"
    assert made["instance"] != made["code"]

    make_old(instance)
    taken_over = run(service, config, first)
    assert taken_over == {**made, "boots": "1 1"}
    before_update = instance.read_bytes()

    updated = run(service, config, second)
    assert updated == {**made, "code": updated["code"], "boots": "1 1 2"}  # type: ignore[index]
    assert updated["code"] != made["code"]  # type: ignore[index]

    back = run(service, config, first_by_successor)
    assert isinstance(back, PayloadError)
    assert back.is_downgrade
    assert "version 1 of com.example.identity, this instance has seen version 2" in back.message

    instance.write_bytes(before_update)
    put_back = run(service, config, first)
    assert put_back == PayloadError(
        ErrorCode.UNKNOWN,
        "Instance image was rolled back: it is of generation 1, the host has seen generation 2",
    )
    assert not (tmp_path / "storage.img").read_bytes().startswith(FRESH_STORAGE)
