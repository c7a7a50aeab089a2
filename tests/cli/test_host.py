import json
import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from avf import policy
from avf.cli.doctor import doctor
from avf.cli.host import _debug_form, info
from avf.client import VmInfo
from avf.confine import explain_confinement
from avf.vmm import accel
from avf.vmm.crosvm import probe


def test_the_form_of_a_list() -> None:
    vms = [VmInfo(2048, "/run/avf/2048", 1000, 77), VmInfo(2049, "/run/avf/2049", 0, 78)]
    assert _debug_form([]) == "[]"
    assert _debug_form(vms) == (
        "[\n"
        "    VirtualMachineDebugInfo {\n"
        "        cid: 2048,\n"
        '        temporaryDirectory: "/run/avf/2048",\n'
        "        requesterUid: 1000,\n"
        "        requesterPid: 77,\n"
        "    },\n"
        "    VirtualMachineDebugInfo {\n"
        "        cid: 2049,\n"
        '        temporaryDirectory: "/run/avf/2049",\n'
        "        requesterUid: 0,\n"
        "        requesterPid: 78,\n"
        "    },\n"
        "]"
    )


def test_info() -> None:
    lines = CliRunner().invoke(info).output.splitlines()
    assert len(lines) == 3
    assert lines[0] == "Only non-protected VMs are supported."
    assert re.fullmatch(r"Hypervisor version: QEMU emulator version \d.*", lines[1])
    exists = "exists" if Path("/dev/kvm").exists() else "does not exist"
    assert lines[2] == f"/dev/kvm {exists}."


def test_info_as_json() -> None:
    facts = json.loads(CliRunner().invoke(info, ["--json"]).output)
    assert facts["hypervisor_version"].startswith("QEMU emulator version ")
    assert facts == {
        "protected_vms": False,
        "non_protected_vms": True,
        "hypervisor_version": facts["hypervisor_version"],
        "dev_kvm": Path("/dev/kvm").exists(),
    }


def test_info_without_qemu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVF_QEMU", "/nonexistent/qemu")
    lines = CliRunner().invoke(info).output.splitlines()
    assert lines[:2] == ["VMs are not supported.", "Hypervisor version not set."]


