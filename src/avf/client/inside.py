"""What can be done inside a debuggable guest: run commands, copy files in and out."""

import io
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from avf.client.command import GuestCommand
from avf.client.copy import pull, push
from avf.client.errors import CommandFailed, ShellFailed
from avf.client.relay import Relay, Sink
from avf.shell import Action, Request, ShellError

StrPath = str | os.PathLike[str]
OUTPUT_LIMIT = 64 << 20


@dataclass(frozen=True, slots=True)
class CompletedCommand:
    """A command in a guest that has ended."""

    command: tuple[str, ...]
    returncode: int
    """The exit status; -N if signal N ended it."""
    stdout: bytes
    stderr: bytes


class GuestAccess(ABC):
    """What a VM lets its owner do inside a debuggable guest, once that has started its payload.

    A guest that is not debuggable refuses, which raises Refused, as whatever virtmgr refuses does; what fails inside
    the guest raises ShellFailed. Commands run as the payload's user (uid 6000) and within its limits or, with `root`,
    as root. Relative paths in the guest count from that user's home, /data or /root.
    """

    @abstractmethod
    def connect_shell(self) -> socket.socket:
        """A stream to the guest's shell service, whose protocol is `avf.shell`."""

    def run(
        self,
        command: Sequence[StrPath],
        *,
        input: bytes = b"",
        root: bool = False,
        environment: Mapping[str, str] | None = None,
        folder: StrPath | None = None,
        timeout: float | None = None,
        check: bool = False,
        output_limit: int = OUTPUT_LIMIT,
    ) -> CompletedCommand:
        """Runs a command, gives it `input` to read, and waits until it has ended.

        `environment` is added to what the user has; `folder` is where the command starts. After `timeout` seconds the
        command is hung up (SIGHUP) and TimeoutError raised, and ShellFailed as soon as it has written more than
        `output_limit` bytes. With `check`, CommandFailed unless the exit status is 0.
        """
        words = _words(command)
        if not words:
            raise ValueError("there is no command to run")
        outputs = {1: bytearray(), 2: bytearray()}

        def keep(number: int, data: bytes) -> None:
            outputs[number] += data
            if sum(map(len, outputs.values())) > output_limit:
                raise ShellFailed(f"the command wrote more than {output_limit} bytes")

        with _as_file(input) as source:
            relay = self.relay(
                words,
                source.fileno(),
                {number: partial(keep, number) for number in outputs},
                root=root,
                environment=environment,
                folder=folder,
            )
            try:
                ending = relay.run(timeout)
            finally:
                relay.close()
        done = CompletedCommand(
            tuple(words), ending.returncode, bytes(outputs[1]), bytes(outputs[2])
        )
        if check and done.returncode:
            raise CommandFailed(done.command, done.returncode, done.stderr)
        return done

    def shell(
        self,
        command: Sequence[StrPath] = (),
        *,
        root: bool = False,
        environment: Mapping[str, str] | None = None,
        folder: StrPath | None = None,
        terminal: tuple[int, int] | None = None,
    ) -> GuestCommand:
        """Starts a command, or a shell if there is none, and gives its streams, as `subprocess.Popen` does.

        `terminal`: rows and columns of a terminal that it gets instead of pipes. The rest is as of `run`.
        """
        request = command_request(
            _words(command), root=root, environment=environment, folder=folder, terminal=terminal
        )
        return GuestCommand(self.connect_shell(), request)

    def relay(
        self,
        command: Sequence[StrPath],
        source: int | None,
        sinks: Mapping[int, int | Sink],
        *,
        root: bool = False,
        environment: Mapping[str, str] | None = None,
        folder: StrPath | None = None,
        terminal: tuple[int, int] | None = None,
        typed: Callable[[bytes], bytes] = bytes,
    ) -> Relay:
        """As `shell`, for those who have descriptors of their own: the command starts with `run` of what this gives.

        `source` is read for its input, None is an empty input; `sinks` get its outputs, 1 and 2. `typed` sees what was
        read and gives what is passed on. All descriptors stay the caller's.
        """
        request = command_request(
            _words(command), root=root, environment=environment, folder=folder, terminal=terminal
        )
        return Relay(self.connect_shell(), request, source, sinks, typed)

    def push(self, *sources: StrPath, target: StrPath, root: bool = False) -> list[str]:
        """Copies files and folders into the guest; what was left out, a line each.

        If `target` is a folder, they get their own names in it; else there is one source, and `target` is its new name.
        Modes (read, write, execute) and times are kept, links inside folders stay links. A file takes the place of a
        file, what is in a folder is added to a folder that is there; nothing of another kind is replaced. What cannot
        be copied whole leaves nothing behind. Raises ShellFailed.
        """
        return push(self.connect_shell, _paths(sources), os.fspath(target), root=root)

    def pull(self, *sources: StrPath, target: StrPath, root: bool = False) -> list[str]:
        """Copies files and folders out of the guest, as `push` copies them in.

        The guest is not trusted: nothing is written outside of `target`, set-user-ID bits are not kept, and links that
        lead out of their folder are left out. How much it sends, only the disk limits.
        """
        return pull(self.connect_shell, _paths(sources), os.fspath(target), root=root)


def command_request(
    command: Iterable[str],
    *,
    root: bool = False,
    environment: Mapping[str, str] | None = None,
    folder: StrPath | None = None,
    terminal: tuple[int, int] | None = None,
) -> Request:
    """Raises ValueError for what no process can have."""
    variables = []
    for name, value in (environment or {}).items():
        if not name or "=" in name:
            raise ValueError(f"{name!r} is no name of an environment variable")
        variables.append(os.fsencode(f"{name}={value}"))
    request = Request(
        Action.RUN,
        tuple(os.fsencode(word) for word in command),
        root,
        terminal,
        False,
        tuple(variables),
        b"" if folder is None else os.fsencode(folder),
    )
    try:
        request.encode()
    except ShellError as error:
        raise ShellFailed(str(error)) from error
    return request


def _words(command: Sequence[StrPath]) -> list[str]:
    if isinstance(command, str):
        raise TypeError("a command is a sequence of words, not one string")
    return [os.fspath(word) for word in command]


def _paths(sources: Sequence[StrPath]) -> list[str]:
    if not sources:
        raise ValueError("there is nothing to copy")
    return [os.fspath(source) for source in sources]


def _as_file(data: bytes) -> io.FileIO:
    file = io.FileIO(os.memfd_create("input"), "r+b")
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
    file.seek(0)
    return file
