"""VMs with names: what makes a VM the same one the next time - configuration, instance image, storage - in a directory.

    store = VmStore()
    vm = store.get_or_create("greeter", StoredConfig(apk="/srv/app.apk", payload_binary_name="libgreeter.so"))
    with connect() as service, vm.run(service) as running:
        running.wait_until_ready()

A stored VM runs at most once at a time, in whatever process.
"""

import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from avf.aidl.virtualizationservice import CpuTopology, PartitionType
from avf.binder import ParcelFileDescriptor
from avf.client.checks import check_flag, check_number, check_sequence, check_text
from avf.client.completion import INSTANCE_SIZE, grow_storage
from avf.client.config import AppConfig, DebugLevel, FileSource
from avf.client.connection import VirtualizationService
from avf.client.errors import ConfigError, VmStateError
from avf.client.events import VmDied
from avf.client.machine import VirtualMachine
from avf.decoding import in_words

__all__ = ["OWN_APK", "StoredConfig", "StoredVm", "VmStore"]

OWN_APK = "app.apk"
"""In StoredConfig: the APK that `StoredVm.held` puts into the VM's folder."""

_MAX_CONFIG_SIZE = 1 << 20
_CONFIG, _INSTANCE, _STORAGE, _IDSIG, _LOCK = (
    "config.json", "instance.img", "storage.img", "apk.idsig", "lock",
)  # fmt: skip
_IDENTITY = (_CONFIG, _INSTANCE, _STORAGE, OWN_APK)
_MAY_CHANGE = {"memory_mib", "match_host_cpus"}


class StoredConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """As AppConfig, but for what a store can do itself. Raises ConfigError."""

    apk: str
    """An absolute path; or OWN_APK, for an APK in the VM's own folder."""
    payload_binary_name: str | None = None
    config_path: str | None = None
    extra_apks: tuple[str, ...] = ()
    """As in AppConfig; with `config_path`, those that the file there names, for their idsigs."""
    debuggable: bool = False
    protected: bool = False
    encrypted_storage_size: int = 0
    """Bytes; 0 for none."""
    memory_mib: int | None = None
    match_host_cpus: bool = False

    def __post_init__(self) -> None:
        check_sequence("extra_apks", self.extra_apks)
        for path in (self.apk, *self.extra_apks):
            check_text("the path of an APK", path)
            if not Path(path).is_absolute() and path != OWN_APK:
                raise ConfigError(f"the path of an APK must be absolute, not {path}")
        size = self.encrypted_storage_size
        check_number("encrypted_storage_size", size, 0, (1 << 63) - 1, " of bytes")
        for name in ("debuggable", "protected", "match_host_cpus"):
            check_flag(name, getattr(self, name))
        self.app_config("", Path())

    def app_config(self, name: str, folder: Path) -> AppConfig:
        """The same with the other files in `folder`."""
        return AppConfig(
            name=name,
            apk=folder / OWN_APK if self.apk == OWN_APK else self.apk,
            idsig=folder / _IDSIG,
            extra_apks=self.extra_apks if self.config_path is None else (),
            extra_idsigs=tuple(folder / f"extra_{_IDSIG}_{i}" for i in range(len(self.extra_apks))),
            instance_image=folder / _INSTANCE,
            encrypted_storage_image=folder / _STORAGE if self.encrypted_storage_size else None,
            payload_binary_name=self.payload_binary_name,
            config_path=self.config_path,
            debug_level=DebugLevel.FULL if self.debuggable else DebugLevel.NONE,
            protected=self.protected,
            memory_mib=self.memory_mib,
            cpu_topology=CpuTopology.MATCH_HOST if self.match_host_cpus else CpuTopology.ONE_CPU,
        )

    def incompatibility(self, other: "StoredConfig") -> str | None:
        """The field that forbids a VM to change from one to the other: memory and CPUs may change, storage may grow."""
        if 0 < self.encrypted_storage_size < other.encrypted_storage_size:
            other = msgspec.structs.replace(
                other, encrypted_storage_size=self.encrypted_storage_size
            )
        for field in self.__struct_fields__:
            if field not in _MAY_CHANGE and getattr(self, field) != getattr(other, field):
                return field
        return None


