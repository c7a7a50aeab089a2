"""A guest's shell service for one connection, its standard input, as this very user."""

import os
import socket
import sys

from avf.guest import session, spawn


def become_nobody_else(root: bool, *, dumpable: bool) -> None:
    pass


def main() -> None:
    session.become_visitor = become_nobody_else  # type: ignore[assignment]
    spawn.become_visitor = become_nobody_else  # type: ignore[assignment]
    spawn.PAYLOAD_ID, spawn._TTY_GROUP = os.getuid(), -1
    session.log = lambda text: None  # type: ignore[assignment]
    connection = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    session.serve_connection(connection)


if __name__ == "__main__":
    sys.exit(main())
