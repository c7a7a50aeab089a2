"""One connection to the shell service: reads the request, and serves it as the user it asks for."""

import os
import socket

from avf.guest.ending import finish
from avf.guest.report import log
from avf.guest.visitor import become_visitor
from avf.shell import (
    Action,
    Failure,
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

REQUEST_SECONDS = 10.0
_SEND_SECONDS = 60.0


def serve_connection(connection: socket.socket) -> None:
    """Raises OSError if the host has gone."""
    stream = FrameStream(connection)
    try:
        connection.settimeout(REQUEST_SECONDS)
        request = _read_request(stream)
        connection.settimeout(None)
        if request.action is Action.RUN:
            from avf.guest.command import run_command

            run_command(connection, request)
        else:
            become_visitor(request.root, dumpable=False)
            _transfer(connection, stream, request)
    except (ShellError, OSError) as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        log(f"shell: {text}")
        _tell_failure(connection, stream, text)


def _read_request(stream: FrameStream) -> Request:
    frame = stream.receive()
    if frame is None or frame.kind is not Kind.REQUEST:
        raise ProtocolError("the host sent no request")
    return Request.decode(frame.payload)


def _transfer(connection: socket.socket, stream: FrameStream, request: Request) -> None:
    os.chdir(os.environ["HOME"])
    if request.action is Action.GIVE:
        (path,) = _arguments(request, 1)
        send_tree(path, stream.send)
        finish(connection)
        return
    target, name = _arguments(request, 2)
    place = find_place(target or b".", name, into=request.into)
    try:
        for remark in receive_tree(stream.receive, place, LinkRule.ALL):
            stream.send(Kind.LEFT_OUT, remark.encode())
    finally:
        place.close()
    stream.send(Kind.DONE)
    finish(connection)


def _arguments(request: Request, count: int) -> tuple[bytes, ...]:
    if len(request.arguments) != count:
        raise ProtocolError(f"{request.action.name} takes {count} arguments")
    return request.arguments


def _tell_failure(connection: socket.socket, stream: FrameStream, text: str) -> None:
    """The host may be in the middle of sending: it hears this only if what it sends is taken."""
    try:
        connection.settimeout(_SEND_SECONDS)
        stream.send(Kind.FAILED, Failure(1, text).encode())
    except OSError:
        return  # it has gone
    finish(connection)
