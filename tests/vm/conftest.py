"""Real machines: the guest image and the sample payload as `make` has built them, a client with its own virtmgr."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from avf.client import AppConfig, DebugLevel, PartitionType, VirtualizationService, connect

INSTANCE_SIZE = 10 << 20


@pytest.fixture
def service(runtime_dir: Path, image_dir: Path) -> Iterator[VirtualizationService]:
    with connect() as connection:
        yield connection


@dataclass(frozen=True, slots=True)
class App:
    """An APK with what goes with it, in a test's own folder."""

    service: VirtualizationService
    folder: Path
    config: AppConfig

    def running(self, payload: str, **changes: object) -> AppConfig:
        return replace(self.config, payload_binary_name=payload, **changes)  # type: ignore[arg-type]


def prepare_app(service: VirtualizationService, folder: Path, apk: Path) -> App:
    """Makes the idsig and an instance image for `apk`."""
    idsig, instance = folder / "app.idsig", folder / "instance.img"
    for file in (idsig, instance):
        file.touch()
    service.create_or_update_idsig_file(apk, idsig)
    service.initialize_writable_partition(
        instance, INSTANCE_SIZE, PartitionType.ANDROID_VM_INSTANCE
    )
    config = AppConfig(
        name="test",
        apk=apk,
        idsig=idsig,
        instance_image=instance,
        payload_binary_name="libhello.so",
        debug_level=DebugLevel.FULL,
    )
    return App(service, folder, config)


@pytest.fixture
def app(service: VirtualizationService, tmp_path: Path, sample_apk: Path) -> App:
    return prepare_app(service, tmp_path, sample_apk)
