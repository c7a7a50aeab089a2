"""A virtmgr whose VMs are plays: $FAKE_VIRTMGR_PLAY, or else a VM's name, tells what happens to it once it is started.

The words are started, ready, finished:N, error:N:TEXT, died:N and report (what happens is told in a report, once it
has died); to the console go tell:TEXT, pid (of this process), files (what the configuration's instance image, idsigs
and extra APKs hold), call (arguments and variables of the payload) and hear (a line of the console's input).
Of an app, what is told goes to the log if there is one. `create_vm` refuses names that begin with "refuse:",
`start` the name "unstartable".
"""

import argparse
import os
import socket
import sys
import tempfile
import threading
from pathlib import Path

from avf.aidl.virtualizationcommon import DeathReason, ErrorCode
from avf.aidl.virtualizationservice import (
    IVirtualizationService,
    IVirtualMachine,
    IVirtualMachineCallback,
    MemoryTrimLevel,
    PartitionType,
    VirtualMachineConfig,
    VirtualMachineDebugInfo,
    VirtualMachineState,
)
from avf.aidl.vm_control import DeathReport, IVmControl, PayloadInvocation, PoolRequest, PoolStatus
from avf.binder import (
    FdMode,
    IBinder,
    Interface,
    Long,
    ParcelFileDescriptor,
    RemoteException,
    Server,
    Status,
    StatusError,
    method,
)


class IGreeter(Interface, descriptor="avf.test.IGreeter"):
    """What guests of this virtmgr serve on every port."""

    @method(1)
    def greet(self, name: str) -> str:
        raise NotImplementedError


class _Greeter(IGreeter):
    def greet(self, name: str) -> str:
        return f"hello, {name}"


class _Machine(IVirtualMachine):
    def __init__(
        self,
        service: "_Service",
        cid: int,
        script: str,
        console: int | None,
        heard: int | None = None,
        files: str = "",
        call: str = "",
    ) -> None:
        self._call = call
        self._heard = heard
        self._files = files
        self._service = service
        self._cid = cid
        self._script = script.split(",") if script else []
        self._console = console
        self._writing = threading.Lock()
        self._state = VirtualMachineState.NOT_STARTED
        self._callbacks: list[IVirtualMachineCallback] = []
        self._death_reason: DeathReason | None = None

    def get_cid(self) -> int:
        return self._cid

    def get_state(self) -> VirtualMachineState:
        return self._state

    def register_callback(self, callback: IVirtualMachineCallback) -> None:
        self._callbacks.append(callback)

    def start(self) -> None:
        if self._state != VirtualMachineState.NOT_STARTED:
            raise RemoteException.service_specific_error(-1, "VM already started or failed")
        if self._script == ["unstartable"]:
            raise RemoteException.service_specific_error(-1, "it cannot be started")
        self._state = VirtualMachineState.STARTING
        threading.Thread(target=self._play, daemon=True).start()

    def stop(self) -> None:
        if self._state in (VirtualMachineState.NOT_STARTED, VirtualMachineState.DEAD):
            raise RemoteException.service_specific_error(-1, "VM is not running")
        self._die(DeathReason.KILLED)

    def on_trim_memory(self, level: MemoryTrimLevel) -> None:
        print("trim", level.name, file=sys.stderr, flush=True)

    def connect_vsock(self, port: int) -> ParcelFileDescriptor:
        if self._state == VirtualMachineState.NOT_STARTED:
            raise RemoteException.service_specific_error(-1, "VM is not running")
        stream = socket.socket(socket.AF_UNIX)
        stream.connect(self._service.guest_address(port))
        return ParcelFileDescriptor(stream.detach())

    def get_control(self) -> IBinder:
        if "report" not in self._script:
            raise StatusError(Status.UNKNOWN_TRANSACTION)
        return _Control(self)  # type: ignore[abstract]

    @property
    def service(self) -> "_Service":
        return self._service

    @property
    def death_reason(self) -> DeathReason | None:
        return self._death_reason

    def on_released(self) -> None:
        if self._state not in (VirtualMachineState.NOT_STARTED, VirtualMachineState.DEAD):
            self._die(DeathReason.KILLED)
        self._service.forget(self._cid)
        with self._writing:
            if self._console is not None:
                os.close(self._console)
                self._console = None

    def _play(self) -> None:
        for line in self._script:
            word, _, rest = line.partition(":")
            self._act(word, rest)

    def _act(self, word: str, rest: str) -> None:
        for callback in self._callbacks:
            match word:
                case "started":
                    callback.on_payload_started(self._cid)
                case "ready":
                    callback.on_payload_ready(self._cid)
                case "finished":
                    callback.on_payload_finished(self._cid, int(rest))
                case "error":
                    code, _, text = rest.partition(":")
                    callback.on_error(self._cid, ErrorCode(int(code)), text)
                case "died":
                    self._die(DeathReason(int(rest)))
        if self._console is None:
            return
        match word:
            case "tell":
                text = rest
            case "pid":
                text = f"pid {os.getpid()}"
            case "files":
                text = self._files
            case "call":
                text = self._call
            case "hear" if self._heard is not None:
                with open(self._heard, closefd=False) as heard:
                    text = heard.readline().strip()
            case _:
                return
        with self._writing:
            if self._console is not None:
                os.write(self._console, f"{text}\n".encode())

    def _die(self, reason: DeathReason) -> None:
        self._state = VirtualMachineState.DEAD
        self._death_reason = reason
        for callback in self._callbacks:
            callback.on_died(self._cid, reason)