@pytest.fixture
def able_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A host on which all is well, as far as the parts are concerned that tests may change."""
    image = tmp_path / "image"
    image.mkdir()
    partition = {"label": "system", "path": "system.img"}
    config = {
        "kernel": "vmlinux",
        "platform_version": "~1.0",
        "disks": [{"writable": False, "partitions": [partition]}],
    }
    (image / "microdroid.json").write_text(json.dumps(config))
    initrds = ("microdroid_initrd_normal.img", "microdroid_initrd_debuggable.img")
    for name in ("vmlinux", "system.img", *initrds):
        (image / name).touch()
    monkeypatch.setenv("AVF_IMAGE_DIR", str(image))
    monkeypatch.setenv("AVF_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("AVF_ACCEL", "tcg")
    monkeypatch.setenv("AVF_VIRTMGR", f"{sys.executable} -m tests.client.fake_virtmgr")
    return tmp_path


def examined() -> tuple[int, dict[str, dict[str, str]]]:
    result = CliRunner().invoke(doctor, ["--json"], standalone_mode=False)
    report = json.loads(result.output)
    assert report["ok"] == (result.return_value == 0)
    return result.return_value, {check["check"]: check for check in report["checks"]}


def test_doctor_on_an_able_host(able_host: Path) -> None:
    status, checks = examined()
    assert status == 0
    checks.pop("crosvm", None)  # where there is one
    assert list(checks) == [
        "qemu", "accelerator", "confinement", "vsock", "memory", "image", "runtime dir", "permissions", "virtmgr",
        "trial",
    ]  # fmt: skip
    assert checks["accelerator"]["status"] == "limited"
    assert checks["confinement"]["status"] == "ok"
    assert checks["confinement"]["detail"].startswith("full ")
    assert checks["image"]["detail"] == f"{able_host}/image/microdroid.json"
    assert checks["virtmgr"]["status"] == "ok"


@pytest.mark.parametrize("asked_for", ["limited", "none"])
def test_doctor_of_less_confinement(
    able_host: Path, monkeypatch: pytest.MonkeyPatch, asked_for: str
) -> None:
    monkeypatch.setenv("AVF_CONFINEMENT", asked_for)
    explain_confinement.cache_clear()
    try:
        status, checks = examined()
    finally:
        explain_confinement.cache_clear()
    assert status == 0
    assert checks["confinement"]["status"] == "limited"
    assert checks["confinement"]["detail"].startswith(f"{asked_for} (AVF_CONFINEMENT says so")
    assert checks["confinement"]["fix"] == "unset AVF_CONFINEMENT"


def test_doctor_without_qemu(able_host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVF_QEMU", "/nonexistent/qemu")
    status, checks = examined()
    assert status == 1
    assert checks["qemu"]["status"] == "missing"
    assert checks["qemu"]["fix"].endswith("apt-get install qemu-system-x86")
    assert "accelerator" not in checks  # which would say the same once more


def test_doctor_of_a_wrong_accelerator(able_host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVF_ACCEL", "xen")
    status, checks = examined()
    assert status == 1
    assert list(checks) == ["settings"]
    assert checks["settings"]["detail"] == "AVF_ACCEL is 'xen'; it must be kvm or tcg"


HELP = "printf '  --serial x\\n  --socket x\\n  --disable-sandbox x\\n'"


@pytest.mark.parametrize(
    ("life", "node", "said"),
    [
        ("kill -SEGV $$", None, "crosvm does not run: it was ended by SIGSEGV"),
        (":", None, "crosvm is no crosvm: its run command has no --serial"),
        (f"{HELP}; exit 0", "/no/node", "/no/node cannot be opened: No such file or directory"),
        (f"{HELP}; exit 0", "/dev/null", "/dev/null is not KVM's device"),
        (
            f'[ "$2" = --help ] && {HELP} && exit; echo one >&2; echo two >&2; kill -ABRT $$',
            "",
            "a probe guest did not run under KVM: it was ended by SIGABRT, saying: two",
        ),
        (
            f'[ "$2" = --help ] && {HELP} && exit; exit 3',
            "",
            "a probe guest did not run under KVM: it ended with status 3",
        ),
    ],
)
def test_doctor_of_a_crosvm_that_does_not_work(
    able_host: Path, monkeypatch: pytest.MonkeyPatch, life: str, node: str | None, said: str
) -> None:
    """VMs do not run if it is chosen, and run less well if it is there and not chosen. QEMU does not matter then."""
    program = able_host / "crosvm"
    program.write_text(f"#!/bin/sh\n{life}\n")
    program.chmod(0o755)
    monkeypatch.setenv("AVF_CROSVM", str(program))
    monkeypatch.setenv("AVF_QEMU", "/nonexistent/qemu")
    monkeypatch.setenv("AVF_VMM", "crosvm")
    if node:
        monkeypatch.setattr(accel, "_DEVICE", node)
    elif node is not None:
        monkeypatch.setattr(probe, "missing_device", lambda: None)
    status, checks = examined()
    assert status == 1
    assert checks["crosvm"]["status"] == "missing"
    assert said in checks["crosvm"]["detail"]
    assert checks["crosvm"]["fix"]
    assert checks["qemu"]["status"] == "limited"
    assert "accelerator" not in checks


@pytest.mark.parametrize(
    "lost", ["microdroid.json", "microdroid_initrd_normal.img", "vmlinux", "system.img"]
)
def test_doctor_without_an_image(able_host: Path, lost: str) -> None:
    (able_host / "image" / lost).unlink()
    status, checks = examined()
    assert status == 1
    assert checks["image"]["status"] == "missing"
    assert checks["image"]["fix"] == f"{sys.executable} -m avf.image build"


def test_doctor_with_a_virtmgr_that_fails(able_host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVF_VIRTMGR", "sh -c 'echo it hurts >&2; exit 7'")
    status, checks = examined()
    assert status == 1
    assert "it hurts" in checks["virtmgr"]["detail"]


def test_doctor_with_an_open_runtime_dir(able_host: Path) -> None:
    (able_host / "run").mkdir()
    (able_host / "run").chmod(0o777)
    status, checks = examined()
    assert status == 1
    assert "mode 0700" in checks["runtime dir"]["detail"]


def test_doctor_with_a_broken_policy(able_host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = able_host / "policy.toml"
    file.write_text("[NONSENSE]\n")
    monkeypatch.setattr(policy, "SYSTEM_POLICY_FILE", file)
    status, checks = examined()
    assert status == 1
    assert str(file) in checks["permissions"]["detail"]


def test_doctor_for_people(able_host: Path) -> None:
    result = CliRunner().invoke(doctor, standalone_mode=False)
    assert re.search(
        r"^limited  accelerator  TCG: guests are emulated", result.output, re.MULTILINE
    )
    assert "\nThis host runs VMs.\n" in result.output
