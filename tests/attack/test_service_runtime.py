"""Another user was there first, or writes without end: everybody's own service, and the way to the system's, hold."""

import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from avf import runtime
from avf.runtime import MAX_LOG_BYTES, RuntimeDirectoryError, rotate
from avf.virtmgr.global_service import GlobalService, GlobalServiceError
from tests.virtualizationservice.conftest import host
from tests.virtualizationservice.daemon import ALICE, Host

__all__ = ["host"]


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without a runtime directory, on a host whose /tmp and home are under `tmp_path`."""
    for name in ("AVF_RUNTIME_DIR", "XDG_RUNTIME_DIR", "AVF_SERVICE_SOCKET"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir(mode=0o700)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    monkeypatch.setattr(runtime, "_SHARED", tmp_path / "tmp")
    uid = os.getuid()
    account = runtime.pwd.struct_passwd(("u", "x", uid, uid, "", str(tmp_path / "home"), "/bin/sh"))
    monkeypatch.setattr(runtime.pwd, "getpwuid", lambda _: account)
    real = runtime._is_our_own
    monkeypatch.setattr(
        runtime, "_is_our_own", lambda path: path != Path(f"/run/user/{uid}") and real(path)
    )
    return tmp_path


def _directory(path: Path) -> None:
    path.mkdir()
    os.chown(path, ALICE, ALICE)


def _open_directory(path: Path) -> None:
    path.mkdir()
    path.chmod(0o777)


def _file(path: Path) -> None:
    path.touch()
    os.chown(path, ALICE, ALICE)


def _link(path: Path) -> None:
    target = path.with_name("elsewhere")
    target.mkdir(mode=0o700)
    path.symlink_to(target)


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


TAKEN = [_directory, _open_directory, _file, _link, _dangling, os.mkfifo]


def test_without_anybody_s_doing(bare: Path) -> None:
    expected = bare / "tmp" / f"avf-{os.getuid()}"
    assert runtime.user_runtime_dir() == expected
    assert stat.S_IMODE(expected.stat().st_mode) == 0o700
    assert runtime.user_runtime_dir() == expected


@pytest.mark.usefixtures("several_uids")
@pytest.mark.parametrize("take", TAKEN)
def test_the_name_in_tmp_is_taken(bare: Path, take: Callable[[Path], None]) -> None:
    """Whatever it is: the home directory serves instead, and goes on to when the other has gone."""
    name = bare / "tmp" / f"avf-{os.getuid()}"
    take(name)
    expected = bare / "home" / ".cache" / "avf-runtime"
    assert runtime.user_runtime_dir() == expected
    shutil.rmtree(name) if name.is_dir() and not name.is_symlink() else name.unlink()
    assert runtime.user_runtime_dir() == expected


@pytest.mark.usefixtures("several_uids")
@pytest.mark.parametrize("take", TAKEN)
def test_nowhere_to_go(bare: Path, take: Callable[[Path], None]) -> None:
    """The user's own service cannot be; the system's can be used, and the message says what to do."""
    (bare / "home").chmod(0o777)
    take(bare / "tmp" / f"avf-{os.getuid()}")
    with pytest.raises(RuntimeDirectoryError, match="set AVF_RUNTIME_DIR to one of your own"):
        runtime.user_runtime_dir()
    assert runtime.service_sockets() == [Path("/run/avf/virtualizationservice.sock")]
    assert runtime.host_vsock_dirs() == [Path("/run/avf/vsock")]
    assert runtime.user_service_socket() is None


def test_the_system_service_is_used_without_a_directory_of_one_s_own(
    bare: Path, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bare / "home").chmod(0o777)
    _directory(bare / "tmp" / f"avf-{os.getuid()}")
    service = GlobalService()
    monkeypatch.setattr(runtime, "SYSTEM_RUNTIME_DIR", host.directory)
    with pytest.raises(GlobalServiceError, match="no virtualizationservice can be started: "):
        service.call(lambda root: root.debug_list_vms())
    with host.daemon():
        assert service.call(lambda root: root.debug_list_vms()) == []
        assert service.is_system
        service.close()


@pytest.mark.usefixtures("several_uids")
@pytest.mark.parametrize("mode", [0o755, 0o777, 0o1777])
def test_a_runtime_directory_of_somebody_else(
    bare: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    """As after `su`, which may keep the variable: root must not put its sockets where a user can replace them."""
    other = bare / "other"
    other.mkdir()
    if mode == 0o755:
        os.chown(other, ALICE, ALICE)
    other.chmod(mode)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(other))
    assert runtime.user_runtime_dir() == bare / "tmp" / f"avf-{os.getuid()}"


def test_rotate(tmp_path: Path) -> None:
    log = tmp_path / "log"
    rotate(log)
    log.write_bytes(b"x" * 10)
    rotate(log, 10)
    assert log.exists()
    log.write_bytes(b"y" * 11)
    rotate(log, 10)
    assert not log.exists()
    assert (tmp_path / "log.1").read_bytes() == b"y" * 11


SAY = """
import logging, os, sys
from pathlib import Path
from avf.virtualizationservice import logs

logs.set_up(Path(sys.argv[1]))
for number in range(40_000):
    logging.getLogger(f"g{number}").handle(
        logging.LogRecord("g", logging.INFO, "f", number, "x" * 100, (), None)
    )
os.write(2, b"the end of standard error")
"""


def test_the_log_of_a_user_s_service_is_bounded(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    subprocess.run([sys.executable, "-c", SAY, log], check=True)
    assert log.read_bytes().endswith(b"the end of standard error")
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"service.log", "service.log.1"}
    assert max(sizes.values()) < MAX_LOG_BYTES + 1000
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_standard_error_serves_where_there_can_be_no_log(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    command = [sys.executable, "-m", "avf.virtualizationservice", "--idle-timeout=0.1"]
    result = subprocess.run(
        [*command, f"--directory={tmp_path}/run", f"--log-file={tmp_path}/log"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0
    assert "nobody is connected; leaving" in result.stderr


def test_a_user_s_service_takes_the_place_of_a_socket(tmp_path: Path) -> None:
    """A pipe in place of the log does not hold it up."""
    os.mkfifo(tmp_path / "log")
    with socket.socket(socket.AF_UNIX) as left:
        (tmp_path / "run").mkdir(mode=0o700)
        left.bind(str(tmp_path / "run" / "virtualizationservice.sock"))
    command = [sys.executable, "-m", "avf.virtualizationservice", "--idle-timeout=0.1"]
    result = subprocess.run(
        [*command, f"--directory={tmp_path}/run", f"--log-file={tmp_path}/log"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0
