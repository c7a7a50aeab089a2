"""What a run leaves for those who look at it afterwards: the timeline of its start, a report, spans."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import TYPE_CHECKING

from avf.binder import BinderError
from avf.cli.options import RunOptions
from avf.cli.output_file import check_target, write_target
from avf.cli.tell import print_line, print_note
from avf.cli.timeline import can_show_blocks, timeline_lines
from avf.client import ClientError, Timeline, VirtualMachine, VmDetails
from avf.overwriting import Kind
from avf.printing import printable_json

if TYPE_CHECKING:
    from avf.report import VmReport


class Records:
    """Taken while the VM can still be asked, left once the guest's output is out."""

    def __init__(self, options: RunOptions) -> None:
        """Raises CliError for a file that cannot be written."""
        self._options = options
        self._timeline: Timeline | None = None
        self._details: VmDetails | None = None
        self._report: VmReport | None = None
        for path, kind in ((options["report"], Kind.REPORT), (options["otlp"], Kind.SPANS)):
            if path is not None:
                check_target(path, kind)

    @contextmanager
    def of_start(self, vm: VirtualMachine) -> Iterator[None]:
        """Takes and leaves them if the start fails, which is what follows."""
        try:
            yield
        except BaseException:
            self.take(vm)
            self.leave()
            raise

    def take(self, vm: VirtualMachine) -> None:
        """Ends the VM if it still runs. What cannot be asked any more is missing."""
        wants_report = self._options["report"] is not None
        if not (wants_report or self._options["timeline"] or self._options["otlp"] is not None):
            return
        with suppress(ClientError, BinderError):
            if vm.death_reason is None:
                vm.stop()
        with suppress(ClientError, BinderError):
            self._timeline, self._details = vm.timeline(), vm.details()
            if wants_report:
                from avf.report import gather

                self._report = gather(vm, vm.death_report)

    def leave(self) -> None:
        """Raises CliError for a file that cannot be written."""
        if self._timeline is None or self._details is None:
            return
        if self._options["timeline"]:
            self._show(self._timeline)
        if (path := self._options["report"]) is not None and self._report is not None:
            from avf.report import render

            write_target(path, render(self._report), Kind.REPORT)
        if (path := self._options["otlp"]) is not None:
            write_target(path, _spans(self._timeline, self._details), Kind.SPANS)

    def _show(self, timeline: Timeline) -> None:
        if self._options["as_json"]:
            print_line(printable_json({"event": "timeline", **timeline.as_dict()}))
            return
        for line in timeline_lines(timeline, blocks=can_show_blocks(sys.stderr)):
            print_note(line)


def _spans(timeline: Timeline, details: VmDetails) -> str:
    from avf.client.spans import TraceContext, Value, otlp_json, start_spans

    known: dict[str, Value] = {
        "vm.cid": details.cid,
        "vm.name": details.name,
        "vm.vmm": details.vmm,
    }
    name = os.environ.get("OTEL_SERVICE_NAME") or "avf-linux"
    resource = {"service.name": name, "service.version": version("avf-linux")}
    context = TraceContext.parse(os.environ.get("TRACEPARENT"))
    return otlp_json(start_spans(timeline, known), context, resource)
