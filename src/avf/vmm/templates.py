"""Where templates are kept: booted, empty guests, saved so that any number of VMs can begin as clones of one.

    FOLDER/KEY/state          the saved machine, in a form that its VMM knows
    FOLDER/KEY/template.json  what is known about it, see `TemplateFacts`
    FOLDER/.new-*             one that is being made
    FOLDER/.lock              held by whoever makes or removes templates

KEY is a digest of all that a template depends on, so that a template never goes out of date: it is only not asked for
any more, and removed when room is needed. The state is code that every clone runs. So a template counts only if it is
the owner's and nobody else could have written it, and if the state is as long as it was and has the same digest.
"""

import errno
import fcntl
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from avf.decoding import in_words
from avf.runtime import SYSTEM_TEMPLATE_DIR, user_template_dir
from avf.trust import others_may_write
from avf.vmm.base import VmmError
from avf.vmm.digests import file_digest

FORMAT = 2
"""Of a template's folder. It is a part of the key."""
MAX_BYTES = 1 << 30
"""What the templates in one folder may take together; the one that was used last is always kept."""

MAX_MEMORY_MIB = 1 << 24
"""Of a template's guest: more than any has."""

_STATE, _FACTS, _LOCK, _SCRATCH = "state", "template.json", ".lock", ".new-"
_MAX_FACTS = 1 << 16
_ROOT = 0
_KEY = re.compile(r"[0-9a-f]{64}")


class TemplateError(VmmError):
    """A template cannot be used, made or removed; the message says which and why."""


class TemplateLate(TemplateError):
    """It was not made in time, or somebody ended what it took: it may be made another time."""


class TemplateFacts(msgspec.Struct, frozen=True):
    """template.json."""

    format: int
    key: str
    state_size: int
    state_sha256: str
    made_at: int
    """Seconds since 1970."""
    vmm: str
    memory_mib: Annotated[int, msgspec.Meta(ge=1, le=MAX_MEMORY_MIB)]
    cpus: int
    tsc_khz: int | None
    """The rate of the counter that the guest takes for its clock, if its VMM told it one."""


@dataclass(frozen=True, slots=True)
class StoredTemplate:
    """One folder in the store."""

    key: str
    size: int
    """Bytes on the disk."""
    used_at: float
    facts: TemplateFacts | None
    problem: str | None
    """Why it is not used; None if nothing is known against it."""


