"""What is found out about this host."""

import json
import os
from pathlib import Path

import pytest

from avf import facts
from avf.vmm import (
    Acceleration,
    Accelerator,
    VmmUnavailable,
    accel,
    acceleration_for,
    explain_acceleration,
    find_qemu,
    kvm,
    missing_device,
    qemu_version,
    tsc,
)
from avf.vmm.kvm import runs_firmware, runs_kernel
from tests.vmm.guest import kernel

QEMU = find_qemu()
UNDER_TCG = ["-accel", "tcg"]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AVF_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.delenv("AVF_ACCEL", raising=False)
    accel.find_acceleration.cache_clear()
    tsc.tsc_khz.cache_clear()


def test_the_probe_guest_runs_where_it_must() -> None:
    assert runs_firmware(QEMU, UNDER_TCG, 30)


def test_a_program_that_is_no_qemu_runs_no_guest() -> None:
    assert not runs_firmware("/bin/true", UNDER_TCG, 30)
    assert not runs_firmware("/no/such/program", UNDER_TCG, 30)


def program(folder: Path, text: str) -> str:
    path = folder / "qemu"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_a_guest_that_never_ends_is_given_up(tmp_path: Path) -> None:
    assert not runs_firmware(program(tmp_path, "exec sleep 1000"), UNDER_TCG, 0.1)


@pytest.mark.vm
def test_a_kernel_that_gets_to_its_root_file_system() -> None:
    with open(kernel().vmlinux, "rb") as file:
        assert runs_kernel(QEMU, [*UNDER_TCG, "-cpu", "max"], file.fileno(), 120)


@pytest.mark.parametrize("text", ["exit 0", "echo Linux version; exit 1", "echo Linux version"])
def test_a_kernel_counts_only_if_it_speaks_and_resets(tmp_path: Path, text: str) -> None:
    with open("/dev/null", "rb") as file:
        works = runs_kernel(program(tmp_path, text), UNDER_TCG, file.fileno(), 30)
    assert works == (text == "echo Linux version")


def test_the_environment_decides_for_tcg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVF_ACCEL", "tcg")
    monkeypatch.setattr(accel, "_kvm_processor", lambda _: "host")
    assert explain_acceleration(QEMU).accelerator is Accelerator.TCG


def test_the_environment_decides_for_kvm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the processor says it can do, and for kernels too, but not where nothing runs under KVM."""
    monkeypatch.setenv("AVF_ACCEL", "kvm")
    monkeypatch.setattr(accel, "_cpu_flags", lambda: {"sse"})
    monkeypatch.setattr(accel, "missing_device", lambda: None)
    monkeypatch.setattr(accel, "_kvm_processor", lambda _: "host")
    found = acceleration_for(QEMU, 0)
    assert (found.accelerator, found.processor) == (Accelerator.KVM, "host")
    accel.find_acceleration.cache_clear()
    monkeypatch.setattr(accel, "_kvm_processor", lambda _: None)
    with pytest.raises(VmmUnavailable, match="AVF_ACCEL is kvm, but a probe guest did not run"):
        explain_acceleration(QEMU)


@pytest.mark.parametrize(
    ("node", "lack"),
    [
        ("/no/such/node", "/no/such/node cannot be opened: No such file or directory"),
        ("/dev/null", "/dev/null is not KVM's device"),
        (__file__, f"{__file__} is not KVM's device"),
    ],
)
def test_a_node_that_is_not_kvms(monkeypatch: pytest.MonkeyPatch, node: str, lack: str) -> None:
    monkeypatch.setattr(accel, "_DEVICE", node)
    monkeypatch.setattr(accel, "_cpu_flags", lambda: {"svm"})
    assert missing_device() == lack
    assert explain_acceleration(QEMU) == Acceleration(Accelerator.TCG, lack)
    monkeypatch.setenv("AVF_ACCEL", "kvm")
    with pytest.raises(VmmUnavailable, match=f"AVF_ACCEL is kvm, but {lack}"):
        explain_acceleration(QEMU)


def test_an_unknown_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVF_ACCEL", "xen")
    with pytest.raises(VmmUnavailable, match="'xen'"):
        explain_acceleration(QEMU)


@pytest.mark.parametrize("processor", ["host", None])
def test_without_the_cpus_support(monkeypatch: pytest.MonkeyPatch, processor: str | None) -> None:
    monkeypatch.setattr(accel, "_cpu_flags", lambda: {"sse"})
    monkeypatch.setattr(accel, "missing_device", lambda: None)
    monkeypatch.setattr(accel, "_kvm_processor", lambda _: processor)
    report = explain_acceleration(QEMU)
    assert report.accelerator is Accelerator.TCG
    assert "no hardware virtualization" in report.reason
    assert ("AVF_ACCEL=kvm" in report.reason) == (processor is not None)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The processors of the probes that are made, on a host that seems to have KVM."""
    monkeypatch.setattr(accel, "_cpu_flags", lambda: {"svm"})
    monkeypatch.setattr(accel, "missing_device", lambda: None)
    return []


