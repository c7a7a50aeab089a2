"""`vm doctor`: what this host can do, found out by trying, and what to do about each lack."""

import getpass
import grp
import os
import platform
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import click

from avf import policy, runtime, settings
from avf.causes import words
from avf.cli.text import as_typed_here
from avf.printable import printable
from avf.printing import printable_json

if TYPE_CHECKING:
    from avf.vmm import Acceleration

_LEAST_MEMORY_MIB = 512
_KVM = Path("/dev/kvm")
_VHOST_VSOCK = Path("/dev/vhost-vsock")


class Status(StrEnum):
    OK = "ok"
    LIMITED = "limited"
    """VMs run, but not as well or not as freely as they could."""
    MISSING = "missing"
    """VMs do not run."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; `fix` is a command or a sentence."""

    check: str
    status: Status
    detail: str
    fix: str | None = None


@click.command(epilog="Example:  vm doctor")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def doctor(as_json: bool) -> int:
    """Check what this host can do, with a fix for each lack.

    Exits with 1 if VMs cannot run here.
    """
    findings = []
    for found in examine():
        finding = replace(found, fix=None if found.fix is None else as_typed_here(found.fix))
        findings.append(finding)
        if not as_json:
            _print(finding)
    able = all(finding.status is not Status.MISSING for finding in findings)
    if as_json:
        click.echo(printable_json({"ok": able, "checks": [asdict(f) for f in findings]}, indent=2))
    else:
        click.echo("\nThis host runs VMs." if able else "\nThis host does not run VMs yet.")
        _point_to_documents(able)
    return 0 if able else 1


def _point_to_documents(able: bool) -> None:
    """Where an installation has them; a checkout has them at hand."""
    documents = Path(sys.prefix, "share/doc/avf-linux")
    if not documents.is_dir():
        return
    sample = documents / "examples/payload/hello.py"
    if able and sample.exists():
        click.echo(f"A first one: {shlex.join(['vm', 'run-app', printable(str(sample))])}")
    click.echo(f"Documentation and examples: {printable(str(documents))}")


def _print(finding: Finding) -> None:
    colour = {Status.OK: "green", Status.LIMITED: "yellow", Status.MISSING: "red"}[finding.status]
    status = click.style(f"{finding.status:8}", fg=colour)
    click.echo(f"{status} {finding.check:12} {printable(finding.detail)}")
    if finding.fix:
        click.echo(f"{'':8} {'':12} fix: {printable(finding.fix)}")


def examine() -> Iterator[Finding]:
    """All findings, each as soon as it is known."""
    for finding in _settings():
        yield finding
        if finding.status is Status.MISSING:
            return  # the checks below would be of something else
    able = True
    for check in (
        _machine,
        _qemu,
        _accelerator,
        _crosvm,
        _confinement,
        _vsock,
        _memory,
        _image,
        _runtime_dir,
        _permissions,
        _virtmgr,
    ):
        for finding in check():
            able = able and finding.status is not Status.MISSING
            yield finding
    if able:
        yield from _trial()


def _settings() -> Iterator[Finding]:
    """Nothing if they are all right."""
    try:
        settings.check()
    except settings.SettingError as error:
        yield Finding("settings", Status.MISSING, str(error), "correct it, or unset it")
    for warning in settings.unknown():
        yield Finding("settings", Status.LIMITED, warning, "correct its name, or unset it")


def _machine() -> Iterator[Finding]:
    """Nothing where guests run."""
    if (machine := platform.machine()) != "x86_64":
        detail = f"this host is {machine}; guests need an x86_64 host so far, emulated or not"
        yield Finding("machine", Status.MISSING, detail, "use an x86_64 host")


def _qemu() -> Iterator[Finding]:
    from avf.vmm import VmmUnavailable, find_qemu, qemu_version

    try:
        yield Finding("qemu", Status.OK, f"{qemu_version()}: {find_qemu()}")
    except VmmUnavailable as error:
        fix = "sudo apt-get install qemu-system-x86"
        status = Status.LIMITED if _wants_crosvm() else Status.MISSING
        yield Finding("qemu", status, str(error), fix)


def _wants_crosvm() -> bool:
    return settings.vmm() == "crosvm"


def _accelerator() -> Iterator[Finding]:
    """What QEMU's VMs run under; crosvm knows but one."""
    from avf.vmm import Accelerator, VmmUnavailable, find_qemu

    if _wants_crosvm():
        return
    try:
        qemu = find_qemu()
    except VmmUnavailable:
        return  # as the check of QEMU has told
    fix = "unset AVF_ACCEL"
    try:
        report, boots = _acceleration(qemu)
    except VmmUnavailable as error:
        demanded = "AVF_ACCEL" in str(error)
        yield Finding("accelerator", Status.MISSING, str(error), fix if demanded else None)
        return
    if not boots:
        detail = f"KVM: {report.reason}, but the image's kernel does not boot under it"
        yield Finding("accelerator", Status.MISSING, detail, fix)
    elif report.accelerator is Accelerator.KVM:
        yield Finding("accelerator", Status.OK, f"KVM: {report.reason}")
    else:
        detail = (
            f"TCG: guests are emulated, many times slower: {report.reason}. QEMU does not count TCG as a"
            " security boundary: what holds a hostile guest is the confinement"
        )
        yield Finding("accelerator", Status.LIMITED, detail, _kvm_fix())


