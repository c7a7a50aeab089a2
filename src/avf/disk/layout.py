"""Where partitions lie on a disk. Both writers (QEMU's concatenation, crosvm's composite) use one layout.

    0       20480                             footer_offset       size
    | header | partition | partition | ... | footer (20480 bytes) |

The header is MBR, GPT header and entries, padded to 40 sectors; the footer 3584 zero bytes, entries, backup header.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from avf.disk.errors import ImageError, LayoutError
from avf.disk.files import GRANULE, align_up, describe
from avf.disk.image import attached_size, check_whole_disk
from avf.disk.model import Disk, ImageDisk, Partition

SECTOR = 512
HEADER_SIZE = 40 * SECTOR
FOOTER_SIZE = 40 * SECTOR
MAX_PARTITIONS = 128
LABEL_UNITS = 36
"""UTF-16 units a GPT label can have; longer ones are cut."""


@dataclass(frozen=True, slots=True)
class Placement:
    """One partition's place; offsets and sizes in bytes."""

    label: bytes
    """As stored: UTF-16LE, at most 72 bytes."""
    offset: int
    size: int
    """Bytes of content."""
    span: int
    """Bytes the partition occupies: `size` rounded up to 4096."""
    writable: bool

    @property
    def end(self) -> int:
        """The first byte behind the partition."""
        return self.offset + self.span


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each partition of a disk lies. Offsets and sizes are in bytes."""

    placements: tuple[Placement, ...]
    footer_offset: int
    size: int
    """Of the whole disk; a multiple of 4096."""


def layout(partitions: Sequence[Partition], sizes: Sequence[int], *, writable: bool) -> Layout:
    """Places partitions of the given sizes one after the other, without looking at their descriptors.

    A partition is writable if it and the disk are. Raises LayoutError for more than 128 partitions, equal labels (as
    far as GPT stores them), an empty partition, or a writable one whose size is no multiple of 4096.
    """
    if len(partitions) > MAX_PARTITIONS:
        raise LayoutError(f"{len(partitions)} partitions; a disk holds {MAX_PARTITIONS}")
    placements: list[Placement] = []
    labels: set[bytes] = set()
    offset = HEADER_SIZE
    for partition, size in zip(partitions, sizes, strict=True):
        label = encode_label(partition.label)
        if label in labels:
            raise LayoutError(f"duplicate GPT partition label {partition.label!r}")
        labels.add(label)
        placement = _place(partition, label, offset, size, writable and partition.writable)
        placements.append(placement)
        offset = placement.end
    return Layout(tuple(placements), offset, offset + FOOTER_SIZE)


def check_disk(disk: Disk) -> None:
    """Raises DiskError for a disk that no VM can have, as far as that shows before it is opened for one."""
    if isinstance(disk, ImageDisk):
        check_whole_disk(disk.fd, writable=disk.writable)
    else:
        layout(disk.partitions, measure(disk.partitions), writable=disk.writable)


def measure(partitions: Sequence[Partition]) -> list[int]:
    """The virtual size of every partition's image. Raises ImageError, naming the partition."""
    return [_measure(partition) for partition in partitions]


def _measure(partition: Partition) -> int:
    try:
        return attached_size(partition.fd, writable=partition.writable)
    except ImageError as error:
        raise type(error)(f"partition {partition.label!r}: {error}") from error


def encode_label(label: str) -> bytes:
    """A label as GPT stores it. Raises LayoutError for text UTF-16 lacks and for NUL, where readers would stop."""
    if "\0" in label:
        raise LayoutError(f"partition label {label!r} contains NUL")
    try:
        return label.encode("utf-16-le")[: 2 * LABEL_UNITS]
    except UnicodeEncodeError as error:
        raise LayoutError(f"partition label {label!r} is not valid text") from error


def _place(partition: Partition, label: bytes, offset: int, size: int, writable: bool) -> Placement:
    if size <= 0:
        raise LayoutError(f"partition {partition.label!r} is empty: {describe(partition.fd)}")
    if writable and size % GRANULE:
        raise LayoutError(
            f"writable partition {partition.label!r} has {size} bytes, which is no multiple of {GRANULE}:"
            f" {describe(partition.fd)}"
        )
    return Placement(label, offset, size, align_up(size), writable)
