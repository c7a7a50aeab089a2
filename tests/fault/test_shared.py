"""One virtmgr that several programs use: whose program ends, that one's VMs end."""

import subprocess
import sys
from pathlib import Path

import pytest

from avf.client import connect
from tests.eventually import eventually
from tests.fault.guests import config
from tests.fault.processes import processes

CLIENT = """
import sys
from pathlib import Path
from avf.client import connect
from tests.fault.guests import config
with connect() as service, service.create_vm(config(Path(sys.argv[1]))) as vm:
    vm.start()
    print(vm.cid, flush=True)
    sys.stdin.read()
"""


def test_a_killed_program_takes_its_vms_along_and_no_others(
    runtime_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        connect() as owner,
        owner.share(tmp_path / "socket"),
        owner.create_vm(config(tmp_path)) as vm,
    ):
        vm.start()
        monkeypatch.setenv("AVF_POOL", str(tmp_path / "socket"))
        before = processes(runtime_dir).keys()
        client = subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            assert client.stdout is not None
            cid = int(client.stdout.readline())
            assert {info.cid for info in owner.debug_list_vms()} == {vm.cid, cid}
            its = [pid for pid in processes(runtime_dir) if pid not in before]
            client.kill()
            eventually(lambda: [info.cid for info in owner.debug_list_vms()], [vm.cid])
            eventually(lambda: [pid for pid in its if pid in processes(runtime_dir)], [])
        finally:
            client.kill()
            client.communicate()
        assert vm.death_reason is None
