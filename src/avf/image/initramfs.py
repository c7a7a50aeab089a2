"""Puts the guest's root file system together: our init, agent and payload library, the distribution's programs."""

import marshal
import stat
import zipfile
from io import BytesIO
from pathlib import Path

import avf.guest
from avf.guest import HOME, PAYLOAD_ID
from avf.image.cpio import Cpio
from avf.image.errors import ImageError
from avf.image.kernel import KernelFiles
from avf.image.modules import (
    ModuleTree,
    module_name,
    read_module,
    without_signature,
    without_type_information,
)
from avf.image.native import PAYLOAD_LIBRARY, compile_payload_library
from avf.image.userland import Userland, compile_modules

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
        "virtio_balloon",
        "pvpanic-mmio",
    ],
    "pci-modules": ["virtio_pci"],
}
"""What init loads: always, and where a PCI bus has devices."""
_OPTIONAL_MODULES = {"virtio_balloon", "pvpanic-mmio", "erofs"}
"""What a guest can do without where a kernel has no such driver."""
_LATER_MODULES = {
    "erofs": ["erofs"],
    "fuse": ["fuse"],
    "storage": ["dm-crypt", "xts"],
    "swap": ["lzo-rle", "zram"],
}
"""What the agent loads, and only where it is needed."""
_DIRECTORIES = [
    "data",
    "dev",
    "etc",
    "mnt",
    "proc",
    "root",
    "run",
    "sys",
    "tmp",
    "mnt/apk",
    "mnt/extra-apk",
]
_FILES = {
    "etc/passwd": (
        "root:x:0:0:root:/root:/bin/sh\n"
        f"payload:x:{PAYLOAD_ID}:{PAYLOAD_ID}:payload:{HOME}:/bin/sh\n"
        "nobody:x:65534:65534:nobody:/:/bin/false\n"
    ),
    "etc/group": f"root:x:0:\npayload:x:{PAYLOAD_ID}:\nnogroup:x:65534:\n",
}
_BUSYBOX_LINKS = ["sh", "ash", "env"]
_AGENT_PACKAGES = ["avf.binder", "avf.aidl", "avf.apk", "avf.guest"]
_LOADED_LATER = ["avf.printable", "ctypes", "signal", "subprocess"]
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
    "avf.binder.in_loop",
    "avf.guest.boot",
    "avf.guest.bundle",
    "avf.guest.crash",
]
_SINGLE_FILES = {
    "avf/guest/crash.py": "crash.pyc",
    "avf/guest/bundle.py": "python/avf_bundle.pyc",
    "avf_payload/__init__.py": "python/avf_payload.pyc",
}
"""Sources below SOURCE_ROOT, and what they become below /usr/lib/avf."""
_STDLIB = "usr/lib/avf/stdlib.zip"
_SHEBANG = b"#!/usr/bin/python3 -ISXutf8\n"
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)


def build_root(kernel: KernelFiles, userland: Userland) -> Cpio:
    """The tree of a guest that is not debuggable. Raises ImageError."""
    root = Cpio()
    for path in _DIRECTORIES:
        root.directory(path)
    for name in ("bin", "lib", "lib64", "sbin"):
        root.link(name, f"usr/{name}")
    # the kernel opens it for init, and a guest that is not debuggable has no console; a link replaces the device
    # that the kernel brings along, which another device would not
    root.link("dev/console", "null")
    root.character_device("dev/null", 1, 3, 0o666)
    root.directory("root", 0o700)
    for path, text in _FILES.items():
        root.file(path, text.encode())
    _add_modules(root, kernel)
    _add_programs(root, userland)
    _add_native(root)
    _add_python(root, userland)
    return root


def debuggable(root: Cpio) -> Cpio:
    """The same tree for a guest that shows what it does."""
    tree = root.copy()
    tree.file(DEBUGGABLE_MARKER, b"")
    tree.character_device("dev/console", 5, 1)
    return tree