class _Control(IVmControl, partial=True):
    def __init__(self, machine: _Machine) -> None:
        self._machine = machine

    def fork(
        self,
        name: str,
        console_fd: ParcelFileDescriptor | None,
        log_fd: ParcelFileDescriptor | None,
    ) -> IBinder:
        """A VM whose play is its name."""
        for file in (console_fd, log_fd):
            if file is not None:
                os.write(file.fileno(), b"a clone\n")
        return _Machine(self._machine.service, 4242, name, None)

    def get_death_report(self) -> DeathReport | None:
        reason = self._machine.death_reason
        if reason is None:
            return None
        return DeathReport(
            reason=reason,
            last_step="the payload was ready",
            vmm_status=-11,
            vmm_events=["started"],
            vmm_stderr="qemu: cannot go on\nat all",
            failure="REASON|\x1b[2Jmore",
            console_tail=["[0.1] oops"],
        )


class _Service(IVirtualizationService):
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cids: dict[int, str] = {}
        self._next_cid = 2048
        self._pool = PoolRequest()
        self._greeter = Server(_Greeter())
        self._listen("greeter", self._greeter.start)
        self._listen("port", lambda listener: _serve_port_numbers(listener))

    def _listen(self, name: str, serve: object) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self._folder / name))
        listener.listen()
        threading.Thread(target=serve, args=(listener,), daemon=True).start()  # type: ignore[arg-type]

    def guest_address(self, port: int) -> str:
        """Port 5678 greets over RPC Binder, every negative one says its number."""
        return str(self._folder / ("port" if port < 0 else "greeter"))

    def keep_clones_waiting(self, request: PoolRequest) -> None:
        self._pool = request

    def get_pool_status(self) -> PoolStatus:
        return PoolStatus(wanted=self._pool.count)

    def create_vm(
        self,
        config: VirtualMachineConfig,
        console_fd: ParcelFileDescriptor | None,
        os_log_fd: ParcelFileDescriptor | None,
    ) -> IVirtualMachine:
        return self.create_vm_with_input(config, console_fd, None, os_log_fd)

    def create_vm_with_input(
        self,
        config: VirtualMachineConfig,
        console_fd: ParcelFileDescriptor | None,
        console_in_fd: ParcelFileDescriptor | None,
        os_log_fd: ParcelFileDescriptor | None,
    ) -> IVirtualMachine:
        invocation = PayloadInvocation(arguments=[], environment=[])
        return self.create_vm_with_invocation(
            config, console_fd, console_in_fd, os_log_fd, invocation
        )

    def create_vm_with_invocation(
        self,
        config: VirtualMachineConfig,
        console_fd: ParcelFileDescriptor | None,
        console_in_fd: ParcelFileDescriptor | None,
        os_log_fd: ParcelFileDescriptor | None,
        invocation: PayloadInvocation,
    ) -> IVirtualMachine:
        script = os.environ.get("FAKE_VIRTMGR_PLAY") or getattr(config, config.which).name
        if script == "doctor":
            script = "started,ready"
        if script.startswith("refuse:"):
            raise RemoteException.security(script.removeprefix("refuse:"))
        cid = self._next_cid
        self._next_cid += 1
        self._cids[cid] = f"/run/{cid}"
        console = None
        if config.which == "app_config" and os_log_fd is not None:
            console_fd = os_log_fd
        if console_fd is not None:  # opened anew, as QEMU does
            console = os.open(f"/proc/self/fd/{console_fd.fileno()}", os.O_WRONLY | os.O_APPEND)
        heard = None if console_in_fd is None else os.dup(console_in_fd.fileno())
        call = f"{invocation.arguments} {invocation.environment}"
        return _Machine(self, cid, script, console, heard, _files_of(config), call)

    def forget(self, cid: int) -> None:
        self._cids.pop(cid, None)

    def initialize_writable_partition(
        self, image_fd: ParcelFileDescriptor, size_bytes: Long, type: PartitionType
    ) -> None:
        if size_bytes == 13:
            raise RemoteException.illegal_argument("an unlucky size")
        os.ftruncate(image_fd.fileno(), size_bytes)
        os.pwrite(image_fd.fileno(), type.name.encode(), 0)

    def create_or_update_idsig_file(
        self, input_fd: ParcelFileDescriptor, idsig_fd: ParcelFileDescriptor
    ) -> None:
        content = os.pread(input_fd.fileno(), 100, 0)
        if not content:
            raise RemoteException.service_specific_error(-1, "failed to create idsig")
        os.pwrite(idsig_fd.fileno(), b"idsig of " + content, 0)

    def forget_instance(self, instance_image: ParcelFileDescriptor) -> None:
        content = os.pread(instance_image.fileno(), 100, 0).rstrip(b"\0")
        if not content:
            raise RemoteException.service_specific_error(-1, "no instance image")
        print(f"forgotten: {content.decode()}", file=sys.stderr, flush=True)

    def debug_list_vms(self) -> list[VirtualMachineDebugInfo]:
        if "FAKE_DENIES_LIST" in os.environ:
            raise RemoteException.security("not for you")
        return [
            VirtualMachineDebugInfo(
                cid=cid, temporary_directory=path, requester_uid=1000, requester_pid=42
            )
            for cid, path in reversed(self._cids.items())
        ]


def _files_of(config: VirtualMachineConfig) -> str:
    if config.which != "app_config":
        return ""
    app = config.app_config
    files = [app.instance_image, *app.extra_idsigs]
    if app.payload.which == "payload_config":
        files += app.payload.payload_config.extra_apks
    return ", ".join(
        os.pread(file.fileno(), 30, 0).rstrip(b"\0").decode(errors="replace")
        for file in files
        if file is not None
    )


def _serve_port_numbers(listener: socket.socket) -> None:
    while True:
        stream, _ = listener.accept()
        with stream:
            stream.sendall(b"you have reached a negative port")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rpc-server-fd", type=int, required=True)
    parser.add_argument("--ready-fd", type=int, required=True)
    parser.add_argument("--silent", action="store_true")
    arguments = parser.parse_args()
    print("the fake virtmgr is up", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        server = Server(_Service(Path(folder)), fd_modes=frozenset({FdMode.UNIX}), max_threads=4)
        if not arguments.silent:
            os.write(arguments.ready_fd, b"o")
        os.close(arguments.ready_fd)
        server.serve_bootstrap(socket.socket(fileno=arguments.rpc_server_fd))


if __name__ == "__main__":
    main()
