"""Where connections come from and go to, as `vm forward` takes it on its command line."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from avf.cli.listen import listen_for_guests
from avf.cli.text import CliError

LOOPBACK = "127.0.0.1"
_BACKLOG = 16
_DIAL_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Address:
    """`tcp:[HOST:]PORT`, `unix:PATH` or `vsock:PORT`."""

    kind: str
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        match self.kind:
            case "tcp":
                host = f"[{self.host}]" if ":" in self.host else self.host
                return f"tcp:{host}:{self.port}"
            case "unix":
                return f"unix:{self.host}"
        return f"vsock:{self.port}"


if TYPE_CHECKING:
    _AddressParam = click.ParamType[Address]
else:  # not every version of click has it as a generic class
    _AddressParam = click.ParamType


class AddressType(_AddressParam):
    """An Address."""

    name = "address"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Address:
        if isinstance(value, Address):
            return value
        kind, _, rest = str(value).partition(":")
        if kind == "unix" and rest:
            return Address("unix", rest)
        host, colon, port = rest.rpartition(":")
        if kind == "tcp" and _is_number(port, 0, 65535) and not (colon and not host):
            return Address("tcp", host.removeprefix("[").removesuffix("]") or LOOPBACK, int(port))
        if kind == "vsock" and _is_number(rest, 1024, (1 << 32) - 2):
            return Address("vsock", port=int(rest))
        return self.fail(
            f"{value!r} is none of tcp:PORT, tcp:HOST:PORT, unix:PATH and vsock:PORT"
            " (vsock ports are from 1024 on).",
            param,
            ctx,
        )


ADDRESS = AddressType()


def dialler(target: Address) -> Callable[[], socket.socket]:
    """Connects to an address of the host."""

    def dial_unix() -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(target.host)
        except BaseException:
            sock.close()
            raise
        return sock

    if target.kind == "unix":
        return dial_unix
    return lambda: socket.create_connection((target.host, target.port), timeout=_DIAL_SECONDS)


def listen(source: Address, stack: ExitStack) -> tuple[list[socket.socket], Address]:
    """The listeners, open as long as `stack`, and the address with the port that was taken for 0. Raises CliError."""
    if source.kind == "vsock":
        return listen_for_guests(source.port, stack), source
    try:
        if source.kind == "unix":
            return [stack.enter_context(_unix_listener(source.host))], source
        family = socket.AF_INET6 if ":" in source.host else socket.AF_INET
        address = (source.host, source.port)
        listener = socket.create_server(address, family=family, backlog=_BACKLOG)
    except OSError as error:
        raise CliError(f"cannot listen on {source}: {error.strerror or error}") from error
    stack.enter_context(listener)
    return [listener], Address("tcp", source.host, listener.getsockname()[1])


@contextmanager
def _unix_listener(path: str) -> Iterator[socket.socket]:
    """For this user alone; what is there already stays. The socket goes in the end, unless another took its name."""
    with socket.socket(socket.AF_UNIX) as listener:
        before = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(before)
        made = Path(path).lstat()
        try:
            listener.listen(_BACKLOG)
            yield listener
        finally:
            with suppress(OSError):
                present = Path(path).lstat()
                if (present.st_dev, present.st_ino) == (made.st_dev, made.st_ino):
                    Path(path).unlink()


def _is_number(text: str, low: int, high: int) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 10 and low <= int(text) <= high
