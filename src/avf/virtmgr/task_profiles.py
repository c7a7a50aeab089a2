"""Task profiles on Linux: names that stand for settings of a control group (cgroup v2) in which the VMM runs.

    cgroup = "/sys/fs/cgroup/avf"       # where VMs' groups are made; else beside virtmgr's own group
    [profiles.SCHED_SP_COMPUTE]
    "cpu.weight" = 50
    "memory.high" = "512M"

The file is `/etc/avf/task_profiles.toml`, or what `$AVF_TASK_PROFILES` names. Later profiles win over earlier ones.
"""

import logging
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avf import settings
from avf.causes import words
from avf.reading import read_file
from avf.virtmgr.errors import VirtmgrError
from avf.vmm import Vmm, VmmStartError, VmProcess, VmSpec

DEFAULT_FILE = Path("/etc/avf/task_profiles.toml")
MAX_FILE_SIZE = 64 << 10
"""Reading TOML takes time that may grow with the square of the size."""
_MAX_NUMBER = (1 << 64) - 1
_FORBIDDEN = frozenset(
    {"cgroup.procs", "cgroup.threads", "cgroup.kill", "cgroup.type", "cgroup.subtree_control"}
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Profiles:
    source: Path
    cgroup: Path | None = None
    settings: dict[str, dict[str, str]] = field(default_factory=dict)

    def merged(self, names: list[str]) -> dict[str, str]:
        """The settings of all named profiles. Raises VirtmgrError for a name that is not known."""
        merged: dict[str, str] = {}
        for name in names:
            if name not in self.settings:
                raise VirtmgrError(f"Unknown task profile {name}: it is not in {self.source}")
            merged |= self.settings[name]
        return merged


def load_profiles() -> Profiles:
    """Raises VirtmgrError, naming file and key, if the file is no good; a missing file has no profiles."""
    path = settings.task_profiles() or DEFAULT_FILE
    try:
        text = read_file(path, MAX_FILE_SIZE + 1)
        if len(text) > MAX_FILE_SIZE:
            raise VirtmgrError(f"{path}: larger than {MAX_FILE_SIZE} bytes")
        document = tomllib.loads(text.decode())
    except FileNotFoundError:
        return Profiles(path)
    except RecursionError as e:
        raise VirtmgrError(f"{path}: nested too deeply") from e
    except (OSError, ValueError) as e:  # ValueError: what is no TOML, no UTF-8, no number
        raise VirtmgrError(f"{path}: {words(e)}") from e
    if unknown := document.keys() - {"cgroup", "profiles"}:
        raise VirtmgrError(f"{path}: unknown key {sorted(unknown)[0]!r}")
    cgroup, profiles = document.get("cgroup"), document.get("profiles", {})
    if not isinstance(cgroup, str | None):
        raise VirtmgrError(f"{path}: cgroup: must be a path")
    if not isinstance(profiles, dict):
        raise VirtmgrError(f"{path}: profiles: must be a table")
    tables = {name: _settings(path, name, table) for name, table in profiles.items()}
    return Profiles(path, None if cgroup is None else Path(cgroup), tables)


def _settings(path: Path, name: str, table: Any) -> dict[str, str]:
    if not isinstance(table, dict):
        raise VirtmgrError(f"{path}: profiles.{name}: must be a table")
    for key, value in table.items():
        where = f"{path}: profiles.{name}.{key!r}"
        if key in _FORBIDDEN or not key.replace(".", "").replace("_", "").isalnum():
            raise VirtmgrError(f"{where}: cannot be set")
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise VirtmgrError(f"{where}: must be a number or a text")
        if isinstance(value, int) and not -_MAX_NUMBER <= value <= _MAX_NUMBER:
            raise VirtmgrError(f"{where}: the number is out of range")
    return {key: str(value) for key, value in table.items()}


class ConfinedVmm:
    """A Vmm whose process runs in a control group of its own."""

    def __init__(self, vmm: Vmm, cgroup: Path, settings: dict[str, str]) -> None:
        self.name = vmm.name
        self.supports_protected = vmm.supports_protected
        self._vmm = vmm
        self._cgroup = cgroup
        self._settings = settings

    def emulates(self, kernel: int | None) -> bool:
        return self._vmm.emulates(kernel)

    def start(self, spec: VmSpec, on_event: Callable[[str], None] | None = None) -> VmProcess:
        """See Vmm.start. Raises VmmStartError as well if the group cannot be made."""
        group = self._cgroup / f"avf-vm-{spec.cid}"
        try:
            group.mkdir(mode=0o755, exist_ok=True)
            for key, value in self._settings.items():
                (group / key).write_text(value)
        except OSError as e:
            raise VmmStartError(f"cannot set up control group {group}: {words(e)}") from e
        process = self._vmm.start(spec, on_event)
        try:
            (group / "cgroup.procs").write_text(str(process.pid))
        except OSError as e:
            process.kill()
            process.wait()
            raise VmmStartError(
                f"cannot move the VMM into control group {group}: {words(e)}"
            ) from e
        return process

    def remove_group(self, cid: int) -> None:
        """Removes the group of a VM that has ended; one that is not there is fine."""
        group = self._cgroup / f"avf-vm-{cid}"
        try:
            group.rmdir()
        except FileNotFoundError:
            pass
        except OSError as e:
            log.warning("control group %s stays behind: %s", group, e)


def default_cgroup() -> Path:
    """Beside virtmgr's own group, where a user's systemd has given the user the say. Raises VirtmgrError."""
    mount = next(
        (
            Path(fields[4])
            for fields in map(str.split, Path("/proc/self/mountinfo").read_text().splitlines())
            if fields[fields.index("-") + 1] == "cgroup2"
        ),
        None,
    )
    if mount is None:
        raise VirtmgrError("task profiles need cgroup v2, which is not mounted")
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        if line.startswith("0::/"):
            return (mount / line[4:]).parent if line != "0::/" else mount
    raise VirtmgrError("task profiles need cgroup v2, which this process is not in")
