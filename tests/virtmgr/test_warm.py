"""Which VMs begin as clones, and what happens to a template that is no good."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from avf import facts
from avf.aidl.virtualizationservice import CpuTopology, VirtualMachineAppConfig
from avf.virtmgr.config import MachineConfig
from avf.virtmgr.kind import CloneKind
from avf.virtmgr.vmms import warm_starts
from avf.virtmgr.warm import (
    MAX_FAILURES,
    TEMPLATES,
    WarmVmm,
    failure_key,
    have_built,
    warm_vmm,
)
from avf.vmm import (
    Acceleration,
    Accelerator,
    Crosvm,
    Machine,
    Qemu,
    QemuProcess,
    TemplateError,
    TemplateFacts,
    TemplateLate,
    TemplateStore,
    VmmUnavailable,
    VmSpec,
)
from avf.vmm.templates import new_facts
from avf.vsock import HybridVsock
from tests.eventually import eventually

KEY = "a" * 64
SPEC = VmSpec(2048, "vm", Path("/none"), HybridVsock(2048, Path("/none/vsock")))


class Cold:
    """A QEMU that lets its guest run, or has failed."""

    def __init__(self, can_start: bool) -> None:
        self.can_start = can_start

    def wait_until_started(self, timeout: float) -> bool:
        return self.can_start


class Starts(Qemu):
    """Starts nothing, and tells what it was asked to start."""

    def __init__(self, key: str | None = KEY, problem: TemplateError | None = None) -> None:
        super().__init__()
        self.key = key
        self.problem = problem
        self.asked: list[str] = []
        self.can_start = True

    def template_key(self, spec: VmSpec) -> str | None:
        if self.key == "unavailable":
            raise VmmUnavailable("there is no QEMU")
        return self.key

    def start(self, spec: VmSpec, on_event: object = None) -> QemuProcess:
        self.asked.append("cold")
        return Cold(self.can_start)  # type: ignore[return-value]

    def start_clone(  # type: ignore[override]
        self, spec: VmSpec, state: int, known: TemplateFacts, on_event: object = None
    ) -> QemuProcess:
        self.asked.append(f"clone of {os.pread(state, 99, 0).decode()}")
        if self.problem is not None:
            raise self.problem
        return object()  # type: ignore[return-value]


class Host:
    """Two stores, one of them somebody else's, and who makes templates for one VMM."""

    def __init__(self, folder: Path) -> None:
        self.own = TemplateStore(folder / "own", os.geteuid())
        self.others = TemplateStore(folder / "others", os.geteuid())
        self.built = 0

    def start(self, vmm: Starts) -> list[str]:
        WarmVmm(vmm, (self.own, self.others), self._build).start(SPEC)
        return vmm.asked

    def _build(self) -> None:
        self.built += 1


def keep(store: TemplateStore, content: str) -> None:
    def write(fd: int) -> TemplateFacts:
        os.write(fd, content.encode())
        return new_facts("qemu", 256, 1, None)

    with store.lock():
        store.add(KEY, write)


@pytest.fixture
def host(tmp_path: Path, runtime_dir: Path) -> Host:
    return Host(tmp_path)


def test_without_a_template_a_vm_starts_cold_and_one_is_made(host: Host) -> None:
    assert host.start(Starts()) == ["cold"]
    assert host.built == 1


def test_a_vm_begins_as_a_clone(host: Host) -> None:
    keep(host.own, "own")
    assert host.start(Starts()) == ["clone of own"]
    assert host.built == 0


def test_the_users_own_template_comes_first(host: Host) -> None:
    keep(host.others, "others")
    assert host.start(Starts()) == ["clone of others"]
    keep(host.own, "own")
    assert host.start(Starts()) == ["clone of own"]


@pytest.mark.parametrize("key", [None, "unavailable"])
def test_a_vm_that_can_be_no_clone_starts_cold(host: Host, key: str | None) -> None:
    assert host.start(Starts(key)) == ["cold"]
    assert host.built == 0


def test_a_template_that_no_clone_can_be_made_of_is_removed(host: Host) -> None:
    keep(host.own, "own")
    assert host.start(Starts(problem=TemplateError("it does not load"))) == ["clone of own", "cold"]
    assert host.own.open(KEY) is None
    assert host.built == 1


def test_a_template_stays_where_the_vm_cannot_start_at_all(host: Host) -> None:
    keep(host.own, "own")
    vmm = Starts(problem=TemplateError("its disk is in use"))
    vmm.can_start = False
    assert host.start(vmm) == ["clone of own", "cold"]
    assert host.start(Starts()) == ["clone of own"]


def test_a_template_stays_whose_clone_was_late(host: Host) -> None:
    keep(host.own, "own")
    assert host.start(Starts(problem=TemplateLate("busy"))) == ["clone of own", "cold"]
    assert host.built == 0
    assert host.start(Starts()) == ["clone of own"]


