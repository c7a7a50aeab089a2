"""What a disk is: images, partitions and tables, and how QEMU and crosvm are told about them."""

from avf.disk.assemble import CrosvmDisk, crosvm_disk
from avf.disk.composite import Component, CompositeDisk, read_composite
from avf.disk.concat import Node, QemuDisk, fdset_path, qemu_disk
from avf.disk.errors import DiskError, ImageError, LayoutError, MetadataError, UnsupportedImage
from avf.disk.gpt import Dialect, PartitionTable, partition_table
from avf.disk.image import ImageFormat, image_format, image_size
from avf.disk.layout import Layout, Placement, layout, measure
from avf.disk.metadata import ApexPayload, ApkPayload, MetadataPartition, PayloadConfig
from avf.disk.model import Disk, ImageDisk, Partition, PartitionedDisk
from avf.disk.partitions import (
    ENCRYPTEDSTORE_MAGIC,
    INSTANCE_MAGIC,
    INSTANCE_VERSION,
    PartitionKind,
    create_writable_partition,
    format_encryptedstore,
    format_instance,
)
from avf.disk.qcow2 import create_qcow2

__all__ = [
    "ENCRYPTEDSTORE_MAGIC",
    "INSTANCE_MAGIC",
    "INSTANCE_VERSION",
    "ApexPayload",
    "ApkPayload",
    "Component",
    "CompositeDisk",
    "CrosvmDisk",
    "Dialect",
    "Disk",
    "DiskError",
    "ImageDisk",
    "ImageError",
    "ImageFormat",
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
    "UnsupportedImage",
    "create_qcow2",
    "create_writable_partition",
    "crosvm_disk",
    "fdset_path",
    "format_encryptedstore",
    "format_instance",
    "image_format",
    "image_size",
    "layout",
    "measure",
    "partition_table",
    "qemu_disk",
    "read_composite",
]
