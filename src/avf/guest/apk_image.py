"""Plans the block device that shows an APK as an EROFS file system, out of the APK's own device and what is made here.

    superblock                                                         made
    large uncompressed files, where they lie                           the APK's device
      what of them is left behind the last whole block, and zeros      made
    other files of more than a block, unpacked                         made: at once if they are few, else when read
    a block for the contents of broken files                           cannot be read
    inodes and directories                                             made
    files of less than a block behind their inodes                     made: at once if they are few, else when read

The rest of a file is not read where it lies, because whoever maps the file would find behind its end what comes next in
the archive.
"""

from avf.guest import PAYLOAD_ID
from avf.guest.erofs import BLOCK, ErofsError, metadata, superblock
from avf.guest.near import NEAR_MAX, NearFiles
from avf.guest.served import Served
from avf.guest.unpacked import SMALL, Unpacked
from avf.guest.ziptree import ROOT, Inode, ZipTree, ZipTreeError
from avf.named import NamedTuple

_MAX_DIRECT = 256
"""So many files, the largest, are read where they lie; each costs a look into the archive and a block of memory."""
_SHIFTED_SIZE = 1 << 20
_MAX_SHIFTS = 8
"""Files that begin within a block need a device of their own, or of all that begin at the same place in it."""
_AT_ONCE = 64
"""So many blocks of other files are made at once: less work than to start a server that makes them when read."""
_MAX_BLOCKS = 1 << 31
"""Half of what EROFS can number, which leaves enough for metadata. Archives can claim more for their files."""


class Made(NamedTuple):
    """Blocks that lie in `ApkImage.made`."""

    start: int
    blocks: int


class InApk(NamedTuple):
    """Blocks of the APK's device; `shift`: bytes by which all of them begin later."""

    shift: int
    start: int
    blocks: int


class WhenRead(NamedTuple):
    """Blocks of `ApkImage.served`."""

    start: int
    blocks: int


class Broken(NamedTuple):
    """Blocks that cannot be read."""

    blocks: int


Segment = Made | InApk | WhenRead | Broken


class ApkImage:
    """The image of `tree`, which reads the archive behind the borrowed descriptor `fd`.

    Raises ErofsError if this archive cannot be shown so. A file that is broken fails when it is read, not here.
    """

    def __init__(self, fd: int, tree: ZipTree) -> None:
        self._tree = tree
        self._metadata_block = self._inodes = 0
        self.made = bytearray(BLOCK)
        self.served: Served | None = None
        """What is left to be made when it is read."""
        self.near_block = 0
        """Where the files begin that lie behind their inodes."""
        self.segments: list[Segment] = [Made(0, 1)]
        self._blocks = 1
        direct = self._add_direct()
        served = self._lay_out(fd, direct)
        self._add_unpacked(served)
        served.near.broken_block = self._blocks
        self._add(Broken(1))
        self._add_metadata()
        self._add_near(served.near)

    def _add_direct(self) -> set[int]:
        """The numbers of the inodes whose data are read where they lie."""
        direct = set()
        shifts = {0}
        for inode, offset in self._direct_files():
            start, shift = divmod(offset, BLOCK)
            if shift not in shifts:
                if inode.size < _SHIFTED_SIZE or len(shifts) > _MAX_SHIFTS:
                    continue
                shifts.add(shift)
            whole, rest = divmod(inode.size, BLOCK)
            try:
                tail = self._tree.read(inode, whole * BLOCK, rest)
            except (ZipTreeError, OSError):
                continue
            inode.block = self._blocks
            self._add(InApk(shift, start, whole))
            if rest:
                self._make(tail)
            direct.add(inode.number)
        return direct

    def _direct_files(self) -> list[tuple[Inode, int]]:
        """The large uncompressed files, with the byte of the APK where they begin."""
        large = [inode for inode in self._tree.files() if inode.is_stored and inode.size > SMALL]
        large = sorted(large, key=lambda inode: -inode.size)[:_MAX_DIRECT]
        for inode in large:
            self._tree.prefetch(inode)
        found = []
        for inode in large:
            try:
                found.append((inode, self._tree.data_offset(inode)))
            except (ZipTreeError, OSError):
                continue
        return found

    def _lay_out(self, fd: int, direct: set[int]) -> Served:
        """Gives the files that are not direct their places."""
        unpacked = Unpacked(fd, self._tree)
        near = NearFiles(unpacked)
        others = [node for node in self._tree.files() if node.size and node.number not in direct]
        for inode in sorted(others, key=lambda inode: inode.size > SMALL):
            if inode.size <= NEAR_MAX:
                inode.slot = near.add(inode)
            else:
                inode.block = self._blocks + unpacked.add(inode)
        served = Served(near, unpacked)
        if self._blocks + served.blocks > _MAX_BLOCKS:
            raise ErofsError(f"{served.blocks} blocks of files, {_MAX_BLOCKS} are possible")
        return served

    def _add_unpacked(self, served: Served) -> None:
        unpacked = served.unpacked
        if served.blocks <= _AT_ONCE:
            try:
                self._make(unpacked.read(0, unpacked.size))
                return
            except (ZipTreeError, OSError, MemoryError):
                pass  # one file is broken; only who reads that one is to hear of it
        self.served = served
        self._add(WhenRead(served.near.blocks, unpacked.blocks))

    def _add_metadata(self) -> None:
        root = self._tree.inode(ROOT)
        assert root is not None
        self._metadata_block = self._blocks
        made = metadata(root, self._blocks, PAYLOAD_ID)
        self._inodes = made.inodes
        self._make(made.data)

    def _add_near(self, near: NearFiles) -> None:
        self.near_block = self._blocks
        if self.served is None:
            self._make(near.read(0, near.size))
        else:
            self._add(WhenRead(0, near.blocks))
        self.made[:BLOCK] = superblock(self._metadata_block, self._blocks, self._inodes)

    def _make(self, data: bytes | bytearray) -> None:
        start = len(self.made) // BLOCK
        self.made += data
        self.made += bytes(-len(self.made) % BLOCK)
        self._add(Made(start, len(self.made) // BLOCK - start))

    def _add(self, segment: Segment) -> None:
        if segment.blocks:
            self.segments.append(segment)
            self._blocks += segment.blocks