def test_a_damaged_template_is_removed(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    keep(host.own, "own")
    state = host.own.folder / KEY / "state"
    state.chmod(0o600)
    state.write_text("OWN")
    assert host.start(Starts()) == ["cold"]
    assert "is not what was saved: it is not used" in caplog.text
    assert host.own.open(KEY) is None
    assert host.built == 1


def test_a_good_template_of_the_host_takes_the_place_of_a_damaged_one(host: Host) -> None:
    keep(host.own, "own")
    keep(host.others, "others")
    (host.own.folder / KEY / "template.json").unlink()
    assert host.start(Starts()) == ["clone of others"]


def test_the_hosts_template_is_not_removed(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keep(host.others, "others")
    monkeypatch.setattr(host.others, "_owner", os.geteuid() + 1)
    assert host.start(Starts()) == ["cold"]
    assert "belongs to uid" in caplog.text
    assert (host.others.folder / KEY / "state").exists()


def test_what_could_not_be_made_is_not_tried_again(host: Host) -> None:
    facts.remember(failure_key(KEY), "the guest has not booted")
    assert host.start(Starts()) == ["cold"]
    assert host.built == 0


def test_what_is_never_any_good_is_not_made_over_and_over(host: Host) -> None:
    for count in range(1, MAX_FAILURES + 2):
        keep(host.own, "own")
        assert host.start(Starts(problem=TemplateError("it does not load")))[-1] == "cold"
        assert host.built == min(count, MAX_FAILURES - 1)


def config(**changes: object) -> VirtualMachineAppConfig:
    return VirtualMachineAppConfig(
        payload=VirtualMachineAppConfig.Payload(config_path="x"),
        **changes,  # type: ignore[arg-type]
    )


APP = config()
IMAGE = MachineConfig(machine=Machine.FAST, templates=TEMPLATES)


@pytest.mark.parametrize(
    ("app", "image", "make", "warm"),
    [
        (APP, IMAGE, Qemu, True),
        (config(fresh=True), IMAGE, Qemu, False),
        (APP, MachineConfig(templates=0), Qemu, False),
        (APP, MachineConfig(templates=TEMPLATES + 1), Qemu, False),
        (APP, IMAGE, Crosvm, False),
    ],
    ids=["usual", "fresh", "an old image", "a newer image", "crosvm"],
)
def test_who_may_begin_as_a_clone(
    app: VirtualMachineAppConfig,
    image: MachineConfig,
    make: Callable[[], Qemu | Crosvm],
    warm: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AVF_WARM", "on")
    assert isinstance(warm_vmm(make(), app, image), WarmVmm) is warm
    monkeypatch.setenv("AVF_WARM", "off")
    assert not isinstance(warm_vmm(make(), app, image), WarmVmm)


@pytest.mark.parametrize(
    ("accelerator", "warm"), [(Accelerator.TCG, True), (Accelerator.KVM, False)]
)
def test_unasked_those_that_are_emulated_begin_as_clones(
    accelerator: Accelerator, warm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AVF_WARM", raising=False)
    vmm = Qemu(acceleration=Acceleration(accelerator, "as asked for"))
    assert warm_starts(vmm, None) is warm
    assert isinstance(warm_vmm(vmm, APP, IMAGE), WarmVmm) is warm


def test_where_no_vm_can_start_none_begins_as_a_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is told by the start."""
    monkeypatch.delenv("AVF_WARM", raising=False)
    assert not isinstance(warm_vmm(Qemu("/no/such/qemu"), APP, IMAGE), WarmVmm)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (CloneKind(False, 0, False), "--debug none --memory 0 --cpu-topology one_cpu"),
        (CloneKind(True, 512, True), "--debug full --memory 512 --cpu-topology match_host"),
    ],
)
def test_what_a_builder_is_told(request_: CloneKind, words: str) -> None:
    assert " ".join(request_.words) == words


def test_a_request_is_for_what_the_vm_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[CloneKind] = []
    monkeypatch.setenv("AVF_WARM", "on")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("avf.virtmgr.warm.have_built", asked.append)
    app = config(
        debug_level=VirtualMachineAppConfig.DebugLevel.FULL, cpu_topology=CpuTopology.MATCH_HOST
    )
    warm = warm_vmm(Starts(), app, MachineConfig(memory_mib=300, templates=TEMPLATES))
    warm.start(SPEC)
    assert asked == [CloneKind(True, 300, True)]


def test_a_builder_outlives_who_started_it_and_says_why_it_failed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, runtime_dir: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("AVF_IMAGE_DIR", str(tmp_path))
    have_built(CloneKind(True, 0, False))
    log = tmp_path / "avf" / "templates" / "build.log"
    eventually(log.read_text, f"no guest image (microdroid.json) in {tmp_path}\n")
