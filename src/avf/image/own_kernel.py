"""A kernel of our own configuration, compiled from the distribution's source package.

It has what guests need built in, no modules, and little else.
"""

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from avf.image import kbuild
from avf.image.apt import AptCache, Package, Progress
from avf.image.kernel import KernelFiles, current_kernel, files_in, keep_as_current
from avf.image.kernel_source import unpack_source
from avf.image.tools import check_tools

CONFIG = Path(__file__).with_name("own_kernel.config")

_META_PACKAGE = "linux-source"
_VERSIONED = r"linux-source-[0-9.]+"
_RECORD = "own"


def fetch_own_kernel(
    cache: Path, *, update: bool = False, progress: Progress = lambda _: None
) -> KernelFiles:
    """The kernel from `cache`; its source is downloaded and compiled first if it is not there, if the configuration or
    the compiler is another, or if `update` asks for the newest.

    Raises ImageError.
    """
    rules = _rules()
    if not update and (kernel := current_kernel(cache, _RECORD, rules)):
        return kernel
    check_tools(for_kernel=True)
    apt = AptCache(cache, progress)

    def fetch() -> Package:
        name = apt.dependency(_META_PACKAGE, _VERSIONED)
        return apt.fetch([name], update=update)[name]

    package = apt.with_lists(fetch, update=update)
    directory = cache / "kernel" / f"own_{package.version}_{rules}"
    if not directory.exists():
        build_from(package, directory, progress)
    release = (directory / "release").read_text()
    keep_as_current(cache, _RECORD, directory, release, rules)
    return files_in(directory, release)


def _rules() -> str:
    """Tells apart what is compiled by another compiler or to another configuration."""
    compiler = subprocess.run(["gcc", "--version"], capture_output=True, check=True).stdout
    rules = hashlib.sha256(compiler + CONFIG.read_bytes())
    rules.update(repr(sorted(kbuild.SETTINGS.items())).encode())
    return rules.hexdigest()[:16]


def build_from(package: Package, directory: Path, progress: Progress = lambda _: None) -> None:
    """Compiles the source in `package` into the folder `directory`, all of it or nothing. Raises ImageError."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix="own-") as scratch:
        source, result = Path(scratch, "source"), Path(scratch, "result")
        progress("unpacking the kernel's source")
        source.mkdir()
        unpack_source(package, source)
        progress("compiling the kernel, which takes minutes")
        kbuild.configure(source, CONFIG)
        release = kbuild.compile_kernel(source)
        _collect(source, result, release)
        try:
            result.rename(directory)
        except OSError:
            if not directory.exists():  # else somebody else was faster
                raise


def _collect(source: Path, result: Path, release: str) -> None:
    """What of the tree is kept, in the form of a distribution's kernel."""
    modules = result / "modules"
    modules.mkdir(parents=True)
    kbuild.strip(source / "vmlinux", result / "vmlinux")
    shutil.copyfile(source / "modules.builtin", modules / "modules.builtin")
    (result / "release").write_text(release)
