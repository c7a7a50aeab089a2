"""`vm template`, without a machine that runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from avf.vmm import TemplateFacts, TemplateStore
from avf.vmm.templates import new_facts

KEY, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def store(tmp_path: Path, runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> TemplateStore:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    store = TemplateStore(tmp_path / "avf" / "templates", os.geteuid())
    for key in (KEY, OTHER):
        with store.lock():
            store.add(key, state)
    return store


def state(fd: int) -> TemplateFacts:
    os.write(fd, bytes(1 << 20))
    return new_facts("qemu", 300, 2, None)


def vm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "avf.cli", "template", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_each_has_a_line(store: TemplateStore) -> None:
    (store.folder / OTHER / "state").chmod(0o622)
    lines = {line[:1]: line for line in vm("list").stdout.splitlines()}
    assert lines["a"].startswith("aaaaaaaaaaaa     1.0 MiB, used 2")
    assert "for 300 MiB and 2 CPUs" in lines["a"]
    assert lines["b"].startswith("bbbbbbbbbbbb  not used: ")
    assert "others than its owner may write to" in lines["b"]


def test_the_same_in_json(store: TemplateStore) -> None:
    rows = json.loads(vm("list", "--json").stdout)
    assert {row["key"] for row in rows} == {KEY, OTHER}
    row = rows[0]
    assert (row["memory_mib"], row["cpus"], row["vmm"], row["problem"]) == (300, 2, "qemu", None)
    assert row["folder"] == str(store.folder)


def test_no_templates_are_no_error(
    tmp_path: Path, runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    done = vm("list")
    assert (done.returncode, done.stderr) == (0, "")


def test_they_are_removed_by_the_beginning_of_their_keys(store: TemplateStore) -> None:
    assert vm("rm", "aaaa").stdout == f"{KEY}\n"
    assert [found.key for found in store.list()] == [OTHER]
    assert vm("rm", "--all").stdout == f"{OTHER}\n"
    assert store.list() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name the templates to remove, or say --all"),
        (("a", "--all"), "name the templates to remove, or say --all"),
        (("a", "c"), "none of your templates begins with c"),
    ],
)
def test_nothing_is_removed_by_mistake(
    store: TemplateStore, arguments: tuple[str, ...], message: str
) -> None:
    done = vm("rm", *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(store.list()) == 2


def test_what_cannot_be_made_is_an_error(store: TemplateStore, tmp_path: Path) -> None:
    image = tmp_path / "empty"
    image.mkdir()
    done = vm("build", "--image", str(image))
    assert done.returncode == 1
    assert f"no guest image (microdroid.json) in {image}" in done.stderr
