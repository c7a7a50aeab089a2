"""The daemon as a process, for several users: who may do what, what each VM gets, and when it goes."""

import contextlib
import ctypes
import fcntl
import os
import resource
import select
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from avf.aidl.virtualizationservice_internal import AtomVmBooted, IGlobalVmContext
from avf.binder import BinderError, ExceptionCode, RemoteException, release
from avf.runtime import WAITING_NAME
from tests.eventually import eventually
from tests.policy.conftest import StartAuthority
from tests.virtualizationservice.daemon import ALICE, BOB, EVERYONE, Host, effective_uid

MANAGE_DENIED = "does not have the android.permission.MANAGE_VIRTUAL_MACHINE permission"
DEBUG_DENIED = "does not have the android.permission.DEBUG_VIRTUAL_MACHINE permission"


def test_each_vm_has_a_cid_and_a_directory_for_its_owner_alone(host: Host) -> None:
    with host.daemon(), host.client(ALICE) as alice, host.client(BOB) as bob:
        one = alice.allocate_global_vm_context(os.getpid())
        two = bob.allocate_global_vm_context(77)
        assert (one.get_cid(), two.get_cid()) == (2048, 2049)
        for context, uid in ((one, ALICE), (two, BOB)):
            status = Path(context.get_temporary_directory()).stat()
            assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (uid, 0o700)
        listed = [(i.cid, i.requester_uid, i.requester_pid) for i in bob.debug_list_vms()]
        assert listed == [(2048, ALICE, os.getpid()), (2049, BOB, 77)]
        with effective_uid(BOB):
            list(Path(two.get_temporary_directory()).iterdir())
            with pytest.raises(PermissionError):
                list(Path(one.get_temporary_directory()).iterdir())
            with pytest.raises(PermissionError):
                list((host.directory / "vms").iterdir())


def test_another_process_of_another_user(host: Host) -> None:
    with host.daemon():
        first, second, seen = host.run_client(
            ALICE, "allocate", "list", f"see={host.directory}/vms"
        )
        assert first == f"2048 {host.directory}/vms/2048"
        assert second == "2048"
        assert seen == "PermissionError"


def test_denied(host: Host) -> None:
    host.set_policy(f"[DEBUG_VIRTUAL_MACHINE]\nuids = [{BOB}]\n")
    with host.daemon():
        said = host.run_client(ALICE, "allocate", "list", "memlock")
        assert said == [
            f"SECURITY: {MANAGE_DENIED}",
            f"SECURITY: {DEBUG_DENIED}",
            f"SECURITY: {MANAGE_DENIED}",
        ]
        assert host.run_client(BOB, "allocate", "list") == [f"SECURITY: {MANAGE_DENIED}", ""]
        assert not (host.directory / "last_cid").exists()
        assert host.run_client(0, "allocate", "list")[1] == "2048"


def test_who_asks_is_told_what_the_daemons_own_policy_grants(host: Host) -> None:
    """virtmgr asks, for it cannot know which file the daemon has."""
    host.set_policy(f"[DEBUG_VIRTUAL_MACHINE]\nuids = [{BOB}]\n")
    manage, debug = (
        f"granted=android.permission.{name}_VIRTUAL_MACHINE" for name in ("MANAGE", "DEBUG")
    )
    with host.daemon():
        assert host.run_client(ALICE, manage, debug) == ["False", "False"]
        assert host.run_client(BOB, manage, debug) == ["False", "True"]
        assert host.run_client(0, manage, debug) == ["True", "True"]
        (said,) = host.run_client(BOB, f"granted={'x' * 500}")
        assert said == f"ILLEGAL_ARGUMENT: no such permission: {'x' * 100}"


def test_a_changed_policy_counts_at_once(host: Host) -> None:
    host.set_policy("")
    with host.daemon(), host.client(ALICE) as alice:
        with pytest.raises(RemoteException, match=MANAGE_DENIED):
            alice.allocate_global_vm_context(1)
        host.set_policy(EVERYONE)
        release(alice.allocate_global_vm_context(1))
        host.set_policy("[NONSENSE]")
        release(alice.allocate_global_vm_context(1))
        host.set_policy("")
        with pytest.raises(RemoteException, match=MANAGE_DENIED):
            alice.allocate_global_vm_context(1)
    assert f"the former policy stays in force: {host.policy_file}: NONSENSE" in host.log


def test_polkit(host: Host, authority: StartAuthority) -> None:
    authority(f"org.avf.manage-virtual-machine:{ALICE}")
    host.set_policy(f"polkit = true\n[DEBUG_VIRTUAL_MACHINE]\nuids = [{BOB}]\n")
    with host.daemon():
        said = host.run_client(ALICE, "allocate", "list")
        assert said == [f"2048 {host.directory}/vms/2048", f"SECURITY: {DEBUG_DENIED}"]
        assert host.run_client(BOB, "allocate", "list") == [f"SECURITY: {MANAGE_DENIED}", ""]


