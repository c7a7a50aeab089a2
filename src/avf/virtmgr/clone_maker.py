"""Starts the clones of a pool."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from avf import facts
from avf.runtime import WAITING_NAME
from avf.virtmgr.app_config import image_machine
from avf.virtmgr.context import VmContext
from avf.virtmgr.fds import Fds
from avf.virtmgr.host_memory import DEFAULT_MEMORY_MIB, RESERVE_MIB, available_mib
from avf.virtmgr.kind import CloneKind
from avf.virtmgr.pool import NotNow, WaitingVm
from avf.virtmgr.warm import (
    MAX_FAILURES,
    TEMPLATES,
    failure_key,
    failures,
    have_built,
    kind_spec,
    open_template,
)
from avf.vmm import Qemu, TemplateError, TemplateFacts, TemplateStore, Vmm

_ASK_AGAIN_SECONDS = 300.0


class CloneMaker:
    """A Maker: clones the first good template; without one it has one made, by somebody else."""

    def __init__(
        self,
        vmm: Vmm,
        stores: Sequence[TemplateStore],
        create_context: Callable[[], VmContext],
        build: Callable[[CloneKind], None] = have_built,
    ) -> None:
        self._vmm = vmm
        self._stores = stores
        self._create_context = create_context
        self._build = build
        self._asked: dict[str, float] = {}

    def start(self, kind: CloneKind) -> WaitingVm:
        """See Maker. Raises VirtmgrError, VmmError, RemoteException or OSError as well."""
        if not isinstance(self._vmm, Qemu):
            raise TemplateError(f"{self._vmm.name} makes no clones")
        fds = Fds()
        try:
            machine = image_machine(kind.debug_level, fds)
            if machine.templates != TEMPLATES:
                raise TemplateError("this guest image can be no template")
            spec = kind_spec(kind, machine)
            key = self._vmm.template_key(spec)
            if key is None:
                raise TemplateError("such a VM can be no clone")
            state, known = self._open(key, kind)
            try:
                _require_memory(spec.memory_mib or DEFAULT_MEMORY_MIB)
                context = self._create_context()
                try:
                    (context.temporary_directory / WAITING_NAME).touch(mode=0o600)
                    spec = replace(
                        spec,
                        cid=context.cid,
                        temporary_directory=context.temporary_directory,
                        vsock=context.vsock,
                    )
                    clone = self._vmm.start_waiting(spec, state, known)
                except BaseException:
                    context.close()
                    raise
            finally:
                os.close(state)
        finally:
            fds.close()
        vm = WaitingVm(kind, key, context, clone)
        context.on_close(vm.end)
        return vm

    def _open(self, key: str, kind: CloneKind) -> tuple[int, TemplateFacts]:
        for store in self._stores:
            opened = open_template(store, key)
            if opened is not None:
                return opened
        problem = facts.recall(failure_key(key))
        if problem is not None:
            raise TemplateError(str(problem))
        if failures(key) >= MAX_FAILURES:
            raise TemplateError(f"{MAX_FAILURES} templates were no good")
        now = time.monotonic()
        if now - self._asked.get(key, -_ASK_AGAIN_SECONDS) >= _ASK_AGAIN_SECONDS:
            self._asked[key] = now
            self._build(kind)
        raise NotNow(f"no template is there yet for VMs that are {kind}: one is being made")


def _require_memory(memory_mib: int) -> None:
    """Raises NotNow if a clone would take what others need."""
    free = available_mib()
    if free < memory_mib + RESERVE_MIB:
        raise NotNow(
            f"{free} MiB of memory are free; a clone waits only where {memory_mib + RESERVE_MIB} are"
        )
