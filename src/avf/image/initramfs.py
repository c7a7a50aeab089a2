"""Puts the guest's two trees together.

The initial RAM disk has what init and the agent need until they have mounted the system, which takes the place of
its /usr: the interpreter, their bytecode, the kernel's modules. All else is in the system, from where only what is used
is ever read.
"""

import marshal
import re
import stat
import subprocess
from pathlib import Path

import avf.guest
from avf.guest import HOME, HOSTNAME, PAYLOAD_ID, SITE_PACKAGES
from avf.image.cpio import Cpio
from avf.image.errors import PackageError
from avf.image.kernel import KernelFiles
from avf.image.modules import (
    ModuleTree,
    module_name,
    read_module,
    without_signature,
    without_unused_sections,
)
from avf.image.native import PAYLOAD_LIBRARY, compile_payload_library
from avf.image.system import System
from avf.image.untraced import without_tracing
from avf.image.userland import Source, Userland, compile_modules

GUEST_SOURCES = Path(avf.guest.__file__).parent
SOURCE_ROOT = GUEST_SOURCES.parents[1]
DEBUGGABLE_MARKER = "etc/avf/debuggable"

_MODULES = {
    "modules": [
        "virtio_mmio",
        "virtio_console",
        "vmw_vsock_virtio_transport",
        "virtio_blk",
        "dm-verity",
        "loop",
        "erofs",
        "virtio_balloon",
        "pvpanic-mmio",
        "lzo-rle",
        "zram",
    ],
    "pci-modules": ["virtio_pci"],
}
"""What init loads: always, and where a PCI bus has devices."""
_OPTIONAL_MODULES = {"virtio_balloon", "pvpanic-mmio"}
"""What a guest can do without where a kernel has no such driver."""
_LATER_MODULES = {
    "erofs": ["erofs"],
    "fuse": ["fuse"],
    "storage": ["dm-crypt", "xts"],
}
"""What the agent loads, and only where it is needed."""
_PROCESSOR_MODULES = {
    "processor": ["sha256-ssse3", "crc32c-intel"],
    "processor-storage": ["aesni-intel"],
}
"""What is loaded in addition where the processor is a real one, and the kernel has it."""
_DIRECTORIES = [
    "data",
    "dev",
    "etc",
    "home",
    "media",
    "mnt",
    "mnt/apk",
    "mnt/extra-apk",
    "opt",
    "proc",
    "run",
    "srv",
    "sys",
    "tmp",
    "usr/lib/python3/dist-packages",
    "var/cache",
    "var/lib",
    "var/log",
    "var/spool",
]
_LINKS = {
    "bin": "usr/bin",
    "lib": "usr/lib",
    "lib64": "usr/lib64",
    "sbin": "usr/sbin",
    "var/lock": "../run/lock",
    "var/run": "../run",
    "var/tmp": "../tmp",
    "etc/localtime": "/usr/share/zoneinfo/Etc/UTC",
    "etc/mtab": "../proc/self/mounts",
}
_FILES = {
    "etc/passwd": (
        "root:x:0:0:root:/root:/bin/sh\n"
        f"payload:x:{PAYLOAD_ID}:{PAYLOAD_ID}:payload:{HOME}:/bin/sh\n"
        "nobody:x:65534:65534:nobody:/:/bin/false\n"
    ),
    "etc/group": f"root:x:0:\ntty:x:5:\npayload:x:{PAYLOAD_ID}:\nnogroup:x:65534:\n",
    "etc/hosts": f"127.0.0.1\tlocalhost {HOSTNAME}\n::1\tlocalhost ip6-localhost ip6-loopback\n",
    "etc/hostname": f"{HOSTNAME}\n",
    "etc/nsswitch.conf": "".join(
        f"{database}: files\n"
        for database in (
            *("passwd", "group", "shadow", "gshadow", "hosts", "networks"),
            *("protocols", "services", "ethers", "rpc", "netgroup"),
        )
    ),
    "etc/host.conf": "multi on\n",
    "etc/resolv.conf": "",
    "etc/networks": "default\t0.0.0.0\nloopback\t127.0.0.0\n",
    "etc/timezone": "Etc/UTC\n",
    "etc/shells": "/bin/sh\n/usr/bin/sh\n/bin/ash\n/usr/bin/ash\n/bin/bash\n/usr/bin/bash\n",
    "etc/profile": "export PATH LANG\n",
    "etc/os-release": (
        'NAME="AVF for Linux"\n'
        "ID=avf-linux\n"
        "ID_LIKE=debian\n"
        'PRETTY_NAME="AVF for Linux guest"\n'
        "VARIANT_ID=microdroid\n"
    ),
}
_BOOT_LIBRARIES = re.compile(
    r"(ld-linux-x86-64|libc|libm|libz|libexpat|libffi|libgcc_s|libnettle)\.so\..*"
)
_BOOT_LOCALE = "usr/lib/locale/C.utf8/LC_CTYPE"
_BOOT_MODULES = [
    "os",
    "encodings/__init__",
    "encodings/aliases",
    "encodings/ascii",
    "encodings/latin_1",
    "encodings/utf_8",
]
_AGENT_PACKAGES = ["avf.binder", "avf.aidl", "avf.apk", "avf.guest", "avf.shell"]
_LOADED_LATER = ["avf.printable", "ctypes", "signal", "subprocess", "traceback"]
"""What the agent imports in the middle of its work, so that it is in the bundle."""
_NOT_FOR_THE_GUEST = [
    "avf.apk.align_command",
    "avf.apk.append",
    "avf.apk.axml",
    "avf.apk.builder",
    "avf.apk.crypto.names",
    "avf.apk.crypto.pyca",
    "avf.apk.files",
    "avf.apk.jks",
    "avf.apk.key_files",
    "avf.apk.key_stores",
    "avf.apk.keys",
    "avf.apk.lineage_command",
    "avf.apk.lineage_files",
    "avf.apk.output",
    "avf.apk.owners",
    "avf.apk.passwords",
    "avf.apk.pkcs12",
    "avf.apk.progress",
    "avf.apk.remarks",
    "avf.apk.reports",
    "avf.apk.rewrite",
    "avf.apk.sdk_range",
    "avf.apk.sign_command",
    "avf.apk.signer_options",
    "avf.apk.signing",
    "avf.apk.signing_plan",
    "avf.apk.stamp",
    "avf.apk.v1",
    "avf.apk.v1.archive",
    "avf.apk.v1.ber",
    "avf.apk.v1.blocks",
    "avf.apk.v1.certificates",
    "avf.apk.v1.contents",
    "avf.apk.v1.digests",
    "avf.apk.v1.entries",
    "avf.apk.v1.files",
    "avf.apk.v1.manifest",
    "avf.apk.v1.mechanisms",
    "avf.apk.v1.pkcs7",
    "avf.apk.v1.sections",
    "avf.apk.v1.sign",
    "avf.apk.v1.verify",
    "avf.apk.verify_command",
    "avf.binder.aio",
    "avf.binder.begun_call",
    "avf.binder.in_loop",
    "avf.binder.loop_calls",
    "avf.binder.workers",
    "avf.guest.boot",
    "avf.guest.bundle",
    "avf.guest.crash",
]
_PACKAGES_DIRECTORY = "usr/lib/python3/dist-packages"
_SINGLE_FILES = {
    "avf/guest/boot.py": "usr/lib/avf/boot.pyc",
    "avf/guest/crash.py": "usr/lib/avf/crash.pyc",
    "avf/guest/bundle.py": f"{_PACKAGES_DIRECTORY}/avf_bundle.pyc",
    "avf_payload/__init__.py": f"{_PACKAGES_DIRECTORY}/avf_payload.pyc",
}
"""Sources below SOURCE_ROOT, and what they become."""
_BUNDLE = "usr/lib/avf/modules.bin"
_INIT = b"#!/usr/bin/python3 /usr/lib/avf/boot.pyc\n"
"""Without options, since the payload's interpreter is a fork of this one. A source would have to be compiled."""


