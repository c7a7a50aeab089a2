"""What each target does with one input, which is any bytes."""

import os
from collections.abc import Callable

from avf.disk import MetadataError, MetadataPartition
from avf.guest.cbor import CborError, decode, encode
from avf.guest.config import PayloadConfig, parse_config
from avf.guest.errors import GuestError
from avf.guest.metadata import parse_metadata
from avf.guest.record import decode_old_record, decode_record, encode_record
from avf.guest.tombstone import TombstoneError, parse_core
from avf.guest.ziptree import ROOT, ZipTree, ZipTreeError
from avf.virtmgr.payload_config import PayloadConfigError, VmPayloadConfig

PIECE = 1 << 16


def metadata(data: bytes) -> None:
    """What the guest reads is what the host reads."""
    try:
        host = MetadataPartition.decode(len(data).to_bytes(4, "big") + data)
    except MetadataError:
        host = None
    guest = parse_metadata(data)
    assert host is not None
    assert guest.config_path == host.config_path
    assert guest.binary_name == (host.config and host.config.payload_binary_name)


def config(data: bytes) -> None:
    """What the host accepts means the same to the guest."""
    try:
        host = VmPayloadConfig.parse(data, "config")
    except PayloadConfigError:
        parse_config(data)
        return
    guest: PayloadConfig = parse_config(data)
    assert (guest.task and (guest.task.type.value, guest.task.command)) == (
        host.task and (host.task.type, host.task.command)
    )
    assert guest.extra_apks == len(host.extra_apks)
    assert guest.export_tombstones == host.export_tombstones
    assert guest.enable_authfs == host.enable_authfs


def cbor(data: bytes) -> None:
    """What is read is the same once it is written again."""
    value = decode(data)
    assert decode(encode(value)) == value


def record(data: bytes) -> None:
    """What an instance image holds once it is opened, in today's form and in the one of before."""
    found = decode_record(data)
    assert decode_record(encode_record(found)) == found


def old_record(data: bytes) -> None:
    """The form of before is written anew in today's."""
    found = decode_old_record(data)
    assert found.is_old
    encode_record(found)


def core(data: bytes) -> None:
    """The notes of a core dump."""
    assert "rip" in parse_core(data).registers


def zip_tree(data: bytes) -> None:
    """A tree and the contents of its files."""
    fd = os.memfd_create("fuzz", os.MFD_CLOEXEC)
    try:
        os.write(fd, data)
        tree = ZipTree(fd)
        for number in range(ROOT, len(tree) + 1):
            _read(tree, number)
    finally:
        os.close(fd)


def _read(tree: ZipTree, number: int) -> None:
    inode = tree.inode(number)
    assert inode is not None
    if inode.is_directory or inode.size > PIECE:
        return
    try:
        tree.open(inode)
        assert len(tree.read(inode, 0, PIECE)) == inode.size
        tree.close(inode)
    except ZipTreeError:
        pass


TARGETS: dict[str, Callable[[bytes], None]] = {
    "cbor": cbor,
    "config": config,
    "core": core,
    "metadata": metadata,
    "old_record": old_record,
    "record": record,
    "zip_tree": zip_tree,
}


def run(name: str, data: bytes) -> bool:
    """Run a target; True if it accepted the input, False if it refused it with its reader's error."""
    try:
        TARGETS[name](data)
    except (CborError, GuestError, TombstoneError, ZipTreeError) as error:
        assert str(error)
        return False
    return True
