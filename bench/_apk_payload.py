#!/usr/bin/python3
"""Runs as root in a guest: reads the same files from the APK and from an ext4 partition in turn, and prints seconds.

The caches are emptied before each reading.
"""

import ctypes
import json
import os
import time

APK, EXT4 = "/mnt/apk", "/tmp/ext4"
ROUNDS = 5


def main() -> None:
    mount_ext4()
    seconds: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for kind in ("stored", "deflated"):
            seconds.setdefault(f"{kind}.apk", []).append(cold(lambda: read_all(f"{APK}/{kind}")))  # noqa: B023
            seconds.setdefault(f"{kind}.ext4", []).append(cold(lambda: read_all(f"{EXT4}/{kind}")))  # noqa: B023
        for name, path in (
            ("large.apk", f"{APK}/large"),
            ("large.ext4", f"{EXT4}/large"),
            ("large.verity", "/dev/mapper/microdroid-apk"),
        ):
            seconds.setdefault(name, []).append(cold(lambda: read(path)))  # noqa: B023
    print("MEASURED", json.dumps(seconds))


def mount_ext4() -> None:
    libc = ctypes.CDLL(None)
    with open("/etc/avf/storage-modules", encoding="ascii") as modules:
        for path in modules.read().split():
            with open(path, "rb") as module:
                libc.syscall(313, module.fileno(), b"", 0)
    for name in os.listdir("/sys/class/block"):
        with open(f"/sys/class/block/{name}/uevent", encoding="ascii") as event:
            if "PARTNAME=plain\n" in event.read():
                os.mkdir(EXT4)
                libc.mount(f"/dev/{name}".encode(), EXT4.encode(), b"ext4", 1, None)


def cold(work) -> float:  # type: ignore[no-untyped-def]
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("3")
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def read_all(folder: str) -> None:
    for name in sorted(os.listdir(folder)):
        read(f"{folder}/{name}")


def read(path: str, limit: int = 20 << 20) -> None:
    """Up to `limit` bytes."""
    fd = os.open(path, os.O_RDONLY)
    try:
        buffer = bytearray(128 << 10)
        while limit > 0 and (count := os.readv(fd, [buffer])):
            limit -= count
    finally:
        os.close(fd)


main()
