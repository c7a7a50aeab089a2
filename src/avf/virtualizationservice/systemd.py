"""How systemd hands over a socket (sd_listen_fds(3)) and hears how we are (sd_notify(3))."""

import os
import socket

_FIRST_FD = 3


def activated_socket() -> socket.socket | None:
    """The unix socket that systemd listens on for us; None if it was not systemd that started us so.

    Raises OSError if it handed over anything else.
    """
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    if pid != str(os.getpid()) or count in ("", "0"):
        return None
    if count != "1":
        raise OSError(f"one socket is wanted from systemd, not {count}")
    os.set_inheritable(_FIRST_FD, False)
    listener = socket.socket(fileno=_FIRST_FD)
    if (
        listener.family != socket.AF_UNIX
        or listener.type != socket.SOCK_STREAM
        or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    ):
        listener.close()
        raise OSError("what systemd handed over is not a listening unix stream socket")
    return listener


def notify(state: str) -> None:
    """Tells systemd a change of state; nothing happens if it does not want to know. Raises OSError."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
        notifier.sendto(state.encode(), address)