def build_trees(kernel: KernelFiles, userland: Userland) -> tuple[Cpio, Cpio]:
    """The initial RAM disk of a guest that is not debuggable, which still lacks the description of the system; and the
    system, whose root is /usr. Raises ImageError.
    """
    root, system = _skeleton(), Cpio()
    _add_modules(root, system, kernel)
    _add_programs(root, system, userland)
    _add_native(system)
    _add_python(root, system, userland)
    return root, system.below("usr")


def finish(root: Cpio, system: System) -> None:
    """Ties the system to the initial RAM disk: no other one will be mounted."""
    root.file("etc/avf/system", system.describe().encode())


def _skeleton() -> Cpio:
    root = Cpio()
    for path in _DIRECTORIES:
        root.directory(path)
    root.directory("root", 0o700)
    for path, target in _LINKS.items():
        root.link(path, target)
    # the kernel opens it for init, and a guest that is not debuggable has no console; a link replaces the device
    # that the kernel brings along, which another device would not
    root.link("dev/console", "null")
    root.character_device("dev/null", 1, 3, 0o666)
    for path, text in _FILES.items():
        root.file(path, text.encode())
    return root


def debuggable(root: Cpio) -> Cpio:
    """The same tree for a guest that shows what it does."""
    tree = root.copy()
    tree.file(DEBUGGABLE_MARKER, b"")
    tree.character_device("dev/console", 5, 1)
    return tree


def _add_modules(root: Cpio, system: Cpio, kernel: KernelFiles) -> None:
    """The modules themselves, and the lists that say what init loads and what the agent loads when it needs it."""
    tree = ModuleTree(kernel.modules_dir)
    lists = dict.fromkeys(_MODULES, "")
    at_boot: set[Path] = set()
    for bus, names in _MODULES.items():
        wanted = [name for name in names if name in tree or name not in _OPTIONAL_MODULES]
        for path in tree.closure(wanted):
            if path not in at_boot:
                at_boot.add(path)
                lists[bus] += _add_module(root, path)
    for use, names in _LATER_MODULES.items():
        if not all(name in tree for name in _OPTIONAL_MODULES.intersection(names)):
            continue
        later = [path for path in tree.closure(names) if path not in at_boot]
        lists[f"{use}-modules"] = "".join(_add_module(system, path) for path in later)
    for use, names in _PROCESSOR_MODULES.items():
        paths = tree.closure(name for name in names if name in tree)
        place = root if use == "processor" else system
        lists[f"{use}-modules"] = "".join(_add_module(place, path) for path in paths)
    for name, lines in lists.items():
        root.file(f"etc/avf/{name}", lines.encode())


