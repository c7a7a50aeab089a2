"""VMs that run already, whoever made them: look into them, end them. Their owners' rights are needed, or root's.

    with open_vm(2048) as vm:
        print(vm.details().name, vm.metrics().cpu_time_millis)
        vm.stop()

An object of this module does not hold its VM: it neither keeps it alive nor ends it when it is closed.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

from avf.aidl.virtualizationservice import IVirtualMachine, VirtualMachineDebugInfo
from avf.aidl.virtualizationservice_internal import IVirtualizationServiceInternal
from avf.aidl.vm_control import IVmControl, PayloadState
from avf.binder import (
    BinderError,
    DeadObjectError,
    FdMode,
    RemoteException,
    Session,
    connect,
    interface_cast,
    unix,
)
from avf.causes import words
from avf.client.checks import check_text
from avf.client.config import FileSource, open_output
from avf.client.connection import VmInfo, check_settings
from avf.client.errors import NoSuchVm, Refused, ServiceError, VmGone
from avf.client.history import MetricsSample
from avf.client.inside import GuestAccess
from avf.client.inspection import Inspection, VmDetails, VmMetrics
from avf.client.machine import VirtualMachine
from avf.client.ports import aidl_port
from avf.client.report import DeathReport
from avf.client.watch import Listener
from avf.mounts import open_inside
from avf.runtime import SYSTEM_RUNTIME_DIR, SYSTEM_STATE_DIR, service_sockets, user_runtime_dir

__all__ = [
    "ControlledVm",
    "MetricsSample",
    "PayloadState",
    "VmDetails",
    "VmMetrics",
    "list_vms",
    "open_vm",
]

_TIMEOUT = 10.0
_EVENT_THREADS = 1


def list_vms() -> list[VmInfo]:
    """The VMs of every user, by CID, as the virtualizationservices that run know them; none is started for that.

    Raises Refused (SECURITY) without the right to know.
    """
    check_settings()
    found = {}
    for path in service_sockets():
        try:
            session = connect(unix(path), fd_mode=FdMode.NONE, timeout=_TIMEOUT)
        except (OSError, DeadObjectError):
            continue
        with session:
            for info in _listed(session):
                found[info.temporary_directory] = VmInfo(
                    info.cid, info.temporary_directory, info.requester_uid, info.requester_pid
                )
    return sorted(found.values(), key=lambda info: info.cid)


def _listed(session: Session) -> list[VirtualMachineDebugInfo]:
    with _told("virtualizationservice"):
        return session.get_root(IVirtualizationServiceInternal).debug_list_vms()


def open_vm(cid: int) -> "ControlledVm":
    """The VM with that CID. Raises NoSuchVm."""
    check_settings()
    problem = None
    for directory in _directories(cid):
        try:
            return open_vm_in(directory)
        except FileNotFoundError:
            continue
        except PermissionError:
            problem = f"the VM with CID {cid} belongs to another user"
        except (OSError, BinderError) as error:
            problem = f"the VM with CID {cid} cannot be reached: {words(error)}"
    raise NoSuchVm(problem or f"there is no VM with CID {cid}")


def open_vm_in(directory: str | os.PathLike[str]) -> "ControlledVm":
    """The VM with that temporary directory. Raises OSError or BinderError."""
    return ControlledVm(_connected(Path(directory)), Path(directory))


def _connected(directory: Path, incoming_threads: int = 0) -> Session:
    """Raises OSError or BinderError."""
    with _control_socket(directory) as path:
        return connect(
            unix(path), fd_mode=FdMode.UNIX, incoming_threads=incoming_threads, timeout=_TIMEOUT
        )


def _directories(cid: int) -> Iterator[Path]:
    bases = [SYSTEM_STATE_DIR, SYSTEM_RUNTIME_DIR]
    with suppress(OSError):
        bases.insert(0, user_runtime_dir())
    known = [base / "vms" / str(cid) for base in bases]
    yield from known
    try:
        listed = [Path(info.temporary_directory) for info in list_vms() if info.cid == cid]
    except BinderError:
        return
    yield from (directory for directory in listed if directory not in known)


@contextmanager
def _told(who: str) -> Iterator[None]:
    """Turns what goes wrong in a call of `who` into errors of this package."""
    try:
        yield
    except RemoteException as error:
        raise Refused.of(error) from None
    except DeadObjectError as error:
        raise VmGone(f"{who} is gone") from error
    except BinderError as error:
        raise ServiceError(f"{who} could not answer: {error}") from error


@contextmanager
def _control_socket(directory: Path) -> Iterator[str]:
    """Its path, by a descriptor, since a unix socket's path must be short.

    The directory is its owner's, who may not be the caller: what is mounted in it, or over it, is not entered, for that
    could hold up the caller for ever.
    """
    with ExitStack() as stack:
        above = os.open(directory.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, above)
        inside = open_inside(directory.name, above, os.O_PATH | os.O_DIRECTORY)
        stack.callback(os.close, inside)
        control = open_inside(IVmControl.CONTROL_SOCKET_NAME, inside, os.O_PATH)
        stack.callback(os.close, control)
        yield f"/proc/self/fd/{control}"


class ControlledVm(Inspection, GuestAccess):
    """A VM seen from outside. What virtmgr refuses raises Refused, a VM that is gone VmGone."""

    def __init__(self, session: Session, directory: Path) -> None:
        """`session`: with the VM that has that temporary directory."""
        self._session = session
        self._directory = directory
        self._of_clones: list[Session] = []
        try:
            with _told("the VM"):
                self._control = session.get_root(IVmControl)
        except BaseException:
            session.close()
            raise

    @contextmanager
    def _inspected(self) -> Iterator[IVmControl]:
        with _told("the VM"):
            yield self._control

    def death_report(self) -> DeathReport | None:
        """None while the VM has not died."""
        with _told("the VM"):
            report = self._control.get_death_report()
        return None if report is None else DeathReport.from_aidl(report)

    def stop(self) -> None:
        """Kills the VM; returns when all of it is gone."""
        with suppress(DeadObjectError), _told("the VM"):  # dead: its owner was faster
            self._control.stop()

    def fork(
        self,
        name: str = "",
        *,
        console: FileSource | None = None,
        log: FileSource | None = None,
        on_event: Listener | None = None,
    ) -> VirtualMachine:
        """As `avf.client.VirtualMachine.fork`. The clone is the caller's, but ends with the client of this VM too, and
        with this connection.
        """
        check_text("name", name)
        with ExitStack() as files, _told("the VM"):
            outputs = (open_output(console, "console", files), open_output(log, "log", files))
            control = self._listening().get_root(IVmControl)
            clone = interface_cast(IVirtualMachine, control.fork(name, *outputs))
            return VirtualMachine(clone, lambda: _told("the VM"), on_event)

    def _listening(self) -> Session:
        """A session over which a clone's events come. Raises BinderError."""
        try:
            session = _connected(self._directory, _EVENT_THREADS)
        except OSError as error:
            raise VmGone(f"the VM cannot be reached: {words(error)}") from error
        self._of_clones.append(session)
        return session

    def connect_vsock(self, port: int) -> socket.socket:
        """A stream to `port` (unsigned 32 bit, from 1024 on) of the running guest."""
        number = aidl_port(port)
        with _told("the VM"):
            stream = self._control.connect_vsock(number)
        return socket.socket(fileno=stream.detach())

    def connect_shell(self) -> socket.socket:
        """A stream to the shell service of the guest, which only a debuggable one has."""
        with _told("the VM"):
            stream = self._control.connect_shell()
        return socket.socket(fileno=stream.detach())

    def close(self) -> None:
        """Ends the connection, and clones that were made by it; nothing changes for the VM."""
        self._session.close()
        while self._of_clones:
            self._of_clones.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
