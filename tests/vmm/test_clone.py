"""QEMUs that become clones of a template, or do not."""

import errno
import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest

from avf.disk import Partition, PartitionedDisk, QemuDisk
from avf.vmconfig import VmConfig
from avf.vmm import (
    ExitCause,
    Machine,
    Qemu,
    QemuProcess,
    TemplateError,
    TemplateFacts,
    TemplateLate,
    VmSpec,
    make_template,
)
from avf.vmm.qemu.sharing import Sharing
from avf.vsock import HybridVsock
from tests.eventually import eventually
from tests.vmm.conftest import descendants_of

pytestmark = pytest.mark.vm

CID = 2048


@contextmanager
def specified(image_dir: Path, folder: Path) -> Iterator[VmSpec]:
    """A debuggable VM with the disk of the guest image alone."""
    image = VmConfig.load(image_dir / "microdroid.json")
    assert image.kernel is not None
    ((system,),) = (disk.partitions for disk in image.disks)
    assert system.path is not None
    with (
        open(image_dir / image.kernel, "rb") as kernel,
        open(image_dir / "microdroid_initrd_debuggable.img", "rb") as initrd,
        open(image_dir / system.path, "rb") as file,
    ):
        yield VmSpec(
            cid=CID,
            name="clone",
            temporary_directory=folder,
            vsock=HybridVsock(CID, folder / "vsock"),
            kernel=kernel.fileno(),
            initrd=initrd.fileno(),
            params=f"{image.params} {image.x_avf.debuggable_params}",
            disks=(PartitionedDisk((Partition(system.label, file.fileno()),)),),
            image_disks=1,
            memory_mib=image.memory_mib,
            machine=Machine.FAST,
        )


@pytest.fixture
def spec(image_dir: Path, tmp_path: Path, runtime_dir: Path) -> Iterator[VmSpec]:
    """Its agent waits for an answer, so that it ends only when it is killed."""
    with specified(image_dir, tmp_path) as spec, socket.socket(socket.AF_UNIX) as host:
        host.bind(str(tmp_path / f"vsock_{CID}"))
        host.listen()
        yield spec


@pytest.fixture(scope="module")
def template(
    image_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, TemplateFacts]:
    """The state of one, and what is known about it."""
    folder = tmp_path_factory.mktemp("template")
    state = folder / "state"
    with specified(image_dir, folder) as spec, state.open("wb") as file:
        return state, make_template(Qemu(), spec, file.fileno())


Template = tuple[Path, TemplateFacts]


@contextmanager
def opened(path: Path) -> Iterator[int]:
    with path.open("rb") as file:
        yield file.fileno()


@pytest.mark.usefixtures("nothing_is_left")
def test_clones_of_one_template_are_of_different_vms(spec: VmSpec, template: Template) -> None:
    """Neither the VM's name, nor its CID, nor where its output goes changes the key."""
    path, known = template
    with opened(path) as state, open(os.devnull, "wb") as nowhere:
        other = replace(spec, name="another", cid=2049, console=nowhere.fileno())
        assert Qemu().template_key(other) == Qemu().template_key(spec)
        for one in (spec, other):
            process = Qemu().start_clone(one, state, known)
            assert not writable(process.pid, path)
            assert str(path) not in Path(f"/proc/{process.pid}/maps").read_text()
            process.kill()
            assert "started" in process.wait().events


def writable(pid: int, path: Path) -> bool:
    """Whether a process has the file open for writing."""
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            opened = str(fd.readlink())
        except FileNotFoundError:  # it was closed meanwhile
            continue
        if opened == str(path):
            lines = Path(f"/proc/{pid}/fdinfo/{fd.name}").read_text().splitlines()
            flags = next(int(line.split()[1], 8) for line in lines if line.startswith("flags:"))
            if flags & os.O_ACCMODE != os.O_RDONLY:
                return True
    return False


@pytest.mark.usefixtures("nothing_is_left")
def test_clones_share_pages_that_none_of_them_can_write_to(
    spec: VmSpec, template: Template
) -> None:
    """What both have in memory is the same; of QEMU's files it is only the sealed one that holds guests' memory."""
    path, known = template
    qemu = Qemu()
    other = replace(spec, cid=2049, vsock=HybridVsock(2049, spec.temporary_directory / "other"))
    processes = []
    try:
        with opened(path) as state:
            for one in (spec, other):
                processes.append(qemu.start_clone(one, state, known))
                # its guest, which finds no disk, would soon power off
                os.kill(processes[-1].pid, signal.SIGSTOP)
        found = [guest_memory(process.pid) for process in processes]
        assert found[0].inode == found[1].inode
        for memory in found:
            assert "w" in memory.rights
            assert "p" in memory.rights  # private
            assert memory.shared_kib > memory.private_kib > 0
            with pytest.raises(PermissionError):
                os.open(memory.descriptor, os.O_WRONLY | os.O_TRUNC)
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.usefixtures("nothing_is_left")
@pytest.mark.parametrize(
    ("refused", "problem"),
    [("_lend", "QEMU's memory cannot be reached"), ("_check_number", "as descriptor")],
)
def test_where_memory_cannot_be_shared_clones_have_copies(
    spec: VmSpec,
    template: Template,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    refused: str,
    problem: str,
) -> None:
    """As where ptrace is restricted, or with a QEMU that opens its files in another order. It is found out once."""

    def refuse(self: Sharing, what: object) -> None:
        if refused == "_lend":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        assert isinstance(what, int)
        check(self, what - 1)

    check = Sharing._check_number
    monkeypatch.setattr(Sharing, refused, refuse)
    path, known = template
    inodes = set()
    with opened(path) as state:
        for _ in range(2):
            process = Qemu().start_clone(spec, state, known)
            assert "avf-template" not in Path(f"/proc/{process.pid}/maps").read_text()
            memory = guest_memory(process.pid, "avf-memory")
            assert "s" in memory.rights  # with the vsock device
            inodes.add(memory.inode)
            process.kill()
            assert "started" in process.wait().events
    (line,) = [record.getMessage() for record in caplog.records if record.name.endswith("shares")]
    assert problem in line
    assert len(inodes) == 2


