"""The connection to this client's own virtmgr, and what can be asked of it."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from avf import settings
from avf.aidl.virtualizationservice import (
    CpuTopology,
    IVirtualizationService,
    PartitionType,
    VirtualMachineConfig,
)
from avf.binder import BinderError, DeadObjectError, FdMode, RemoteException, Session, bootstrap
from avf.binder import connect as binder_connect
from avf.client.completion import complete
from avf.client.config import AppConfig, DebugLevel, FileSource, RawConfig, open_file, open_output
from avf.client.errors import (
    ConfigError,
    Refused,
    ServiceDied,
    ServiceError,
    ServiceStartError,
)
from avf.client.machine import VirtualMachine
from avf.client.pool import PoolStatus, pool_request, pool_status
from avf.client.process import VirtmgrProcess
from avf.client.sharing import SharedVirtmgr, Sharing
from avf.client.watch import Listener

DEBUGGER_SOCKET_NAME = "gdb.sock"
START_TIMEOUT = 30.0
_INCOMING_THREADS = 2


@dataclass(frozen=True, slots=True)
class VmInfo:
    """One VM of this host, whoever runs it."""

    cid: int
    temporary_directory: str
    requester_uid: int
    requester_pid: int

    @property
    def debugger_socket(self) -> str | None:
        """The path of the unix socket at which the VM waits for a debugger, if there is one that we may see."""
        path = os.path.join(self.temporary_directory, DEBUGGER_SOCKET_NAME)  # noqa: PTH118
        return path if os.path.exists(path) else None  # noqa: PTH110  Path.exists raises where we may not look


def connect(
    *,
    command: Sequence[str] | None = None,
    forward_log: bool = False,
    timeout: float = START_TIMEOUT,
    warm: int = 0,
) -> "VirtualizationService":
    """Starts a virtmgr of one's own and connects to it. Raises ServiceStartError, or ConfigError for a bad setting.

    `command` is what to run instead of this installation's virtmgr; with `forward_log` what virtmgr logs goes to
    `sys.stderr` too. `warm`: how many clones of booted guests are to wait for VMs, see `keep_clones_waiting`.

    Within `vm pool run` the virtmgr of that command is used, unless `command` or `warm` is given.
    """
    check_settings()
    request = pool_request(warm)
    with ExitStack() as undo:
        process: VirtmgrProcess | SharedVirtmgr
        if (shared := settings.pool()) is not None and command is None and not warm:
            process = SharedVirtmgr(shared)
            address = process.address
        else:
            process = VirtmgrProcess(command, forward_log=forward_log, timeout=timeout)
            address = bootstrap(process.bootstrap)
        undo.callback(process.close)
        try:
            session = binder_connect(
                address,
                fd_mode=FdMode.UNIX,
                incoming_threads=_INCOMING_THREADS,
                timeout=timeout,
            )
            undo.callback(session.close)
            root = session.get_root(IVirtualizationService)
        except (BinderError, OSError) as error:
            ended = process.how_it_ended(1.0) or "does not answer"
            raise ServiceStartError(f"virtmgr {ended}", process.log_tail) from error
        service = VirtualizationService(process, session, root)
        if warm:
            with service.translated_errors():
                root.keep_clones_waiting(request)
        undo.pop_all()
        return service


def check_settings() -> None:
    """Raises ConfigError for an environment variable with a value that it cannot have; warns of unknown ones."""
    try:
        settings.check()
    except settings.SettingError as error:
        raise ConfigError(str(error)) from None
    for warning in settings.unknown():
        warnings.warn(warning, settings.SettingWarning, stacklevel=3)


class VirtualizationService:
    """What one client may do: make VMs and prepare their files. Closing it ends every VM made by it.

    What the service refuses raises Refused; if it is gone, ServiceDied. Threads may share it.
    """

    def __init__(
        self,
        process: VirtmgrProcess | SharedVirtmgr,
        session: Session,
        root: IVirtualizationService,
    ) -> None:
        self._process = process
        self._session = session
        self._root = root

    @property
    def pid(self) -> int:
        """Of virtmgr."""
        return self._process.pid

    @property
    def log_tail(self) -> str:
        """The last of what virtmgr logged, for people."""
        return self._process.log_tail

    def create_vm(
        self,
        config: AppConfig | RawConfig | VirtualMachineConfig,
        *,
        console: FileSource | None = None,
        console_in: FileSource | None = None,
        log: FileSource | None = None,
        payload_stderr: FileSource | None = None,
        on_event: Listener | None = None,
    ) -> VirtualMachine:
        """Makes a VM without starting it. Its output goes to `console` and `log`, paths or open files. What can be read
        from `console_in` is typed into the guest's console; an app's VM must be debuggable for that.

        What a payload writes is part of the log. `payload_stderr` takes its standard error instead, apart from its
        standard output; its VM must be debuggable for that, and not forkable.

        `on_event` is called for every event, from a thread of the session; it must not wait for a later one.
        Raises ConfigError for files that cannot be opened.
        """
        with ExitStack() as files, self.translated_errors():
            if not isinstance(config, AppConfig | RawConfig | VirtualMachineConfig):
                raise ConfigError(
                    f"config must be an AppConfig or a RawConfig, not {config!r:.100}"
                )
            if payload_stderr is not None:
                _check_stderr_apart(config)
            stderr = open_output(payload_stderr, "payload_stderr", files)
            invocation = config.invocation(stderr) if isinstance(config, AppConfig) else None
            if not isinstance(config, VirtualMachineConfig):
                config = files.enter_context(config.open())
                if config.which == "app_config":
                    complete(config.app_config, self._root, files)
            outputs = (
                open_output(console, "console", files),
                open_output(log, "log", files),
            )
            typed = None
            if console_in is not None:
                typed = files.enter_context(open_file(console_in, "console_in"))
            if invocation is not None:
                handle = self._root.create_vm_with_invocation(
                    config, outputs[0], typed, outputs[1], invocation
                )
            elif typed is not None:
                handle = self._root.create_vm_with_input(config, outputs[0], typed, outputs[1])
            else:
                handle = self._root.create_vm(config, *outputs)
            has_payload = config.which == "app_config"
            return VirtualMachine(handle, self.translated_errors, on_event, has_payload=has_payload)

    def keep_clones_waiting(
        self,
        count: int,
        *,
        debug_level: DebugLevel = DebugLevel.NONE,
        memory_mib: int | None = None,
        cpu_topology: CpuTopology = CpuTopology.ONE_CPU,
    ) -> None:
        """Has `count` clones of booted guests wait, which the next VMs of apps begin as; 0 ends them. Returns at once.

        At first they are for VMs with that debug level, memory (None: what the guest image asks for) and CPUs; later
        for VMs like those that were created last. A VM for which none waits starts as ever. They end with this service.
        Raises ConfigError, or Refused (UNSUPPORTED_OPERATION) where AVF_WARM is off.
        """
        request = pool_request(count, debug_level, memory_mib, cpu_topology)
        with self.translated_errors():
            self._root.keep_clones_waiting(request)

    def pool_status(self) -> PoolStatus:
        """How many clones wait, and why there are not more."""
        with self.translated_errors():
            return pool_status(self._root.get_pool_status())

    def initialize_writable_partition(
        self, image: FileSource, size: int, type: PartitionType = PartitionType.RAW
    ) -> None:
        """Makes `image` a partition image of `size` bytes or a little more.

        It must exist and be empty, or be such an image already.
        """
        with open_file(image, "image", writable=True) as file, self.translated_errors():
            self._root.initialize_writable_partition(file, size, type)

    def create_or_update_idsig_file(self, apk: FileSource, idsig: FileSource) -> None:
        """Brings `idsig` up to date with the APK. It must exist and be empty, or an idsig."""
        with (
            open_file(apk, "apk") as apk_file,
            open_file(idsig, "idsig", writable=True) as idsig_file,
            self.translated_errors(),
        ):
            self._root.create_or_update_idsig_file(apk_file, idsig_file)

    def forget_instance(self, instance_image: FileSource) -> None:
        """Has the host forget the instance with that image, so that an older copy of the image is taken from then on.

        For an instance that is deleted, or is meant to go back.
        """
        with open_file(instance_image, "instance_image") as file, self.translated_errors():
            self._root.forget_instance(file)

    def debug_list_vms(self) -> list[VmInfo]:
        """The VMs of all clients on this host, by CID."""
        with self.translated_errors():
            infos = self._root.debug_list_vms()
        return sorted(
            (VmInfo(i.cid, i.temporary_directory, i.requester_uid, i.requester_pid) for i in infos),
            key=lambda info: info.cid,
        )

    def share(self, path: Path) -> Sharing:
        """Lets the calling user's programs use this virtmgr, those that find `path` in the variable AVF_POOL.

        A VM is still killed when the program that made it ends. Raises OSError.
        """
        if isinstance(self._process, SharedVirtmgr):
            raise ValueError("this virtmgr is another's, who shares it")
        return Sharing(self._process, path)

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Turns a refusal into Refused, the end of the connection into ServiceDied, which tells how virtmgr ended and
        what it said, and other failures into ServiceError.
        """
        try:
            yield
        except Refused:
            raise
        except RemoteException as error:
            raise Refused.of(error) from None
        except DeadObjectError as error:
            ended = self._process.how_it_ended(1.0) or "closed the connection"
            raise ServiceDied(f"virtmgr {ended}", self._process.log_tail) from error
        except BinderError as error:
            raise ServiceError(f"virtmgr could not answer: {error}") from error

    def close(self) -> None:
        """Ends all VMs of this service and virtmgr; waits until virtmgr is gone. Idempotent."""
        self._session.close()
        self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def _check_stderr_apart(config: AppConfig | RawConfig | VirtualMachineConfig) -> None:
    """Raises ConfigError for a VM whose payload's standard error cannot be kept apart from its log."""
    if not isinstance(config, AppConfig):
        raise ConfigError("payload_stderr: config must be an AppConfig")
    if config.debug_level == DebugLevel.NONE:
        raise ConfigError("payload_stderr: only a debuggable VM shows what its payload writes")
    if config.forkable:
        raise ConfigError("payload_stderr: a forkable VM writes standard error to its log")
