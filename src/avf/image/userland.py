"""The guest's programs: Python, shells and their tools, the C library and others, out of distribution packages.

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
from typing import Any

from avf.image import deb
from avf.image.apt import AptCache, Package, Progress
from avf.image.errors import ImageError, PackageError

_LIBRARY = re.compile(r"lib[A-Za-z0-9_+.-]+\.so(\.[0-9.]+)?|ld-linux-x86-64\.so\.[0-9]+")
_STDLIB_LEFT_OUT = re.compile(
    r"(test|idlelib|tkinter|turtledemo|ensurepip|config-[^/]*)/|(.*/)?tests/|(turtle|sitecustomize)\.py$"
    r"|lib-dynload/(_test|_xxtest|_ctypes_test|_tkinter|xxlimited|nis\.)"
)
"""See the guide of the guest for the reasons."""
_MODULE = re.compile(
    r"usr/lib/python3\.[0-9]+/((lib-dynload/)(?P<extension>[^/.]+)\.[^/]*\.so|(?P<name>[^.-]+)\.py)"
)
_NO_MODULE = re.compile(
    r"(^|\.)(__main__|sitecustomize|tests?|_test[a-z]*|_ctypes_test|_xxtestfuzz|xxlimited.*)($|\.)"
)
_PROGRAMS = {
    "usr/bin/bash",
    "usr/bin/busybox",
    "usr/bin/flock",
    "usr/bin/getconf",
    "usr/bin/getent",
    "usr/bin/iconv",
    "usr/bin/ldd",
    "usr/bin/locale",
    "usr/bin/tput",
    "usr/libexec/coreutils/libstdbuf.so",
    "usr/sbin/ldconfig",
    "usr/sbin/mke2fs",
}
_COREUTILS = re.compile(
    r"b2sum|base32|basenc|cksum|comm|csplit|env|fmt|join|nice|nohup|numfmt|pathchk|pr|printenv|split|stdbuf|sum"
    r"|timeout|tsort"
)
"""Those that busybox lacks, or that can do too little in it: `env -S`, the exit code of `timeout`."""
_INTERPRETER = re.compile(r"python3\.[0-9]+")
_DATA = re.compile(
    r"usr/lib/x86_64-linux-gnu/gconv/|usr/lib/locale/C\.utf8/|usr/lib/terminfo/"
    r"|usr/share/zoneinfo/(?!right/|posix/)|usr/share/terminfo/"
)
_ETC = ("etc/ethertypes", "etc/protocols", "etc/rpc", "etc/services", "etc/terminfo/")


_COMPILER = Path(__file__).with_name("collect.py")
_PACKAGES = [
    "bash",
    "coreutils",
    "util-linux",
    "libc6",
    "libc-bin",
    "zlib1g",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "libstdc++6",
    "libcrypt1",
    "libbz2-1.0",
    "liblzma5",
    "libsqlite3-0",
    "libncursesw6",
    "libtinfo6",
    "ncurses-base",
    "ncurses-bin",
    "busybox-static",
    "e2fsprogs",
    "libblkid1",
    "libuuid1",
    "netbase",
    "tzdata",
]
_RENAMED = ["libext2fs2", "libcom-err2", "libreadline8", "libdb5.3", "libgdbm6", "libnettle8"]
"""See _renamed()."""
_OPTIONAL = ["python3-distutils", "python3-lib2to3", "python3-gdbm", "tzdata-legacy"]
"""Parts of the standard library (and of the time zones) that some releases have in packages of their own."""


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

    def bytecode_of(self, source: Path) -> Path:
        tag = self.python.name.replace("python", "cpython-").replace(".", "")
        return source.parent / "__pycache__" / f"{source.stem}.{tag}.pyc"


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
    expressions: dict[str, bytes]
    """Text -> marshalled code, of what `collections` evaluates while the modules are imported."""


def fetch_userland(
    cache: Path, *, update: bool = False, progress: Progress = lambda _: None
) -> Userland:
    """Downloads and unpacks what is not in `cache` yet. Raises ImageError."""
    apt = AptCache(cache, progress)

    def fetch() -> tuple[Package, ...]:
        return tuple(apt.fetch(_package_names(apt, cache, update), update=update).values())

    packages = apt.with_lists(fetch, update=update)
    root = cache / f"userland-{_key(packages)}"
    if not root.exists():
        progress("unpacking the guest's programs")
        _unpack(packages, root)
    return _userland(root, packages)


@dataclass(frozen=True, slots=True)
class Source:
    """A single source to compile."""

    path: Path
    origin: str
    """The name it has in the guest."""
    optimize: int
    """As of compile(): 0 keeps assertions and documentation, 2 drops both."""


def run_in_guests_way(userland: Userland, *command: str | Path, **options: Any) -> bytes:
    """The output of a program of the guest, run on this host. Raises ImageError."""
    libraries = ":".join(str(path) for path in sorted(userland.root.glob("usr/lib/*-linux-gnu")))
    loader = next(userland.root.glob("usr/lib/*-linux-gnu/ld-linux*.so.*"))
    done = subprocess.run(
        [loader, "--library-path", libraries, *command], capture_output=True, check=False, **options
    )
    if done.returncode:
        raise ImageError(f"{command[0]} failed:\n{done.stderr.decode(errors='replace')}")
    output: bytes = done.stdout
    return output


def compile_modules(
    userland: Userland, source_root: Path, modules: list[str], files: list[Source]
) -> Compiled:
    """Compiles modules below `source_root` with all they import, and single files, by the guest's own interpreter."""
    request = {
        "source_root": str(source_root),
        "modules": modules,
        "files": [(str(file.path), file.origin, file.optimize) for file in files],
    }
    output = run_in_guests_way(
        userland,
        userland.python,
        *("-s", "-S", "-B", "-X", "utf8"),
        _COMPILER,
        input=marshal.dumps(request),
        env={
            "PYTHONHASHSEED": "0",
            "PYTHONHOME": str(userland.root / "usr"),
            "PATH": os.environ["PATH"],
        },
    )
    answer = marshal.loads(output)
    return Compiled(
        answer["modules"],
        tuple(answer["extensions"]),
        tuple(answer["files"]),
        answer["failed"],
        answer["expressions"],
    )


