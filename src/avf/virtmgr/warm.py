"""Decides whether an app's VM starts cold or as a clone of a template; nobody else can tell the difference."""

import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from avf import facts
from avf.aidl.virtualizationservice import VirtualMachineAppConfig
from avf.runtime import rotate, user_template_dir
from avf.virtmgr.config import MachineConfig
from avf.virtmgr.kind import CloneKind, kind_of
from avf.virtmgr.vmms import warm_starts
from avf.vmm import (
    CLONE_SECONDS,
    Qemu,
    QemuProcess,
    TemplateError,
    TemplateFacts,
    TemplateLate,
    TemplateStore,
    Vmm,
    VmmError,
    VmProcess,
    VmSpec,
    system_templates,
    user_templates,
)
from avf.vsock import HybridVsock

if TYPE_CHECKING:
    from avf.virtmgr.pool import WaitingVm

TEMPLATES = 4
"""The version of what a template's guest and its host tell each other, as far as it is known here."""
BUILDER = "avf.virtmgr.template_builder"
LOG_NAME = "build.log"
MAX_FAILURES = 3
"""How many templates of a kind may be no good, for whatever reason, before no more are made."""
_NOBODYS_CID = 3
"""Lower than any that VMs get."""
_START_SECONDS = 10.0
_ASK_AGAIN_SECONDS = 60.0
"""After which another builder is started where there is still no template."""
_SHOWN = 12

log = logging.getLogger(__name__)

_asked: dict[CloneKind, float] = {}
"""When a builder for such VMs was started last."""

Build = Callable[[], None]


def warm_vmm(
    vmm: Vmm,
    config: VirtualMachineAppConfig,
    machine: MachineConfig,
    waiting: "WaitingVm | None" = None,
) -> Vmm:
    """`vmm`, or what starts VMs by it from templates if such a VM may begin as a clone.

    `waiting`: a clone that has waited for this VM.
    """
    kind = kind_of(config)
    if kind is None or not isinstance(vmm, Qemu) or machine.templates != TEMPLATES:
        return vmm
    if waiting is None and not _may_be_clone(vmm, machine):
        return vmm
    wanted = replace(kind, memory_mib=machine.memory_mib)
    return WarmVmm(vmm, template_stores(), lambda: have_built(wanted), waiting)


def _may_be_clone(vmm: Vmm, machine: MachineConfig) -> bool:
    try:
        return warm_starts(vmm, machine.kernel)
    except VmmError:  # which a cold start raises again
        return False


def template_stores() -> tuple[TemplateStore, TemplateStore]:
    """Where templates are looked for, in that order."""
    return user_templates(), system_templates()


def kind_spec(kind: CloneKind, machine: MachineConfig) -> VmSpec:
    """What VMs of that kind have in common, on a guest image. It has nobody's CID and no vsock."""
    return VmSpec(
        cid=_NOBODYS_CID,
        name="",
        temporary_directory=Path("/"),
        vsock=HybridVsock(_NOBODYS_CID, Path("/")),
        kernel=machine.kernel,
        initrd=machine.initrd,
        params=machine.params,
        disks=tuple(disk.assemble() for disk in machine.disks[: machine.image_disks]),
        image_disks=machine.image_disks,
        memory_mib=kind.memory_mib or machine.memory_mib or None,
        cpus=None if kind.match_host else 1,
        machine=machine.machine,
    )


