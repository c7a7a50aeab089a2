"""Who is let in through the shell service: the payload's user, within the payload's limits, or root."""

import os

from avf.guest import limits
from avf.guest.user import become_payload_user

ROOT_ENVIRONMENT = {"HOME": "/root", "USER": "root", "LOGNAME": "root", "SHELL": "/bin/sh"}


def become_visitor(root: bool, *, dumpable: bool) -> None:
    """Turns this process into one of root's, or of the payload's user, for good. Raises OSError.

    `dumpable`: other processes of the user may look into this one. If memory runs out, it goes before the agent.
    """
    limits.make_expendable()
    if root:
        os.environ.update(ROOT_ENVIRONMENT)
    else:
        limits.enter()
        become_payload_user(dumpable=dumpable)