def standard_library(cache: Path) -> list[str]:
    """The modules of the standard library as the distribution has them, whether the guest has them or not.

    Without those that do something when they are imported (`__main__`) and tests. Raises ImageError.
    """
    names = set()
    for package in fetch_userland(cache).packages:
        for path, _ in deb.entries(package.path):
            if match := _MODULE.fullmatch(path):
                name = match["name"] or match["extension"]
                names.add(name.replace("/", ".").removesuffix(".__init__"))
    return sorted(name for name in names if not _NO_MODULE.search(name))


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
        *_PACKAGES,
        *(_renamed(apt, name) for name in _RENAMED),
        *(name for name in _OPTIONAL if apt.exists(name)),
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
                path = path if path.startswith(("usr/", "etc/")) else f"usr/{path}"
                if _is_wanted(path):
                    deb.write(temporary, path, entry)
        _compile_stdlib(_userland(temporary, packages))
        _list_libraries(temporary)
        temporary.rename(root)
    except OSError:
        if not root.exists():  # else somebody else was faster
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _key(packages: tuple[Package, ...]) -> str:
    """Tells apart what is unpacked out of other packages, or by other rules."""
    key = hashlib.sha256("\n".join(package.path.name for package in packages).encode())
    for source in (__file__, _COMPILER):
        key.update(Path(source).read_bytes())
    return key.hexdigest()[:16]


def _userland(root: Path, packages: tuple[Package, ...]) -> Userland:
    interpreters = sorted(root.glob("usr/bin/python3.[0-9]*"))
    if not interpreters:
        raise PackageError(
            f"no Python interpreter in {' '.join(package.name for package in packages)}"
        )
    return Userland(root, interpreters[0], packages)


def _compile_stdlib(userland: Userland) -> None:
    """Puts the bytecode where the interpreter looks for it."""
    library = [
        Source(path, f"/{path.relative_to(userland.root)}", 0)
        for path in sorted(userland.stdlib.rglob("*.py"))
    ]
    compiled = compile_modules(userland, userland.root, [], library)
    for source, code in zip(library, compiled.files, strict=True):
        path = userland.bytecode_of(source.path)
        _write(userland.root, path, code)


def _write(root: Path, path: Path, data: bytes) -> None:
    """With the same rights whatever this process's umask is, for the guest has the files with them."""
    deb.write(root, str(path.relative_to(root)), deb.File(0o644, data))


def _list_libraries(root: Path) -> None:
    """ld.so's cache, as the distribution's own ldconfig makes it. Raises ImageError."""
    _write(root, root / "etc/ld.so.conf", b"/usr/lib/x86_64-linux-gnu\n")
    command = [str(root / "usr/sbin/ldconfig"), "-r", str(root), "-X"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageError(f"ldconfig failed:\n{done.stderr}")


def _is_wanted(path: str) -> bool:
    directory, _, name = path.rpartition("/")
    if directory in ("usr/lib64", "usr/lib/x86_64-linux-gnu"):
        return _LIBRARY.fullmatch(name) is not None
    if path in _PROGRAMS or _DATA.match(path) or path.startswith(_ETC):
        return True
    if directory == "usr/bin":
        return any(known.fullmatch(name) for known in (_COREUTILS, _INTERPRETER))
    if match := re.match(r"usr/lib/python3(\.[0-9]+)?/", path):
        return is_in_stdlib(path[match.end() :])
    return False


def is_in_stdlib(path: str) -> bool:
    """Whether the guest has this file of the standard library."""
    return not path.startswith("dist-packages/") and _STDLIB_LEFT_OUT.match(path) is None