def test_all_cids_are_in_use(host: Host) -> None:
    with (
        host.daemon("--cid-range=3000-3003"),
        host.client(ALICE) as alice,
        host.client(BOB) as bob,
        contextlib.ExitStack() as stack,
    ):
        root = stack.enter_context(host.client(0))
        held = [c.allocate_global_vm_context(1) for c in (alice, alice, root, root)]
        assert [context.get_cid() for context in held] == [3000, 3001, 3002, 3003]
        with pytest.raises(RemoteException) as raised:
            bob.allocate_global_vm_context(1)
        assert raised.value.code is ExceptionCode.ILLEGAL_STATE
        assert raised.value.message == "Could not find an available CID."
        release(held.pop(1))
        eventually(host.vms, ["3000", "3002", "3003"])
        assert bob.allocate_global_vm_context(1).get_cid() == 3001


def test_one_user_does_not_get_all_cids(host: Host) -> None:
    with host.daemon("--max-vms=2"), host.client(ALICE) as alice, host.client(BOB) as bob:
        held = [alice.allocate_global_vm_context(1) for _ in range(2)]
        with pytest.raises(RemoteException, match=f"uid {ALICE} has 2 VMs") as raised:
            alice.allocate_global_vm_context(1)
        assert raised.value.code is ExceptionCode.ILLEGAL_STATE
        held.append(bob.allocate_global_vm_context(1))
        release(held.pop(0))
        eventually(lambda: len(host.vms()), 2)
        held.append(alice.allocate_global_vm_context(1))
        with host.client(0) as root:
            held += [root.allocate_global_vm_context(1) for _ in range(3)]
            assert held[-1].get_cid() == 2054


def test_a_clone_that_waits_is_no_vm_yet_but_counts_as_one(host: Host) -> None:
    with host.daemon("--max-vms=2"), host.client(ALICE) as alice:
        vm, waiting = (alice.allocate_global_vm_context(1) for _ in range(2))
        mark = Path(waiting.get_temporary_directory(), WAITING_NAME)
        mark.touch()
        assert [info.cid for info in alice.debug_list_vms()] == [vm.get_cid()]
        with pytest.raises(RemoteException, match=f"uid {ALICE} has 2 VMs"):
            alice.allocate_global_vm_context(1)
        mark.unlink()
        assert len(alice.debug_list_vms()) == 2


def test_many_clients(host: Host) -> None:
    with host.daemon():
        clients = [host.client_process(ALICE + n, "allocate", "wait") for n in range(6)]
        try:
            cids = []
            for client in clients:
                assert client.stdout is not None
                cids.append(int(client.stdout.readline().split()[0]))
            assert sorted(cids) == list(range(2048, 2054))
            with host.client(0) as root:
                assert [info.cid for info in root.debug_list_vms()] == sorted(cids)
        finally:
            for client in clients:
                client.communicate()
        eventually(host.vms, [])


