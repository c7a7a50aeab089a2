"""The payload's user: uid and gid 6000, as in later versions of AVF, without any way to more rights."""

import os

from avf.guest import HOME, PAYLOAD_ID, libc

ENVIRONMENT = {"HOME": HOME, "USER": "payload", "LOGNAME": "payload", "SHELL": "/bin/sh"}


def become_payload_user(*, dumpable: bool = True) -> None:
    """Turns this process into the payload's, for good. Raises OSError; the process must not go on then.

    The bounding set is empty, the securebits are locked, exec gives no privileges. If it is to be `dumpable`, the
    process leaves a core dump, sees its own files in /proc and can be looked into by the payload, as if it had been
    executed.
    """
    libc.forbid_capabilities()
    os.setgroups([])
    os.setresgid(PAYLOAD_ID, PAYLOAD_ID, PAYLOAD_ID)
    os.setresuid(PAYLOAD_ID, PAYLOAD_ID, PAYLOAD_ID)
    libc.clear_capabilities()
    libc.set_no_new_privileges()
    if dumpable:
        libc.set_dumpable()
    os.environ.update(ENVIRONMENT)
