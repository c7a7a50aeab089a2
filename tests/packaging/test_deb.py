"""The Debian package, built without the wheels that it brings along; `make try-deb` installs a whole one."""

import importlib.util
import os
import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parents[2] / "packaging" / "deb"
DOCUMENTS = "usr/share/doc/avf-linux"
SITE = "usr/lib/avf/lib/python3.11/site-packages"


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("deb_build", HERE / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def deb(builder: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builder, "add_wheels", lambda site, scratch: None)
        package = builder.build(tmp_path_factory.mktemp("deb"))
    assert isinstance(package, Path)
    return package


@pytest.fixture(scope="module")
def tree(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    subprocess.run(["dpkg-deb", "--raw-extract", deb, folder], check=True)
    return folder


def test_what_a_system_takes_is_where_it_looks_for_it(tree: Path) -> None:
    for name in (
        "usr/bin/vm",
        "usr/lib/systemd/system/avf-virtualizationservice.service",
        "usr/lib/systemd/system/avf-virtualizationservice.socket",
        "usr/lib/sysusers.d/avf.conf",
        "usr/lib/tmpfiles.d/avf.conf",
        "usr/share/bash-completion/completions/vm",
        "usr/share/doc/avf-linux/copyright",
        "usr/share/doc/avf-linux/docs/installing.md",
        "usr/share/doc/avf-linux/examples/policy.toml",
        "usr/share/fish/vendor_completions.d/vm.fish",
        "usr/share/man/man1/vm.1.gz",
        "usr/share/pkgconfig/avf-payload.pc",
        "usr/share/polkit-1/actions/org.avf.policy",
        "usr/share/zsh/vendor-completions/_vm",
        "usr/include/avf-payload/vm_main.h",
        f"{SITE}/avf/cli/__init__.py",
        f"{SITE}/avf_payload/__init__.py",
    ):
        assert (tree / name).is_file(), name
    unit = (tree / "usr/lib/systemd/system/avf-virtualizationservice.service").read_text()
    assert "ExecStart=/usr/bin/virtualizationservice " in unit


def test_every_version_of_python_finds_the_environment(tree: Path, builder: ModuleType) -> None:
    for version in builder.PYTHONS:
        site = tree / f"usr/lib/avf/lib/python{version}/site-packages"
        assert (site / "avf/__init__.py").is_file()
    assert (tree / "usr/lib/avf/bin/python3").readlink() == Path("/usr/bin/python3")
    control = (tree / "DEBIAN/control").read_text()
    assert "python3 (>= 3.11), python3 (<< 3.14)" in control
    assert not re.search("@[A-Z]", control + (tree / f"{DOCUMENTS}/copyright").read_text())


def test_whoever_builds_it_is_its_maintainer(
    builder: ModuleType, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert f"\nMaintainer: {builder.maintainer()}\n" in (tree / "DEBIAN/control").read_text()
    monkeypatch.setenv("DEBFULLNAME", "Ann Example")
    monkeypatch.setenv("DEBEMAIL", "ann@example.org")
    assert builder.maintainer() == "Ann Example <ann@example.org>"


def test_files_are_roots_and_nobody_elses_to_write(deb: Path) -> None:
    listing = subprocess.run(["dpkg-deb", "-c", deb], check=True, capture_output=True, text=True)
    for line in listing.stdout.splitlines():
        mode, owner = line.split()[:2]
        assert owner == "root/root", line
        assert mode.startswith("l") or (mode[5], mode[8]) == ("-", "-"), line


@pytest.mark.parametrize("script", ["postinst", "prerm", "postrm"])
def test_scripts_can_be_read_and_run(tree: Path, script: str) -> None:
    path = tree / "DEBIAN" / script
    subprocess.run(["sh", "-n", path], check=True)
    assert os.access(path, os.X_OK)


def test_who_cannot_try_the_package_is_told_in_one_line(deb: Path, tmp_path: Path) -> None:
    """Here for want of debootstrap, or of root."""
    for program in ("id", "unshare", "realpath", "mktemp"):
        (tmp_path / program).symlink_to(f"/usr/bin/{program}")
    done = subprocess.run(
        ["/bin/sh", HERE / "try", deb],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("skipped: ") and len(done.stdout.splitlines()) == 1
