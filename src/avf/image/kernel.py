"""The guest's kernel: the distribution's kernel for virtual machines, unpacked and ready for QEMU."""

import json
import os
import platform
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from avf.image import deb
from avf.image.apt import AptCache, Package, Progress
from avf.image.bzimage import extract_vmlinux
from avf.image.errors import OTHER_HOST, KernelError, PackageError
from avf.image.modules import ModuleTree

_META_PACKAGES = ("linux-image-cloud-amd64", "linux-image-virtual")
_VERSIONED = r"linux-image-(unsigned-)?[0-9][a-z0-9+.-]*"
_RECORD = "current"
_NO_RECORD = (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True)
class KernelFiles:
    """A kernel on disk."""

    vmlinux: Path
    """Uncompressed ELF, bootable by PVH."""
    release: str
    modules_dir: Path
    """What would be /lib/modules/RELEASE; the files may be compressed."""


def fetch_kernel(
    cache: Path, *, update: bool = False, progress: Progress = lambda _: None
) -> KernelFiles:
    """The kernel from `cache`, downloaded and unpacked first if it is not there or `update` asks for the newest.

    Raises ImageError. Several processes may call this at once.
    """
    if not update and (kernel := current_kernel(cache, _RECORD)):
        return kernel
    if platform.machine() != "x86_64":
        raise KernelError(f"no kernel package is known for {platform.machine()}", OTHER_HOST)
    apt = AptCache(cache, progress)

    def fetch() -> list[Package]:
        return list(apt.fetch(_package_names(apt), update=update).values())

    packages = apt.with_lists(fetch, update=update)
    progress("unpacking the kernel")
    release = packages[0].name.removeprefix("linux-image-").removeprefix("unsigned-")
    directory = cache / "kernel" / f"{release}_{packages[0].version}"
    if not directory.exists():
        _unpack([package.path for package in packages], release, directory)
    keep_as_current(cache, _RECORD, directory, release)
    return files_in(directory, release)


def module_closure(kernel: KernelFiles, names: Iterable[str]) -> list[Path]:
    """The files of the named modules and of all they need, in load order, without built-in ones. Raises KernelError."""
    return ModuleTree(kernel.modules_dir).closure(names)


def _package_names(apt: AptCache) -> list[str]:
    for meta in _META_PACKAGES:
        if apt.exists(meta):
            image = apt.dependency(meta, _VERSIONED)
            modules = image.replace("-image-unsigned-", "-image-").replace("-image-", "-modules-")
            return [image, modules] if apt.exists(modules) else [image]
    raise PackageError(f"the host's package sources have none of: {' '.join(_META_PACKAGES)}")


def _unpack(packages: list[Path], release: str, directory: Path) -> None:
    temporary = directory.with_name(f"{directory.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    modules = temporary / "modules"
    try:
        modules.mkdir()
        for package in packages:
            for path, entry in deb.entries(package):
                inside = path.removeprefix("usr/").removeprefix(f"lib/modules/{release}/")
                if not isinstance(entry, deb.File):
                    continue
                if path == f"boot/vmlinuz-{release}":
                    kernel = _vmlinux(package, path, entry.data)
                    deb.write(temporary, "vmlinux", deb.File(0o644, kernel))
                elif inside not in (path, path.removeprefix("usr/")):
                    deb.write(modules, inside, deb.File(0o644, entry.data))
        for needed in (temporary / "vmlinux", modules):
            if not needed.exists() or (needed == modules and not any(modules.iterdir())):
                raise KernelError(
                    f"the kernel's packages have no {needed.name}: {' '.join(map(str, packages))}"
                )
        temporary.rename(directory)
    except OSError:
        if not directory.exists():  # else somebody else was faster
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _vmlinux(package: Path, path: str, image: bytes) -> bytes:
    try:
        return extract_vmlinux(image)
    except KernelError as error:
        raise KernelError(f"{package}: {path}: {error}") from error


def files_in(directory: Path, release: str) -> KernelFiles:
    """The kernel that was put into this folder of the cache."""
    return KernelFiles(directory / "vmlinux", release, directory / "modules")


def current_kernel(cache: Path, record: str, rules: str = "") -> KernelFiles | None:
    """What `keep_as_current` was told last, if it is still there and was made by the same rules."""
    try:
        kept = json.loads(_record(cache, record).read_text())
        kernel = files_in(cache / "kernel" / kept["directory"], kept["release"])
        if kept.get("rules", "") != rules:
            return None
    except _NO_RECORD:
        return None
    return kernel if kernel.vmlinux.exists() and kernel.modules_dir.is_dir() else None


def keep_as_current(
    cache: Path, record: str, directory: Path, release: str, rules: str = ""
) -> None:
    """Notes in the cache which kernel to take until a newer one is asked for."""
    kept = {"directory": directory.name, "release": release} | ({"rules": rules} if rules else {})
    path = _record(cache, record)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(kept) + "\n")
    temporary.replace(path)


def _record(cache: Path, name: str) -> Path:
    return cache / "kernel" / f"{name}.json"
