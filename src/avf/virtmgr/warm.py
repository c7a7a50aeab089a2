"""Decides whether an app's VM starts cold or as a clone of a template; nobody else can tell the difference."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from avf import facts
from avf.aidl.virtualizationservice import CpuTopology, VirtualMachineAppConfig
from avf.runtime import rotate, user_template_dir
from avf.virtmgr.config import MachineConfig
from avf.virtmgr.vmms import warm_starts
from avf.vmm import (
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

TEMPLATES = 1
"""The version of what a template's guest and its host tell each other, as far as it is known here."""
BUILDER = "avf.virtmgr.template_builder"
LOG_NAME = "build.log"
MAX_FAILURES = 3
"""How many templates of a kind may be no good, for whatever reason, before no more are made."""
_START_SECONDS = 10.0
_SHOWN = 12

log = logging.getLogger(__name__)

Build = Callable[[], None]


@dataclass(frozen=True, slots=True)
class TemplateRequest:
    """What a template is to be for, as far as the guest image does not say it."""

    debug: bool
    memory_mib: int
    """0: what the image asks for."""
    match_host: bool
    """As many CPUs as the host has, instead of one."""

    @property
    def words(self) -> list[str]:
        """As the builder takes it."""
        return [
            "--debug",
            "full" if self.debug else "none",
            "--memory",
            str(self.memory_mib),
            "--cpu-topology",
            "match_host" if self.match_host else "one_cpu",
        ]


def warm_vmm(vmm: Vmm, config: VirtualMachineAppConfig, machine: MachineConfig) -> Vmm:
    """`vmm`, or what starts VMs by it from templates if such a VM may begin as a clone."""
    if not warm_starts() or config.fresh:
        return vmm
    if not isinstance(vmm, Qemu) or machine.templates != TEMPLATES:
        return vmm
    request = TemplateRequest(
        config.debug_level != VirtualMachineAppConfig.DebugLevel.NONE,
        machine.memory_mib,
        config.cpu_topology == CpuTopology.MATCH_HOST,
    )
    return WarmVmm(vmm, (user_templates(), system_templates()), lambda: have_built(request))


class WarmVmm:
    """A Vmm: clones the first good template it finds; without one the VM starts cold, and a template is made."""

    def __init__(self, vmm: Qemu, stores: Sequence[TemplateStore], build: Build) -> None:
        """`build` has a template made by somebody else, later."""
        self.name = vmm.name
        self.supports_protected = vmm.supports_protected
        self._vmm = vmm
        self._stores = stores
        self._build = build

    def emulates(self, kernel: int | None) -> bool:
        return self._vmm.emulates(kernel)

    def start(self, spec: VmSpec, on_event: Callable[[str], None] | None = None) -> VmProcess:
        """See Vmm.start. A template that is no good is removed, if it is ours, and said to be bad."""
        key = self._key(spec)
        if key is None:
            return self._vmm.start(spec, on_event)
        suspects = []
        for store in self._stores:
            opened = _open(store, key)
            if opened is None:
                continue
            try:
                return self._start_clone(key, opened, spec, on_event)
            except TemplateError as e:
                spec.ended("clone given up")
                log.warning("%s; VM with CID %d does not begin as its clone", e, spec.cid)
                if not isinstance(e, TemplateLate):
                    suspects.append(store)
        process = self._vmm.start(spec, on_event)
        if suspects and _starts(process):
            for store in suspects:
                _discard(store, key)
        self._ask_for_template(key)
        return process

    def _key(self, spec: VmSpec) -> str | None:
        try:
            return self._vmm.template_key(spec)
        except (VmmError, OSError) as e:
            log.warning("VM with CID %d can be no clone: %s", spec.cid, e)
            return None

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


def have_built(request: TemplateRequest) -> None:
    """Starts a builder, which outlives this process. Raises OSError or SubprocessError."""
    import subprocess  # slow to import, and seldom needed

    folder = user_template_dir()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / LOG_NAME
    rotate(path)
    with path.open("ab") as output:
        subprocess.run(
            ["setsid", "--fork", *builder_command(request), "--nice"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            check=True,
        )


def builder_command(request: TemplateRequest) -> list[str]:
    return [sys.executable, "-P", "-m", BUILDER, *request.words]


def _open(store: TemplateStore, key: str) -> tuple[int, TemplateFacts] | None:
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
