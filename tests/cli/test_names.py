"""VMs by their names."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from avf.cli import names
from avf.cli.names import CID, cid_of, stored_vm
from avf.cli.text import CliError
from avf.client.store import StoredConfig, VmStore


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VmStore:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    running = [("counter", 2048), ("VmRunApp", 2049), ("VmRunApp", 2050)]

    def found() -> Iterator[tuple[str, int]]:
        return iter(running)

    monkeypatch.setattr(names, "running_names", found)
    store = VmStore()
    store.create("sleeper", StoredConfig(apk="/a.apk", payload_binary_name="a"))
    return store


def test_a_running_vm_is_found_by_name_and_by_number() -> None:
    assert cid_of("counter") == 2048
    assert CID.convert("counter", None, None) == 2048
    assert CID.convert("4711", None, None) == 4711
    for wrong in ("4294967296", "99999999999999999999"):
        with pytest.raises(click.BadParameter, match="is no CID"):
            CID.convert(wrong, None, None)


@pytest.mark.parametrize(
    ("name", "said", "hint"),
    [
        ("VmRunApp", "several VMs are called VmRunApp: CIDs 2049, 2050", "name one by its CID"),
        ("sleeper", "VM sleeper does not run", "`vm start sleeper` starts it"),
        ("countre", "no VM is called countre", "did you mean counter?"),
        ("xyz", "no VM is called xyz", "`vm ls` shows the VMs"),
        ("", "no VM is called ", "`vm ls` shows the VMs"),
    ],
)
def test_names_that_stand_for_no_running_vm(name: str, said: str, hint: str) -> None:
    with pytest.raises(CliError) as error:
        CID.convert(name, None, None)
    assert (str(error.value), error.value.hint) == (said, hint)


def test_kept_vms() -> None:
    assert stored_vm("sleeper").name == "sleeper"
    for name in ("sleepre", "../x", "", ".x", "a/b"):
        with pytest.raises(CliError, match="is kept"):
            stored_vm(name)
