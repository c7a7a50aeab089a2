"""Tells what is to be seen of the APKs: for each file its mode, owner, time, and its digest or the error's name."""

import ctypes
import errno
import hashlib
import json
import mmap
import os


def digest(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def behind_the_end(path: str) -> bool:
    """Whether a mapped file is followed by nothing but zeros."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        size = len(mapped)
        whole = bytes((ctypes.c_char * (-(-size // 4096) * 4096)).from_address(address(mapped)))
        return whole[:size] == mapped[:] and not any(whole[size:])


def address(mapped: mmap.mmap) -> int:
    target = ctypes.py_object(mapped)
    view = (ctypes.c_char * 80)()
    ctypes.pythonapi.PyObject_GetBuffer(target, ctypes.byref(view), 0)
    found = int.from_bytes(view.raw[:8], "little")
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(view))
    return found


with open("/proc/mounts", encoding="ascii") as mounts:
    for line in mounts:
        _, target, kind, options, *_ = line.split()
        if target.startswith("/mnt/"):
            print("mounted", target, kind, "noexec" in options.split(","))

told = {}
for root in ("/mnt/apk", "/mnt/extra-apk"):
    for folder, _, names in os.walk(root):
        for name in names:
            path = f"{folder}/{name}"
            status = os.stat(path)
            told[path] = (f"{status.st_mode:o}", status.st_uid, status.st_mtime, digest(path))
print("TOLD", json.dumps(told))
mapped = ("big", "shifted", "small/77", "packed-big")
print(
    "zeros",
    [behind_the_end(f"/mnt/apk/{name}") for name in mapped if told[f"/mnt/apk/{name}"][3] != "EIO"],
)
