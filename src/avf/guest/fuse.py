"""Serves trees of files over /dev/fuse: the read-only part of the FUSE protocol, version 7.31.

Source: include/uapi/linux/fuse.h of Linux. Nothing changes, so the kernel caches names,
attributes and pages for ever and this sees each page once.
"""

import errno
import os
import select
import stat
import struct
from collections.abc import Callable
from typing import Protocol

from avf.guest import PAYLOAD_ID
from avf.guest.ziptree import Inode, ZipTreeError

_IN_HEADER = struct.Struct("<IIQQIII4x")
_OUT_HEADER = struct.Struct("<IiQ")
_INIT_OUT = struct.Struct("<IIIIHHIIHHI28x")
_ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
_ENTRY_OUT = struct.Struct("<QQQQII")
_ATTR_OUT = struct.Struct("<QII")
_OPEN_OUT = struct.Struct("<QII")
_READ_IN = struct.Struct("<QQI")
_STATFS_OUT = struct.Struct("<QQQQQIIII24x")
_DIRENT = struct.Struct("<QQII")

_LOOKUP, _FORGET, _GETATTR, _OPEN, _READ, _STATFS, _RELEASE = 1, 2, 3, 14, 15, 17, 18
_FLUSH, _INIT, _OPENDIR, _READDIR, _RELEASEDIR = 25, 26, 27, 28, 29
_INTERRUPT, _DESTROY, _BATCH_FORGET = 36, 38, 42

_MAJOR, _MINOR = 7, 31
_ASYNC_READ = 1 << 0
_PARALLEL_DIROPS = 1 << 18
_MAX_PAGES = 1 << 22
_NO_OPENDIR_SUPPORT = 1 << 24
_WANTED_FLAGS = _ASYNC_READ | _PARALLEL_DIROPS | _MAX_PAGES | _NO_OPENDIR_SUPPORT
_FOPEN_KEEP_CACHE = 1 << 1
_FOREVER = 1 << 32
_MAX_READ = 1 << 20
_BUFFER = 64 << 10
_BLOCK = 4096
_NAME_MAX = 255
_WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_CREAT | os.O_APPEND


class Tree(Protocol):
    """What is served; see `ziptree.ZipTree`."""

    def __len__(self) -> int: ...
    def inode(self, number: int) -> Inode | None: ...
    def open(self, inode: Inode) -> None: ...
    def close(self, inode: Inode) -> None: ...
    def read(self, inode: Inode, offset: int, length: int) -> bytes: ...


