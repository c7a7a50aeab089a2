"""Builds a guest image directory: kernel, two initial RAM disks and the `microdroid.json` that describes them."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import avf
from avf import runtime
from avf.image.apt import Progress
from avf.image.errors import ImageError
from avf.image.initramfs import build_trees, debuggable, finish
from avf.image.kernel import KernelFiles, fetch_kernel
from avf.image.own_kernel import fetch_own_kernel
from avf.image.system import build_system
from avf.image.tools import check_tools
from avf.image.userland import Userland, fetch_userland

KERNEL_PARAMS = " ".join(
    (
        # no console at all: also what the kernel says before init runs, and in a panic, stays inside
        "console=null quiet panic=-1 reboot=t 8250.nr_uarts=2",
        # what costs time at boot and guards against nothing inside a guest that runs one payload
        "cryptomgr.notests mitigations=off noreplace-smp no_timer_check nowatchdog",
        "audit=0 apparmor=0 lsm= debugfs=off",
        # what is in a slot of a board with PCI Express is not the kernel's business, see avf.guest.slots
        "pcie_ports=compat",
        # of init, and so of the interpreter that payloads get: the kernel hands on what it does not know
        "LANG=C.UTF-8",
        "initcall_blacklist=init_kprobe_trace,load_system_certificate_list,slab_sysfs_init"
        # the users of the kernel's type information: the first of them has all of it read
        ",bpf_rstat_kfunc_init,kfunc_init,bpf_prog_test_run_init,cubictcp_register"
        ",bpf_tcp_ca_kfunc_init,bpf_key_sig_kfuncs_init"
        # tracing, for which a guest has no tools, and tests that ciphers of no use here run when they begin
        ",trace_eval_init,tracer_init_tracefs,init_blk_tracer,ftrace_check_for_weak_functions"
        ",crypto_kdf108_init,blake2s_mod_init,init_encrypted",
    )
)
DEBUGGABLE_PARAMS = "console=ttyS0"
"""Added for a debuggable VM."""
MEMORY_MIB = 256
PLATFORM_VERSION = "~1.0"
SYSTEM_LABEL = "system"
_OTHER_FOLDER = "choose another folder by --output, or remove that file"
TEMPLATES = 4
"""The version of what `avf.guest.template` and a host tell each other."""
FORKS = 2
"""The same of `avf.guest.forks`."""


@dataclass(frozen=True, slots=True)
class Image:
    """A built image directory."""

    directory: Path

    @property
    def config(self) -> Path:
        """What a VM is to be started with."""
        return self.directory / "microdroid.json"

    @property
    def kernel(self) -> Path:
        """The kernel, uncompressed (ELF)."""
        return self.directory / "vmlinux"

    @property
    def initrd_normal(self) -> Path:
        """The initramfs for VMs that are not debuggable."""
        return self.directory / "microdroid_initrd_normal.img"

    @property
    def initrd_debuggable(self) -> Path:
        """The initramfs for debuggable VMs."""
        return self.directory / "microdroid_initrd_debuggable.img"

    @property
    def system(self) -> Path:
        """The partition with the guest's /usr."""
        return self.directory / "microdroid_system.img"


def build_image(
    output: Path,
    *,
    cache: Path | None = None,
    update: bool = False,
    own_kernel: bool = False,
    progress: Progress = lambda _: None,
) -> Image:
    """Builds into the directory `output`, over what was built there before. Same packages and sources, same bytes.

    `update` asks apt for newer packages than those in the cache; with `own_kernel` the kernel is one of our
    configuration, which is compiled (once: it is kept in the cache). Raises ImageError.
    """
    image = Image(output)
    _check_is_ours(image)
    check_tools()
    cache = cache or default_cache()
    fetch = fetch_own_kernel if own_kernel else fetch_kernel
    kernel = fetch(cache, update=update, progress=progress)
    userland = fetch_userland(cache, update=update, progress=progress)
    progress("putting the initial RAM disks together")
    root, tree = build_trees(kernel, userland)
    progress("making the system's file system")
    system = build_system(tree)
    finish(root, system)
    _check_is_ours(image)
    output.mkdir(parents=True, exist_ok=True)
    _replace(image.initrd_normal, root.to_bytes())
    _replace(image.initrd_debuggable, debuggable(root).to_bytes())
    _replace(image.system, system.image)
    _replace(image.kernel, kernel.vmlinux.read_bytes())
    _replace(image.config, _config(image, kernel, userland))
    return image


def _check_is_ours(image: Image) -> None:
    """Raises ImageError for a folder with files of the same names that are not from here, such as Android's image."""
    if not image.config.exists():
        if image.kernel.exists() and not image.initrd_normal.exists():
            raise ImageError(f"{image.kernel} is in the way: it is not of an image", _OTHER_FOLDER)
        return
    try:
        config = json.loads(image.config.read_bytes())
    except (OSError, ValueError, RecursionError):
        config = None
    if not isinstance(config, dict) or "kernel_release" not in config.get("x-avf", {}):
        raise ImageError(
            f"{image.config} is in the way: it does not describe an image from here", _OTHER_FOLDER
        )


def default_cache() -> Path:
    """`build/cache` of a checkout, else `$XDG_CACHE_HOME/avf` (`~/.cache/avf`)."""
    if checkout := _checkout():
        return checkout / "build/cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "avf")


def default_output() -> Path:
    """Where VMs look for their image first."""
    return runtime.image_dirs()[0]


def _checkout() -> Path | None:
    root = Path(avf.__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").exists() else None


def _config(image: Image, kernel: KernelFiles, userland: Userland) -> bytes:
    config = {
        "kernel": image.kernel.name,
        "params": KERNEL_PARAMS,
        "disks": [
            {
                "writable": False,
                "partitions": [{"label": SYSTEM_LABEL, "path": image.system.name}],
            }
        ],
        "memory_mib": MEMORY_MIB,
        "platform_version": PLATFORM_VERSION,
        "x-avf": {
            "machine": "fast",
            "templates": TEMPLATES,
            "forks": FORKS,
            "debuggable_params": DEBUGGABLE_PARAMS,
            "kernel_release": kernel.release,
            "packages": {package.name: package.version for package in userland.packages},
        },
    }
    return (json.dumps(config, indent=2) + "\n").encode()


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    temporary.replace(path)
