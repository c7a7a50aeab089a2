"""What a VM is made of, named by paths or open files: checked when written down, opened when the VM is created."""

import errno
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from avf.aidl.virtualizationservice import (
    CpuTopology,
    DiskImage,
    VirtualMachineAppConfig,
    VirtualMachineConfig,
    VirtualMachinePayloadConfig,
    VirtualMachineRawConfig,
)
from avf.aidl.virtualizationservice import Partition as AidlPartition
from avf.aidl.vm_control import PayloadInvocation
from avf.binder import ParcelFileDescriptor
from avf.causes import words
from avf.client.checks import (
    check_flag,
    check_mapping,
    check_member,
    check_number,
    check_sequence,
    check_source,
    check_text,
)
from avf.client.errors import ConfigError
from avf.invocation import InvocationError, check
from avf.overwriting import Kind, foreign, mark_output

DebugLevel = VirtualMachineAppConfig.DebugLevel

DEFAULT_PLATFORM_VERSION = "~1.0"


class HasFileno(Protocol):
    def fileno(self) -> int: ...


FileSource = str | os.PathLike[str] | int | HasFileno
"""A path, or an open file that stays the caller's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppConfig:
    """A VM that runs a payload from an APK. Exactly one of `payload_binary_name` and `config_path` names the payload.

    The instance and storage images are opened for writing; an instance image that is an empty file is initialised.
    Raises ConfigError.
    """

    apk: FileSource
    """The signed APK with the payload."""
    idsig: FileSource
    """The hashes of the APK, as `VirtualizationService.create_or_update_idsig_file` writes them."""
    instance_image: FileSource | None = None
    """What the VM's identity is kept in; see `VirtualizationService.initialize_writable_partition`. Every VM has one
    but those that are `forkable`.
    """
    payload_binary_name: str | None = None
    """The payload's file in the APK, without its folder: of lib/x86_64/, bin/ or assets/."""
    config_path: str | None = None
    """A JSON file inside the APK; needs the right to use custom VMs."""
    name: str = ""
    """For people: lists and messages show it."""
    extra_apks: Sequence[FileSource] = ()
    """Signed APKs that a payload named by `payload_binary_name` finds at /mnt/extra-apk/0, 1, ..."""
    extra_idsigs: Sequence[FileSource] = ()
    """For `config_path`: of the extra APKs that the file names. For `extra_apks`: one for each, or none: then they are
    made for this VM alone.
    """
    encrypted_storage_image: FileSource | None = None
    """A disk that the guest encrypts; None for a VM without storage."""
    debug_level: DebugLevel = DebugLevel.NONE
    """FULL opens console, log and the inside of the guest to the VM's owner. The level is a part of the identity."""
    protected: bool = False
    """Ask for a VM whose memory the host cannot read. No VMM here can run one."""
    memory_mib: int | None = None
    """MiB from 1 to 2^31 - 1. None: what the guest image asks for."""
    cpu_topology: CpuTopology = CpuTopology.ONE_CPU
    """One processor, or as many as the host has."""
    task_profiles: Sequence[str] = ()
    """Names of the control groups that the VMM's process is put into."""
    gdb: bool = False
    """The guest waits for a debugger, at `VirtualMachine.debugger_socket`."""
    gdb_port: int = 0
    """The same at this TCP port of 127.0.0.1 too, where QEMU's monitor is out of reach; 0 for none."""
    args: Sequence[str] = ()
    """What the payload is called with, after its own name; at most 1024. Like `env`, no part of its identity."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables of the payload's environment. Those that change which code runs (LD_PRELOAD, PYTHONPATH, PATH, ...)
    need a debuggable VM.
    """
    fresh: bool = False
    """The guest boots by itself, whatever would be quicker: it shares no address layout with other guests."""
    forkable: bool = False
    """The VM may be copied while it runs, by `VirtualMachine.fork`: it keeps nothing, so that it has neither
    `instance_image` nor `encrypted_storage_image`.
    """

    def __post_init__(self) -> None:
        self._check_types()
        if self.payload_binary_name is not None and self.config_path is not None:
            raise ConfigError("payload_binary_name and config_path exclude each other")
        if not self.payload_binary_name and not self.config_path:
            raise ConfigError("one of payload_binary_name and config_path is needed")
        if self.payload_binary_name is not None and "/" in self.payload_binary_name:
            raise ConfigError(
                f"Payload binary name must not specify a path: {self.payload_binary_name}"
            )
        self._check_state()
        if self.extra_apks and self.config_path is not None:
            raise ConfigError("extra_apks: the file at config_path names the extra APKs itself")
        if self.extra_apks and len(self.extra_idsigs) not in (0, len(self.extra_apks)):
            raise ConfigError(
                f"extra_idsigs: {len(self.extra_idsigs)} for {len(self.extra_apks)} extra_apks"
            )
        try:
            check(self.args, self.env, debuggable=self.debug_level != DebugLevel.NONE)
        except InvocationError as error:
            raise ConfigError(f"args and env: {error}") from None

    def _check_state(self) -> None:
        if not self.forkable and self.instance_image is None:
            raise ConfigError("instance_image is needed, unless the VM is forkable")
        for name in ("instance_image", "encrypted_storage_image"):
            if self.forkable and getattr(self, name) is not None:
                raise ConfigError(f"{name}: a VM that is forkable keeps nothing")

    def _check_types(self) -> None:
        for name in ("apk", "idsig"):
            check_source(name, getattr(self, name))
        for name in ("instance_image", "encrypted_storage_image"):
            check_source(name, getattr(self, name), optional=True)
        for name in ("fresh", "forkable"):
            check_flag(name, getattr(self, name))
        for name in ("payload_binary_name", "config_path"):
            check_text(name, getattr(self, name), optional=True)
        for name in ("extra_apks", "extra_idsigs"):
            check_sequence(name, getattr(self, name))
            for index, source in enumerate(getattr(self, name)):
                check_source(f"{name}[{index}]", source)
        check_member("debug_level", self.debug_level, DebugLevel)
        check_sequence("args", self.args)
        check_mapping("env", self.env)
        for index, argument in enumerate(self.args):
            check_text(f"args[{index}]", argument)
        for name, value in self.env.items():
            check_text("env", name)
            check_text(f"env[{name!r}]", value)
        _check_common(self)

    def invocation(self, stderr: ParcelFileDescriptor | None = None) -> PayloadInvocation | None:
        """As the service takes it; None where there is nothing to say. `stderr`: as `payload_stderr` of `create_vm`."""
        if not self.args and not self.env and stderr is None:
            return None
        return PayloadInvocation(
            arguments=list(self.args),
            environment=[f"{name}={value}" for name, value in self.env.items()],
            stderr_fd=stderr,
        )

    def _payload(self, files: "_Files") -> VirtualMachineAppConfig.Payload:
        if self.config_path is not None:
            return VirtualMachineAppConfig.Payload(config_path=self.config_path)
        extra_apks = [
            files.open(source, f"extra_apks[{index}]")
            for index, source in enumerate(self.extra_apks)
        ]
        return VirtualMachineAppConfig.Payload(
            payload_config=VirtualMachinePayloadConfig(
                payload_binary_name=self.payload_binary_name or "", extra_apks=extra_apks
            )
        )

    @contextmanager
    def open(self) -> Iterator[VirtualMachineConfig]:
        """The configuration as the service takes it; its files are open as long as the context is."""
        with _Files() as files:
            config = VirtualMachineAppConfig(
                name=self.name,
                apk=files.open(self.apk, "apk"),
                idsig=files.open(self.idsig, "idsig"),
                extra_idsigs=[
                    files.open(source, f"extra_idsigs[{index}]")
                    for index, source in enumerate(self.extra_idsigs)
                ],
                instance_image=files.open_optional(
                    self.instance_image, "instance_image", writable=True
                ),
                encrypted_storage_image=files.open_optional(
                    self.encrypted_storage_image, "encrypted_storage_image", writable=True
                ),
                payload=self._payload(files),
                debug_level=self.debug_level,
                protected_vm=self.protected,
                memory_mib=self.memory_mib or 0,
                cpu_topology=self.cpu_topology,
                task_profiles=list(self.task_profiles),
                gdb_port=self.gdb_port,
                wait_for_debugger=self.gdb,
                fresh=self.fresh,
                forkable=self.forkable,
            )
            yield VirtualMachineConfig(app_config=config)


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """A part of a disk. Raises ConfigError."""

    label: str
    """By which the guest finds it: /dev/disk/by-partlabel/LABEL."""
    image: FileSource
    writable: bool = False

    def __post_init__(self) -> None:
        check_text("label", self.label)
        check_source("image", self.image)
        check_flag("writable", self.writable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """Exactly one of a whole image and a list of partitions. Raises ConfigError."""

    image: FileSource | None = None
    partitions: Sequence[Partition] = ()
    writable: bool = False

    def __post_init__(self) -> None:
        check_source("image", self.image, optional=True)
        check_sequence("partitions", self.partitions)
        for index, partition in enumerate(self.partitions):
            if not isinstance(partition, Partition):
                raise ConfigError(f"partitions[{index}] must be a Partition, not {partition!r}")
        check_flag("writable", self.writable)
        if (self.image is None) == (not self.partitions):
            raise ConfigError("a disk is either an image or a list of partitions")


@dataclass(frozen=True, slots=True, kw_only=True)
class RawConfig:
    """A VM described part by part: a kernel (and initrd, and its parameters) or a bootloader. Raises ConfigError."""

    name: str = ""
    kernel: FileSource | None = None
    initrd: FileSource | None = None
    params: str | None = None
    bootloader: FileSource | None = None
    disks: Sequence[Disk] = ()
    protected: bool = False
    memory_mib: int | None = None
    cpu_topology: CpuTopology = CpuTopology.ONE_CPU
    platform_version: str = DEFAULT_PLATFORM_VERSION
    """Which platform versions the VM copes with, as a Cargo version requirement."""
    task_profiles: Sequence[str] = ()
    gdb: bool = False
    """The guest waits for a debugger, at `VirtualMachine.debugger_socket`."""
    gdb_port: int = 0
    """The same at this TCP port of 127.0.0.1 too, where QEMU's monitor is out of reach; 0 for none."""

    def __post_init__(self) -> None:
        for name in ("kernel", "initrd", "bootloader"):
            check_source(name, getattr(self, name), optional=True)
        check_text("params", self.params, optional=True)
        check_text("platform_version", self.platform_version)
        check_sequence("disks", self.disks)
        for index, disk in enumerate(self.disks):
            if not isinstance(disk, Disk):
                raise ConfigError(f"disks[{index}] must be a Disk, not {disk!r}")
        _check_common(self)
        if self.kernel is None and self.bootloader is None:
            raise ConfigError("VM must have either a bootloader or a kernel image.")
        if self.bootloader is not None and (self.kernel is not None or self.initrd is not None):
            raise ConfigError("Can't have both bootloader and kernel/initrd image.")

    @contextmanager
    def open(self) -> Iterator[VirtualMachineConfig]:
        """The configuration as the service takes it; its files are open as long as the context is."""
        with _Files() as files:
            config = VirtualMachineRawConfig(
                name=self.name,
                kernel=files.open_optional(self.kernel, "kernel"),
                initrd=files.open_optional(self.initrd, "initrd"),
                params=self.params,
                bootloader=files.open_optional(self.bootloader, "bootloader"),
                disks=[
                    _open_disk(files, disk, f"disks[{index}]")
                    for index, disk in enumerate(self.disks)
                ],
                protected_vm=self.protected,
                memory_mib=self.memory_mib or 0,
                cpu_topology=self.cpu_topology,
                platform_version=self.platform_version,
                task_profiles=list(self.task_profiles),
                gdb_port=self.gdb_port,
                wait_for_debugger=self.gdb,
            )
            yield VirtualMachineConfig(raw_config=config)


def _check_common(config: AppConfig | RawConfig) -> None:
    check_text("name", config.name)
    check_number("memory_mib", config.memory_mib, 1, (1 << 31) - 1, " of MiB", optional=True)
    check_number("gdb_port", config.gdb_port, 0, 65535)
    check_member("cpu_topology", config.cpu_topology, CpuTopology)
    check_sequence("task_profiles", config.task_profiles)
    for index, profile in enumerate(config.task_profiles):
        check_text(f"task_profiles[{index}]", profile)
    for name in ("protected", "gdb"):
        check_flag(name, getattr(config, name))


def _open_disk(files: "_Files", disk: Disk, where: str) -> DiskImage:
    return DiskImage(
        image=files.open_optional(disk.image, f"{where}.image", writable=disk.writable),
        writable=disk.writable,
        partitions=[
            AidlPartition(
                label=part.label,
                image=files.open(
                    part.image, f"{where}.partitions[{index}].image", writable=part.writable
                ),
                writable=part.writable,
            )
            for index, part in enumerate(disk.partitions)
        ],
    )


class _Files:
    """Opens files for a configuration and closes them all in the end."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> "_Files":
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    def open(
        self, source: FileSource, field: str, *, writable: bool = False
    ) -> ParcelFileDescriptor:
        return self._stack.enter_context(open_file(source, field, writable=writable))

    def open_optional(
        self, source: FileSource | None, field: str, *, writable: bool = False
    ) -> ParcelFileDescriptor | None:
        return None if source is None else self.open(source, field, writable=writable)


def open_file(source: FileSource, field: str, *, writable: bool = False) -> ParcelFileDescriptor:
    """`source` opened, or dup'ed if it is open already. ConfigError names `field` and the file."""
    return _open(source, field, os.O_RDWR if writable else os.O_RDONLY)


def open_output(
    source: FileSource | None, field: str, files: ExitStack
) -> ParcelFileDescriptor | None:
    """Where a VM's output goes: a path is created, or emptied if it is output of a VM. It is closed by `files`."""
    if source is None:
        return None
    file = files.enter_context(_open(source, field, os.O_WRONLY | os.O_CREAT))
    if isinstance(source, (str, os.PathLike)):
        _empty_output(file.fileno(), f"{field}: {os.fspath(source)}")
    return file


def _empty_output(fd: int, what: str) -> None:
    """Raises ConfigError for a file that is somebody's."""
    try:
        if (found := foreign(fd, Kind.OUTPUT)) is not None:
            raise ConfigError(f"{what} is not empty and is no console or log of a VM: {found}")
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.ftruncate(fd, 0)
            mark_output(fd)
    except OSError as error:
        raise ConfigError(f"{what} cannot be emptied: {error.strerror}") from error


def _open(source: FileSource, field: str, flags: int) -> ParcelFileDescriptor:
    check_source(field, source)
    if isinstance(source, (str, os.PathLike)):
        try:
            # An open must not wait for the other end of a FIFO.
            wanted = flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            fd = os.open(source, wanted, 0o666)
            os.set_blocking(fd, True)
            return ParcelFileDescriptor(fd)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            if isinstance(error, OSError) and error.errno == errno.ENXIO and Path(source).is_fifo():
                reason = "nobody reads from this FIFO; start its reader first"
            raise ConfigError(f"{field}: Failed to open {os.fspath(source)}: {reason}") from error
    try:
        return ParcelFileDescriptor(os.dup(source if isinstance(source, int) else source.fileno()))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{field}: not an open file: {words(error)}") from error
