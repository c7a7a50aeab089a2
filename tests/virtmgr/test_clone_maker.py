"""When a clone of a pool is made, and when it is not."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from avf.runtime import WAITING_NAME
from avf.virtmgr import host_memory
from avf.virtmgr.clone_maker import CloneMaker
from avf.virtmgr.host_memory import RESERVE_MIB
from avf.virtmgr.kind import CloneKind
from avf.virtmgr.pool import NotNow
from avf.vmm import Qemu, TemplateFacts, TemplateStore, VmSpec
from avf.vmm.templates import new_facts
from avf.vsock import HybridVsock

KEY = "a" * 64
KIND = CloneKind(debug=False, memory_mib=0, match_host=False)
IMAGE_MIB = 256


class Clones(Qemu):
    """Makes none, and knows how many were to be made."""

    def __init__(self) -> None:
        super().__init__()
        self.made = 0

    def template_key(self, spec: VmSpec) -> str | None:
        return KEY

    def start_waiting(self, spec: VmSpec, state: int, known: TemplateFacts) -> object:  # type: ignore[override]
        self.made += 1
        return SimpleNamespace(discard=lambda: None, wait=lambda: None)


class Host:
    def __init__(self, folder: Path) -> None:
        self.store = TemplateStore(folder / "templates", os.geteuid())
        self.vmm = Clones()
        self.contexts = 0
        self.built: list[CloneKind] = []
        self.folder = folder
        self.meminfo = folder / "meminfo"
        self.maker = CloneMaker(self.vmm, [self.store], self._context, self.built.append)  # type: ignore[arg-type]

    def keep_template(self) -> None:
        def write(fd: int) -> TemplateFacts:
            os.write(fd, b"state")
            return new_facts("qemu", IMAGE_MIB, 1, None)

        with self.store.lock():
            self.store.add(KEY, write)

    def have_free(self, mib: int) -> None:
        self.meminfo.write_text(f"MemTotal: 9999999 kB\nMemAvailable: {mib << 10} kB\n")

    def _context(self) -> object:
        self.contexts += 1
        return SimpleNamespace(
            cid=2048,
            temporary_directory=self.folder,
            vsock=HybridVsock(2048, self.folder / "vsock"),
            on_close=lambda act: None,
            close=lambda: None,
        )


@pytest.fixture
def host(
    tmp_path: Path, runtime_dir: Path, image_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Host:
    host = Host(tmp_path)
    host.have_free(100 * IMAGE_MIB)
    monkeypatch.setattr(host_memory, "MEMINFO", host.meminfo)
    return host


def test_a_clone_is_made_where_there_is_memory_for_it(host: Host) -> None:
    host.keep_template()
    host.have_free(IMAGE_MIB + RESERVE_MIB)
    assert host.maker.start(KIND).kind == KIND
    assert (host.vmm.made, host.contexts) == (1, 1)
    assert (host.folder / WAITING_NAME).exists()


@pytest.mark.parametrize("memory_mib", [0, 1000])
def test_no_clone_is_made_that_would_take_memory_from_others(host: Host, memory_mib: int) -> None:
    """It is the VM's own memory that counts; and nothing, no CID say, is taken for one that is not made."""
    host.keep_template()
    needed = (memory_mib or IMAGE_MIB) + RESERVE_MIB
    host.have_free(needed - 1)
    kind = CloneKind(debug=False, memory_mib=memory_mib, match_host=False)
    with pytest.raises(NotNow, match=f"{needed - 1} MiB of memory are free"):
        host.maker.start(kind)
    assert (host.vmm.made, host.contexts) == (0, 0)
    host.have_free(needed)
    host.maker.start(kind)
    assert host.vmm.made == 1


def test_a_template_that_is_missing_is_made_once(host: Host) -> None:
    for _ in range(3):
        with pytest.raises(NotNow, match="one is being made"):
            host.maker.start(KIND)
    assert host.built == [KIND]
    assert host.contexts == 0
