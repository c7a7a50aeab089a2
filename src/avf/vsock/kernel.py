"""vsock by the kernel: vhost-vsock carries it and AF_VSOCK sockets are its host side."""

import fcntl
import os
import socket
import struct

from avf.vsock.address import check_guest_cid, check_port
from avf.vsock.naming import guest_address

VHOST_DEVICE = "/dev/vhost-vsock"
_VHOST_GET_FEATURES = 0x8008_AF00  # linux/vhost.h: _IOR(0xAF, 0x00, __u64)
_SO_VM_SOCKETS_CONNECT_TIMEOUT = 6  # linux/vm_sockets.h; not among socket's constants
_TIMEVAL = struct.Struct("@ll")
_BACKLOG = 128


def kernel_vhost_available(device: str = VHOST_DEVICE) -> bool:
    """Whether this process may open vhost-vsock and it answers; a device node alone proves nothing."""
    try:
        fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        features = fcntl.ioctl(fd, _VHOST_GET_FEATURES, bytes(8))
    except OSError:
        return False
    finally:
        os.close(fd)
    return bool(struct.unpack("=Q", features)[0])


class KernelVsock:
    """A HostVsock over AF_VSOCK."""

    __slots__ = ("cid",)

    def __init__(self, cid: int) -> None:
        self.cid = check_guest_cid(cid)

    def listen(self, port: int) -> socket.socket:
        """Listens on `port` of the host, which any guest can reach: ask `accepts` about every peer."""
        sock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        try:
            sock.bind((socket.VMADDR_CID_ANY, check_port(port)))
            sock.listen(_BACKLOG)
        except BaseException:
            sock.close()
            raise
        return sock

    def connect(self, port: int, timeout: float | None = 10.0) -> socket.socket:
        """See HostVsock.connect."""
        sock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        try:
            if timeout is not None:
                _set_connect_timeout(sock, timeout)
            sock.settimeout(timeout)
            sock.connect((self.cid, check_port(port)))
            sock.settimeout(None)
        except BaseException:
            sock.close()
            raise
        return sock

    def accepts(self, peer_sock: socket.socket) -> bool:
        """Whether the peer has this guest's CID."""
        if peer_sock.family != socket.AF_VSOCK:
            return False
        address = guest_address(peer_sock)
        return address is not None and address[0] == self.cid


def _set_connect_timeout(sock: socket.socket, timeout: float) -> None:
    """Else the kernel gives up after 2 s, however long the caller is willing to wait."""
    microseconds = max(1, round(timeout * 1_000_000))
    timeval = _TIMEVAL.pack(*divmod(microseconds, 1_000_000))
    # A socket object of family AF_VSOCK takes integers only, so another one stands in for it.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=os.dup(sock.fileno())) as plain:
        plain.setsockopt(socket.AF_VSOCK, _SO_VM_SOCKETS_CONNECT_TIMEOUT, timeval)
