"""The table of VMs under any order of events, and whose a connection from a guest is."""

import fcntl
import os
import socket
import tempfile
from pathlib import Path
from typing import NamedTuple

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from avf.aidl.virtualizationservice import VirtualMachineDebugInfo
from avf.policy import PolicyFile
from avf.virtualizationservice.cids import CidAllocator
from avf.virtualizationservice.contexts import ContextTable, GlobalVmContext
from avf.virtualizationservice.errors import CidError, QuotaError
from avf.virtualizationservice.identity import Identifier
from avf.virtualizationservice.parties import Parties, Party, Standing
from avf.virtualizationservice.tempdirs import TempDirs
from avf.virtualizationservice.tombstones import Sender

FIRST, LAST, LIMIT = 2048, 2053, 4
ROOTS = 1
"""How many CIDs are kept for root."""
UIDS = (64001, 64002)


class EachUser(Parties):
    """Every uid is a party."""

    def of(self, uid: int | None) -> Party:
        return Party(Standing.KNOWN, uid)


class Vm:
    """What a virtmgr has of one: the handle, while its service lives, and later a lock."""

    def __init__(self, context: GlobalVmContext) -> None:
        self.context: GlobalVmContext | None = context
        self.cid = context.get_cid()
        self.uid = context.info.requester_uid
        self.directory = context.get_temporary_directory()
        self.lock: int | None = None

    def take_lock(self) -> None:
        self.lock = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def drop_lock(self) -> None:
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None


class TableModel(RuleBasedStateMachine):
    """VMs come and go; the service is restarted, in order or not, while some of them live."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name)
        self.vms: list[Vm] = []
        self.start()

    def start(self) -> None:
        self.directories = TempDirs(self.root / "vms")
        cids = CidAllocator(self.root / "last_cid", FIRST, LAST)
        self.table = ContextTable(cids, self.directories, parties=EachUser(), limit=LIMIT)

    def of(self, uid: int) -> int:
        return sum(vm.uid == uid for vm in self.vms)

    @rule(uid=st.sampled_from(UIDS))
    def allocate(self, uid: int) -> None:
        room = LAST - FIRST + 1 - ROOTS - len(self.vms)
        try:
            vm = Vm(self.table.allocate(uid, 1))
        except QuotaError:
            assert self.of(uid) == LIMIT or self.of(uid) >= room
        except CidError:
            assert room == 0
        else:
            self.vms.append(vm)
            assert self.of(uid) <= LIMIT
            assert os.stat(vm.directory).st_uid == uid  # noqa: PTH116

    @precondition(lambda self: self.vms)
    @rule(data=st.data())
    def lock(self, data: st.DataObject) -> None:
        vm = data.draw(st.sampled_from(self.vms))
        if vm.lock is None:
            vm.take_lock()

    @precondition(lambda self: self.vms)
    @rule(data=st.data(), leave_a_file=st.booleans())
    def end(self, data: st.DataObject, leave_a_file: bool) -> None:
        vm = data.draw(st.sampled_from(self.vms))
        if leave_a_file:
            Path(vm.directory, "left").touch()
        self.vms.remove(vm)
        vm.drop_lock()
        if vm.context is not None:
            vm.context.on_released()
            vm.context.on_released()

    @rule(in_order=st.booleans())
    def restart(self, in_order: bool) -> None:
        if in_order:
            self.table.freeze()
            for vm in self.vms:
                if vm.context is not None:
                    vm.context.on_released()
        self.directories.close()
        for vm in self.vms:
            vm.context = None
        self.vms = [vm for vm in self.vms if vm.lock is not None]
        self.start()

    @invariant()
    def each_has_its_own(self) -> None:
        cids = sorted(vm.cid for vm in self.vms)
        assert len(set(cids)) == len(cids)
        assert [info.cid for info in self.table.live()] == cids
        while self.table.clean():
            pass
        assert sorted(p.name for p in (self.root / "vms").glob("[0-9]*")) == [str(c) for c in cids]
        for vm in self.vms:
            info = self.table.find(vm.cid)
            assert info is not None
            assert info.requester_uid == vm.uid

    def teardown(self) -> None:
        for vm in self.vms:
            vm.drop_lock()
        self.directories.close()
        self.folder.cleanup()


@pytest.mark.usefixtures("several_uids")
def test_model() -> None:
    case = TableModel.TestCase()
    case.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
    case.runTest()


class KernelPeer(NamedTuple):
    """An accepted AF_VSOCK socket, as far as its peer's address goes."""

    cid: int
    family: int = socket.AF_VSOCK

    def getpeername(self) -> tuple[int, int]:
        return self.cid, 1025


class OneVm:
    def find(self, cid: int) -> VirtualMachineDebugInfo | None:
        if cid != 2048:
            return None
        return VirtualMachineDebugInfo(cid=2048, requester_uid=64001, requester_pid=77)


@pytest.mark.parametrize(
    ("cid", "sender"), [(2048, Sender(64001, 2048, 77)), (2049, None), (3, None)]
)
def test_a_peer_by_the_kernel_s_vsock(cid: int, sender: Sender | None) -> None:
    assert Identifier(OneVm(), PolicyFile(system=True))(KernelPeer(cid)) == sender  # type: ignore[arg-type]
