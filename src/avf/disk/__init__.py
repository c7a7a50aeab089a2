"""What a disk is: images, partitions and tables, how QEMU and crosvm are told about them, and what is in them."""

from typing import TYPE_CHECKING

from avf.disk.assemble import CrosvmDisk, crosvm_disk
from avf.disk.composite import Component, CompositeDisk, read_composite
from avf.disk.concat import Node, QemuDisk, fdset_path, qemu_disk
from avf.disk.errors import (
    DiskError,
    ImageError,
    InstanceError,
    LayoutError,
    MetadataError,
    TableError,
    UnsupportedImage,
)
from avf.disk.gpt import Dialect, PartitionTable, partition_table
from avf.disk.image import (
    ImageFormat,
    attached_format,
    attached_size,
    image_format,
    image_size,
)
from avf.disk.layout import Layout, Placement, check_disk, layout, measure
from avf.disk.metadata import ApexPayload, ApkPayload, MetadataPartition, PayloadConfig
from avf.disk.model import Disk, ImageDisk, Partition, PartitionedDisk
from avf.disk.partitions import (
    ENCRYPTEDSTORE_MAGIC,
    INSTANCE_MAGIC,
    INSTANCE_VERSION,
    PartitionKind,
    StoreState,
    create_writable_partition,
    format_encryptedstore,
    format_instance,
    store_state,
)
from avf.disk.qcow2 import create_qcow2
from avf.disk.reader import ImageReader, copy_image
from avf.lazy import lazily

if TYPE_CHECKING:
    from avf.disk.gpt_reader import (
        GptPartition,
        GptTable,
        TableCopy,
        open_partition,
        read_partition_table,
    )
    from avf.disk.instance import (
        MICRODROID_UUID,
        PVMFW_UUID,
        SLOT_UUIDS,
        InstanceEntry,
        InstanceImage,
        instance_id,
        read_instance,
        read_payload,
        seal,
        sealing_key,
        unseal,
        write_payload,
    )
    from avf.disk.opening import open_disk, open_image
    from avf.disk.qcow2_reader import check_qcow2
else:
    __getattr__ = lazily(
        __name__,
        {
            "gpt_reader": "GptPartition GptTable TableCopy open_partition read_partition_table",
            "instance": "MICRODROID_UUID PVMFW_UUID SLOT_UUIDS InstanceEntry InstanceImage instance_id read_instance"
            " read_payload seal sealing_key unseal write_payload",
            "opening": "open_disk open_image",
            "qcow2_reader": "check_qcow2",
        },
    )


__all__ = [
    "ENCRYPTEDSTORE_MAGIC",
    "INSTANCE_MAGIC",
    "INSTANCE_VERSION",
    "MICRODROID_UUID",
    "PVMFW_UUID",
    "SLOT_UUIDS",
    "ApexPayload",
    "ApkPayload",
    "Component",
    "CompositeDisk",
    "CrosvmDisk",
    "Dialect",
    "Disk",
    "DiskError",
    "GptPartition",
    "GptTable",
    "ImageDisk",
    "ImageError",
    "ImageFormat",
    "ImageReader",
    "InstanceEntry",
    "InstanceError",
    "InstanceImage",
    "Layout",
    "LayoutError",
    "MetadataError",
    "MetadataPartition",
    "Node",
    "Partition",
    "PartitionKind",
    "PartitionTable",
    "PartitionedDisk",
    "PayloadConfig",
    "Placement",
    "QemuDisk",
    "StoreState",
    "TableCopy",
    "TableError",
    "UnsupportedImage",
    "attached_format",
    "attached_size",
    "check_disk",
    "check_qcow2",
    "copy_image",
    "create_qcow2",
    "create_writable_partition",
    "crosvm_disk",
    "fdset_path",
    "format_encryptedstore",
    "format_instance",
    "image_format",
    "image_size",
    "instance_id",
    "layout",
    "measure",
    "open_disk",
    "open_image",
    "open_partition",
    "partition_table",
    "qemu_disk",
    "read_composite",
    "read_instance",
    "read_partition_table",
    "read_payload",
    "seal",
    "sealing_key",
    "store_state",
    "unseal",
    "write_payload",
]
