"""What programs that start often do not load before they answer: each module costs every start of every client."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

VIRTMGR = """
import os, socket, sys
from avf.virtmgr import main
def ready(fd, data, write=os.write):
    assert (fd, data) == (wanted, b"o")
    print(*sorted(sys.modules))
    sys.stdout.flush()
    os._exit(0)
bootstrap, served = socket.socketpair()
wanted = os.open(os.devnull, os.O_WRONLY)
os.write = ready
main.main(["--rpc-server-fd", str(served.fileno()), "--ready-fd", str(wanted)])
"""
VIRTUALIZATIONSERVICE = """
import os, sys
from avf.virtualizationservice import main, systemd
def ready(state):
    print(*sorted(sys.modules))
    sys.stdout.flush()
    os._exit(0)
systemd.notify = ready
main.main(["--user"])
"""
HELP = """
import atexit, contextlib, io, os, sys
out = sys.stdout
atexit.register(lambda: print(*sorted(sys.modules), file=out))
from avf.cli import main
sys.argv = ["vm", "--help"]
with contextlib.redirect_stdout(io.StringIO()):
    main()
"""

LOADS = """
import sys
from avf.virtmgr.global_service import GlobalService
from avf.virtmgr.service import VirtualizationService
service = VirtualizationService(GlobalService(), None)
if ends:
    service.kill_all()
service.load()
print(*sorted(sys.modules))
"""

SLOW = {"asyncio", "cryptography", "google.protobuf", "msgspec", "rich", "ssl", "tempfile"}
ROOMS = {"avf.apk", "avf.client", "avf.confine", "avf.disk", "avf.image", "avf.project", "avf.vmm"}
SPARED = {
    VIRTMGR: SLOW
    | ROOMS
    | {"avf.policy", "avf.virtmgr.create", "avf.virtmgr.machine", "avf.vmconfig"}
    | {"avf.vsock", "dataclasses", "inspect", "json", "random", "shutil", "subprocess"},
    VIRTUALIZATIONSERVICE: SLOW
    | ROOMS
    | {"avf.policy.explanation", "dbus_fast", "opentelemetry", "prometheus_client"}
    | {"subprocess", "uuid"},
    HELP: SLOW | ROOMS | {"avf.binder", "dataclasses", "difflib", "socket", "subprocess"},
}


def loaded(program: str) -> set[str]:
    result = subprocess.run(
        [sys.executable, "-P", "-c", program],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.stdout, result.stderr
    return set(result.stdout.split())


@pytest.mark.usefixtures("runtime_dir")
@pytest.mark.parametrize(
    "program",
    [VIRTMGR, VIRTUALIZATIONSERVICE, HELP],
    ids=["virtmgr", "virtualizationservice", "vm-help"],
)
def test_a_start_loads_nothing_that_only_later_work_needs(program: str) -> None:
    names = loaded(program)
    assert any(name.startswith("avf.") for name in names)
    assert sorted(names & SPARED[program]) == []


@pytest.mark.parametrize("name", sorted(set().union(*SPARED.values())))
def test_what_is_not_to_be_loaded_exists(name: str) -> None:
    assert find_spec(name) is not None


def test_virtmgr_loads_ahead_what_creates_vms() -> None:
    names = loaded("ends = False" + LOADS)
    assert {"avf.virtmgr.create", "avf.virtmgr.files", "avf.virtmgr.virtual_machine"} <= names
    assert "avf.vmm.crosvm.vmm" not in names


def test_virtmgr_loads_nothing_ahead_when_it_ends() -> None:
    assert "avf.virtmgr.create" not in loaded("ends = True" + LOADS)
