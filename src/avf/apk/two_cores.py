"""Hash a large file on two processors: a helper process works from its end towards us.

Threads would not do: hashing a block takes two microseconds, and as often one would wait for the other's GIL. A pipe
holds a token for each step; whoever takes one does the next step on its side, so a slow helper is no burden.
"""

import os
import subprocess
import sys
from types import TracebackType

from avf.apk import merkle
from avf.apk.source import Source

MIN_SIZE = 48 << 20
"""Below it, starting a helper costs more than it saves."""
_MAX_TOKENS = 4096
"""So many fit in the smallest pipe that the kernel makes."""

_HELPER = """
import mmap, os, sys
from _hashlib import openssl_sha256 as sha256
fd, out, tokens, size, block, step, part = map(int, sys.argv[1:])
buffer = memoryview(mmap.mmap(-1, part))
blocks = [buffer[at : at + block] for at in range(0, part, block)]
end = -(-size // step) * step
while os.read(tokens, 1):
    end -= step
    for offset in range(end, min(end + step, size), part):
        length = min(part, size - offset)
        if os.preadv(fd, [buffer[:length]], offset) != length:
            sys.exit(1)
        buffer[length:] = bytes(part - length)
        digests = [sha256(item).digest() for item in blocks[: -(-length // block)]]
        os.pwrite(out, b"".join(digests), offset // block * 32)
"""


def build(fd: int, source: Source, sink: merkle.Sink) -> bytes:
    """As `merkle.build` without a salt, where `source` reads the descriptor `fd`."""
    size = source.size
    tree = merkle.TreeBuilder(merkle.level_sizes(size), b"", sink)
    feed = merkle.Feeder(tree, source).feed
    if not _worth_it(size):
        feed(0, size)
        return tree.finish()
    with _Helper(fd, size) as helper:
        position = 0
        while helper.take_step():
            end = min(position + merkle.READ_SIZE, size)
            feed(position, end)
            position = end
        if helper.done():
            _add_digests(tree, helper, position // merkle.BLOCK_SIZE * merkle.HASH_SIZE)
        else:
            feed(position, size)
    return tree.finish()


def _worth_it(size: int) -> bool:
    steps = size // merkle.READ_SIZE
    several = len(os.sched_getaffinity(0)) > 1
    return size >= MIN_SIZE and steps < _MAX_TOKENS and several and bool(sys.executable)


def _add_digests(tree: merkle.TreeBuilder, helper: "_Helper", start: int) -> None:
    for offset in range(start, helper.digests_size, merkle.READ_SIZE):
        tree.add_digests(helper.read(offset, min(merkle.READ_SIZE, helper.digests_size - offset)))


class _Helper:
    """The process and the digests that it writes. Leaving the context ends it."""

    def __init__(self, fd: int, size: int) -> None:
        self.digests_size = -(-size // merkle.BLOCK_SIZE) * merkle.HASH_SIZE
        self._digests = os.memfd_create("avf-digests", os.MFD_CLOEXEC)
        self._tokens, tokens = os.pipe()
        self._process: subprocess.Popen[bytes] | None = None
        fds = (fd, self._digests, self._tokens)
        step = merkle.READ_SIZE
        numbers = (*fds, size, merkle.BLOCK_SIZE, step, min(step, merkle.BUFFER_SIZE))
        command = [sys.executable, "-I", "-S", "-c", _HELPER, *map(str, numbers)]
        try:
            os.write(tokens, bytes(-(-size // merkle.READ_SIZE)))
            os.ftruncate(self._digests, self.digests_size)
            null = subprocess.DEVNULL
            self._process = subprocess.Popen(command, stdin=null, stderr=null, pass_fds=fds)
        except OSError:
            self._process = None
        finally:
            os.close(tokens)

    def __enter__(self) -> "_Helper":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._digests)
        os.close(self._tokens)

    def take_step(self) -> bool:
        """May we do one more? False once all are taken."""
        return bool(os.read(self._tokens, 1))

    def done(self) -> bool:
        """Wait for it; has it done what it took?"""
        return self._process is not None and self._process.wait() == 0

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._digests, length, offset)
