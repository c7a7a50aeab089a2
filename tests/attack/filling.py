"""Run by `unshare --mount`: a user fills the file system that VMs' directories are on. Prints `held` if all held."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from avf.binder import RemoteException
from tests.virtualizationservice.daemon import ALICE, BOB, Host, effective_uid


def fill_blocks(directory: Path) -> None:
    with effective_uid(ALICE), open(directory / "big", "wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while file.write(bytes(1 << 16)):
                pass
        with contextlib.suppress(OSError):
            while file.write(b"."):
                pass


def fill_inodes(directory: Path) -> None:
    with effective_uid(ALICE), contextlib.suppress(OSError):
        for number in range(1 << 20):
            (directory / str(number)).touch()


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)
        state = folder / "state"
        state.mkdir()
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m,nr_inodes=300,mode=0711", "tmpfs", state],
            check=True,
        )
        host = Host(folder)
        with (
            host.daemon(env={**os.environ, "STATE_DIRECTORY": str(state)}),
            host.client(ALICE) as alice,
            host.client(BOB) as bob,
            host.client(0) as root,
        ):
            held = [client.allocate_global_vm_context(1) for client in (alice, bob)]
            mine, theirs = (Path(context.get_temporary_directory()) for context in held)
            assert mine.parent == state / "vms"
            fill_blocks(mine)
            held.append(bob.allocate_global_vm_context(1))
            with socket.socket(socket.AF_UNIX) as sock, effective_uid(BOB):
                sock.bind(str(theirs / "vsock.sock"))
            fill_inodes(mine)
            taken = []
            with pytest.raises(RemoteException, match="No space left on device"):
                for _ in range(100):
                    taken.append(alice.allocate_global_vm_context(1))  # noqa: PERF401
            assert 0 < len(taken) <= 32
            assert os.statvfs(state).f_ffree == 0
            for client in (bob, root):
                context = client.allocate_global_vm_context(1)
                assert Path(context.get_temporary_directory()).is_dir()
            assert (host.directory / "last_cid").read_text()
        assert "Traceback" not in host.log
        with host.daemon(env={**os.environ, "STATE_DIRECTORY": str(state)}):  # starts all the same
            assert host.run_client(BOB, "allocate")[0].split()[0].isdecimal()
        subprocess.run(["umount", "--lazy", state], check=True)
    print("held")


if __name__ == "__main__":
    sys.exit(main())