class TemplateStore:
    """Templates in one folder, all of one owner. Several processes may use it at once."""

    def __init__(self, folder: Path, owner: int, *, shared: bool = False) -> None:
        """`shared`: everybody may read what the owner keeps here."""
        self.folder = folder
        self._owner = owner
        self._folder_mode, self._file_mode = (0o755, 0o444) if shared else (0o700, 0o400)

    @property
    def is_ours(self) -> bool:
        """Whether we may change it."""
        return self._owner == os.geteuid()

    def open(self, key: str) -> tuple[int, TemplateFacts] | None:
        """The state, open to be read, and what is known about it; None if there is no such template.

        Raises TemplateError if there is one that must not be used.
        """
        opened = self._open(key)
        if opened is not None:
            with suppress(OSError):
                os.utime(self.folder / key)  # it was used now
        return opened

    def _open(self, key: str) -> tuple[int, TemplateFacts] | None:
        path = self.folder / key
        try:
            folder = self._open_folder(key)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise TemplateError(f"template {path}: {error.strerror}") from error
        try:
            self._check_owner(folder, path)
            known = self._read_facts(folder, path)
            if known.key != key:
                raise TemplateError(f"template {path}: it was kept under another name")
            state = self._open_file(folder, _STATE, path)
            try:
                _check_state(state, known, path)
                return state, known
            except BaseException:
                os.close(state)
                raise
        except OSError as error:
            raise TemplateError(f"template {path}: {error.strerror}") from error
        finally:
            os.close(folder)

    def add(self, key: str, write: Callable[[int], TemplateFacts]) -> None:
        """Keeps what `write` puts into an empty file, under `key`: all of it or nothing, also if the power fails.

        The lock must be held. `write` leaves size and digest to us. Raises TemplateError, or what `write` raises.
        """
        scratch = self.folder / f"{_SCRATCH}{os.getpid()}-{os.urandom(4).hex()}"
        try:
            scratch.mkdir(mode=0o700)
            try:
                self._fill(key, scratch, write)
                scratch.chmod(self._folder_mode)
                self._replace(scratch, self.folder / key)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
            self.collect(keep=key)
        except OSError as error:
            raise TemplateError(f"cannot keep a template in {self.folder}: {error}") from error

    def list(self) -> list[StoredTemplate]:
        """All there are, the one that was used last first."""
        try:
            names = [path.name for path in self.folder.iterdir() if _KEY.fullmatch(path.name)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise TemplateError(f"cannot list {self.folder}: {error.strerror}") from error
        found = [self._describe(name) for name in names]
        return sorted(found, key=lambda template: template.used_at, reverse=True)

    def remove(self, key: str) -> None:
        """VMs that have begun as clones of it live on. Raises TemplateError."""
        try:
            self._bury(self.folder / key)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise TemplateError(f"cannot remove {self.folder / key}: {error}") from error

    def collect(self, limit: int = MAX_BYTES, keep: str | None = None) -> None:
        """Removes what was begun and not ended, and the templates not used for longest until the rest fits.

        The lock must be held. Raises TemplateError.
        """
        for path in self.folder.glob(f"{_SCRATCH}*"):
            shutil.rmtree(path, ignore_errors=True)
        total = 0
        for index, template in enumerate(self.list()):
            total += template.size
            if total > limit and index and template.key != keep:
                self.remove(template.key)
                total -= template.size

    @contextmanager
    def lock(self) -> Iterator[bool]:
        """Whether nobody else makes templates here; then nobody will while the context lasts. Makes the folder.

        Raises TemplateError.
        """
        try:
            if not self.folder.is_dir():
                self.folder.mkdir(parents=True, exist_ok=True)
                self.folder.chmod(self._folder_mode)
            fd = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise TemplateError(f"cannot keep templates in {self.folder}: {error}") from error
        try:
            yield _try_lock(fd)
        finally:
            os.close(fd)

    def _describe(self, key: str) -> StoredTemplate:
        path = self.folder / key
        size, used_at = 0, 0.0
        known: TemplateFacts | None = None
        problem: str | None = None
        try:
            used_at = path.stat().st_mtime
            size = sum(file.lstat().st_size for file in path.iterdir())
            opened = self._open(key)
            if opened is not None:
                os.close(opened[0])
                known = opened[1]
        except (OSError, TemplateError) as error:
            problem = str(error)
        return StoredTemplate(key, size, used_at, known, problem)

    def _open_folder(self, key: str) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        parent = os.open(self.folder, flags & ~os.O_NOFOLLOW)
        try:
            self._check_owner(parent, self.folder)
            return os.open(key, flags, dir_fd=parent)
        finally:
            os.close(parent)

    def _check_owner(self, fd: int, path: Path) -> None:
        status = os.fstat(fd)
        if status.st_uid != self._owner:
            raise TemplateError(f"template: {path} belongs to uid {status.st_uid}")
        if others_may_write(fd, status):
            raise TemplateError(f"template: others than its owner may write to {path}")

    def _open_file(self, folder: int, name: str, path: Path) -> int:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            fd = os.open(name, flags, dir_fd=folder)
        except OSError as error:
            raise TemplateError(f"template {path}: {name}: {error.strerror}") from error
        try:
            self._check_owner(fd, path / name)
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise TemplateError(f"template {path}: {name} is no regular file")
            return fd
        except BaseException:
            os.close(fd)
            raise

    def _read_facts(self, folder: int, path: Path) -> TemplateFacts:
        with open(self._open_file(folder, _FACTS, path), "rb") as file:
            text = file.read(_MAX_FACTS)
        try:
            known = msgspec.json.decode(text, type=TemplateFacts)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise TemplateError(f"template {path}: {_FACTS}: {in_words(error)}") from None
        if known.format != FORMAT:
            raise TemplateError(
                f"template {path}: {_FACTS}: format is {known.format}, not {FORMAT}"
            )
        return known

    def _fill(self, key: str, scratch: Path, write: Callable[[int], TemplateFacts]) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        state = os.open(scratch / _STATE, flags, 0o600)
        try:
            known = write(state)
            os.fchmod(state, self._file_mode)
            os.fsync(state)
            size, digest = os.fstat(state).st_size, file_digest(state)
        finally:
            os.close(state)
        known = msgspec.structs.replace(known, key=key, state_size=size, state_sha256=digest)
        facts = os.open(scratch / _FACTS, flags, 0o600)
        try:
            os.fchmod(facts, self._file_mode)
            os.write(facts, msgspec.json.encode(known) + b"\n")
            os.fsync(facts)
        finally:
            os.close(facts)

    def _replace(self, scratch: Path, path: Path) -> None:
        with suppress(FileNotFoundError):
            self._bury(path)
        scratch.rename(path)
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _bury(self, path: Path) -> None:
        """Out of sight at once, whoever looks meanwhile."""
        grave = path.with_name(f"{_SCRATCH}{os.getpid()}-{os.urandom(4).hex()}")
        path.rename(grave)
        shutil.rmtree(grave, ignore_errors=True)


def user_templates() -> TemplateStore:
    """The calling user's own."""
    return TemplateStore(user_template_dir(), os.geteuid())


def system_templates() -> TemplateStore:
    """Those that root has made for all users of this host."""
    return TemplateStore(SYSTEM_TEMPLATE_DIR, _ROOT, shared=True)


def new_facts(vmm: str, memory_mib: int, cpus: int, tsc_khz: int | None) -> TemplateFacts:
    """Of a template that is made now, without key, size and digest."""
    return TemplateFacts(FORMAT, "", 0, "", int(time.time()), vmm, memory_mib, cpus, tsc_khz)


def _check_state(fd: int, known: TemplateFacts, path: Path) -> None:
    size = os.fstat(fd).st_size
    if size != known.state_size:
        raise TemplateError(
            f"template {path}: {_STATE} has {size} bytes instead of {known.state_size}"
        )
    if file_digest(fd) != known.state_sha256:
        raise TemplateError(f"template {path}: {_STATE} is not what was saved")


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError as error:
        if error.errno != errno.EWOULDBLOCK:
            raise
        return False