QEMU, DEVICE = "qemu-system-x86_64", "avf/vsock/device"
LAUNCHERS = ("bwrap", "setpriv", "sh")


def kill(program: str) -> None:
    """SIGKILL to the child that runs it, once it does."""

    pids: list[int] = []

    def look() -> int:
        pids[:] = [pid for pid in descendants_of(os.getpid()) if runs(pid, program)]
        return len(pids)

    eventually(look, 1)
    os.kill(pids[0], signal.SIGKILL)


def runs(pid: int, program: str) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return False
    return Path(words[0]).name not in LAUNCHERS and any(program in word for word in words)


def killing(spec: VmSpec, program: str, phase: str) -> VmSpec:
    """The same VM, of which that program is killed when the phase of its start has ended."""

    def listen(ended: str) -> None:
        if ended == phase:
            kill(program)

    return replace(spec, ended=listen)


@pytest.mark.usefixtures("nothing_is_left")
@pytest.mark.parametrize(
    ("program", "phases"),
    [(QEMU, ["spawn", "monitor", "state", "devices"]), (DEVICE, ["spawn", "monitor", "state"])],
)
def test_a_killed_process_ends_the_beginning_of_a_clone(
    spec: VmSpec, template: Template, program: str, phases: list[str]
) -> None:
    """That is no fault of the template, of which the next clone is made."""
    path, known = template
    qemu = Qemu()
    with opened(path) as state:
        for phase in phases:
            with pytest.raises(TemplateLate, match="no clone can be made"):
                qemu.start_clone(killing(spec, program, phase), state, known)
            assert not (spec.temporary_directory / "vsock").exists()
        process = qemu.start_clone(spec, state, known)
        process.kill()
        assert "started" in process.wait().events


@pytest.mark.usefixtures("nothing_is_left")
def test_a_clone_whose_device_is_killed_when_it_has_all_ends_as_any_vm(
    spec: VmSpec, template: Template
) -> None:
    path, known = template
    with opened(path) as state, suppress(TemplateLate):
        report = Qemu().start_clone(killing(spec, DEVICE, "devices"), state, known).wait(60)
        assert report.cause is ExitCause.INFRASTRUCTURE
    assert not (spec.temporary_directory / "vsock").exists()


@pytest.mark.usefixtures("nothing_is_left")
@pytest.mark.parametrize("phase", ["spawn", "monitor", "resume"])
def test_a_killed_qemu_makes_no_template(spec: VmSpec, tmp_path: Path, phase: str) -> None:
    with (tmp_path / "state").open("wb") as state, pytest.raises(TemplateLate):
        make_template(Qemu(), killing(spec, QEMU, phase), state.fileno())
    assert not (tmp_path / "state").stat().st_size


