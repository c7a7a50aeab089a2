"""Walls around programs that others may take over: a sandbox for each virtual machine monitor and vsock device.

`spawn` starts a program in its `Box`, as tightly confined as the host allows, and tied to this process's life.

ConfinementError       less confinement is possible than is demanded, or a part of it is not installed
SpawnError             the program cannot be started
"""

from avf.confine.box import Box, ConfinementError, Filter, Limits
from avf.confine.levels import (
    ConfinementReport,
    Level,
    explain_confinement,
    image_folder,
    lent_folder,
)
from avf.confine.needs import existing, needs_of, python_needs, remembered
from avf.confine.spawn import Child, SpawnError, spawn

__all__ = [
    "Box",
    "Child",
    "ConfinementError",
    "ConfinementReport",
    "Filter",
    "Level",
    "Limits",
    "SpawnError",
    "existing",
    "explain_confinement",
    "image_folder",
    "lent_folder",
    "needs_of",
    "python_needs",
    "remembered",
    "spawn",
]
