"""The virtualizationservice daemon."""

import contextlib
import logging
import os
import resource
import signal
import socket
import sys
from pathlib import Path

from avf import settings, unix_path
from avf.binder import PARTY_LIMITS, TOTAL_LIMITS, Budget, FdMode, Rate, Server
from avf.causes import chain
from avf.policy import PolicyError, PolicyFile
from avf.printable import printable
from avf.runtime import SERVICE_SOCKET_NAME
from avf.undumpable import make_undumpable
from avf.virtualizationservice import logs, systemd
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
from avf.virtualizationservice.files import clear, keep_directory
from avf.virtualizationservice.generations import GenerationStore
from avf.virtualizationservice.housekeeping import Housekeeper
from avf.virtualizationservice.identity import Identifier
from avf.virtualizationservice.options import Options, parse
from avf.virtualizationservice.parties import ROOT, Parties
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
CALLS_AT_ONCE = 20_000
CALLS_PER_SECOND = 2_000
"""Of one party; further ones wait."""
MAX_RAMDUMPS = 8
FRAME_SECONDS = 10.0
"""For a frame, from its first byte to its last. Nobody has to send one."""
STORES = 16
"""All tombstones together may be as large as those of so many users."""
DESCRIPTORS_WANTED = 65536

log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Serves until idle or told to end. 0; 1 when it cannot start, with the reason on standard error."""
    os.umask(0o077)
    try:
        make_undumpable()
        options = parse(arguments)
        settings.check()
        logs.set_up(options.log_file)
        for warning in settings.unknown():
            log.warning("%s", warning)
        with Daemon(options) as daemon:
            daemon.run(options.idle_timeout, options.ready_fd)
    except (OSError, PolicyError, ExporterError, settings.SettingError) as e:
        print(printable(f"virtualizationservice: {': '.join(chain(e))}"), file=sys.stderr)
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
        self._policy = PolicyFile(system=options.system, file=options.policy)
        self._parties = Parties(self._policy)
        directory = options.directory
        make_directory(directory, 0o755 if options.system else 0o700)
        self._stack.callback(os.close, lock(directory / "service.lock"))
        self._exporters: list[Exporter] = []
        self._prometheus = options.prometheus
        self._housekeeper = Housekeeper()
        self._contexts = self._make_contexts(options)
        if options.opentelemetry:
            self._exporters.append(OpenTelemetryExporter())
        self._serve_metrics()
        self._receivers: list[TombstoneReceiver] = []
        try:
            self._receive_tombstones(options)
        except OSError as e:
            log.warning("Error receiving tombstone from guest or writing them. Error: %s", e)
        service = VirtualizationServiceInternal(
            self._contexts,
            self._policy,
            AtomLog(_state_dir(options), self._exporters, per_party=options.system),
            self._parties,
            _open_generations(options),
        )
        self._server = Server(
            service,
            fd_modes=frozenset({FdMode.NONE}),  # no method takes a descriptor
            max_threads=4,
            frame_timeout=FRAME_SECONDS,
            accept=lambda peer: peer.uid is not None,
            party=self._parties,
            budget=_budget(options.max_connections),
        )
        listener = systemd.activated_socket()
        if listener is None:
            listener = self._listen(directory / SERVICE_SOCKET_NAME, options.system)
        self._stack.callback(self._server.shutdown)
        self._stack.callback(self._contexts.freeze)
        self._server.start(listener)
        self._housekeeper.start(self._contexts.clean, self._try_again)

    def _try_again(self) -> None:
        self._contexts.look_again()
        self._serve_metrics()

    def _serve_metrics(self) -> None:
        """Any user may have the port already, which must not keep the service from serving."""
        if self._prometheus is None:
            return
        try:
            exporter = PrometheusExporter(*self._prometheus)
        except OSError as e:
            log.warning("metrics cannot be served for now: %s", e)
            return
        log.info("metrics are served on port %d", exporter.port)
        self._exporters.append(exporter)
        self._prometheus = None

    def _close_exporters(self) -> None:
        for exporter in self._exporters:
            if isinstance(exporter, PrometheusExporter):
                exporter.close()

    def _make_contexts(self, options: Options) -> ContextTable:
        """VMs' directories are where the state is, not on /run: how much is in them is up to users."""
        directories = _vm_directories(options)
        self._stack.callback(directories.close)
        contexts = ContextTable(
            CidAllocator(options.directory / "last_cid", *options.cids),
            directories,
            parties=self._parties,
            limit=options.max_vms,
            on_work=self._housekeeper.wake,
        )
        self._stack.callback(contexts.close)
        self._stack.callback(self._close_exporters)
        self._stack.callback(self._housekeeper.close)
        return contexts

    def _receive_tombstones(self, options: Options) -> None:
        """Listens on the tombstone port, of the kernel's vsock and of that in user space, and for memory dumps."""
        store = TombstoneStore(
            _state_dir(options) / "tombstones",
            per_party=options.system,
            count=options.tombstones,
            total=2 * options.ramdump_bytes,
            whole=STORES * 2 * options.ramdump_bytes if options.system else 0,
        )
        receiver = self._receiver(store, ReceiverLimits(bytes=options.tombstone_bytes))
        if kernel_vhost_available():
            try:
                receiver.start(_listen_vsock(TOMBSTONE_PORT))
            except OSError as e:
                log.warning("Error receiving tombstone from guest or writing them. Error: %s", e)
        directory = options.directory / "vsock"
        keep_directory(directory)
        make_directory(directory, 0o755 if options.system else 0o700)
        mode = 0o666 if options.system else 0o600
        receiver.start(listen_host(TOMBSTONE_PORT, directory, mode=mode))
        self._stack.callback((directory / str(TOMBSTONE_PORT)).unlink, missing_ok=True)
        limits = ReceiverLimits(
            bytes=options.ramdump_bytes, connections=MAX_RAMDUMPS, connections_per_party=2
        )
        ramdumps = self._receiver(store, limits)
        ramdumps.start(self._listen(directory / RAMDUMP_SOCKET_NAME, options.system))

    def _receiver(self, store: TombstoneStore, limits: ReceiverLimits) -> TombstoneReceiver:
        identifier = Identifier(self._contexts, self._policy)
        receiver = TombstoneReceiver(
            store, identifier, limits, allows=identifier.may_file, parties=self._parties
        )
        self._receivers.append(receiver)
        self._stack.callback(receiver.close)
        return receiver

    def _listen(self, path: Path, system: bool) -> socket.socket:
        clear(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.ExitStack() as undo:
            undo.callback(listener.close)
            with unix_path.usable(str(path)) as address:
                listener.bind(address)
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
        """Blocks until a signal, or until there has been nothing to do, nor a VM, for `idle_timeout` seconds."""
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
        alive = self._server.sessions or coming_in or self._contexts.live()
        return bool(alive or self._contexts.has_work)


def _budget(connections: int | None) -> Budget:
    """What the parties share. `connections`: for each of them; None: there is only one, the user."""
    total = TOTAL_LIMITS._replace(connections=MAX_CONNECTIONS)
    if connections is None:
        return Budget(party=total, total=total, privileged=lambda _: True)
    return Budget(
        party=PARTY_LIMITS._replace(connections=connections),
        total=total,
        calls=Rate(CALLS_AT_ONCE, CALLS_PER_SECOND),
        privileged=lambda party: party == ROOT,
    )


def _state_dir(options: Options) -> Path:
    """Where to keep what is to outlive a reboot, if systemd gave us such a place (StateDirectory=)."""
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(given) if options.system and given else options.directory


def _open_generations(options: Options) -> GenerationStore | None:
    """None where there is no place for them, which the log says."""
    directory = _state_dir(options) if options.state is None else options.state
    try:
        return GenerationStore(directory / "instances")
    except OSError as e:
        log.warning("instances cannot be remembered, old images of them are not noticed: %s", e)
        return None


def _vm_directories(options: Options) -> TempDirs:
    """Raises OSError."""
    state = _state_dir(options)
    try:
        return TempDirs(state / "vms")
    except OSError as e:
        if state == options.directory:
            raise
        log.error("VMs' directories cannot be in %s: %s", state, e)
        return TempDirs(options.directory / "vms")


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
