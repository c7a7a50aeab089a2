"""A VM's life as one page of HTML: what ran, how it started, what it used, what proves it, and how it ended.

    with open_vm(2048) as vm:
        page = render(gather(vm, vm.death_report()))

The page needs nothing beside it: no script, no server, no other file. What guests and files say is shown as text.
"""

from avf.report.facts import VmReport
from avf.report.gather import gather
from avf.report.page import render

__all__ = ["VmReport", "gather", "render"]
