"""crosvm's composite disk: a small file that says which file backs which range of a disk.

`composite_disk\\x1d`, then the protobuf message CompositeDisk{1 version; 2 repeated ComponentDisk; 3 length} with
ComponentDisk{1 file_path; 2 offset; 3 read_write_capability; 4 file_offset} (crosvm, disk/src/composite.rs).
"""

from dataclasses import dataclass
from pathlib import Path

from avf.disk import proto
from avf.disk.errors import ImageError, UnsupportedImage
from avf.disk.files import describe, read_at, stored_size

MAGIC = b"composite_disk\x1d"
VERSION = 2
MAX_FILE_SIZE = 1 << 20
MAX_COMPONENTS = 1024


@dataclass(frozen=True, slots=True)
class Component:
    path: str
    offset: int
    """Where it begins on the disk, in bytes."""
    writable: bool = False
    file_offset: int = 0


@dataclass(frozen=True, slots=True)
class CompositeDisk:
    components: tuple[Component, ...]
    length: int
    version: int = VERSION

    def encode(self) -> bytes:
        """The file's content; fields of value 0 are left out, as protoc does."""
        return MAGIC + b"".join(
            [
                proto.uint_field(1, self.version),
                *(proto.message_field(2, _encode_component(one)) for one in self.components),
                proto.uint_field(3, self.length),
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
    except proto.ProtoError as error:
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
        proto.string_field(1, component.path)
        + proto.uint_field(2, component.offset)
        + proto.uint_field(3, component.writable)
        + proto.uint_field(4, component.file_offset)
    )


def _decode(data: bytes) -> CompositeDisk:
    version = length = 0
    components: list[Component] = []
    for number, value in proto.fields(data):
        match number:
            case 1:
                version = proto.as_uint(value)
            case 2:
                if len(components) == MAX_COMPONENTS:
                    raise proto.ProtoError(f"more than {MAX_COMPONENTS} components")
                components.append(_decode_component(proto.as_bytes(value)))
            case 3:
                length = proto.as_uint(value)
    return CompositeDisk(tuple(components), length, version)


def _decode_component(data: bytes) -> Component:
    path, offset, capability, file_offset = "", 0, 0, 0
    for number, value in proto.fields(data):
        match number:
            case 1:
                path = proto.as_text(value)
            case 2:
                offset = proto.as_uint(value)
            case 3:
                capability = proto.as_uint(value)
            case 4:
                file_offset = proto.as_uint(value)
    if capability not in (0, 1):
        raise proto.ProtoError(f"read_write_capability {capability}")
    return Component(path, offset, bool(capability), file_offset)
