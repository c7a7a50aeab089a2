"""A whole host with the system service in its usual places, and users who run real VMs.

The places are those of a mount namespace of the test's own, so that this host's services are not disturbed.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from avf.apk import ApkBuilder, SigningKey
from avf.runtime import SYSTEM_RUNTIME_DIR
from tests.eventually import eventually
from tests.several_uids import open_to_all
from tests.virtualizationservice.daemon import ALICE, BOB

pytestmark = [pytest.mark.vm, pytest.mark.usefixtures("several_uids")]

ROOT = Path(__file__).parents[2]
MOUNT = """
mount -t tmpfs -o mode=755 tmpfs /run
mount --bind "$1" /etc
echo mounted
exec cat
"""
POLICY = "".join(
    f"[{permission}]\nuids = [{ALICE}]\n"
    for permission in ("MANAGE_VIRTUAL_MACHINE", "DEBUG_VIRTUAL_MACHINE")
)


class System:
    """`root` is how the namespace's files are seen from outside."""

    def __init__(self, holder: int, folder: Path, image: Path) -> None:
        self.root = Path(f"/proc/{holder}/root")
        self.folder = folder
        self._enter = ["nsenter", f"--mount=/proc/{holder}/ns/mnt"]
        self._image = image

    def start(self, command: list[str], **arguments: object) -> "subprocess.Popen[str]":
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AVF_")}
        environment["PYTHONPATH"] = str(ROOT)
        environment["AVF_IMAGE_DIR"] = str(self._image)
        environment["AVF_RUNTIME_DIR"] = str(self.folder / "runtime")
        return subprocess.Popen(
            [*self._enter, *command],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            **arguments,  # type: ignore[call-overload]
        )

    def client(self, uid: int, apk: Path) -> list[str]:
        """What tests.virtualizationservice.system_client says, run by a user.

        The user is lent the right to read all files, since this interpreter may be where only root can go. A sandbox
        would take that right away again.
        """
        folder = self.folder / str(uid)
        folder.mkdir()
        shutil.chown(folder, uid, uid)
        lent = [
            "--inh-caps=+dac_read_search",
            "--ambient-caps=+dac_read_search",
        ]  # codespell:ignore
        user = [*as_user(uid), *lent]
        client = [sys.executable, "-m", "tests.virtualizationservice.system_client"]
        environment = [f"AVF_RUNTIME_DIR={folder}/runtime", "AVF_CONFINEMENT=none"]
        command = [*user, "env", *environment, *client, str(apk), str(folder), "dying.py"]
        with self.start(command) as process:
            output, _ = process.communicate()
        assert process.returncode == 0, output
        return output.splitlines()


def unreadable(folder: str, names: list[str]) -> list[str]:
    """Those of which root in a user namespace has no copy: the host's own secrets."""
    return [name for name in names if not os.access(Path(folder, name), os.R_OK)]


def as_user(uid: int) -> list[str]:
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]


@pytest.fixture
def system(tmp_path: Path, image_dir: Path) -> Iterator[System]:
    open_to_all(tmp_path)
    shutil.copytree("/etc", tmp_path / "etc", symlinks=True, ignore=unreadable)
    (tmp_path / "etc" / "avf").mkdir(exist_ok=True)
    (tmp_path / "etc" / "avf" / "policy.toml").write_text(POLICY)
    with ExitStack() as stack:
        holder = stack.enter_context(
            subprocess.Popen(
                ["unshare", "--mount", "sh", "-ec", MOUNT, "sh", str(tmp_path / "etc")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        assert holder.stdout is not None
        assert holder.stdout.readline() == "mounted\n"
        yield System(holder.pid, tmp_path, image_dir)


def test_users_of_a_system(system: System, tmp_path: Path) -> None:
    builder = ApkBuilder("com.example.dying")
    builder.add("bin/dying.py", Path(__file__).parent / "payload" / "dying.py", mode=0o755)
    with (tmp_path / "app.apk").open("w+b") as file:
        builder.build(file, SigningKey.generate())
    ready, ready_child = os.pipe()
    with open(ready) as waiting:
        daemon = system.start(
            [
                sys.executable,
                "-m",
                "avf.virtualizationservice",
                "--system",
                f"--ready-fd={ready_child}",
            ],
            pass_fds=[ready_child],
        )
        os.close(ready_child)
        with daemon, ExitStack() as stack:
            stack.callback(daemon.terminate)
            assert waiting.read() == ""
            assert daemon.poll() is None
            denial = (
                "SECURITY: does not have the android.permission.MANAGE_VIRTUAL_MACHINE permission"
            )
            assert system.client(BOB, tmp_path / "app.apk") == [denial]
            said = system.client(ALICE, tmp_path / "app.apk")
            assert said == [f"2048 {SYSTEM_RUNTIME_DIR}/vms/2048 {ALICE}", "SHUTDOWN"]
            run = system.root / str(SYSTEM_RUNTIME_DIR).lstrip("/")
            eventually(lambda: list((run / "vms").glob("[0-9]*")), [])
            tombstone = run / "tombstones" / str(ALICE) / "tombstone_00"
            eventually(tombstone.exists, True)
            assert tombstone.read_bytes() == b"*** *** ***\n" * 1000
            note = json.loads(tombstone.with_name("tombstone_00.json").read_text())
            assert (note["uid"], note["cid"]) == (ALICE, 2048)
            inside = SYSTEM_RUNTIME_DIR / tombstone.relative_to(run)
            reading = system.start([*as_user(ALICE), "wc", "-c", str(inside)])
            assert reading.communicate()[0].split()[0] == "12000"
    assert not (system.folder / str(ALICE) / "runtime" / "vms").exists()
