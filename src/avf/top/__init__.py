"""`vm top`: what VMs use, and what they say, as a table or in a view that fills the terminal.

What is known of the VMs (`model`, `samples`), how it is ordered (`board`), what guests have written (`lines`, `layout`)
and how curves are drawn (`plot`) know neither a terminal nor a VM. `asking`, `watching` and `stream` get it from the
VMs. The widgets, which need Textual, are imported by `show` alone.
"""

import importlib.util
import os

from avf.top.asking import VmAsker
from avf.top.model import Vm

__all__ = ["Vm", "VmAsker", "can_show", "show"]


def can_show() -> bool:
    """Whether what the view needs is installed."""
    return importlib.util.find_spec("textual") is not None


def show(*, everybody: bool, interval: float) -> int:
    """Fills the terminal until the user leaves. The exit status."""
    from avf.top.app import TopApp
    from avf.top.background import is_light
    from avf.top.doors import RealDoors
    from avf.top.watching import Watching

    with Watching(None if everybody else os.getuid(), interval) as watching:
        app = TopApp(watching, RealDoors(), everybody=everybody, light=is_light())
        return app.run() or 0
