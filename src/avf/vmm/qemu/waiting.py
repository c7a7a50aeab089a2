"""A clone that is loaded beforehand, and waits to be told whose it is."""

import os
from collections.abc import Callable
from concurrent.futures import CancelledError, InvalidStateError
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from avf.causes import words
from avf.disk import Disk, DiskError, ImageDisk
from avf.vmm.base import ExitReport, VmmControlError, VmmError, VmSpec
from avf.vmm.box import limits_for, virtual_sizes
from avf.vmm.qemu.attach import open_belongings
from avf.vmm.qemu.command import DEFAULT_MEMORY_MIB, Inputs
from avf.vmm.qemu.devices import CONSOLE
from avf.vmm.qemu.panic import PanicDump
from avf.vmm.qemu.process import QemuProcess
from avf.vmm.templates import TemplateError, TemplateLate

if TYPE_CHECKING:
    from avf.vmm.qemu.waiting_clone import WaitingClone

_UNWANTED = "nobody needs this clone any more"


class WaitingQemu:
    """A QEMU with such a clone. `discard` ends it, whatever state it is in; it also ends with this process."""

    def __init__(
        self, process: QemuProcess, clone: "WaitingClone", spec: VmSpec, inputs: Inputs
    ) -> None:
        """`spec`: what it was started from, `inputs`: what it was started with."""
        self._process = process
        self._clone = clone
        self._inputs = inputs
        self._file_size = _file_size(spec)
        self._disks = list(map(_image, spec.disks))

    @property
    def pid(self) -> int:
        """Of QEMU's process, as this host numbers it."""
        return self._process.pid

    def hold(self, held: bool) -> None:
        """Has it stand still while others need the processors, or go on."""
        self._process.hold(held)

    def is_ready(self, timeout: float) -> bool:
        """Whether it is ready within `timeout` seconds. Raises TemplateError if it can be nobody's; it is gone then."""
        try:
            self._clone.ready.result(timeout)
        except TimeoutError:
            return False
        except VmmControlError as error:
            said = self._end().stderr_tail.strip()
            raise TemplateError(f"no clone can be made: {said or error}") from None
        return True

    def wait(self) -> ExitReport:
        """Blocks until all of it is gone."""
        return self._process.wait()

    def become(
        self, spec: VmSpec, on_event: Callable[[str], None] | None, timeout: float
    ) -> QemuProcess:
        """Makes it the VM `spec`, which has the same CID and the same template. Once only, when it is ready.

        Returns when the clone has taken an identity of its own. Raises TemplateError if it does not, TemplateLate if it
        does not in time: nothing is left of it then, and its disks were not touched.
        """
        try:
            with ExitStack() as stack:
                self._give(spec, on_event, stack)
                if self._process.wait_until_started(timeout):
                    return self._process
        except TimeoutError:
            self._end()
            raise TemplateLate(f"no clone was made within {timeout:g} s") from None
        except (VmmError, DiskError, InvalidStateError, OSError, RuntimeError) as error:
            self._end()
            raise TemplateError(f"the clone that has waited is no good: {words(error)}") from error
        report = self._end()
        why = "; ".join(filter(None, [*report.events, report.stderr_tail.strip()]))
        raise TemplateError(f"the clone that has waited is no good: {why}")

    def discard(self) -> None:
        """Returns at once. Idempotent; after `become` it kills the VM."""
        with suppress(InvalidStateError, CancelledError):
            self._clone.owner.set_exception(VmmControlError(_UNWANTED))
        self._process.kill()

    def _give(self, spec: VmSpec, on_event: Callable[[str], None] | None, stack: ExitStack) -> None:
        if _file_size(spec) > self._file_size:
            raise VmmError("it must not write files as large as one of the VM's disks")
        if list(map(_image, spec.disks[: len(self._disks)])) != self._disks:
            raise VmmError("it has other disks than the VM")
        belongings = open_belongings(spec, self._inputs, stack)
        dump = None
        if spec.panic_dump is not None:
            dump = PanicDump(spec.panic_dump, spec.panic_dump_limit)
        self._process.belong(belongings.outlets[CONSOLE], on_event, dump)
        try:
            self._clone.belong(belongings, spec.ended)
        except InvalidStateError:  # QEMU has ended, and nobody else closes it
            if dump is not None:
                dump.close()
            raise

    def _end(self) -> ExitReport:
        self.discard()
        return self._process.wait()


def _file_size(spec: VmSpec) -> int:
    """How large a file its VMM may make."""
    sizes = [(spec.memory_mib or DEFAULT_MEMORY_MIB) << 20, *virtual_sizes(spec.disks)]
    return limits_for((), sizes).file_size


def _image(disk: Disk) -> tuple[object, ...]:
    """Equal for disks of the same content, as long as nothing is written to them. Raises OSError."""
    if isinstance(disk, ImageDisk):
        return disk.writable, _file(disk.fd)
    return (
        disk.writable,
        *((part.label, part.writable, _file(part.fd)) for part in disk.partitions),
    )


def _file(fd: int) -> tuple[int, int, int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns
