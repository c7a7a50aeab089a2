"""Good inputs of every target, to start from."""

import os
import struct

from avf.disk import (
    PVMFW_UUID,
    ApexPayload,
    Component,
    CompositeDisk,
    Dialect,
    MetadataPartition,
    Partition,
    PartitionKind,
    PayloadConfig,
    create_writable_partition,
    layout,
    partition_table,
    seal,
    write_payload,
)
from avf.disk.composite import MAGIC
from avf.disk.gpt import (
    ENTRY,
    HEADER,
    LINUX_FILESYSTEM,
    MBR_END,
    MBR_RECORD,
    PROTECTIVE,
    REVISION,
    SIGNATURE,
)
from avf.disk.layout import SECTOR

KEY = bytes(32)


def seeds() -> dict[str, list[bytes]]:
    """By target."""
    tables = [_small_disk(), *(_disk(dialect) for dialect in Dialect)]
    components = (Component("/proc/self/fd/3", 0), Component("b", 4096, True, 512))
    metadata = [
        MetadataPartition(config=PayloadConfig("main.so", 2)).encode(),
        MetadataPartition(
            apexes=(ApexPayload("a", "b", b"k", b"d", 5, True),), config_path="c"
        ).encode(),
    ]
    instance = _instance()
    return {
        "composite": [CompositeDisk(components, 8192).encode()[len(MAGIC) :]],
        "image": [_qcow2(), tables[0], instance, b"UNFORMATTED-STORAGE", b"PK\x03\x04"],
        "instance": [instance],
        "metadata": metadata,
        "qcow2": [_qcow2()],
        "table": tables,
    }


def _disk(dialect: Dialect) -> bytes:
    partitions = [Partition("one", -1), Partition("two", -1)]
    plan = layout(partitions, [100, 5000], writable=False)
    table = partition_table(plan, dialect)
    return table.header.ljust(plan.footer_offset, b"\0") + table.footer


def _small_disk() -> bytes:
    """Twelve sectors, four entries of which one is used; the checksums are left to the target."""

    def header(here: int, other: int, entries: int) -> bytes:
        fields = (0, 0, here, other, 3, 9, bytes(16), entries, 4, ENTRY.size, 0)
        return HEADER.pack(SIGNATURE, REVISION, HEADER.size, *fields)

    record = MBR_RECORD.pack(0, b"", PROTECTIVE, b"", 1, 11)
    mbr = record.rjust(446 + MBR_RECORD.size, b"\0").ljust(SECTOR - 2, b"\0") + MBR_END
    entry = ENTRY.pack(LINUX_FILESYSTEM, b"guid" * 4, 3, 6, 0, "one".encode("utf-16-le"))
    sectors = [mbr, header(1, 11, 2), entry, *[b""] * 7, entry, header(11, 1, 10)]
    return b"".join(sector.ljust(SECTOR, b"\0") for sector in sectors)


def _instance() -> bytes:
    fd = os.memfd_create("instance", os.MFD_CLOEXEC)
    try:
        create_writable_partition(fd, 4096, PartitionKind.ANDROID_VM_INSTANCE)
        seal(fd, KEY, b"content")
        write_payload(fd, PVMFW_UUID, b"x" * 600)
        return os.pread(fd, 4096, 0)
    finally:
        os.close(fd)


def _qcow2() -> bytes:
    """Clusters of 512 bytes: header, L1 table, reference count table and block, L2 table, one of data, one of zeros."""
    cluster, copied = 512, 1 << 63
    header = struct.pack(
        ">4sIQIIQIIQQIIQQQQII",
        b"QFI\xfb", 3, 0, 0, 9, 4 * cluster, 0, 1, cluster, 2 * cluster, 1, 0, 0, 0, 0, 0, 4, 104,
    )  # fmt: skip
    parts = [
        header,
        struct.pack(">Q", copied | 4 * cluster),
        struct.pack(">Q", 3 * cluster),
        struct.pack(">7H", *[1] * 7),
        struct.pack(">3Q", copied | 5 * cluster, 1, copied | 6 * cluster | 1),
        b"data" * 128,
        b"old" * 100,
    ]
    return b"".join(part.ljust(cluster, b"\0") for part in parts)
