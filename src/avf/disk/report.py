"""What an image is and holds, as plain values for people and for JSON."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from avf.disk.composite import CompositeDisk, read_composite
from avf.disk.errors import DiskError
from avf.disk.files import stored_size
from avf.disk.gpt import SIGNATURE
from avf.disk.gpt_reader import GptPartition, GptTable, open_partition, read_partition_table
from avf.disk.image import ImageFormat, image_format, image_size
from avf.disk.instance import (
    MICRODROID_UUID,
    PVMFW_UUID,
    SLOT_UUIDS,
    instance_id,
    read_instance,
)
from avf.disk.layout import SECTOR
from avf.disk.metadata import MetadataPartition
from avf.disk.opening import open_image
from avf.disk.partitions import ENCRYPTEDSTORE_MAGIC, INSTANCE_MAGIC
from avf.disk.qcow2 import read_header
from avf.disk.qcow2_reader import check_qcow2
from avf.disk.reader import ImageReader
from avf.metadata import MAX_SIZE

Report = dict[str, Any]

_SUPERBLOCK = 1024
_EXT_MAGIC = (56, b"\x53\xef")
_OWNERS = {
    MICRODROID_UUID: "microdroid",
    PVMFW_UUID: "pvmfw",
    **dict.fromkeys(SLOT_UUIDS, "avf-linux"),
}


def describe_image(fd: int, directory: Path, *, check: bool = False) -> Report:
    """Format, sizes and kind of content; with `check` all tables of a QCOW2 image are looked at.

    Raises DiskError for an image that is damaged or refused.
    """
    kind = image_format(fd)
    report: Report = {
        "format": kind.value,
        "virtual_size": image_size(fd),
        "stored_size": stored_size(fd),
    }
    if kind is ImageFormat.QCOW2:
        report["cluster_size"] = 1 << read_header(fd).cluster_bits
        if check:
            report["data_clusters"] = check_qcow2(fd)
    if kind is ImageFormat.COMPOSITE:
        report |= _composite(read_composite(fd), directory)
    with open_image(fd, directory=directory) as image:
        return report | contents(image)


def contents(image: ImageReader) -> Report:
    """The kind of content, by its first bytes, with what can be told of it."""
    start = image.pread(2 * SECTOR, 0)
    if start.startswith(INSTANCE_MAGIC):
        return {"content": "instance", **_guarded(lambda: _instance(image))}
    if start.startswith(ENCRYPTEDSTORE_MAGIC):
        return {"content": "encryptedstore", "state": "unformatted"}
    if start[SECTOR:].startswith(SIGNATURE):
        return {"content": "gpt", **_guarded(lambda: describe_table(read_partition_table(image)))}
    return {"content": _file_kind(image, start)}


def describe_table(table: GptTable) -> Report:
    return {
        "disk_guid": str(table.disk_guid),
        "dialect": table.dialect.value if table.dialect else None,
        "first_usable": table.first_usable,
        "last_usable": table.last_usable,
        "partitions": [_partition(partition) for partition in table.partitions],
    }


def describe_partitions(image: ImageReader) -> Report:
    """Every partition with the kind of its content."""
    reports = []
    for partition in read_partition_table(image).partitions:
        part = open_partition(image, partition)
        found = contents(part)
        if partition.label == "payload-metadata":
            found = {"content": "payload-metadata", **_guarded(lambda: _metadata(part))}  # noqa: B023
        reports.append(_partition(partition) | found)
    return {"partitions": reports}


def _partition(partition: GptPartition) -> Report:
    return {
        "number": partition.number,
        "label": partition.label,
        "offset": partition.offset,
        "size": partition.size,
        "guid": str(partition.guid),
        "type_guid": str(partition.type_guid),
        "attributes": partition.attributes,
    }


def _guarded(make: Callable[[], Report]) -> Report:
    """A damaged content is worth a line; the rest of the report stands."""
    try:
        return make()
    except DiskError as error:
        return {"damage": str(error)}


def _composite(disk: CompositeDisk, directory: Path) -> Report:
    return {
        "version": disk.version,
        "components": [
            {
                "path": str(disk.locate(component, directory)),
                "offset": component.offset,
                "writable": component.writable,
                "file_offset": component.file_offset,
            }
            for component in disk.components
        ],
    }


def _instance(image: ImageReader) -> Report:
    found = read_instance(image)
    identifier = instance_id(image)
    return {
        "version": found.version,
        "instance_id": identifier.hex() if identifier else None,
        "entries": [
            {
                "uuid": str(entry.uuid),
                "owner": _OWNERS.get(entry.uuid),
                "offset": entry.offset,
                "size": entry.size,
            }
            for entry in found.entries
        ],
    }


def _metadata(image: ImageReader) -> Report:
    metadata = MetadataPartition.decode(image.pread(MAX_SIZE + 4, 0))
    return {
        "version": metadata.version,
        "apk": metadata.apk.payload_partition_name,
        "idsig": metadata.apk.idsig_partition_name,
        "apexes": [apex.partition_name for apex in metadata.apexes],
        "config_path": metadata.config_path,
        "payload_binary_name": metadata.config.payload_binary_name if metadata.config else None,
        "extra_apk_count": metadata.config.extra_apk_count if metadata.config else 0,
    }


def _file_kind(image: ImageReader, start: bytes) -> str | None:
    if start.startswith(b"PK\x03\x04"):
        return "apk"
    at, magic = _EXT_MAGIC
    if image.pread(len(magic), _SUPERBLOCK + at) == magic:
        return "ext"
    return None
