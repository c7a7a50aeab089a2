"""Copies files and folders into a guest and out of it."""

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from avf.client.errors import ShellFailed
from avf.shell import (
    Action,
    Failure,
    Frame,
    FrameStream,
    Kind,
    LinkRule,
    ProtocolError,
    Request,
    ShellError,
    find_place,
    receive_tree,
    send_tree,
)

Connect = Callable[[], socket.socket]


def push(connect: Connect, sources: Sequence[str], target: str, *, root: bool) -> list[str]:
    """What was left out, a line each. Raises ShellFailed."""
    into = len(sources) > 1
    remarks: list[str] = []
    for source in sources:
        name = _name(source, os.path.realpath(source))
        arguments = (os.fsencode(target), name)
        with _stream(connect, Request(Action.TAKE, arguments, root, into=into)) as stream:
            remarks += _send(stream, os.fsencode(source))
    return remarks


def pull(connect: Connect, sources: Sequence[str], target: str, *, root: bool) -> list[str]:
    """What was left out, a line each. Raises ShellFailed."""
    into = len(sources) > 1
    remarks: list[str] = []
    for source in sources:
        with _errors():
            place = find_place(os.fsencode(target), _name(source, source), into=into)
        try:
            request = Request(Action.GIVE, (os.fsencode(source),), root)
            with _stream(connect, request) as stream:
                remarks += receive_tree(stream.receive, place, LinkRule.INSIDE)
        finally:
            place.close()
    return remarks


def _name(path: str, whole: str) -> bytes:
    """What a copy of `path` is called in a folder: `x` for `a/x/`, and for `.` the name of the folder it is."""
    name = os.path.basename(path.rstrip("/"))  # noqa: PTH119
    if name in ("", ".", ".."):
        name = os.path.basename(whole.rstrip("/"))  # noqa: PTH119
    return os.fsencode(name)


def _send(stream: FrameStream, source: bytes) -> list[str]:
    """The guest speaks up in the middle only if it cannot go on."""
    ended = False

    def send(kind: Kind, payload: bytes) -> None:
        nonlocal ended
        if stream.has_input():
            ended = True
            raise BrokenPipeError
        stream.send(kind, payload)

    remarks: list[str] = []

    def noted(kind: Kind, payload: bytes) -> None:
        if kind is Kind.LEFT_OUT:
            remarks.append(payload.decode("utf-8", "replace"))
        send(kind, payload)

    try:
        send_tree(source, noted)
    except ConnectionError:
        pass  # it said why, or has gone
    while (frame := stream.receive()) is not None:
        match frame:
            case Frame(Kind.DONE) if not ended:
                return remarks
            case Frame(Kind.LEFT_OUT):
                continue  # what was said here comes back
            case Frame(Kind.FAILED, payload):
                raise ShellFailed(Failure.decode(payload).text)
            case _:
                raise ProtocolError(f"the guest sent {frame.kind.name} while it took files")
    raise ShellFailed("the guest has gone before everything was copied")


@contextmanager
def _stream(connect: Connect, request: Request) -> Iterator[FrameStream]:
    with connect() as connection, _errors():
        stream = FrameStream(connection)
        stream.send(Kind.REQUEST, request.encode())
        yield stream


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except ShellError as error:
        raise ShellFailed(str(error)) from error
    except ConnectionError as error:
        raise ShellFailed("the guest has gone before everything was copied") from error
