#!/usr/bin/python3
"""What an ordinary program takes for granted. Every line it prints is `NAME: ok` or says what went wrong."""

import getpass
import os
import pty
import socket
import subprocess
import tempfile
from multiprocessing import shared_memory
from pathlib import Path


def reopened_output():
    subprocess.run("echo one > /dev/stdout; echo two > /proc/self/fd/1", shell=True, check=True)
    with open("/dev/stderr", "w") as file:
        file.write("three\n")


def terminal():
    controller, terminal = pty.openpty()
    os.write(terminal, b"x")
    assert os.read(controller, 1) == b"x"
    assert os.stat(os.ttyname(terminal)).st_uid == os.getuid()


def user():
    assert getpass.getuser() == "payload", getpass.getuser()
    assert Path.home() == Path("/data")
    assert subprocess.check_output(["busybox", "whoami"]) == b"payload\n"


def memory_files():
    for folder in ("/data", "/tmp", "/dev/shm"):
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(b"x")


def shared():
    memory = shared_memory.SharedMemory(create=True, size=4096)
    memory.close()
    memory.unlink()


def devices():
    for name in ("zero", "full", "random", "urandom", "null"):
        with open(f"/dev/{name}", "rb", buffering=0) as file:
            file.read(1)
    with open("/dev/null", "w") as file:
        file.write("x")


def listens():
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as sock:
        sock.bind((socket.VMADDR_CID_ANY, 1024))
        sock.listen()


def itself():
    assert {"0", "1", "2"} <= set(os.listdir("/proc/self/fd"))
    Path("/proc/self/environ").read_bytes()
    Path("/proc/self/mem").open("rb").close()


def children():
    with subprocess.Popen(["busybox", "sleep", "1000"]) as child:
        Path(f"/proc/{child.pid}/environ").read_bytes()
        child.kill()


for check in (
    reopened_output,
    terminal,
    user,
    memory_files,
    shared,
    devices,
    listens,
    itself,
    children,
):
    try:
        check()
    except Exception as error:  # noqa: BLE001
        print(f"{check.__name__}: {error!r}")
    else:
        print(f"{check.__name__}: ok")
