import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from avf.client import (
    ConfigError,
    CpuTopology,
    DeathReason,
    DebugLevel,
    VirtualizationService,
    VmStateError,
    connect,
)
from avf.client.store import StoredConfig, VmStore
from tests.eventually import eventually

FAKE = [sys.executable, "-m", "tests.client.fake_virtmgr"]


@pytest.fixture
def store(tmp_path: Path) -> VmStore:
    return VmStore(tmp_path / "vms")


@pytest.fixture
def config(tmp_path: Path) -> StoredConfig:
    apk = tmp_path / "app.apk"
    apk.write_text("an apk")
    return StoredConfig(apk=str(apk), payload_binary_name="lib.so")


@pytest.fixture
def service() -> Iterator[VirtualizationService]:
    with connect(command=FAKE) as connection:
        yield connection


def changed(config: StoredConfig, **changes: object) -> StoredConfig:
    fields = {field: getattr(config, field) for field in config.__struct_fields__}
    return StoredConfig(**(fields | changes))  # type: ignore[arg-type]


def test_what_was_created_is_found_again(store: VmStore, config: StoredConfig) -> None:
    assert store.names() == []
    assert store.get("a") is None
    full = changed(config, debuggable=True, encrypted_storage_size=4096, memory_mib=300)
    store.create("a", full)
    store.get_or_create("b", config)
    assert store.names() == ["a", "b"]
    again = VmStore(store.directory)
    assert [vm.config for name in again.names() if (vm := again.get(name))] == [full, config]
    assert again.get_or_create("a", config).config == full


def test_folders_that_are_no_vms_hide_no_others(store: VmStore, config: StoredConfig) -> None:
    folder = store.create("a", config).folder
    for name in ("b\nc", ".d"):
        shutil.copytree(folder, store.directory / name)
    (store.directory / "e").touch()
    assert store.names() == ["a"]


def test_a_name_is_given_once(store: VmStore, config: StoredConfig) -> None:
    store.create("a", config)
    with pytest.raises(VmStateError, match="there is a VM a already"):
        store.create("a", config)
    assert [path.name for path in store.directory.iterdir()] == ["a"]


