"""Who may do what: AVF's permissions, granted by a TOML file.

    polkit = true                 # ask polkit too, about those whom no table names

    [MANAGE_VIRTUAL_MACHINE]      # also USE_CUSTOM_VIRTUAL_MACHINE, DEBUG_VIRTUAL_MACHINE, DUMP
    everyone = false
    uids = [1000]
    groups = ["avf"]              # names or gids; a user's supplementary groups count

uid 0 passes every check. A permission without a table is granted to nobody else. Without a file, a user's own service
grants its user everything, and the system service grants group `avf` everything.
"""

from typing import TYPE_CHECKING

from avf.lazy import lazily
from avf.policy.model import Grant, Permission, Policy, PolicyError, denial

if TYPE_CHECKING:
    from avf.policy.explanation import Explanation, explain
    from avf.policy.source import SYSTEM_POLICY_FILE, PolicyFile, load_policy
else:
    __getattr__ = lazily(
        __name__,
        {
            "explanation": "Explanation explain",
            "source": "SYSTEM_POLICY_FILE PolicyFile load_policy",
        },
    )

__all__ = [
    "SYSTEM_POLICY_FILE",
    "Explanation",
    "Grant",
    "Permission",
    "Policy",
    "PolicyError",
    "PolicyFile",
    "denial",
    "explain",
    "load_policy",
]