def _acceleration(qemu: str) -> "tuple[Acceleration, bool]":
    """How VMs of the image run, and whether they do; if there is no image yet, how a tiny guest does.

    Raises VmmUnavailable.
    """
    from avf.vmm import acceleration_for, explain_acceleration, kernel_boots

    with _image_kernel() as kernel:
        if kernel is None:
            return explain_acceleration(qemu), True
        found = acceleration_for(qemu, kernel)
        return found, kernel_boots(qemu, found, kernel)


@contextmanager
def _image_kernel() -> Iterator[int | None]:
    """The descriptor of the image's kernel; None if there is none, which the check of the image tells."""
    from avf.vmconfig import VmConfig, VmConfigError

    found = _image_file()
    file = None
    try:
        if found is not None and (name := VmConfig.load(found).kernel):
            file = open(found.parent / name, "rb")  # noqa: SIM115
    except (VmConfigError, OSError):
        pass
    with file or nullcontext():
        yield None if file is None else file.fileno()


def _crosvm() -> Iterator[Finding]:
    """Nothing if it is not installed and not asked for, since QEMU does."""
    from avf.vmm import VmmUnavailable, crosvm_abilities, crosvm_runs_kernel, missing_device

    wanted = _wants_crosvm()
    try:
        abilities = crosvm_abilities()
    except VmmUnavailable as error:
        if wanted or settings.crosvm():
            yield Finding("crosvm", Status.MISSING, str(error), "set AVF_CROSVM to a crosvm")
        return
    detail, runs = f"{abilities.program}: {abilities}", abilities.runs
    if wanted and runs:
        with _image_kernel() as kernel:
            if kernel is not None and not crosvm_runs_kernel(abilities.program, kernel):
                detail, runs = f"{detail}, but the image's kernel does not boot under it", False
    lack = Status.MISSING if wanted else Status.LIMITED
    fix = None if runs else _kvm_fix()
    if abilities.trouble and missing_device() is None:
        fix = f"set AVF_CROSVM to another crosvm; {fix}"
    yield Finding("crosvm", Status.OK if runs else lack, detail, fix)