class Server:
    """The file system behind one /dev/fuse descriptor."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._handlers: dict[int, Callable[[Inode, bytes], bytes]] = {
            _LOOKUP: self._lookup,
            _GETATTR: self._getattr,
            _OPEN: self._open,
            _READ: self._read,
            _RELEASE: self._release,
            _READDIR: self._readdir,
            _STATFS: self._statfs,
        }

    def answer(self, request: bytes) -> bytes | None:
        """The reply to one request, None where the protocol wants none. Never raises for what the kernel sends."""
        if len(request) < _IN_HEADER.size:
            return None
        _, opcode, unique, node, *_ = _IN_HEADER.unpack_from(request)
        body = request[_IN_HEADER.size :]
        if opcode in (_FORGET, _BATCH_FORGET, _INTERRUPT):
            return None
        try:
            return _reply(unique, 0, self._body(opcode, node, body))
        except OSError as error:
            return _reply(unique, error.errno or errno.EIO)
        except (ZipTreeError, struct.error, KeyError):
            return _reply(unique, errno.EIO)
        except MemoryError:
            return _reply(unique, errno.ENOMEM)

    def _body(self, opcode: int, node: int, body: bytes) -> bytes:
        if opcode == _INIT:
            return _init(body)
        if opcode in (_DESTROY, _FLUSH):
            return b""
        handler = self._handlers.get(opcode)
        if handler is None:
            raise OSError(errno.ENOSYS, "")
        inode = self._tree.inode(node)
        if inode is None:
            raise OSError(errno.ESTALE, "")
        return handler(inode, body)

    def _lookup(self, directory: Inode, body: bytes) -> bytes:
        name = body.rstrip(b"\0").decode("utf-8", "surrogateescape")
        inode = directory.children.get(name)
        if inode is None:
            # node 0 is a negative answer that may be cached
            return _ENTRY_OUT.pack(0, 0, _FOREVER, 0, 0, 0) + bytes(_ATTR.size)
        return _ENTRY_OUT.pack(inode.number, 0, _FOREVER, _FOREVER, 0, 0) + _attributes(inode)

    def _getattr(self, inode: Inode, body: bytes) -> bytes:
        return _ATTR_OUT.pack(_FOREVER, 0, 0) + _attributes(inode)

    def _open(self, inode: Inode, body: bytes) -> bytes:
        (flags,) = struct.unpack_from("<I", body)
        if inode.is_directory:
            raise OSError(errno.EISDIR, "")
        if flags & _WRITE_FLAGS:
            raise OSError(errno.EROFS, "")
        self._tree.open(inode)
        return _OPEN_OUT.pack(0, _FOPEN_KEEP_CACHE, 0)

    def _read(self, inode: Inode, body: bytes) -> bytes:
        _, offset, length = _READ_IN.unpack_from(body)
        return self._tree.read(inode, offset, min(length, _MAX_READ))

    def _release(self, inode: Inode, body: bytes) -> bytes:
        self._tree.close(inode)
        return b""

    def _readdir(self, directory: Inode, body: bytes) -> bytes:
        _, offset, length = _READ_IN.unpack_from(body)
        listed = [(".", directory), ("..", directory), *directory.children.items()]
        reply = bytearray()
        for position, (name, inode) in enumerate(listed[offset:], offset + 1):
            raw = name.encode("utf-8", "surrogateescape")
            record = (
                _DIRENT.pack(inode.number, position, len(raw), stat.S_IFMT(inode.mode) >> 12) + raw
            )
            record += bytes(-len(record) % 8)
            if len(reply) + len(record) > length:
                break
            reply += record
        return bytes(reply)

    def _statfs(self, inode: Inode, body: bytes) -> bytes:
        return _STATFS_OUT.pack(0, 0, 0, len(self._tree), 0, _BLOCK, _NAME_MAX, _BLOCK, 0)


def serve(servers: dict[int, Server]) -> None:
    """Answers requests on each descriptor of /dev/fuse until all of them are unmounted."""
    poll = select.poll()
    for fd in servers:
        poll.register(fd, select.POLLIN)
    while servers:
        for fd, _ in poll.poll():
            try:
                request = os.read(fd, _BUFFER)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    poll.unregister(fd)
                    del servers[fd]
                elif error.errno not in (errno.EINTR, errno.EAGAIN, errno.ENOENT):
                    raise
                continue
            reply = servers[fd].answer(request)
            if reply is not None:
                _write(fd, reply)


def mount_options(fd: int) -> str:
    """What mount(2) of type "fuse" wants to hear of the descriptor that serves it."""
    return f"fd={fd},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other,max_read={_MAX_READ}"


def _write(fd: int, reply: bytes) -> None:
    try:
        os.write(fd, reply)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):  # interrupted, or unmounted meanwhile
            raise


def _reply(unique: int, error: int, body: bytes = b"") -> bytes:
    return _OUT_HEADER.pack(_OUT_HEADER.size + len(body), -error, unique) + body


def _init(body: bytes) -> bytes:
    major, minor, readahead, flags = struct.unpack_from("<IIII", body)
    if major < _MAJOR:
        raise OSError(errno.EPROTO, "")
    pages = _MAX_READ // _BLOCK
    return _INIT_OUT.pack(
        _MAJOR, min(minor, _MINOR), readahead, flags & _WANTED_FLAGS, 16, 12, _BLOCK, 1, pages, 0, 0
    )


def _attributes(inode: Inode) -> bytes:
    """struct fuse_attr: ino, size, blocks, 3 times, their nanoseconds, mode, nlink, uid, gid, rdev, blksize, flags."""
    links = 2 if inode.is_directory else 1
    blocks = (inode.size + 511) // 512
    times = (0,) * 6
    owner = (PAYLOAD_ID, PAYLOAD_ID)
    return _ATTR.pack(
        inode.number, inode.size, blocks, *times, inode.mode, links, *owner, 0, _BLOCK, 0
    )