@pytest.mark.parametrize("name", ["", ".", "..", "../foo", "a/b", ".hidden", "a\0b", "a\nb"])
def test_names_that_are_none(store: VmStore, config: StoredConfig, name: str) -> None:
    with pytest.raises(ConfigError, match="is no name for a VM"):
        store.create(name, config)
    with pytest.raises(ConfigError, match="is no name for a VM"):
        store.get(name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"apk": "relative.apk"}, "must be absolute"),
        ({"extra_apks": ("relative.apk",)}, "must be absolute"),
        ({"payload_binary_name": "dir/file.so"}, "must not specify a path"),
        ({"payload_binary_name": None}, "is needed"),
        ({"memory_mib": 0}, "memory_mib must be"),
        ({"encrypted_storage_size": -1}, "encrypted_storage_size must be a whole number"),
    ],
)
def test_refused_configurations(
    config: StoredConfig, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        changed(config, **changes)


def test_only_memory_and_cpus_may_change(store: VmStore, config: StoredConfig) -> None:
    vm = store.create("a", config)
    new = changed(config, memory_mib=512, match_host_cpus=True)
    vm.set_config(new)
    assert vm.config == new
    for changes in (
        {"debuggable": True},
        {"protected": True},
        {"payload_binary_name": "other.so"},
        {"apk": "/other.apk"},
        {"encrypted_storage_size": 4096},
    ):
        with pytest.raises(ConfigError, match=f"{next(iter(changes))} of VM a cannot be changed"):
            vm.set_config(changed(config, **changes))
    assert vm.config == new


def test_storage_may_grow(
    store: VmStore, config: StoredConfig, service: VirtualizationService
) -> None:
    small = changed(config, encrypted_storage_size=8192)
    vm = store.create("died:3", small)
    vm.run(service).close()
    storage = vm.folder / "storage.img"
    before = storage.read_bytes()
    vm.set_config(changed(small, encrypted_storage_size=20480, memory_mib=300))
    with pytest.raises(ConfigError, match="encrypted_storage_size of VM died:3 cannot be changed"):
        vm.set_config(small)
    eventually(lambda: vm.running, False)
    vm.run(service).close()
    assert storage.read_bytes() == before.ljust(20480, b"\0")


def test_the_app_config_of_a_stored_one(config: StoredConfig) -> None:
    made = changed(
        config, debuggable=True, match_host_cpus=True, memory_mib=99, encrypted_storage_size=1
    ).app_config("a", Path("/f"))
    assert made.apk == config.apk
    assert (made.name, made.memory_mib) == ("a", 99)
    assert (made.debug_level, made.cpu_topology) == (DebugLevel.FULL, CpuTopology.MATCH_HOST)
    assert made.instance_image == Path("/f/instance.img")
    assert made.encrypted_storage_image == Path("/f/storage.img")
    assert config.app_config("a", Path("/f")).encrypted_storage_image is None


def test_running(store: VmStore, config: StoredConfig, service: VirtualizationService) -> None:
    vm = store.create("started", changed(config, encrypted_storage_size=8192))
    assert not vm.running
    with vm.run(service) as running:
        assert vm.running
        for use in (
            lambda: vm.run(service),
            lambda: vm.set_config(config),
            lambda: vm.export_to("/nonexistent"),
            vm.delete,
        ):
            with pytest.raises(VmStateError, match="VM started is not in stopped state"):
                use()
        running.stop()
        assert running.wait_for_death() == DeathReason.KILLED
        eventually(lambda: vm.running, False)
    assert (vm.folder / "instance.img").read_bytes().startswith(b"ANDROID_VM_INSTANCE")
    assert (vm.folder / "storage.img").stat().st_size == 8192
    assert (vm.folder / "apk.idsig").read_text() == "idsig of an apk"


def test_the_identity_is_kept(
    store: VmStore, config: StoredConfig, service: VirtualizationService
) -> None:
    vm = store.create("died:3", config)
    vm.run(service).close()
    (vm.folder / "instance.img").write_text("what the guest wrote")
    vm.run(service).close()
    assert (vm.folder / "instance.img").read_text() == "what the guest wrote"


def test_a_vm_that_does_not_start_is_stopped(
    store: VmStore, config: StoredConfig, service: VirtualizationService
) -> None:
    vm = store.create("a", changed(config, apk="/nonexistent.apk"))
    with pytest.raises(ConfigError, match=r"apk: Failed to open /nonexistent.apk"):
        vm.run(service)
    assert not vm.running


def test_closing_the_handle_stops_it(
    store: VmStore, config: StoredConfig, service: VirtualizationService
) -> None:
    vm = store.create("a", config)
    vm.run(service).close()
    assert not vm.running


def test_deleting(store: VmStore, config: StoredConfig, service: VirtualizationService) -> None:
    vm = store.create("a", config)
    vm.delete()
    assert store.names() == []
    assert list(store.directory.iterdir()) == []
    assert not vm.running
    for use in (vm.delete, lambda: vm.config, lambda: vm.run(service)):
        with pytest.raises(VmStateError, match="VM a is deleted"):
            use()


def test_deleting_has_the_host_forget_the_instance(
    store: VmStore, config: StoredConfig, service: VirtualizationService
) -> None:
    store.create("never run", config).delete(service)
    vm = store.create("a", config)
    vm.run(service).close()
    vm.delete(service)
    eventually(lambda: service.log_tail.count("forgotten: "), 1)
    assert "forgotten: ANDROID_VM_INSTANCE" in service.log_tail
    assert store.names() == []


def test_an_imported_vm_has_the_same_identity(
    store: VmStore, config: StoredConfig, service: VirtualizationService, tmp_path: Path
) -> None:
    vm = store.create("a", changed(config, encrypted_storage_size=4096))
    vm.run(service).close()
    vm.export_to(tmp_path / "exported")
    other = VmStore(tmp_path / "others").import_from("b", tmp_path / "exported")
    assert other.config == vm.config
    for name in ("config.json", "instance.img", "storage.img"):
        assert (other.folder / name).read_bytes() == (vm.folder / name).read_bytes()
    other.run(service).close()


def test_importing_what_is_no_vm(store: VmStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no VM was exported"):
        store.import_from("a", tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config.json: it is no JSON"):
        store.import_from("a", tmp_path)
    assert list(store.directory.iterdir()) == []


def test_a_broken_config_is_named(store: VmStore, config: StoredConfig) -> None:
    vm = store.create("a", config)
    (vm.folder / "config.json").write_text('{"apk": "relative", "payload_binary_name": "x"}')
    with pytest.raises(ConfigError, match=f"{vm.folder}/config.json: the path of an APK"):
        print(vm.config)


def test_the_default_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert VmStore().directory == tmp_path / "avf/vm"
    assert (tmp_path / "avf/vm").stat().st_mode & 0o777 == 0o700
