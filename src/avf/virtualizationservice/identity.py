"""Whose tombstone a connection brings."""

import logging
import socket
import struct

from avf.virtualizationservice.contexts import ContextTable
from avf.virtualizationservice.tombstones import Sender
from avf.vsock import guest_address

_CREDENTIALS = struct.Struct("=iII")

log = logging.getLogger(__name__)


class Identifier:
    """Knows the VMs of this service.

    With the kernel's vsock, the peer's CID says it all, and VMs of others are turned away. With user-space vsock the
    peer is a process: its uid is certain, and the CID it names counts if that VM is its user's (or it is root).
    """

    def __init__(self, contexts: ContextTable) -> None:
        self._contexts = contexts

    def __call__(self, sock: socket.socket) -> Sender | None:
        """Raises OSError if the peer has gone."""
        address = guest_address(sock)
        if sock.family != socket.AF_UNIX:
            return None if address is None else self._guest(address[0])
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, _ = _CREDENTIALS.unpack(credentials)
        if address is None:
            return Sender(uid)
        sender = self._guest(address[0])
        if sender is None or uid not in (0, sender.uid):
            log.debug("uid %d does not have the VM with CID %d that it speaks for", uid, address[0])
            return Sender(uid)
        return sender

    def _guest(self, cid: int) -> Sender | None:
        info = self._contexts.find(cid)
        if info is None:
            return None
        return Sender(info.requester_uid, cid, info.requester_pid or None)
