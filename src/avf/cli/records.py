"""What a run leaves for those who want to look at it afterwards: the timeline of its start."""

import sys
from contextlib import suppress

from avf.binder import BinderError
from avf.cli.options import RunOptions
from avf.cli.tell import print_line, print_note
from avf.cli.timeline import can_show_blocks, timeline_lines
from avf.client import ClientError, Timeline, VirtualMachine
from avf.printing import printable_json


class Records:
    """Taken while the VM can still be asked, left once the guest's output is out."""

    def __init__(self, options: RunOptions) -> None:
        self._options = options
        self._timeline: Timeline | None = None

    @property
    def wanted(self) -> bool:
        return self._options["timeline"]

    def take(self, vm: VirtualMachine) -> None:
        """Ends the VM if it still runs. What cannot be asked any more is missing."""
        if not self.wanted:
            return
        with suppress(ClientError, BinderError):
            if vm.death_reason is None:
                vm.stop()
        with suppress(ClientError, BinderError):
            self._timeline = vm.timeline()

    def leave(self) -> None:
        if self._options["timeline"] and self._timeline is not None:
            self._show(self._timeline)

    def _show(self, timeline: Timeline) -> None:
        if self._options["as_json"]:
            print_line(printable_json({"event": "timeline", **timeline.as_dict()}))
            return
        for line in timeline_lines(timeline, blocks=can_show_blocks(sys.stderr)):
            print_note(line)
