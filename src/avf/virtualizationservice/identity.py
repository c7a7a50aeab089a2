"""Whose tombstone a connection brings."""

import socket
import struct

from avf.policy import Permission, PolicyFile
from avf.virtualizationservice.contexts import ContextTable
from avf.virtualizationservice.tombstones import Sender
from avf.vsock import guest_address

_CREDENTIALS = struct.Struct("=iII")


class Identifier:
    """Knows the VMs of this service.

    With the kernel's vsock, the peer's CID says it all, and VMs of others are turned away. With user-space vsock the
    peer is a process: its uid is certain, and the CID it names counts if that VM is its user's (or it is root).
    """

    def __init__(self, contexts: ContextTable, policy: PolicyFile) -> None:
        self._contexts = contexts
        self._policy = policy

    def __call__(self, sock: socket.socket) -> Sender | None:
        """None turns it away. Raises OSError if the peer has gone."""
        address = guest_address(sock)
        if sock.family != socket.AF_UNIX:
            return None if address is None else self._guest(address[0])
        _, uid, _ = _peer(sock)
        sender = None if address is None else self._guest(address[0])
        return sender if sender is not None and uid in (0, sender.uid) else Sender(uid)

    def may_file(self, sender: Sender, sock: socket.socket) -> bool:
        """Whether what `sender` sends is kept: it has a VM, or may have some (MANAGE_VIRTUAL_MACHINE).

        Raises OSError. polkit may take seconds.
        """
        if sender.cid is not None:
            return True
        pid, uid, _ = _peer(sock)
        return self._policy.current().allows(Permission.MANAGE_VIRTUAL_MACHINE, uid, pid)

    def _guest(self, cid: int) -> Sender | None:
        info = self._contexts.find(cid)
        if info is None:
            return None
        return Sender(info.requester_uid, cid, info.requester_pid or None)


def _peer(sock: socket.socket) -> tuple[int, int, int]:
    """pid, uid, gid."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    return pid, uid, gid
