"""What a shell offers."""

import zipfile
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from avf.cli.command import vm
from avf.client.store import StoredConfig, VmStore


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("AVF_RUNTIME_DIR", str(tmp_path / "run"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    with zipfile.ZipFile("app.apk", "w") as archive:
        for name in ("lib/x86_64/libone.so", "bin/two.py", "bin/pkg/three.py", "assets/four.txt"):
            archive.writestr(name, "")
    Path("hello.py").touch()
    Path("notes.txt").write_text("notes")
    Path(".hidden.py").touch()
    Path("folder").mkdir()
    Path("folder/inside.py").touch()
    Path("folder/data.bin").write_bytes(b"\xff" * 9)


def offered(*words: str) -> list[str]:
    *args, incomplete = words
    shell = ShellComplete(vm, {}, "vm", "_VM_COMPLETE")
    return [item.value for item in shell.get_completions(args, incomplete)]


def test_sources() -> None:
    assert offered("run-app", "") == ["app.apk", "folder/", "hello.py"]
    assert offered("run-app", "folder/") == ["folder/inside.py"]
    assert offered("build", "he") == ["hello.py"]
    assert offered("run-app", ".h") == [".hidden.py"]
    assert offered("create-idsig", "") == ["app.apk", "folder/"]
    assert offered("run-app", "absent/") == []


def test_payloads_of_the_apk() -> None:
    words = ["run-app", "app.apk", "--payload-binary-name"]
    assert offered(*words, "") == ["libone.so", "two.py", "four.txt"]
    assert offered(*words, "lib") == ["libone.so"]
    assert offered("run-app", "hello.py", "--payload-binary-name", "") == []


def test_kept_vms() -> None:
    store = VmStore()
    for name in ("one", "other"):
        store.create(name, StoredConfig(apk="/a.apk", payload_binary_name="a"))
    assert offered("start", "o") == ["one", "other"]
    assert offered("rm", "other") == ["other"]
    assert offered("stop", "o") == []