class WarmVmm:
    """A Vmm: clones the first good template it finds; without one the VM starts cold, and a template is made."""

    def __init__(
        self,
        vmm: Qemu,
        stores: Sequence[TemplateStore],
        build: Build,
        waiting: "WaitingVm | None" = None,
    ) -> None:
        """`build` has a template made by somebody else, later; `waiting`: a clone that has waited for the VM."""
        self.name = vmm.name
        self.supports_protected = vmm.supports_protected
        self._vmm = vmm
        self._stores = stores
        self._build = build
        self._waiting = waiting

    def emulates(self, kernel: int | None) -> bool:
        return self._vmm.emulates(kernel)

    def start(self, spec: VmSpec, on_event: Callable[[str], None] | None = None) -> VmProcess:
        """See Vmm.start. A template that is no good is removed, if it is ours, and said to be bad."""
        key = self._key(spec)
        if (process := self._wake(key, spec, on_event)) is not None:
            return process
        if key is None:
            return self._vmm.start(spec, on_event)
        suspects, is_there = [], False
        for store in self._stores:
            opened = open_template(store, key)
            if opened is None:
                continue
            try:
                return self._start_clone(key, opened, spec, on_event)
            except TemplateError as e:
                spec.ended("clone given up")
                log.warning("%s; VM with CID %d does not begin as its clone", e, spec.cid)
                if isinstance(e, TemplateLate):
                    is_there = True
                else:
                    suspects.append(store)
        process = self._vmm.start(spec, on_event)
        if suspects and _starts(process):
            for store in suspects:
                _discard(store, key)
        if not is_there:
            self._ask_for_template(key)
        return process

    def _key(self, spec: VmSpec) -> str | None:
        try:
            return self._vmm.template_key(spec)
        except (VmmError, OSError) as e:
            log.warning("VM with CID %d can be no clone: %s", spec.cid, e)
            return None

    def _wake(
        self, key: str | None, spec: VmSpec, on_event: Callable[[str], None] | None
    ) -> VmProcess | None:
        """The clone that has waited for this VM; None if none has, or it does not fit, or it is no good."""
        if self._waiting is None:
            return None
        try:
            if key != self._waiting.key:
                raise TemplateError("the clone that has waited is one of another guest")
            process = self._waiting.clone.become(spec, on_event, CLONE_SECONDS)
        except TemplateError as e:
            spec.ended("clone given up")
            log.warning("%s; VM with CID %d starts without it", e, spec.cid)
            self._waiting.end()
            return None
        log.info("VM with CID %d is a clone that has waited", spec.cid)
        return process

    def _start_clone(
        self,
        key: str,
        opened: tuple[int, TemplateFacts],
        spec: VmSpec,
        on_event: Callable[[str], None] | None,
    ) -> VmProcess:
        """Raises TemplateError if no clone can be made."""
        state, known = opened
        try:
            process = self._vmm.start_clone(spec, state, known, on_event)
        finally:
            os.close(state)
        log.info("VM with CID %d begins as a clone of template %s", spec.cid, key[:_SHOWN])
        return process

    def _ask_for_template(self, key: str) -> None:
        """What cannot be made, or is never any good, is not made over and over before the next boot of the host."""
        if facts.recall(failure_key(key)) is not None or failures(key) >= MAX_FAILURES:
            return
        try:
            self._build()
        except Exception as e:  # noqa: BLE001  the VM runs, whatever becomes of templates
            log.warning("no template is made: %s", e)


def failures(key: str) -> int:
    """How many templates with that key were no good since the last boot of the host."""
    count = facts.recall(f"bad-templates:{key}")
    return count if isinstance(count, int) else 0


def failure_key(key: str) -> str:
    """Under which it is remembered why the template with that key could not be made."""
    return f"no-template:{key}"


def have_built(kind: CloneKind) -> None:
    """Starts a builder, which outlives this process, unless one was started lately.

    Raises OSError or SubprocessError.
    """
    import subprocess  # slow to import, and seldom needed

    now = time.monotonic()
    if now - _asked.get(kind, -_ASK_AGAIN_SECONDS) < _ASK_AGAIN_SECONDS:
        return
    _asked[kind] = now
    folder = user_template_dir()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / LOG_NAME
    rotate(path)
    with path.open("ab") as output:
        subprocess.run(
            ["setsid", "--fork", *builder_command(kind), "--nice"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            check=True,
        )


def builder_command(kind: CloneKind) -> list[str]:
    return [sys.executable, "-P", "-m", BUILDER, *kind.words]


def open_template(store: TemplateStore, key: str) -> tuple[int, TemplateFacts] | None:
    """None if there is no good template."""
    try:
        return store.open(key)
    except TemplateError as e:
        log.warning("%s: it is not used", e)
        _discard(store, key)
        return None


def _starts(process: QemuProcess) -> bool:
    """Whether a VM can start at all: else it was not for the template that it did not begin as a clone."""
    try:
        return process.wait_until_started(_START_SECONDS)
    except TimeoutError:
        return False


def _discard(store: TemplateStore, key: str) -> None:
    facts.remember(f"bad-templates:{key}", failures(key) + 1)
    if not store.is_ours:
        return
    try:
        store.remove(key)
    except TemplateError as e:
        log.warning("%s", e)
