"""Who asks for a VM."""

import pwd
from typing import NamedTuple


class Requester(NamedTuple):
    """Who asked for the VM. The pid is for people; it is not checked."""

    uid: int
    pid: int

    def __str__(self) -> str:
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)