def _add_module(root: Cpio, path: Path) -> str:
    """The line that names it in a list."""
    target = f"usr/lib/modules/{module_name(path)}.ko"
    image = without_signature(read_module(path))
    root.file(target, without_unused_sections(without_tracing(image)))
    return f"/{target}\n"


def _add_programs(root: Cpio, system: Cpio, userland: Userland) -> None:
    stdlib = userland.stdlib
    for path in sorted(userland.root.rglob("*")):
        if (path.is_dir() and not path.is_symlink()) or stdlib in path.parents:
            continue
        inside = str(path.relative_to(userland.root))
        tree = root if inside.startswith("etc/") else system
        _add_copy(tree, inside, path)
        if _is_needed_at_boot(inside, userland):
            _add_copy(root, inside, path)
    for tree in (root, system):
        tree.link("usr/bin/python3", userland.python.name)
    _add_applets(system, userland.root / "usr/bin/busybox")


def _add_copy(tree: Cpio, inside: str, path: Path) -> None:
    if path.is_symlink():
        tree.link(inside, str(path.readlink()))
    else:
        tree.file(inside, path.read_bytes(), stat.S_IMODE(path.stat().st_mode))


def _is_needed_at_boot(inside: str, userland: Userland) -> bool:
    directory, _, name = inside.rpartition("/")
    if directory in ("usr/lib64", "usr/lib/x86_64-linux-gnu"):
        return _BOOT_LIBRARIES.fullmatch(name) is not None
    return inside == _BOOT_LOCALE or inside == f"usr/bin/{userland.python.name}"


def _add_applets(system: Cpio, busybox: Path) -> None:
    """Busybox's tools by their names, where no program has that name already."""
    done = subprocess.run([busybox, "--list-full"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PackageError(f"busybox does not say what it can do: {done.stderr}")
    for line in done.stdout.split():
        directory, _, name = line.rpartition("/")
        path = f"usr/{'sbin' if directory.endswith('sbin') else 'bin'}/{name}"
        if name not in ("busybox", "linuxrc", "init") and path not in system:
            system.link(path, "/usr/bin/busybox")


def _add_native(system: Cpio) -> None:
    path = f"usr/lib/x86_64-linux-gnu/{PAYLOAD_LIBRARY}"
    system.file(path, compile_payload_library(), 0o755)


def _add_python(root: Cpio, system: Cpio, userland: Userland) -> None:
    root.file("init", _INIT, 0o755)
    ours = [
        Source(SOURCE_ROOT / name, f"<{Path(target).stem}>", 2)
        for name, target in _SINGLE_FILES.items()
    ]
    compiled = compile_modules(userland, SOURCE_ROOT, _agent_modules(), ours)
    if "avf.guest.agent" not in compiled.modules:
        raise PackageError(f"the agent cannot be imported in the guest: {compiled.failed}")
    for tree in (root, system):
        tree.file(_BUNDLE, marshal.dumps((compiled.modules, compiled.expressions)))
        for target, code in zip(_SINGLE_FILES.values(), compiled.files, strict=True):
            tree.file(target, code)
    system.file(f"{_PACKAGES_DIRECTORY}/avf.pth", f"{SITE_PACKAGES}\n".encode())
    _add_stdlib(root, system, userland, {Path(path).name for path in compiled.extensions})


def _agent_modules() -> list[str]:
    """Every module of the packages the agent is made of, by name."""
    names = list(_LOADED_LATER)
    for package in _AGENT_PACKAGES:
        for path in sorted((SOURCE_ROOT / package.replace(".", "/")).rglob("*.py")):
            name = ".".join(path.relative_to(SOURCE_ROOT).with_suffix("").parts).removesuffix(
                ".__init__"
            )
            is_for_asyncio = name.endswith("_async")
            if not is_for_asyncio and name not in _NOT_FOR_THE_GUEST and path.name != "__main__.py":
                names.append(name)
    return names


def _add_stdlib(root: Cpio, system: Cpio, userland: Userland, extensions: set[str]) -> None:
    """All of it in the system; in the RAM disk what the agent loads, and the few files the interpreter starts with."""
    stdlib = userland.stdlib
    inside_root = stdlib.relative_to(userland.root)
    for path in sorted(stdlib.rglob("*")):
        if path.is_dir():
            continue
        _add_copy(system, str(path.relative_to(userland.root)), path)
        if path.name in extensions:
            _add_copy(root, str(path.relative_to(userland.root)), path)
    for name in _BOOT_MODULES:
        code = userland.bytecode_of(stdlib / f"{name}.py").read_bytes()
        root.file(f"{inside_root}/{name}.pyc", code)
