"""The guest's programs: Python, the C library, OpenSSL's libcrypto, busybox and mke2fs, out of distribution packages.

Packages are unpacked only as far as the image needs them, into the cache. The unpacked interpreter also runs on the
building host, where it compiles the agent to its own bytecode.
"""

import hashlib
import marshal
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from avf.image import deb
from avf.image.apt import AptCache, Package, Progress
from avf.image.errors import ImageError, PackageError

_LIBRARIES = re.compile(
    r"(ld-linux-x86-64|libc|libm|libz|libzstd|libexpat|libffi|libcrypto|libdl|libpthread|librt|libutil|libgcc_s"
    r"|libext2fs|libe2p|libcom_err|libblkid|libuuid)\.so\.[0-9]+(\.[0-9.]+)?"
)
_STDLIB_LEFT_OUT = re.compile(
    r"(test|idlelib|tkinter|lib2to3|ensurepip|distutils|pydoc_data|turtledemo|venv|config-[^/]*|curses|dbm|sqlite3|xmlrpc)/"
    r"|(turtle|pydoc|doctest|pdb|antigravity|this|cgi|cgitb|nntplib|imaplib|smtpd|ftplib|poplib|telnetlib|mailbox)\.py"
    r"|(_sysconfigdata|_pydecimal|_pyio).*|unittest/"
)
_EXTENSIONS = [
    "_asyncio",
    "_bz2",
    "_contextvars",
    "_ctypes",
    "_decimal",
    "_hashlib",
    "_json",
    "_lzma",
    "_multiprocessing",
    "_posixshmem",
    "_queue",
    "_typing",
    "_uuid",
    "_zoneinfo",
    "mmap",
    "resource",
    "termios",
]


@dataclass(frozen=True, slots=True)
class Userland:
    """An unpacked tree (`usr/...`) and what is worth knowing about it."""

    root: Path
    python: Path
    """The interpreter, e.g. ROOT/usr/bin/python3.11."""
    packages: tuple[Package, ...]

    @property
    def stdlib(self) -> Path:
        return self.root / "usr/lib" / self.python.name


@dataclass(frozen=True, slots=True)
class Compiled:
    """Bytecode of the guest's interpreter."""

    modules: dict[str, tuple[bool, bytes]]
    """Name -> (is a package, marshalled code)."""
    extensions: tuple[str, ...]
    """Extension modules that the modules load."""
    files: tuple[bytes, ...]
    """Contents of .pyc files, in the order of the sources."""
    failed: dict[str, str]
    """Modules that cannot be imported in the guest, and why."""


def fetch_userland(
    cache: Path, *, update: bool = False, progress: Progress = lambda _: None
) -> Userland:
    """Downloads and unpacks what is not in `cache` yet. Raises ImageError."""
    apt = AptCache(cache, progress)

    def fetch() -> tuple[Package, ...]:
        return tuple(apt.fetch(_package_names(apt, cache, update), update=update).values())

    packages = apt.with_lists(fetch, update=update)
    key = hashlib.sha256("\n".join(package.path.name for package in packages).encode())
    root = cache / f"userland-{key.hexdigest()[:16]}"
    if not root.exists():
        progress("unpacking the guest's programs")
        _unpack(packages, root)
    interpreters = sorted(root.glob("usr/bin/python3.[0-9]*"))
    if not interpreters:
        raise PackageError(
            f"no Python interpreter in {' '.join(package.name for package in packages)}"
        )
    return Userland(root, interpreters[0], packages)


def compile_modules(
    userland: Userland, source_root: Path, modules: list[str], files: list[Path]
) -> Compiled:
    """Compiles modules below `source_root` with all they import, and single files, by the guest's own interpreter."""
    request = {
        "source_root": str(source_root),
        "modules": modules,
        "files": [str(path) for path in files],
    }
    script = Path(__file__).with_name("collect.py")
    libraries = ":".join(str(path) for path in sorted(userland.root.glob("usr/lib/*-linux-gnu")))
    loader = next(userland.root.glob("usr/lib/*-linux-gnu/ld-linux*.so.*"))
    done = subprocess.run(
        [
            loader,
            "--library-path",
            libraries,
            userland.python,
            "-s",
            "-S",
            "-B",
            "-X",
            "utf8",
            script,
        ],
        input=marshal.dumps(request),
        capture_output=True,
        env={
            "PYTHONHASHSEED": "0",
            "PYTHONHOME": str(userland.root / "usr"),
            "PATH": os.environ["PATH"],
        },
        check=False,
    )
    if done.returncode:
        raise ImageError(
            f"compiling the guest's modules failed:\n{done.stderr.decode(errors='replace')}"
        )
    answer = marshal.loads(done.stdout)
    return Compiled(
        answer["modules"], tuple(answer["extensions"]), tuple(answer["files"]), answer["failed"]
    )


def _package_names(apt: AptCache, cache: Path, update: bool) -> list[str]:
    """The interpreter's name carries its version, so it is asked of apt once and kept."""
    record = cache / "python-package"
    if update or not record.exists():
        minimal = apt.dependency("python3-minimal", r"python3\.[0-9]+-minimal")
        record.write_text(minimal)
    python = record.read_text().removesuffix("-minimal")
    return [
        f"{python}-minimal",
        f"lib{python}-minimal",
        f"lib{python}-stdlib",
        "libc6",
        "zlib1g",
        "libexpat1",
        "libffi8",
        "libgcc-s1",
        "busybox-static",
        "e2fsprogs",
        "libblkid1",
        "libuuid1",
        *(_renamed(apt, name) for name in ("libext2fs2", "libcom-err2")),
        *_with_zstd(apt, _renamed(apt, "libssl3")),
    ]


def _with_zstd(apt: AptCache, libssl: str) -> list[str]:
    """Newer builds of libcrypto are linked with libzstd."""
    try:
        return [libssl, apt.dependency(libssl, "libzstd1")]
    except PackageError:
        return [libssl]


def _renamed(apt: AptCache, name: str) -> str:
    """Ubuntu 24.04 gave libraries with 64-bit time a suffix; Debian's and its other ones go without."""
    return f"{name}t64" if apt.exists(f"{name}t64") else name


def _unpack(packages: tuple[Package, ...], root: Path) -> None:
    temporary = root.with_name(f"{root.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    try:
        for package in packages:
            for path, entry in deb.entries(package.path):
                path = path if path.startswith("usr/") else f"usr/{path}"
                if _is_wanted(path):
                    deb.write(temporary, path, entry)
        temporary.rename(root)
    except OSError:
        if not root.exists():  # else somebody else was faster
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_wanted(path: str) -> bool:
    directory, _, name = path.rpartition("/")
    if directory in ("usr/lib64", "usr/lib/x86_64-linux-gnu"):
        return _LIBRARIES.fullmatch(name) is not None
    if path == "usr/sbin/mke2fs":
        return True
    if directory == "usr/bin":
        return name == "busybox" or re.fullmatch(r"python3\.[0-9]+", name) is not None
    if match := re.match(r"usr/lib/python3\.[0-9]+/", path):
        inside = path[match.end() :]
        if inside.startswith("lib-dynload/"):
            return name.partition(".")[0] in _EXTENSIONS
        return path.endswith(".py") and _STDLIB_LEFT_OUT.match(inside) is None
    return False
