"""What can be wrong with a disk.

DiskError
 +-- ImageError         one image file is not what it must be; the message names the file
 |    +-- UnsupportedImage  ... it is sound, but of a kind that is refused (Android sparse, backing file, encryption)
 +-- LayoutError        the partitions do not fit together (labels, count, alignment)
 +-- TableError         a partition table is missing, damaged, or has no such partition; the message names the field
 +-- InstanceError      an instance image is damaged, full, or not sealed with this key
 +-- MetadataError      the payload-metadata partition cannot be read or written
"""


class DiskError(Exception):
    """Base of all errors of this package."""


class ImageError(DiskError):
    """An image file is not what it must be."""


class UnsupportedImage(ImageError):
    """An image of a kind that is known and refused."""


class LayoutError(DiskError):
    """Partitions that do not fit together on one disk."""


class TableError(DiskError):
    """A partition table that cannot be used, or lacks what was asked for."""


class InstanceError(DiskError):
    """An instance image that cannot be read or written."""


class MetadataError(DiskError):
    """A payload-metadata partition that cannot be read or written."""
