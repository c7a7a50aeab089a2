"""What each VM has that is unique on this host, for as long as somebody holds its handle."""

import logging
import threading
from pathlib import Path

from avf.aidl.virtualizationservice import VirtualMachineDebugInfo
from avf.aidl.virtualizationservice_internal import IGlobalVmContext
from avf.virtualizationservice.cids import CidAllocator
from avf.virtualizationservice.tempdirs import TempDirs

log = logging.getLogger(__name__)


class GlobalVmContext(IGlobalVmContext):
    """The handle: the CID and the directory are reserved until its last holder lets go."""

    def __init__(self, table: "ContextTable", info: VirtualMachineDebugInfo) -> None:
        self._table = table
        self.info = info

    def get_cid(self) -> int:
        return self.info.cid

    def get_temporary_directory(self) -> str:
        return self.info.temporary_directory

    def on_released(self) -> None:
        self._table.release(self.info.cid)


class ContextTable:
    """All contexts. Those of a former service process live on as survivors: their VM holds its directory's lock."""

    def __init__(self, cids: CidAllocator, directories: TempDirs) -> None:
        """Removes directories without a VM. Raises OSError if that fails."""
        self._lock = threading.Lock()
        self._cids = cids
        self._directories = directories
        self._held: dict[int, VirtualMachineDebugInfo] = {}
        self._survivors = directories.survivors()

    def allocate(self, requester_uid: int, requester_pid: int) -> GlobalVmContext:
        """A new context for `requester_uid`. Raises CidError or OSError; nothing is reserved then."""
        with self._lock:
            self._forget_dead_survivors()
            cid = self._cids.allocate(self._held.keys() | self._survivors.keys())
            directory = self._directories.create(cid, requester_uid)
            info = VirtualMachineDebugInfo(
                cid=cid,
                temporary_directory=str(directory),
                requester_uid=requester_uid,
                requester_pid=requester_pid,
            )
            self._held[cid] = info
        log.info("CID %d is uid %d's, process %d", cid, requester_uid, requester_pid)
        return GlobalVmContext(self, info)

    def release(self, cid: int) -> None:
        """Frees a CID and removes its directory. No error if it is free already."""
        with self._lock:
            if self._held.pop(cid, None) is None:
                return
            try:
                self._directories.remove(cid)
            except OSError as e:
                log.warning("directory of CID %d stays behind: %s", cid, e)
        log.info("CID %d is free", cid)

    def live(self) -> list[VirtualMachineDebugInfo]:
        """Every VM, by CID. A survivor's process is not known: 0."""
        with self._lock:
            self._forget_dead_survivors()
            found = list(self._held.values())
            found += [self._survivor(cid, uid) for cid, uid in self._survivors.items()]
        return sorted(found, key=lambda info: info.cid)

    def _survivor(self, cid: int, uid: int) -> VirtualMachineDebugInfo:
        directory = Path(self._directories.root, str(cid))
        return VirtualMachineDebugInfo(
            cid=cid, temporary_directory=str(directory), requester_uid=uid
        )

    def _forget_dead_survivors(self) -> None:
        for cid in [c for c in self._survivors if not self._directories.is_locked(c)]:
            del self._survivors[cid]
            try:
                self._directories.remove(cid)
            except OSError as e:
                log.warning("directory of CID %d stays behind: %s", cid, e)
