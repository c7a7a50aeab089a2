"""A template as clones begin with it: its guest's memory in a memory file, and the rest of QEMU's stream in another."""

import fcntl
import mmap
import os
from contextlib import ExitStack
from dataclasses import dataclass

from avf.vmm.qemu import folded
from avf.vmm.qemu.devices import MEMORY_ID
from avf.vmm.qemu.stream import without_memory
from avf.vmm.templates import TemplateError

_SHARED, _OWN, _STATE = "avf-template", "avf-memory", "avf-state"
"""The names of memory files, for people who look into /proc."""
_ALL_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


@dataclass(frozen=True, slots=True)
class UnfoldedTemplate:
    """Descriptors of two memory files. Whoever maps `memory` privately has pages of its own where it writes."""

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


def unfold(file: int, memory_size: int, *, shared: bool) -> UnfoldedTemplate:
    """From the state of a template in `file`, whose guest has that many bytes of memory.

    `shared`: nobody can write to them any more, whoever opens them and however. Raises TemplateError or OSError.
    """
    with ExitStack() as undo:
        template = _memory_files(_SHARED if shared else _OWN, memory_size, undo)
        try:
            folded.read(file, template.memory, template.state)
        except folded.FoldError as error:
            raise TemplateError(f"no clone can be made: {error}") from error
        if shared:
            seal(template.memory, template.state)
        undo.pop_all()
    return template


def take_apart(stream: int, memory_size: int) -> UnfoldedTemplate:
    """From QEMU's own stream in the file `stream`, of a guest with that many bytes of memory.

    Raises StreamError, another ValueError or OSError.
    """
    with ExitStack() as undo:
        template = _memory_files(_OWN, memory_size, undo)
        saved = memoryview(mmap.mmap(stream, 0, prot=mmap.PROT_READ))
        places = memoryview(mmap.mmap(template.memory, memory_size))
        with open(template.state, "wb", closefd=False) as file:
            file.writelines(without_memory(saved, MEMORY_ID, places))
        undo.pop_all()
    return template


def _memory_files(name: str, memory_size: int, undo: ExitStack) -> UnfoldedTemplate:
    memory, state = (memory_file(each, undo) for each in (name, _STATE))
    os.ftruncate(memory, memory_size)
    return UnfoldedTemplate(memory, state)


def seal(*files: int) -> None:
    """Nobody can write to these memory files any more. Raises OSError."""
    for fd in files:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _ALL_SEALS)


def memory_file(name: str, undo: ExitStack) -> int:
    """An empty one that can be sealed, and is closed by `undo`. Raises OSError."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    undo.callback(os.close, fd)
    return fd