def _user() -> str:
    """As a shell command names it; a uid may have no account."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "$USER"


def _kvm_fix() -> str:
    from avf.vmm import missing_device

    flags = _cpu_flags()
    if not flags & {"vmx", "svm"}:
        if "hypervisor" in flags:
            return "this host is a VM itself: let its own host offer nested virtualization"
        return "switch virtualization on in the firmware, if the CPU has it"
    module = "kvm_amd" if "svm" in flags else "kvm_intel"
    if not _KVM.exists():
        return f"`sudo modprobe {module}`, or switch virtualization on in the firmware"
    if not os.access(_KVM, os.R_OK | os.W_OK):
        return _right_to_use(_KVM)
    if missing_device() is not None:
        return f"remove what is at {_KVM}, then `sudo modprobe {module}`"
    return "if this host is a VM itself, let its own host offer nested virtualization"


def _confinement() -> Iterator[Finding]:
    from avf.confine import ConfinementError, Level, explain_confinement

    try:
        report = explain_confinement()
    except ConfinementError as error:
        yield Finding("confinement", Status.MISSING, str(error))
        return
    status = Status.OK if report.level is Level.FULL else Status.LIMITED
    yield Finding("confinement", status, str(report), report.fix)


def _vsock() -> Iterator[Finding]:
    from avf.vsock import kernel_vhost_available

    if kernel_vhost_available():
        yield Finding("vsock", Status.OK, "the kernel's vhost-vsock")
        return
    fix = "`sudo modprobe vhost_vsock`"
    if _VHOST_VSOCK.exists() and not os.access(_VHOST_VSOCK, os.R_OK | os.W_OK):
        fix = _right_to_use(_VHOST_VSOCK)
    yield Finding("vsock", Status.OK, f"in user space over unix sockets (faster after: {fix})")


def _memory() -> Iterator[Finding]:
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            mib = int(value.split()[0]) // 1024
            enough = mib >= _LEAST_MEMORY_MIB
            status = Status.OK if enough else Status.LIMITED
            fix = None if enough else "end something, or give VMs less with --mem"
            yield Finding("memory", status, f"{mib} MiB available", fix)


def _image_file() -> Path | None:
    files = (folder / "microdroid.json" for folder in runtime.image_dirs())
    return next((file for file in files if file.exists()), None)


def _image() -> Iterator[Finding]:
    from avf.vmconfig import VmConfig, VmConfigError

    found = _image_file()
    fix = shlex.join([sys.executable, "-m", "avf.image", "build"])
    if found is None:
        yield from _image_tools()
        where = " or ".join(map(str, runtime.image_dirs()))
        yield Finding("image", Status.MISSING, f"no microdroid.json in {where}", fix)
        return
    try:
        config = VmConfig.load(found)
    except VmConfigError as error:
        yield Finding("image", Status.MISSING, str(error), fix)
        return
    needed = [found.parent / str(config.kernel or config.bootloader)]
    needed += [found.parent / f"microdroid_initrd_{kind}.img" for kind in ("normal", "debuggable")]
    for disk in config.disks:
        paths = [disk.image] if disk.image else [partition.path for partition in disk.partitions]
        needed += [found.parent / path for path in paths]
    if lost := [path for path in needed if not os.access(path, os.R_OK)]:
        yield Finding("image", Status.MISSING, f"cannot read {lost[0]}", fix)
    else:
        yield Finding("image", Status.OK, str(found))


def _image_tools() -> Iterator[Finding]:
    """What is lacking for building an image."""
    from avf.image import AptMissing, ToolsMissing, check_tools

    try:
        check_tools()
    except AptMissing as error:
        fix = "build one on Debian or Ubuntu, and name its folder in AVF_IMAGE_DIR"
        yield Finding("image tools", Status.MISSING, str(error), fix)
    except ToolsMissing as error:
        fix = f"sudo apt-get install {' '.join(error.packages)}"
        detail = f"not installed: {', '.join(error.tools)}"
        yield Finding("image tools", Status.MISSING, detail, fix)


def _runtime_dir() -> Iterator[Finding]:
    try:
        yield Finding("runtime dir", Status.OK, str(runtime.user_runtime_dir()))
    except OSError as error:
        fix = "remove it, or set AVF_RUNTIME_DIR to a folder of your own"
        yield Finding("runtime dir", Status.MISSING, words(error), fix)


def _permissions() -> Iterator[Finding]:
    system = (runtime.SYSTEM_RUNTIME_DIR / runtime.SERVICE_SOCKET_NAME).exists()
    file = policy.SYSTEM_POLICY_FILE

    def explain(permission: policy.Permission) -> policy.Explanation:
        return policy.explain(permission, os.getuid(), system=system, file=file)

    from avf.cli.trial import granted

    answers = granted()
    denied: dict[str, tuple[policy.Permission, str | None]] = {}
    for permission in policy.Permission:
        explanation = explain(permission)
        allowed = answers.get(permission, explanation.allowed)
        if not allowed and explanation.allowed:
            reason = (
                f"the service that runs denies {permission.name}, by a policy other than {file}"
            )
            denied[reason] = (
                permission,
                "look for its --policy: `systemctl cat avf-virtualizationservice`",
            )
        elif not allowed:
            denied.setdefault(explanation.reason, (permission, explanation.fix))
    if not denied:
        source = policy.load_policy(system=system, file=file).source
        yield Finding("permissions", Status.OK, f"all, by the {source}")
    for reason, (permission, fix) in denied.items():
        manage = permission is policy.Permission.MANAGE_VIRTUAL_MACHINE
        yield Finding("permissions", Status.MISSING if manage else Status.LIMITED, reason, fix)


def _virtmgr() -> Iterator[Finding]:
    from avf.binder import BinderError
    from avf.cli.trial import try_service
    from avf.client import ClientError

    try:
        try_service()
    except (ClientError, BinderError, OSError) as error:
        yield _failure("virtmgr", error, "service.log in the runtime directory may say more")
    else:
        yield Finding("virtmgr", Status.OK, "starts and does what it is asked to")


def _trial() -> Iterator[Finding]:
    from avf.binder import BinderError
    from avf.cli.trial import run_payload
    from avf.client import ClientError

    if sys.stderr is not None and sys.stderr.isatty():
        click.echo("booting a VM ...", err=True)
    try:
        seconds = run_payload()
    except (ClientError, BinderError, OSError) as error:
        yield _failure("trial", error, "AVF_LOG=debug vm run-microdroid -v shows more")
    else:
        yield Finding("trial", Status.OK, f"a VM ran a payload, {seconds:.1f} s after its start")


def _failure(check: str, error: Exception, otherwise: str) -> Finding:
    from avf.cli.text import error_chain, hint_for

    detail = error_chain(error).replace("\n  because: ", ": ")
    hint = hint_for(error)
    # who is here already need not be sent here
    fix = hint if hint is not None and "vm doctor" not in hint else otherwise
    return Finding(check, Status.MISSING, detail, fix)


def _right_to_use(device: Path) -> str:
    """How the user gets to read and write a device node."""
    status = device.stat()
    try:
        group = grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        group = "root"
    if group != "root" and status.st_mode & 0o060 == 0o060:
        return f"`sudo usermod -aG {group} {_user()}`, then log in again"
    return f"`sudo chown {_user()} {device}`, until the next boot"


def _cpu_flags() -> set[str]:
    for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
        if line.startswith("flags"):
            return set(line.partition(":")[2].split())
    return set()