def _add_modules(root: Cpio, kernel: KernelFiles) -> None:
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
        lists[f"{use}-modules"] = "".join(_add_module(root, path) for path in later)
    for name, lines in lists.items():
        root.file(f"etc/avf/{name}", lines.encode())


def _add_module(root: Cpio, path: Path) -> str:
    """The line that names it in a list."""
    target = f"usr/lib/modules/{module_name(path)}.ko"
    image = without_signature(read_module(path))
    root.file(target, without_type_information(image))
    return f"/{target}\n"


def _add_programs(root: Cpio, userland: Userland) -> None:
    stdlib = userland.stdlib
    for path in sorted(userland.root.rglob("*")):
        if path.is_dir() or stdlib in path.parents:
            continue
        inside = str(path.relative_to(userland.root))
        if path.is_symlink():
            root.link(inside, str(path.readlink()))
        else:
            root.file(inside, path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
    root.link("usr/bin/python3", userland.python.name)
    for name in _BUSYBOX_LINKS:
        root.link(f"usr/bin/{name}", "busybox")


def _add_native(root: Cpio) -> None:
    path = f"usr/lib/x86_64-linux-gnu/{PAYLOAD_LIBRARY}"
    root.file(path, compile_payload_library(), 0o755)


def _add_python(root: Cpio, userland: Userland) -> None:
    root.file("init", _SHEBANG + (GUEST_SOURCES / "boot.py").read_bytes(), 0o755)
    stdlib = userland.stdlib
    library = sorted(path for path in stdlib.rglob("*.py"))
    ours = [SOURCE_ROOT / name for name in _SINGLE_FILES]
    compiled = compile_modules(userland, SOURCE_ROOT, _agent_modules(), [*ours, *library])
    if "avf.guest.agent" not in compiled.modules:
        raise ImageError(f"the agent cannot be imported in the guest: {compiled.failed}")
    root.file("usr/lib/avf/modules.bin", marshal.dumps(compiled.modules))
    for target, code in zip(_SINGLE_FILES.values(), compiled.files, strict=False):
        root.file(f"usr/lib/avf/{target}", code)
    _add_stdlib(root, userland, dict(zip(library, compiled.files[len(ours) :], strict=True)))


def _agent_modules() -> list[str]:
    """Every module of the packages the agent is made of, by name."""
    names = list(_LOADED_LATER)
    for package in _AGENT_PACKAGES:
        for path in sorted((SOURCE_ROOT / package.replace(".", "/")).rglob("*.py")):
            name = ".".join(path.relative_to(SOURCE_ROOT).with_suffix("").parts).removesuffix(
                ".__init__"
            )
            if name not in _NOT_FOR_THE_GUEST and path.name != "__main__.py":
                names.append(name)
    return names


def _add_stdlib(root: Cpio, userland: Userland, library: dict[Path, bytes]) -> None:
    """What the interpreter starts with lies loose; the rest, for payloads in Python, is a ZIP.

    It is not where the interpreter looks first by default, since only to open it takes long under emulation.
    """
    stdlib = userland.stdlib
    inside_root = str(stdlib.relative_to(userland.root))
    archive_file = BytesIO()
    with zipfile.ZipFile(archive_file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path, code in library.items():
            name = str(path.relative_to(stdlib).with_suffix(".pyc"))
            if name == "os.pyc" or name.startswith("encodings/"):
                root.file(f"{inside_root}/{name}", code)
                continue
            archive.writestr(zipfile.ZipInfo(name, _TIMESTAMP), code, zipfile.ZIP_DEFLATED)
    root.file(_STDLIB, archive_file.getvalue())
    root.file("usr/lib/python3/dist-packages/avf.pth", f"/{_STDLIB}\n".encode())
    for path in sorted(stdlib.glob("lib-dynload/*.so")):
        root.file(f"{inside_root}/lib-dynload/{path.name}", path.read_bytes())
