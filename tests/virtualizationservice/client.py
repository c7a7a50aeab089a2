"""A client of the service as another user: `python -m tests.virtualizationservice.client SOCKET UID COMMAND...`

Commands are done in order, a line of output each: `allocate` (CID and directory), `list` (CIDs), `memlock` (this
process's limit after asking), `see=PATH` (the names in a directory), `wait` (reads a line of standard input),
`granted=NAME` (whether the user has a permission).
"""

import os
import resource
import sys
from pathlib import Path

from avf.aidl.virtualizationservice_internal import IVirtualizationServiceInternal
from avf.binder import RemoteException, connect, unix


def main(path: str, uid: int, commands: list[str]) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    held = []
    with connect(unix(path), timeout=20) as session:
        service = session.get_root(IVirtualizationServiceInternal)
        for command in commands:
            name, _, argument = command.partition("=")
            try:
                if name == "allocate":
                    context = service.allocate_global_vm_context(os.getpid())
                    held.append(context)
                    line = f"{context.get_cid()} {context.get_temporary_directory()}"
                elif name == "list":
                    line = " ".join(str(info.cid) for info in service.debug_list_vms())
                elif name == "memlock":
                    service.remove_memlock_rlimit()
                    line = str(resource.getrlimit(resource.RLIMIT_MEMLOCK))
                elif name == "granted":
                    line = str(service.is_granted(argument))
                elif name == "see":
                    line = " ".join(sorted(p.name for p in Path(argument).iterdir()))
                else:
                    line = sys.stdin.readline().strip()
            except RemoteException as error:
                line = f"{error.code.name}: {error.message}"
            except OSError as error:
                line = f"{type(error).__name__}"
            print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
