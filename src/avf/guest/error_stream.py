"""The payload's standard error, where the host wants it apart from the standard output: a pipe, and a connection of its
own to the host.

A socket would not do in the pipe's place: a program cannot open it again as /dev/stderr.
"""

import os
import select
import socket
import threading

from avf.aidl.virtualmachineservice import IVirtualMachineService
from avf.guest.errors import FailedToConnect
from avf.guest.host import HOST_CID, local_cid
from avf.guest.report import log

_CHUNK = 64 << 10


class ErrorStream:
    """Carries what comes out of a pipe to the host. `finish` ends it."""

    def __init__(self, source: int) -> None:
        """`source`: the end of the pipe that is read, which is taken over. Raises FailedToConnect."""
        port = IVirtualMachineService.VM_STDERR_PORT_BASE + local_cid()
        self._source = source
        self._sock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        try:
            self._sock.connect((HOST_CID, port))
        except OSError as error:
            self._sock.close()
            raise FailedToConnect(
                f"cannot reach the host's end of standard error on vsock port {port}"
            ) from error
        self._payload_ended = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """To be called once the payload has ended: returns when the host has read all that it wrote.

        What a process that it left behind writes later is lost, as the guest ends.
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
        while any(fd == self._source for fd, _ in poll.poll()):
            data = os.read(self._source, _CHUNK)
            if not data:
                return
            self._sock.sendall(data)