class StoredVm:
    """One VM of a store, running or not, here or in another process. After `delete` every use raises VmStateError."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder

    @property
    def config(self) -> StoredConfig:
        """As stored. Raises ConfigError if the file is no good."""
        path = self.folder / _CONFIG
        try:
            with open(path, "rb", opener=_open_config) as file:
                text = file.read(_MAX_CONFIG_SIZE + 1)
        except FileNotFoundError:
            raise VmStateError(f"VM {self.name} is deleted") from None
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from error
        if len(text) > _MAX_CONFIG_SIZE:
            raise ConfigError(f"{path}: longer than {_MAX_CONFIG_SIZE} bytes")
        try:
            return msgspec.json.decode(text.decode(), type=StoredConfig)
        except (msgspec.DecodeError, ConfigError, ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: {in_words(error)}") from None

    def set_config(self, config: StoredConfig) -> None:
        """For the next run. Only memory and CPUs may change and storage grow, for all else is the VM's identity.

        Raises ConfigError.
        """
        with self._lock():
            if field := self.config.incompatibility(config):
                raise ConfigError(f"{field} of VM {self.name} cannot be changed")
            _write_config(self.folder, config)

    @property
    def running(self) -> bool:
        """Whether it runs, in whatever process."""
        try:
            self._lock().close()
        except VmStateError:
            return self.folder.exists()
        return False

    def run(
        self,
        service: VirtualizationService,
        *,
        console: FileSource | None = None,
        console_in: FileSource | None = None,
        log: FileSource | None = None,
        payload_stderr: FileSource | None = None,
        timeout: float | None = None,
    ) -> VirtualMachine:
        """Starts the VM, which must be stopped. It counts as running until it has died or its handle is closed.

        What the VM writes goes where `VirtualizationService.create_vm` says. `timeout`: as of `VirtualMachine.start`.
        """
        with ExitStack() as undo:
            lock = undo.enter_context(self._lock())
            config = self.config
            app = config.app_config(self.name, self.folder)
            self._prepare(service, config, app)
            vm = undo.enter_context(
                service.create_vm(
                    app,
                    console=console,
                    console_in=console_in,
                    log=log,
                    payload_stderr=payload_stderr,
                )
            )
            vm.start(timeout=timeout)
            vm.add_listener(lambda event: lock.close() if isinstance(event, VmDied) else None)
            undo.pop_all()
        return vm

    @contextmanager
    def held(
        self, service: VirtualizationService, *, apk: str | os.PathLike[str] | None = None
    ) -> Iterator[AppConfig]:
        """What to make the VM of, its files made or brought up to date, for those who start it themselves.

        The VM counts as running until the context ends. `apk` takes the place of the APK in the VM's folder first.
        """
        with self._lock():
            if apk is not None:
                new = self.folder / f"{OWN_APK}.new"
                shutil.copyfile(apk, new)
                new.replace(self.folder / OWN_APK)
            config = self.config
            app = config.app_config(self.name, self.folder)
            self._prepare(service, config, app)
            yield app

    def _prepare(
        self, service: VirtualizationService, config: StoredConfig, app: AppConfig
    ) -> None:
        idsigs = (app.idsig, *app.extra_idsigs)
        for apk, idsig in zip((config.apk, *config.extra_apks), idsigs, strict=True):
            Path(str(idsig)).touch()
            service.create_or_update_idsig_file(self.folder / apk, idsig)
        kind = PartitionType.ANDROID_VM_INSTANCE
        _make_image(service, self.folder / _INSTANCE, INSTANCE_SIZE, kind)
        if size := config.encrypted_storage_size:
            storage = self.folder / _STORAGE
            _make_image(service, storage, size, PartitionType.ENCRYPTEDSTORE)
            if storage.stat().st_size < size:
                grow_storage(storage, size)

    def export_to(self, folder: str | os.PathLike[str]) -> None:
        """Copies what the VM's identity consists of to a new folder, for `VmStore.import_from` here or elsewhere.

        Raises ConfigError if there are files in the folder.
        """
        with self._lock():
            self.config  # noqa: B018 - not of a deleted VM
            _copy_identity(self.folder, Path(folder))

    def delete(self, service: VirtualizationService | None = None) -> None:
        """Removes the VM and all that it stored. It must be stopped. With a `service`, the host forgets it, too."""
        with self._lock():
            image = self.folder / _INSTANCE
            if service is not None and image.exists():
                service.forget_instance(image)
            grave = Path(tempfile.mkdtemp(prefix=".deleted-", dir=self.folder.parent))
            self.folder.rename(grave)
        shutil.rmtree(grave)

    def _lock(self) -> ParcelFileDescriptor:
        """Keeps the VM stopped, or running in one place only, while it is open."""
        try:
            lock = ParcelFileDescriptor(os.open(self.folder / _LOCK, os.O_RDONLY | os.O_CLOEXEC))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            raise VmStateError(f"VM {self.name} is deleted") from None
        except BlockingIOError:
            raise VmStateError(f"VM {self.name} is not in stopped state") from None
        return lock


class VmStore:
    """A directory of VMs, made if it is missing: by default `$XDG_DATA_HOME/avf/vm`."""

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        self.directory = Path(directory) if directory is not None else _default_directory()
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def names(self) -> list[str]:
        """All VMs of the store, sorted; a folder whose name no VM can have is none."""
        folders = [path for path in self.directory.iterdir() if _is_name(path.name)]
        return sorted(path.name for path in folders if (path / _CONFIG).exists())

    def get(self, name: str) -> StoredVm | None:
        """The VM of that name; None if there is none."""
        folder = self._folder(name)
        return StoredVm(name, folder) if (folder / _CONFIG).exists() else None

    def create(self, name: str, config: StoredConfig) -> StoredVm:
        """A new VM. Raises VmStateError if there is one of that name."""
        with self._new_vm(name) as folder:
            _write_config(folder, config)
        return StoredVm(name, self._folder(name))

    def get_or_create(self, name: str, config: StoredConfig) -> StoredVm:
        """The VM of that name, whatever its configuration, or a new one."""
        return self.get(name) or self.create(name, config)

    def import_from(self, name: str, folder: str | os.PathLike[str]) -> StoredVm:
        """A new VM with the identity of the one that was exported to `folder`."""
        if not Path(folder, _CONFIG).exists():
            raise ConfigError(f"no VM was exported to {os.fspath(folder)}")
        with self._new_vm(name) as made:
            _copy_identity(Path(folder), made)
            StoredVm(name, made).config  # noqa: B018 - must be readable
        return StoredVm(name, self._folder(name))

    def _folder(self, name: str) -> Path:
        if not _is_name(name):
            raise ConfigError(
                f"{name!r} is no name for a VM: a name is not empty, begins with no dot and has no / and no control"
                " character"
            )
        return self.directory / name

    @contextmanager
    def _new_vm(self, name: str) -> Iterator[Path]:
        """A folder that becomes the VM's once it is complete."""
        target = self._folder(name)
        folder = Path(tempfile.mkdtemp(prefix=".new-", dir=self.directory))
        try:
            folder.joinpath(_LOCK).touch(mode=0o600)
            yield folder
            try:
                folder.rename(target)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
                raise VmStateError(f"there is a VM {name} already") from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _is_name(name: str) -> bool:
    return bool(name) and name.isprintable() and not name.startswith(".") and "/" not in name


def _default_directory() -> Path:
    data_home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share"
    return Path(data_home, "avf/vm")


def _open_config(path: str, flags: int) -> int:
    """Opens a regular file; a pipe in its place must not stop us."""
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file")
    return fd


def _write_config(folder: Path, config: StoredConfig) -> None:
    new = folder / f"{_CONFIG}.new"
    new.write_bytes(msgspec.json.format(msgspec.json.encode(config)) + b"\n")
    new.replace(folder / _CONFIG)


def _make_image(service: VirtualizationService, path: Path, size: int, kind: PartitionType) -> None:
    if path.exists():
        return
    new = path.with_name(f"{path.name}.new")
    new.touch(mode=0o600)
    service.initialize_writable_partition(new, size, kind)
    new.replace(path)


def _copy_identity(source: Path, target: Path) -> None:
    target.mkdir(mode=0o700, exist_ok=True)
    if any((target / name).exists() for name in _IDENTITY):
        raise ConfigError(f"{target} has files of a VM already")
    for name in _IDENTITY:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
