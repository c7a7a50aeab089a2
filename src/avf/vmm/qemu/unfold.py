"""A template as any number of clones can share it: its guest's memory in a file that nobody can write to any more."""

import fcntl
import mmap
import os
from contextlib import ExitStack
from dataclasses import dataclass

from avf.vmm.qemu.devices import MEMORY_ID
from avf.vmm.qemu.stream import without_memory
from avf.vmm.templates import TemplateError

_ALL_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


@dataclass(frozen=True, slots=True)
class UnfoldedTemplate:
    """Descriptors of two memory files, sealed. Whoever maps `memory` privately has pages of its own where it writes."""

    memory: int
    """The guest's memory, byte by byte."""
    state: int
    """The rest of QEMU's stream."""

    @property
    def size(self) -> int:
        """Bytes of memory that both may take."""
        return os.fstat(self.memory).st_size + os.fstat(self.state).st_size

    def copy(self) -> "UnfoldedTemplate":
        """The same with descriptors of its own."""
        memory = os.dup(self.memory)
        try:
            return UnfoldedTemplate(memory, os.dup(self.state))
        except OSError:
            os.close(memory)
            raise

    def close(self) -> None:
        """Clones that have it keep it."""
        os.close(self.memory)
        os.close(self.state)


def unfold(stream: int, memory_size: int) -> UnfoldedTemplate:
    """From the stream in the file `stream`, of a guest with that many bytes of memory.

    Raises TemplateError or OSError.
    """
    with ExitStack() as undo:
        memory, state = (_memory_file(name, undo) for name in ("avf-template", "avf-state"))
        os.ftruncate(memory, memory_size)
        try:
            _write(stream, memory, memory_size, state)
        except ValueError as error:  # an empty file cannot be mapped, and StreamError is one, too
            raise TemplateError(f"no clone can be made: {error}") from error
        for fd in (memory, state):
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _ALL_SEALS)
        undo.pop_all()
    return UnfoldedTemplate(memory, state)


def _write(stream: int, memory: int, memory_size: int, state: int) -> None:
    saved = mmap.mmap(stream, 0, prot=mmap.PROT_READ)
    places = mmap.mmap(memory, memory_size)
    with open(state, "wb", closefd=False) as file:
        file.writelines(without_memory(memoryview(saved), MEMORY_ID, memoryview(places)))
    # no seal against writing is set while it is mapped; after an error, whose traceback holds views, none is
    places.close()


def _memory_file(name: str, undo: ExitStack) -> int:
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    undo.callback(os.close, fd)
    return fd
