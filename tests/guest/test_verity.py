"""The ioctl structures, against the kernel's own headers as the compiler sees them."""

import re
import struct
import subprocess
from pathlib import Path

import pytest

from avf.guest import host, instance, verity
from avf.guest.verity import Target, VerityTable, dm_request, dm_table, loop_config

PROGRAM = r"""
#include <linux/dm-ioctl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <linux/vm_sockets.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#define SHOW(x) printf(#x " %llu\n", (unsigned long long)(x))
int main(void)
{
	SHOW(sizeof(struct dm_ioctl));
	SHOW(offsetof(struct dm_ioctl, flags));
	SHOW(offsetof(struct dm_ioctl, dev));
	SHOW(offsetof(struct dm_ioctl, name));
	SHOW(sizeof(struct dm_target_spec));
	SHOW(offsetof(struct dm_target_spec, target_type));
	SHOW(offsetof(struct dm_target_spec, next));
	SHOW(DM_DEV_CREATE); SHOW(DM_DEV_REMOVE); SHOW(DM_DEV_SUSPEND); SHOW(DM_TABLE_LOAD);
	SHOW(DM_READONLY_FLAG);
	SHOW(sizeof(struct loop_config));
	SHOW(offsetof(struct loop_config, info.lo_offset));
	SHOW(offsetof(struct loop_config, info.lo_sizelimit));
	SHOW(offsetof(struct loop_config, info.lo_flags));
	SHOW(LOOP_CONFIGURE); SHOW(LOOP_CTL_GET_FREE); SHOW(LO_FLAGS_READ_ONLY);
	SHOW(IOCTL_VM_SOCKETS_GET_LOCAL_CID); SHOW(BLKFLSBUF);
	return 0;
}
"""


@pytest.fixture(scope="module")
def kernel_says(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    program = tmp_path_factory.mktemp("c") / "show"
    subprocess.run(["gcc", "-x", "c", "-o", program, "-"], input=PROGRAM.encode(), check=True)
    output = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in re.findall(r"(.+) (\d+)\n", output)}


def command(number: int) -> int:
    return 3 << 30 | verity._DM_IOCTL.size << 16 | 0xFD << 8 | number


def test_dm_ioctl(kernel_says: dict[str, int]) -> None:
    request = dm_request("the-name", 0x1234, b"payload")
    size = kernel_says["sizeof(struct dm_ioctl)"]
    flags = kernel_says["offsetof(struct dm_ioctl, flags)"]
    name = kernel_says["offsetof(struct dm_ioctl, name)"]
    assert request[size:] == b"payload"
    assert request[flags : flags + 4] == b"\x34\x12\0\0"
    assert request[name : name + 9] == b"the-name\0"
    assert int.from_bytes(request[12:16], "little") == len(request)
    assert int.from_bytes(request[16:20], "little") == size
    assert command(verity._DEV_CREATE) == kernel_says["DM_DEV_CREATE"]
    assert command(verity._DEV_REMOVE) == kernel_says["DM_DEV_REMOVE"]
    assert command(verity._DEV_SUSPEND) == kernel_says["DM_DEV_SUSPEND"]
    assert command(verity._TABLE_LOAD) == kernel_says["DM_TABLE_LOAD"]
    assert kernel_says["DM_READONLY_FLAG"] == verity._DM_READONLY


def test_dm_target(kernel_says: dict[str, int]) -> None:
    table = dm_table([Target("verity", 80, "1 /dev/a /dev/b")])
    size = kernel_says["sizeof(struct dm_target_spec)"]
    name = kernel_says["offsetof(struct dm_target_spec, target_type)"]
    assert table[name:size] == b"verity".ljust(16, b"\0")
    assert table[size:].rstrip(b"\0") == b"1 /dev/a /dev/b"
    assert table.endswith(b"\0")
    assert len(table) % 8 == 0
    assert int.from_bytes(table[8:16], "little") == 80


def test_a_table_of_several_targets(kernel_says: dict[str, int]) -> None:
    following = kernel_says["offsetof(struct dm_target_spec, next)"]
    targets = [Target("linear", 8, "/dev/a 0"), Target("error", 16, ""), Target("linear", 8, "b 1")]
    table = dm_table(targets)
    found, at = [], 0
    for _ in targets:
        start, sectors = struct.unpack_from("<QQ", table, at)
        found.append((start, sectors))
        at += int.from_bytes(table[at + following : at + following + 4], "little")
    assert found == [(0, 8), (8, 16), (24, 8)]
    assert at == len(table)


def test_loop_config(kernel_says: dict[str, int]) -> None:
    config = loop_config(7, 648, 8192)
    offset = kernel_says["offsetof(struct loop_config, info.lo_offset)"]
    limit = kernel_says["offsetof(struct loop_config, info.lo_sizelimit)"]
    flags = kernel_says["offsetof(struct loop_config, info.lo_flags)"]
    assert len(config) == kernel_says["sizeof(struct loop_config)"]
    assert config[:4] == b"\x07\0\0\0"
    assert int.from_bytes(config[offset : offset + 8], "little") == 648
    assert int.from_bytes(config[limit : limit + 8], "little") == 8192
    assert int.from_bytes(config[flags : flags + 4], "little") == kernel_says["LO_FLAGS_READ_ONLY"]
    assert kernel_says["LOOP_CONFIGURE"] == verity._LOOP_CONFIGURE
    assert kernel_says["LOOP_CTL_GET_FREE"] == verity._LOOP_CTL_GET_FREE


def test_other_ioctls(kernel_says: dict[str, int]) -> None:
    assert kernel_says["IOCTL_VM_SOCKETS_GET_LOCAL_CID"] == host._GET_LOCAL_CID
    assert kernel_says["BLKFLSBUF"] == instance._BLKFLSBUF


def test_table() -> None:
    table = VerityTable("/dev/vda1", "/dev/loop0", 10068, bytes(range(32)), b"")
    root = bytes(range(32)).hex()
    assert table.sectors == 80544
    assert table.parameters() == f"1 /dev/vda1 /dev/loop0 4096 4096 10068 0 sha256 {root} -"
    table = VerityTable("/dev/vda1", "/dev/loop0", 1, bytes(32), b"\x01\xff")
    assert table.parameters().endswith(" 01ff")


def test_a_partition_of_an_odd_size_is_refused(tmp_path: Path) -> None:
    device = tmp_path / "device"
    device.write_bytes(bytes(5000))
    with pytest.raises(verity.GuestError, match="no multiple of 4096"):
        verity.open_verity("x", str(device), "/dev/null", 0, 4096, bytes(32), b"")