@pytest.mark.parametrize("works", [*kvm.PROCESSORS, None])
def test_a_processor_is_found_once_per_boot(
    monkeypatch: pytest.MonkeyPatch, asked: list[list[str]], works: str | None
) -> None:
    def probe(qemu: str, acceleration: list[str]) -> bool:
        asked.append(acceleration)
        return acceleration[-1] == works

    monkeypatch.setattr(kvm, "runs_firmware", probe)
    for _ in range(3):
        accel.find_acceleration.cache_clear()
        found = explain_acceleration(QEMU)
        assert found.processor == works
        assert (found.accelerator is Accelerator.KVM) == (works is not None)
    assert len(asked) == (kvm.PROCESSORS.index(works) + 1 if works else len(kvm.PROCESSORS))


def test_kernels_are_tried_once_per_boot(
    monkeypatch: pytest.MonkeyPatch, asked: list[list[str]], tmp_path: Path
) -> None:
    """A kernel that fails is held against KVM for that kernel alone; one that boots speaks for all."""

    def probe(qemu: str, acceleration: list[str], kernel: int) -> bool:
        asked.append(acceleration)
        return os.pread(kernel, 4, 0) == b"good"

    monkeypatch.setattr(kvm, "runs_firmware", lambda *_: True)
    monkeypatch.setattr(kvm, "runs_kernel", probe)
    files = [tmp_path / name for name in ("bad", "good", "other")]
    for file in files:
        file.write_text(file.name)
    bad, good, other = (os.open(file, os.O_RDONLY) for file in files)
    wanted = [(bad, Accelerator.TCG)] * 2 + [(fd, Accelerator.KVM) for fd in (good, other, bad)]
    for fd, accelerator in wanted:
        assert acceleration_for(QEMU, fd).accelerator is accelerator
    assert acceleration_for(QEMU, None).accelerator is Accelerator.KVM
    assert len(asked) == 2
    for fd in (bad, good, other):
        os.close(fd)


def test_facts_of_another_boot_or_damaged_ones_are_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "runtime/host-facts.json"
    assert facts.recall("a") is None
    facts.remember("a", 1)
    facts.remember("b", 2)
    assert (facts.recall("a"), facts.recall("b")) == (1, 2)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"boot": "another"}))
    assert facts.recall("a") is None
    for damaged in ("{", "[]", "\0"):
        file.write_text(damaged)
        assert facts.recall("a") is None
    assert [path.name for path in file.parent.iterdir()] == ["host-facts.json"]


def test_facts_without_a_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVF_RUNTIME_DIR", "/proc/none")
    facts.remember("a", 1)
    assert facts.recall("a") is None


def test_the_tsc_rate_is_steady() -> None:
    """Two measurements agree to 0.1 %; the kernel accepts far worse."""
    first, second = tsc._measure(), tsc._measure()
    assert first is not None and second is not None
    assert abs(first - second) < first / 1000
    assert tsc.tsc_khz() == facts.recall("tsc_khz")


def test_a_remembered_rate_must_be_plausible() -> None:
    facts.remember("tsc_khz", 1)
    assert (tsc.tsc_khz() or 0) > 100_000


def test_a_counter_that_the_kernel_does_not_use_is_no_clock(tmp_path: Path) -> None:
    sources = tmp_path / "available_clocksource"
    sources.write_text("hpet acpi_pm \n")
    assert not tsc.is_a_clock(sources)
    sources.write_text("kvm-clock tsc hpet \n")
    assert tsc.is_a_clock(sources)


def test_qemu_is_found_and_says_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert qemu_version().startswith("QEMU emulator version")
    monkeypatch.setenv("AVF_QEMU", "no-such-qemu")
    with pytest.raises(VmmUnavailable, match="no-such-qemu is not installed"):
        find_qemu()
    with pytest.raises(VmmUnavailable, match="does not run"):
        qemu_version("/bin/false")
