"""What one confined program may see and take. Everything else it needs is handed to it as an open descriptor."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

IMAGES = "/images"
LENT = "/lent"


class ConfinementError(Exception):
    """This host cannot confine a program as tightly as was demanded."""


class Filter(Enum):
    """Which system calls a confined program keeps; the lists are in `filters`."""

    MONITOR = "monitor"
    """A virtual machine monitor: threads, memory, files by descriptor, KVM's ioctls."""
    DEVICE = "device"
    """A device process in Python: one thread, sockets that are connected already."""
    OPEN = "open"
    """A program whose needs are not known: only what nobody may do is refused."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Resource limits, soft and hard. Core dumps are always off."""

    descriptors: int
    """RLIMIT_NOFILE: no descriptor has this number or a higher one."""
    file_size: int
    """RLIMIT_FSIZE in bytes: no file, memory files included, grows beyond it."""


@dataclass(frozen=True, slots=True)
class Box:
    """The walls around one program."""

    filter: Filter
    limits: Limits
    readable: tuple[Path, ...]
    """Files and folders it sees at the same path, read-only; among them the program and its libraries."""
    listed: tuple[Path, ...] = ()
    """Folders whose entries it may list without reading them all; in an empty root they hold what is readable."""
    devices: tuple[Path, ...] = ()
    """Device nodes it may open."""
    images: tuple[int, ...] = ()
    """Descriptors of files that it opens by a name, to read; see `image_folder`."""
    lent: tuple[int, ...] = ()
    """Descriptors of memory files that it inherits and opens anew by a name, to read and to write: for programs that
    take no descriptor. Only seals keep it from writing. See `lent_folder`.
    """
    kept_whole: int | None = None
    """The descriptor through which it frees no part of a file: fallocate says so and does nothing."""
    proc: bool = False
    """Whether it sees /proc, through which it could open anew, to write, what it was given to read."""
    uid: int | None = None
    """What it runs as where root starts it, as user and as group: a number that nobody else has. None: it stays root,
    without capabilities, since it opens root's files."""
    groups: tuple[int, ...] = ()
    """What else it belongs to where root starts it, so that it may open its devices."""
