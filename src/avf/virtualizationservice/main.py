"""The virtualizationservice daemon."""

import contextlib
import logging
import os
import resource
import signal
import socket
import sys
from pathlib import Path

from avf.binder import FdMode, Server
from avf.policy import PolicyError, PolicyFile
from avf.runtime import SERVICE_SOCKET_NAME
from avf.virtualizationservice import systemd
from avf.virtualizationservice.atoms import AtomLog
from avf.virtualizationservice.cids import CidAllocator
from avf.virtualizationservice.contexts import ContextTable
from avf.virtualizationservice.directory import lock, make_directory
from avf.virtualizationservice.exporters import (
    Exporter,
    ExporterError,
    OpenTelemetryExporter,
    PrometheusExporter,
)
from avf.virtualizationservice.identity import Identifier
from avf.virtualizationservice.options import Options, parse
from avf.virtualizationservice.quotas import ConnectionQuota
from avf.virtualizationservice.receiver import ReceiverLimits, TombstoneReceiver
from avf.virtualizationservice.service import VirtualizationServiceInternal
from avf.virtualizationservice.signals import Signals
from avf.virtualizationservice.tempdirs import TempDirs
from avf.virtualizationservice.tombstones import TombstoneStore
from avf.vsock import HOST_CID, kernel_vhost_available, listen_host

TOMBSTONE_PORT = 2000
RAMDUMP_SOCKET_NAME = "ramdump"
"""Where virtmgr sends the memory of crashed guests, which may be larger than what guests themselves send."""
IDLE_CHECK_SECONDS = 0.5
MAX_CONNECTIONS = 4096
DESCRIPTORS_WANTED = 65536

