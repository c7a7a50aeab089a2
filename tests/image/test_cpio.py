import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avf.image import Cpio, CpioError

NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["C"]),
    min_size=1,
    max_size=20,
)
PATHS = st.lists(NAMES.filter(lambda name: name not in (".", "..")), min_size=1, max_size=4).map(
    "/".join
)


def run_cpio(archive: bytes, *arguments: str, cwd: Path | None = None) -> str:
    done = subprocess.run(
        ["cpio", "--quiet", *arguments], input=archive, capture_output=True, cwd=cwd, check=True
    )
    return done.stdout.decode()


def sample() -> Cpio:
    tree = Cpio()
    tree.file("usr/bin/tool", b"#!/bin/sh\n", 0o755)
    tree.file("etc/empty", b"")
    tree.link("bin", "usr/bin")
    tree.directory("tmp", 0o1777)
    tree.character_device("dev/null", 1, 3, 0o666)
    return tree


def test_cpio_lists_what_was_added() -> None:
    listing = run_cpio(sample().to_bytes(), "-tv", "--numeric-uid-gid").splitlines()
    found = {
        line.split()[-1] if "->" not in line else line[line.index("bin") :]: line
        for line in listing
    }
    assert found["usr/bin/tool"].startswith(
        "-rwxr-xr-x   1 0        0              10 Jan  1  1970"
    )
    assert found["tmp"].startswith("drwxrwxrwt   2 0        0")
    assert found["bin -> usr/bin"].startswith("lrwxrwxrwx")
    assert "1,   3 " in found["dev/null"]
    assert set(found) == {
        "bin -> usr/bin",
        "dev",
        "dev/null",
        "etc",
        "etc/empty",
        "tmp",
        "usr",
        "usr/bin",
        "usr/bin/tool",
    }


def test_cpio_extracts_the_same_bytes(tmp_path: Path) -> None:
    tree = Cpio()
    contents = {f"d{size % 3}/f{size}": bytes(range(256)) * size for size in (0, 1, 2, 3, 17)}
    for path, data in contents.items():
        tree.file(path, data)
    run_cpio(tree.to_bytes(), "-id", cwd=tmp_path)
    assert {path: (tmp_path / path).read_bytes() for path in contents} == contents


@given(st.dictionaries(PATHS, st.binary(max_size=100), max_size=8))
def test_same_tree_same_bytes_in_any_order(files: dict[str, bytes]) -> None:
    added: dict[str, bytes] = {}
    forward = Cpio()
    for path, data in files.items():
        try:
            forward.file(path, data)
        except CpioError:
            continue  # one path lies below another one's file
        added[path] = data
    backward = Cpio()
    for path, data in reversed(added.items()):
        backward.file(path, data)
    assert forward.to_bytes() == backward.to_bytes()
    assert set(run_cpio(forward.to_bytes(), "-t").splitlines()) >= {
        path for path in added if path.isascii()
    }


@pytest.mark.parametrize("path", ["", "/etc", "a//b", "a/../b", "./a", "a\0b", "TRAILER!!!"])
def test_bad_paths_are_refused(path: str) -> None:
    with pytest.raises(CpioError):
        Cpio().file(path, b"")


def test_nothing_lies_below_a_file() -> None:
    tree = sample()
    with pytest.raises(CpioError, match="below"):
        tree.file("etc/empty/more", b"")
    with pytest.raises(CpioError, match="directory already"):
        tree.file("usr/bin", b"")


def test_a_copy_is_a_tree_of_its_own() -> None:
    tree = sample()
    other = tree.copy()
    other.file("etc/marker", b"")
    assert "etc/marker" in other
    assert "etc/marker" not in tree
