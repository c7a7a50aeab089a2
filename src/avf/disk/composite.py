"""crosvm's composite disk: a small file that says which file backs which range of a disk.

`composite_disk\\x1d`, then the protobuf message CompositeDisk{1 version; 2 repeated ComponentDisk; 3 length} with
ComponentDisk{1 file_path; 2 offset; 3 read_write_capability; 4 file_offset} (crosvm, disk/src/composite.rs).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avf import proto3
from avf.disk.errors import ImageError, UnsupportedImage
from avf.disk.files import describe, read_at, stored_size

MAGIC = b"composite_disk\x1d"
VERSION = 2
MAX_FILE_SIZE = 1 << 20
MAX_COMPONENTS = 1024

_COMPONENT = proto3.Message(
    "ComponentDisk",
    {
        1: proto3.Scalar.STRING,
        2: proto3.Scalar.UINT64,
        3: proto3.Scalar.UINT32,
        4: proto3.Scalar.UINT64,
    },
)
_DISK = proto3.Message(
    "CompositeDisk",
    {
        1: proto3.Scalar.UINT64,
        2: proto3.Repeated(_COMPONENT, MAX_COMPONENTS),
        3: proto3.Scalar.UINT64,
    },
)


@dataclass(frozen=True, slots=True)
class Component:
    """A file that is a part of a composite disk."""

    path: str
    offset: int
    """Where it begins on the disk, in bytes."""
    writable: bool = False
    file_offset: int = 0


@dataclass(frozen=True, slots=True)
class CompositeDisk:
    """A disk put together of files, in the format of crosvm (`cdisk_spec.proto`)."""

    components: tuple[Component, ...]
    length: int
    version: int = VERSION

    def encode(self) -> bytes:
        """The file's content; fields of value 0 are left out, as protoc does."""
        return MAGIC + b"".join(
            [
                proto3.uint_field(1, self.version),
                *(proto3.message_field(2, _encode_component(one)) for one in self.components),
                proto3.uint_field(3, self.length),
            ]
        )

    def locate(self, component: Component, directory: Path) -> Path:
        """Where a component's file lies: beside the composite, or (version 1) as seen from the working directory."""
        return directory / component.path if self.version > 1 else Path(component.path)


def read_composite(fd: int) -> CompositeDisk:
    """Reads and checks the composite file in `fd`: components ordered and inside the disk. Raises ImageError."""
    name = describe(fd)
    if stored_size(fd) > MAX_FILE_SIZE:
        raise ImageError(f"{name}: composite file of more than {MAX_FILE_SIZE} bytes")
    data = read_at(fd, 0, MAX_FILE_SIZE)
    if not data.startswith(MAGIC):
        raise ImageError(f"{name}: not a composite disk")
    try:
        disk = _decode(data[len(MAGIC) :])
    except proto3.ProtoError as error:
        raise ImageError(f"{name}: damaged composite disk: {error}") from error
    if disk.version not in (1, VERSION):
        raise UnsupportedImage(f"{name}: composite disk version {disk.version}")
    offsets = [component.offset for component in disk.components]
    if (
        not offsets
        or offsets[0] != 0
        or offsets != sorted(set(offsets))
        or offsets[-1] >= disk.length
    ):
        raise ImageError(f"{name}: damaged composite disk: components do not cover it in order")
    return disk


def _encode_component(component: Component) -> bytes:
    return (
        proto3.string_field(1, component.path)
        + proto3.uint_field(2, component.offset)
        + proto3.uint_field(3, component.writable)
        + proto3.uint_field(4, component.file_offset)
    )


def _decode(data: bytes) -> CompositeDisk:
    found = proto3.decode(data, _DISK)
    return CompositeDisk(tuple(map(_component, found[2])), found[3], found[1])


def _component(found: dict[int, Any]) -> Component:
    if found[3] not in (0, 1):
        raise proto3.ProtoError(f"read_write_capability {found[3]}")
    return Component(found[1], found[2], bool(found[3]), found[4])
