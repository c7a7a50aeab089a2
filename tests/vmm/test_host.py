"""What is found out about this host."""

import json
from pathlib import Path

import pytest

from avf import facts
from avf.vmm import Accelerator, VmmUnavailable, accel, find_qemu, qemu_version, tsc
from avf.vmm.accel import explain_accelerator, probe_accelerator, runs_guest

QEMU = find_qemu()


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AVF_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.delenv("AVF_ACCEL", raising=False)
    explain_accelerator.cache_clear()
    tsc.tsc_khz.cache_clear()


def test_the_probe_guest_runs_where_it_must() -> None:
    assert runs_guest(QEMU, Accelerator.TCG, 30)


def test_a_program_that_is_no_qemu_runs_no_guest() -> None:
    assert not runs_guest("/bin/true", Accelerator.TCG, 30)
    assert not runs_guest("/no/such/program", Accelerator.TCG, 30)


def test_a_guest_that_never_ends_is_given_up(tmp_path: Path) -> None:
    program = tmp_path / "qemu"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    assert not runs_guest(str(program), Accelerator.TCG, 0.1)


@pytest.mark.parametrize("name", ["kvm", "tcg"])
def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("AVF_ACCEL", name)
    assert probe_accelerator(QEMU) is Accelerator(name)


def test_an_unknown_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVF_ACCEL", "xen")
    with pytest.raises(VmmUnavailable, match="'xen'"):
        probe_accelerator(QEMU)


def test_without_the_cpus_support(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel, "_cpu_flags", lambda: {"sse"})
    report = explain_accelerator(QEMU)
    assert report.accelerator is Accelerator.TCG
    assert "no hardware virtualization" in report.reason


@pytest.mark.parametrize("works", [True, False])
def test_a_probe_is_made_once_per_boot(monkeypatch: pytest.MonkeyPatch, works: bool) -> None:
    asked: list[str] = []

    def probe(qemu: str, accelerator: Accelerator, deadline: float) -> bool:
        asked.append(qemu)
        return works

    monkeypatch.setattr(accel, "_missing_for_kvm", lambda: None)
    monkeypatch.setattr(accel, "runs_guest", probe)
    expected = Accelerator.KVM if works else Accelerator.TCG
    for _ in range(3):
        explain_accelerator.cache_clear()
        assert probe_accelerator(QEMU) is expected
    assert asked == [QEMU]


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


def test_qemu_is_found_and_says_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert qemu_version().startswith("QEMU emulator version")
    monkeypatch.setenv("AVF_QEMU", "no-such-qemu")
    with pytest.raises(VmmUnavailable, match="no-such-qemu is not installed"):
        find_qemu()
    with pytest.raises(VmmUnavailable, match="does not run"):
        qemu_version("/bin/false")
