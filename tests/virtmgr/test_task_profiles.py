"""Task profiles: the file's errors, and a real VMM in a real control group."""

import os
from pathlib import Path

import pytest

from avf.binder import RemoteException
from avf.client import RawConfig, connect
from avf.virtmgr.errors import VirtmgrError
from avf.virtmgr.task_profiles import default_cgroup, load_profiles


def write(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> Path:
    path = folder / "task_profiles.toml"
    path.write_text(text)
    monkeypatch.setenv("AVF_TASK_PROFILES", str(path))
    return path


def test_later_profiles_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        tmp_path,
        monkeypatch,
        '[profiles.a]\n"cpu.weight" = 50\n"memory.high" = "1G"\n[profiles.b]\n"cpu.weight" = 20\n',
    )
    assert load_profiles().merged(["a", "b"]) == {"cpu.weight": "20", "memory.high": "1G"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[profile.a]", "unknown key 'profile'"),
        ("cgroup = 1", "cgroup: must be a path"),
        ("profiles = 1", "profiles: must be a table"),
        ("[profiles]\na = 1", "profiles.a: must be a table"),
        ('[profiles.a]\n"cgroup.procs" = 1', "'cgroup.procs': cannot be set"),
        ('[profiles.a]\n"../x" = 1', "'../x': cannot be set"),
        ('[profiles.a]\n"cpu.weight" = true', "'cpu.weight': must be a number or a text"),
        ("[", "task_profiles.toml: "),
    ],
)
def test_refusals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, complaint: str
) -> None:
    path = write(tmp_path, monkeypatch, text)
    with pytest.raises(VirtmgrError) as raised:
        load_profiles()
    assert str(raised.value).startswith(str(path))
    assert complaint in str(raised.value)


def test_a_profile_nobody_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime_dir: Path
) -> None:
    path = write(tmp_path, monkeypatch, "")
    kernel = tmp_path / "kernel"
    kernel.touch()
    with connect() as service, pytest.raises(RemoteException) as raised:
        service.create_vm(RawConfig(kernel=kernel, task_profiles=["Nope"]))
    assert raised.value.message == (
        f"Failed to create VM: Unknown task profile Nope: it is not in {path}"
    )


@pytest.mark.vm
def test_the_vmm_runs_in_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime_dir: Path, image_dir: Path
) -> None:
    if not os.access(default_cgroup(), os.W_OK):
        pytest.skip("no control group of cgroup v2 is delegated to this user")
    write(tmp_path, monkeypatch, '[profiles.Few]\n"cgroup.max.descendants" = 3\n')
    config = RawConfig(kernel=image_dir / "vmlinux", task_profiles=["Few"], memory_mib=64)
    with connect() as service, service.create_vm(config) as vm:
        vm.start()
        group = default_cgroup() / f"avf-vm-{vm.cid}"
        assert (group / "cgroup.max.descendants").read_text() == "3\n"
        (pid,) = (group / "cgroup.procs").read_text().split()
        assert b"qemu" in Path(f"/proc/{pid}/cmdline").read_bytes()
        vm.stop()
    service.close()
    assert not group.exists()
