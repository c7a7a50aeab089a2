"""The payload's standard error, where the host wants it apart from the standard output: a pipe, and a connection of its
own to the host.

A socket would not do in the pipe's place: a program cannot open it again as /dev/stderr.
"""

import fcntl
import os
import select
import socket
import sys
import threading

from avf.aidl.virtualmachineservice import IVirtualMachineService
from avf.guest.errors import FailedToConnect
from avf.guest.host import HOST_CID, local_cid
from avf.guest.report import log

_CHUNK = 64 << 10
_FIONREAD = 0x541B
"""Of ioctl_tty(2): how many bytes can be read."""


def connect() -> socket.socket:
    """To where the host reads standard error. Raises FailedToConnect."""
    port = IVirtualMachineService.VM_STDERR_PORT_BASE + local_cid()
    sock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    try:
        sock.connect((HOST_CID, port))
    except OSError as error:
        sock.close()
        raise FailedToConnect(
            f"cannot reach the host's end of standard error on vsock port {port}"
        ) from error
    return sock


class ErrorStream:
    """Carries what comes out of a pipe to the host. `finish` ends it."""

    def __init__(self, source: int, sock: socket.socket) -> None:
        """Takes both over: the end of the pipe that is read, and the connection to the host."""
        self._source = source
        self._sock = sock
        self._payload_ended = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """To be called once the payload has ended: returns when the host has read all that it wrote.

        What a process that it left behind writes from now on is lost.
        """
        os.eventfd_write(self._payload_ended, 1)
        self._thread.join()
        os.close(self._payload_ended)

    def _run(self) -> None:
        try:
            self._carry()
            self._sock.shutdown(socket.SHUT_WR)
            self._sock.recv(1)  # the host closes its end when it has read all
        except OSError as error:
            log(f"the host gets no more of the payload's standard error: {error}")
        finally:
            self._sock.close()
            os.close(self._source)

    def _carry(self) -> None:
        poll = select.poll()
        poll.register(self._source, select.POLLIN)
        poll.register(self._payload_ended, select.POLLIN)
        while all(fd != self._payload_ended for fd, _ in poll.poll()):
            if not self._pass_on(_CHUNK):
                return
        left = int.from_bytes(fcntl.ioctl(self._source, _FIONREAD, bytes(4)), sys.byteorder)
        while left > 0:
            left -= self._pass_on(min(left, _CHUNK))

    def _pass_on(self, limit: int) -> int:
        """How much there was, at most `limit` bytes; 0 if nobody writes any more."""
        data = os.read(self._source, limit)
        self._sock.sendall(data)
        return len(data)
