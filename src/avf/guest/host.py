"""The host, as seen from the guest: its IVirtualMachineService on the vsock port that equals our own CID."""

import fcntl
import os

from avf.aidl.virtualmachineservice import IVirtualMachineService
from avf.binder import BinderError, FdMode, Session, connect, vsock
from avf.guest.errors import FailedToConnect

HOST_CID = 2
_GET_LOCAL_CID = 0x7B9
_CID_ANY = 0xFFFF_FFFF
_TIMEOUT = 30.0


def local_cid(device: str = "/dev/vsock") -> int:
    """The CID the host gave this guest. Raises FailedToConnect if there is no vsock device behind the driver."""
    try:
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        try:
            cid = int.from_bytes(fcntl.ioctl(fd, _GET_LOCAL_CID, bytes(4)), "little")
        finally:
            os.close(fd)
    except OSError as error:
        raise FailedToConnect("cannot find out the local CID") from error
    if cid == _CID_ANY:
        raise FailedToConnect("there is no vsock device")
    return cid


def connect_to_host() -> tuple[Session, IVirtualMachineService]:
    """The session (to be closed) and its root object. Raises FailedToConnect."""
    cid = local_cid()
    try:
        session = connect(
            vsock(HOST_CID, cid), fd_mode=FdMode.NONE, max_outgoing=1, timeout=_TIMEOUT
        )
        return session, session.get_root(IVirtualMachineService)
    except (OSError, BinderError) as error:
        raise FailedToConnect(f"cannot reach the host's service on vsock port {cid}") from error