@pytest.mark.usefixtures("nothing_is_left")
def test_a_qemu_that_is_killed_while_it_saves_makes_no_template(
    spec: VmSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save_and_be_killed(
        process: QemuProcess, fd: int, disks: Sequence[QemuDisk], ejected: Sequence[str]
    ) -> None:
        kill(QEMU)
        save(process, fd, disks, ejected)

    save = QemuProcess.save
    monkeypatch.setattr(QemuProcess, "save", save_and_be_killed)
    with (tmp_path / "state").open("wb") as state, pytest.raises(TemplateLate):
        make_template(Qemu(), spec, state.fileno())
    assert not (tmp_path / "state").stat().st_size


WITHOUT_PTRACE = ["setpriv", "--bounding-set", "-sys_ptrace", "--"]
START_CLONE = """
import sys
from pathlib import Path
import msgspec
from avf.vmm import Qemu, TemplateFacts
from tests.vmm.test_clone import opened, specified
image, folder, state, known = sys.argv[1:]
with specified(Path(image), Path(folder)) as spec, opened(Path(state)) as file:
    facts = msgspec.json.decode(known, type=TemplateFacts)
    process = Qemu().start_clone(spec, file, facts)
    maps = Path(f"/proc/{process.pid}/cmdline").read_text()
    process.kill()
    assert "started" in process.wait().events
    print("share=on" in maps, "share=off" in maps)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="QEMU is another user's only where root starts it")
@pytest.mark.parametrize(
    ("wrapper", "printed", "logged"),
    [([], "False True", False), (WITHOUT_PTRACE, "True False", True)],
    ids=["may trace", "may not"],
)
def test_who_may_not_trace_qemu_starts_clones_with_copies(
    spec: VmSpec,
    template: Template,
    image_dir: Path,
    wrapper: list[str],
    printed: str,
    logged: bool,
) -> None:
    """Whoever may not trace a process may not open its memory, either."""
    path, known = template
    command = [sys.executable, "-c", START_CLONE, image_dir, spec.temporary_directory, path]
    result = subprocess.run(
        [*wrapper, *map(str, command), msgspec.json.encode(known).decode()],
        capture_output=True,
        text=True,
        env={**os.environ, "AVF_CONFINEMENT": "limited"},  # else QEMU's namespace is its parent's
    )
    assert result.stdout.strip() == printed, result.stderr
    assert ("QEMU's memory cannot be reached" in result.stderr) is logged


@dataclass(frozen=True)
class GuestMemory:
    rights: str
    inode: int
    descriptor: str
    """A name in /proc."""
    shared_kib: int
    private_kib: int


def guest_memory(pid: int, name: str = "avf-template") -> GuestMemory:
    sections = re.split(r"^(?=[0-9a-f]+-)", Path(f"/proc/{pid}/smaps").read_text(), flags=re.M)
    mapped = [text for text in sections if name in text]
    amounts: Counter[str] = Counter()
    for amount, kib in re.findall(r"^(\w+): +(\d+) kB$", "".join(mapped), re.M):
        amounts[amount] += int(kib)
    fd, *_ = (fd for fd in Path(f"/proc/{pid}/fd").iterdir() if name in str(fd.readlink()))
    return GuestMemory(
        mapped[0].split()[1],
        fd.stat().st_ino,
        str(fd),
        amounts["Shared_Dirty"] + amounts["Shared_Clean"],
        amounts["Private_Dirty"],
    )


def test_whatever_a_guest_could_notice_is_another_key(spec: VmSpec) -> None:
    assert spec.kernel is not None
    other = PartitionedDisk((Partition("system", spec.kernel),))
    keys = {
        Qemu().template_key(replace(spec, **change))  # type: ignore[arg-type]
        for change in (
            {},
            {"memory_mib": 300},
            {"cpus": 2},
            {"params": "quiet"},
            {"initrd": spec.kernel},
            {"kernel": spec.initrd},
            {"machine": Machine.PCI},
            {"disks": (other,)},
            {"disks": (other, other), "image_disks": 2},
        )
    }
    assert len(keys - {None}) == 9


def test_the_disks_of_one_vm_alone_do_not_change_the_key(spec: VmSpec) -> None:
    more = replace(spec, disks=(*spec.disks, *spec.disks))
    assert Qemu().template_key(more) == Qemu().template_key(spec)


def test_a_guest_image_that_vms_write_to_makes_no_template(spec: VmSpec) -> None:
    written = replace(spec.disks[0], writable=True)
    assert Qemu().template_key(replace(spec, disks=(written,))) is None


@pytest.mark.parametrize("change", [{"gdb_listener": 0}, {"initrd": None}, {"kernel": None}])
def test_some_can_be_no_clone(spec: VmSpec, change: dict[str, object]) -> None:
    assert Qemu().template_key(replace(spec, **change)) is None  # type: ignore[arg-type]


@pytest.mark.usefixtures("nothing_is_left")
@pytest.mark.parametrize("length", [0, 8, 300, 1 << 20, -200_000])
def test_a_state_that_was_cut_makes_no_clone(
    spec: VmSpec, template: Template, tmp_path: Path, length: int
) -> None:
    path, known = template
    cut = tmp_path / "cut"
    with path.open("rb") as file:
        cut.write_bytes(file.read()[:length])
    with opened(cut) as state, pytest.raises(TemplateError, match="no clone can be made: "):
        Qemu().start_clone(spec, state, known)
    assert not (tmp_path / "vsock").exists()


def test_a_clock_of_another_rate_makes_no_clone(spec: VmSpec, template: Template) -> None:
    path, known = template
    assert known.tsc_khz is not None
    with opened(path) as state:
        for rate in (None, known.tsc_khz * 101 // 100):
            wrong = msgspec.structs.replace(known, tsc_khz=rate)
            with pytest.raises(TemplateError, match="kHz"):
                Qemu().start_clone(spec, state, wrong)


@pytest.mark.usefixtures("nothing_is_left")
def test_a_guest_that_gives_up_makes_no_template(spec: VmSpec, tmp_path: Path) -> None:
    """This one looks for its host at once, having been told nothing of templates: words behind -- are arguments."""
    deaf = replace(spec, params=f"{spec.params} --")
    with (
        (tmp_path / "state").open("wb") as state,
        pytest.raises(TemplateError, match="FAILED_TO_CONNECT"),
    ):
        make_template(Qemu(), deaf, state.fileno())
    assert not (tmp_path / "state").stat().st_size
