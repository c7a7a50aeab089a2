"""What a disk is made of. Descriptors are borrowed: whoever makes a value keeps them open while it is used."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Partition:
    """One GPT partition, backed by a raw or QCOW2 image."""

    label: str
    fd: int
    writable: bool = False


@dataclass(frozen=True, slots=True)
class ImageDisk:
    """A disk that is one image, whatever it holds."""

    fd: int
    writable: bool = False


@dataclass(frozen=True, slots=True)
class PartitionedDisk:
    """A disk put together from partitions; `writable` lets the writable ones among them be written."""

    partitions: tuple[Partition, ...]
    writable: bool = False


Disk = ImageDisk | PartitionedDisk
"""A disk: a whole image, or partitions with a table around them."""
