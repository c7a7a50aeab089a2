"""crosvm's control socket: SOCK_SEQPACKET, one JSON document per packet each way."""

import errno
import json
import socket
from pathlib import Path

from avf.vmm.base import BalloonStats, NotSupported, VmmControlError
from avf.vmm.crosvm.address import address_in

_NAME = "crosvm.sock"
_MAX_REPLY = 1 << 16
_NO_DRIVER = (errno.ENOTSUP, errno.ENOTCONN, errno.EAGAIN)
"""EAGAIN: this crosvm has handed the request on to the driver's side and waited for 100 ms."""
IN_VAIN_MAX = 100
"""How often that may happen: crosvm keeps each of these requests, and stands still after some 280 of them."""


class ControlSocket:
    """The address `DIRECTORY/crosvm.sock`; requests from any thread, each on a connection of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._in_vain = 0

    def listen(self) -> socket.socket:
        """The socket crosvm is to inherit. Raises OSError."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with address_in(self._directory, _NAME) as address:
                listener.bind(address)
            listener.listen(1)
        except BaseException:
            listener.close()
            raise
        return listener

    def remove(self) -> None:
        (self._directory / _NAME).unlink(missing_ok=True)

    def set_balloon(self, size: int, timeout: float) -> None:
        adjust = {"num_bytes": size, "wait_for_success": False}
        reply = self._request({"BalloonCommand": {"Adjust": adjust}}, timeout)
        if reply != "Ok":
            raise VmmControlError(f"crosvm answered {reply!r:.200}")

    def balloon_stats(self, timeout: float) -> BalloonStats:
        if self._in_vain >= IN_VAIN_MAX:
            raise NotSupported(f"no balloon driver has answered {IN_VAIN_MAX} requests")
        reply = self._request({"BalloonCommand": "Stats"}, timeout)
        self._in_vain = 0
        body = reply.get("BalloonStats") if isinstance(reply, dict) else None
        actual = body.get("balloon_actual") if isinstance(body, dict) else None
        stats = body.get("stats") if isinstance(body, dict) else None
        if not isinstance(actual, int) or not isinstance(stats, dict):
            raise VmmControlError(f"crosvm answered {reply!r:.200}")
        return BalloonStats(
            actual,
            total_memory=_size(stats, "total_memory"),
            available_memory=_size(stats, "available_memory"),
            free_memory=_size(stats, "free_memory"),
        )

    def _request(self, request: object, timeout: float) -> object:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
                sock.settimeout(timeout)
                with address_in(self._directory, _NAME) as address:
                    sock.connect(address)
                sock.send(json.dumps(request).encode())
                reply = json.loads(sock.recv(_MAX_REPLY))
        except (OSError, ValueError, RecursionError) as error:
            raise VmmControlError(f"crosvm does not answer: {error}") from error
        if isinstance(reply, dict) and "Err" in reply:
            code = reply["Err"]
            if code == errno.EAGAIN:
                self._in_vain += 1
            if code in _NO_DRIVER:
                raise NotSupported("no balloon driver answers in the guest")
            raise VmmControlError(f"crosvm answered with errno {code}")
        if isinstance(reply, dict) and "ErrString" in reply:
            raise VmmControlError(f"crosvm answered {str(reply['ErrString'])[:200]!r}")
        return reply


def _size(stats: dict[str, object], name: str) -> int | None:
    value = stats.get(name)
    return value if isinstance(value, int) else None