log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Serves until idle or told to end. 0; 1 when it cannot start, with the reason on standard error."""
    line = "virtualizationservice: %(levelname)s: %(message)s"
    if "JOURNAL_STREAM" not in os.environ:  # the journal knows the time
        line = f"%(asctime)s {line}"
    logging.basicConfig(level=logging.INFO, format=line)
    os.umask(0o077)
    try:
        options = parse(arguments)
        with Daemon(options) as daemon:
            daemon.run(options.idle_timeout, options.ready_fd)
    except (OSError, PolicyError, ExporterError) as e:
        print(f"virtualizationservice: {e}", file=sys.stderr)
        return 1
    return 0


class Daemon:
    """One service and what it owns: the lock that keeps it single, its sockets, its directories."""

    def __init__(self, options: Options) -> None:
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as undo:
            undo.callback(self._stack.close)
            self._set_up(options)
            undo.pop_all()

    def _set_up(self, options: Options) -> None:
        _raise_descriptor_limit()
        policy = PolicyFile(system=options.system, file=options.policy)
        directory = options.directory
        make_directory(directory, 0o755 if options.system else 0o700)
        self._stack.callback(os.close, lock(directory / "service.lock"))
        self._contexts = self._make_contexts(options)
        self._receivers: list[TombstoneReceiver] = []
        try:
            self._receive_tombstones(options)
        except OSError as e:
            log.warning("Error receiving tombstone from guest or writing them. Error: %s", e)
        service = VirtualizationServiceInternal(
            self._contexts,
            policy,
            AtomLog(_state_dir(options) / "atoms.jsonl", self._exporters(options)),
        )
        limit = options.max_connections
        accept = None if limit is None else ConnectionQuota(limit)
        self._server = Server(
            service,
            fd_modes=frozenset({FdMode.NONE, FdMode.UNIX}),
            max_threads=4,
            max_connections=MAX_CONNECTIONS,
            accept=accept,
        )
        listener = systemd.activated_socket()
        if listener is None:
            listener = self._listen(directory / SERVICE_SOCKET_NAME, options.system)
        self._stack.callback(self._server.shutdown)
        self._stack.callback(self._contexts.freeze)
        self._server.start(listener)

    def _exporters(self, options: Options) -> list[Exporter]:
        exporters: list[Exporter] = []
        if options.prometheus is not None:
            prometheus = PrometheusExporter(*options.prometheus)
            self._stack.callback(prometheus.close)
            log.info("metrics are served on port %d", prometheus.port)
            exporters.append(prometheus)
        if options.opentelemetry:
            exporters.append(OpenTelemetryExporter())
        return exporters

    def _make_contexts(self, options: Options) -> ContextTable:
        directories = TempDirs(options.directory / "vms")
        self._stack.callback(directories.close)
        self._stack.callback(directories.survivors)
        cids = CidAllocator(options.directory / "last_cid", *options.cids)
        return ContextTable(cids, directories, limit_per_uid=options.max_vms)

    def _receive_tombstones(self, options: Options) -> None:
        """Listens on the tombstone port, of the kernel's vsock and of that in user space, and for memory dumps."""
        store = TombstoneStore(
            _state_dir(options) / "tombstones",
            per_user=options.system,
            count=options.tombstones,
            total=2 * options.ramdump_bytes,
        )
        receiver = self._receiver(store, ReceiverLimits(bytes=options.tombstone_bytes))
        if kernel_vhost_available():
            try:
                receiver.start(_listen_vsock(TOMBSTONE_PORT))
            except OSError as e:
                log.warning("Error receiving tombstone from guest or writing them. Error: %s", e)
        directory = options.directory / "vsock"
        make_directory(directory, 0o755 if options.system else 0o700)
        mode = 0o666 if options.system else 0o600
        receiver.start(listen_host(TOMBSTONE_PORT, directory, mode=mode))
        self._stack.callback((directory / str(TOMBSTONE_PORT)).unlink, missing_ok=True)
        limits = ReceiverLimits(bytes=options.ramdump_bytes, connections_per_user=2)
        ramdumps = self._receiver(store, limits)
        ramdumps.start(self._listen(directory / RAMDUMP_SOCKET_NAME, options.system))

    def _receiver(self, store: TombstoneStore, limits: ReceiverLimits) -> TombstoneReceiver:
        receiver = TombstoneReceiver(store, Identifier(self._contexts), limits)
        self._receivers.append(receiver)
        self._stack.callback(receiver.close)
        return receiver

    def _listen(self, path: Path, system: bool) -> socket.socket:
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.ExitStack() as undo:
            undo.callback(listener.close)
            listener.bind(str(path))
            path.chmod(0o666 if system else 0o600)
            listener.listen(128)
            undo.pop_all()
        self._stack.callback(path.unlink, missing_ok=True)
        return listener

    def __enter__(self) -> "Daemon":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, idle_timeout: float, ready_fd: int | None) -> None:
        """Blocks until a signal, or until there has been neither connection nor VM for `idle_timeout` seconds."""
        with Signals(signal.SIGTERM, signal.SIGINT) as told_to_end:
            self._serve(told_to_end, idle_timeout, ready_fd)

    def _serve(self, told_to_end: Signals, idle_timeout: float, ready_fd: int | None) -> None:
        if ready_fd is not None:
            os.close(ready_fd)
        systemd.notify("READY=1")
        log.info("ready")
        idle = 0.0
        while not told_to_end.within(IDLE_CHECK_SECONDS if idle_timeout else None):
            idle = 0.0 if self._is_used() else idle + IDLE_CHECK_SECONDS
            if idle_timeout and idle >= idle_timeout:
                log.info("nobody is connected; leaving")
                break
        systemd.notify("STOPPING=1")

    def _is_used(self) -> bool:
        coming_in = any(receiver.active for receiver in self._receivers)
        return bool(self._server.sessions or coming_in or self._contexts.live())


def _state_dir(options: Options) -> Path:
    """Where to keep what is to outlive a reboot, if systemd gave us such a place (StateDirectory=)."""
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(given) if options.system and given else options.directory


def _listen_vsock(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    try:
        listener.bind((HOST_CID, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_WANTED if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    sys.exit(main())
