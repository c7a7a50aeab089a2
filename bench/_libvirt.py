"""A peer: `virsh create` of a transient domain with a kernel, an initrd and a serial port.

In the user's own libvirt, which starts by itself; root has the system's.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

_URI = "qemu:///session" if os.geteuid() else "qemu:///system"
_DEADLINE = 120
_DOMAIN = """\
<domain type='{accelerator}'>
  <name>{name}</name>
  <memory unit='MiB'>256</memory>
  <os>
    <type arch='x86_64'>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initrd}</initrd>
    <cmdline>{params}</cmdline>
  </os>
  <features><acpi/></features>
  <cpu mode='{cpu}'/>
  <on_reboot>destroy</on_reboot>
  <devices>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    <serial type='unix'><source mode='connect' path='{console}'/></serial>
  </devices>
</domain>
"""


def why_not() -> str | None:
    """Why libvirt cannot be measured here; None if it can."""
    if shutil.which("virsh") is None:
        return "virsh is not installed"
    done = _virsh("version")
    return None if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


class Domain:
    """The same domain for every start."""

    def __init__(self, folder: Path, accelerator: str, kernel: Path, initrd: Path, params: str):
        self._name = f"avf-bench-{os.getpid()}"
        self._console = folder / "libvirt-console"
        self._description = folder / "libvirt.xml"
        values = {
            "name": self._name,
            "accelerator": "kvm" if accelerator == "kvm" else "qemu",
            "cpu": "host-passthrough" if accelerator == "kvm" else "maximum",
            "kernel": str(kernel.resolve()),
            "initrd": str(initrd),
            "params": params,
            "console": str(self._console),
        }
        text = _DOMAIN.format_map({name: escape(value) for name, value in values.items()})
        self._description.write_text(text)

    def start(self, sign: bytes) -> float:
        """Seconds from `virsh create` until the guest has written `sign`. Raises RuntimeError."""
        with self._listening() as listener:
            begin = time.perf_counter()
            done = _virsh("create", str(self._description))
            if done.returncode:
                raise RuntimeError(f"virsh create failed: {done.stderr.strip()}")
            try:
                console, _ = listener.accept()
                with console, console.makefile("rb") as lines:
                    console.settimeout(_DEADLINE)
                    if not any(sign in line for line in lines):
                        raise RuntimeError("a domain of libvirt's has not booted")
                return time.perf_counter() - begin
            finally:
                _virsh("destroy", self._name)

    @contextlib.contextmanager
    def _listening(self) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.settimeout(_DEADLINE)
            listener.bind(str(self._console))
            listener.listen()
            try:
                yield listener
            finally:
                self._console.unlink()


def _virsh(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["virsh", "--quiet", "--connect", _URI, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