def test_what_a_killed_client_had_is_freed(host: Host) -> None:
    with host.daemon(), host.client(BOB) as bob:
        with host.client_process(ALICE, "allocate", "allocate", "wait") as client:
            assert client.stdout is not None
            directories = [client.stdout.readline().split()[1] for _ in range(2)]
            Path(directories[0], "file").touch()
            client.kill()
        eventually(host.vms, [])
        eventually(lambda: [info.cid for info in bob.debug_list_vms()], [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_vms_outlive_the_service(host: Host, number: signal.Signals) -> None:
    with host.daemon() as daemon, host.client(ALICE) as alice, host.client(BOB) as bob:
        context = alice.allocate_global_vm_context(1)
        living = context.get_temporary_directory()
        dead = bob.allocate_global_vm_context(1)
        lock = os.open(living, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        Path(living, "vsock.sock").touch()
        os.kill(daemon.pid, number)
        daemon.wait(20)
        with pytest.raises(BinderError):
            dead.get_cid()
    with host.daemon("--max-vms=1"), host.client(ALICE) as alice, host.client(BOB) as bob:
        assert host.vms() == ["2048"]
        assert Path(living, "vsock.sock").exists()
        listed = [(i.cid, i.requester_uid, i.requester_pid) for i in bob.debug_list_vms()]
        assert listed == [(2048, ALICE, 0)]
        assert bob.allocate_global_vm_context(1).get_cid() == 2050
        with pytest.raises(RemoteException, match="has 1 VMs"):
            alice.allocate_global_vm_context(1)
        os.close(lock)
        context = alice.allocate_global_vm_context(1)
        assert isinstance(context, IGlobalVmContext)
        eventually(lambda: Path(living).exists(), False)


def test_a_user_has_so_many_connections(host: Host) -> None:
    with host.daemon("--max-connections=5"):
        silent = []
        try:
            for _ in range(20):
                silent.append(socket.socket(socket.AF_UNIX))
                with effective_uid(ALICE):
                    silent[-1].connect(str(host.socket))
            for sock in silent[5:]:
                assert sock.recv(1) == b""
            with host.client(BOB) as bob:
                assert bob.debug_list_vms() == []
            with pytest.raises((BinderError, OSError)), host.client(ALICE):
                pass
        finally:
            for sock in silent:
                sock.close()

        def reached() -> bool:
            try:
                with host.client(ALICE) as alice:
                    return alice.debug_list_vms() == []
            except (BinderError, OSError):
                return False

        eventually(reached, True)


def test_memlock(host: Host) -> None:
    """The service can do it exactly where root can: not without CAP_SYS_RESOURCE."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        try:
            resource.prlimit(other.pid, resource.RLIMIT_MEMLOCK, unlimited)
            expected = str(unlimited)
        except PermissionError:
            expected = "ILLEGAL_STATE: Operation not permitted (os error 1)"
    with host.daemon():
        assert host.run_client(ALICE, "memlock") == [expected]


def test_atoms_name_the_caller(host: Host) -> None:
    with host.daemon(), host.client(ALICE) as alice:
        alice.atom_vm_booted(AtomVmBooted(uid=0, vm_identifier="x" * 9999, elapsed_time_millis=5))
        line = (host.directory / "atoms" / f"{ALICE}.jsonl").read_text()
        assert f'"uid": {ALICE}, "vm_identifier": "{"x" * 4096}", "elapsed_time_millis": 5' in line


def test_a_directory_of_somebody_else_is_refused(host: Host) -> None:
    host.directory.mkdir()
    os.chown(host.directory, ALICE, ALICE)
    result = subprocess.run(host.command(), capture_output=True, text=True, timeout=20)
    assert result.returncode == 1
    assert "must be uid 0's" in result.stderr


def test_a_broken_policy_stops_the_start(host: Host) -> None:
    host.set_policy("[DUMP")
    result = subprocess.run(host.command(), capture_output=True, text=True, timeout=20)
    assert result.returncode == 1
    assert f"virtualizationservice: {host.policy_file}: " in result.stderr


def test_leaves_when_idle_but_not_while_a_vm_lives(host: Host) -> None:
    (host.directory / "vms" / "2048").mkdir(parents=True)
    host.directory.chmod(0o755)
    lock = os.open(host.directory / "vms" / "2048", os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with host.daemon("--idle-timeout=0.1") as daemon:
        with pytest.raises(subprocess.TimeoutExpired):
            daemon.wait(1.5)
        os.close(lock)
        assert daemon.wait(20) == 0
    assert not host.socket.exists()
    assert host.vms() == []


def test_a_signal_that_another_thread_gets(host: Host) -> None:
    """The kernel may give it to any, and Python's handlers run in the main one."""
    with host.daemon() as daemon:
        threads = [int(path.name) for path in Path(f"/proc/{daemon.pid}/task").iterdir()]
        assert len(threads) > 1
        assert ctypes.CDLL(None).tgkill(daemon.pid, max(threads), signal.SIGTERM) == 0
        assert daemon.wait(20) == 0


def test_a_second_one_takes_over_when_the_first_has_ended(host: Host) -> None:
    """As after `systemctl restart`, or when a client starts a service while one is about to leave."""
    ready, ready_child = os.pipe()
    with open(ready) as waiting, contextlib.ExitStack() as stack:
        with host.daemon():
            second = stack.enter_context(
                subprocess.Popen(host.command(f"--ready-fd={ready_child}"), pass_fds=[ready_child])
            )
            os.close(ready_child)
            stack.callback(second.terminate)
            lock = f"{host.directory}/service.lock"
            eventually(lambda: lock in {str(p.resolve()) for p in fds_of(second.pid)}, True)
            with host.client(ALICE) as alice:
                assert alice.allocate_global_vm_context(1).get_cid() == 2048
            assert not select.select([waiting], [], [], 0)[0]
        assert waiting.read() == ""
        with host.client(ALICE) as alice:
            assert alice.allocate_global_vm_context(1).get_cid() == 2049
    assert second.wait() == 0


def fds_of(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/fd").iterdir())


def test_started_by_systemd(host: Host) -> None:
    """A socket that systemd listens on, and word to it about being ready."""
    with (
        socket.socket(socket.AF_UNIX) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified,
    ):
        path = host.folder / "activated.sock"
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen()
        notified.bind(str(host.folder / "notify"))
        notified.settimeout(20)
        process = subprocess.Popen(
            host.activated_command(listener, "--idle-timeout=0.1"),
            env={
                **os.environ,
                "NOTIFY_SOCKET": str(host.folder / "notify"),
                "STATE_DIRECTORY": str(host.folder / "state"),
            },
            pass_fds=[listener.fileno()],
        )
        host.socket = path
        with process:
            try:
                with host.client(ALICE) as alice:
                    assert notified.recv(100) == b"READY=1"
                    assert alice.debug_list_vms() == []
                    alice.atom_vm_booted(AtomVmBooted())
                assert notified.recv(100) == b"STOPPING=1"
                assert process.wait(20) == 0
            finally:
                process.kill()
        assert path.exists()
        assert (host.folder / "state" / "atoms" / f"{ALICE}.jsonl").exists()
    assert (host.folder / "state" / "vms").exists()


def test_systemd_must_hand_over_a_listening_unix_socket(host: Host) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        result = subprocess.run(
            host.activated_command(other),
            pass_fds=[other.fileno()],
            capture_output=True,
            text=True,
            timeout=20,
        )
    assert result.returncode == 1
    assert "not a listening unix stream socket" in result.stderr
