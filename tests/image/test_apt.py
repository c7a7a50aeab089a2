"""apt itself, on a package repository in a folder."""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from avf.image import AptMissing, PackageError, ToolsMissing, build_image
from avf.image.apt import AptCache


class Repository:
    """A flat repository of empty packages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sources = folder / "sources.list"
        self.sources.write_text(f"deb [trusted=yes] copy:{folder} ./\n")
        self._stanzas: dict[str, str] = {}

    def add(self, name: str, version: str, depends: str = "") -> Path:
        """Adds a package, or a version in place of the one there."""
        root = self.folder / f"root-{name}-{version}"
        (root / "DEBIAN").mkdir(parents=True)
        control = f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: x <x@y.z>\nDescription: x\n"
        if depends:
            control += f"Depends: {depends}\n"
        (root / "DEBIAN/control").write_text(control)
        package = self.folder / f"{name}_{version}_all.deb"
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-b", root, package], check=True, capture_output=True
        )
        data = package.read_bytes()
        self._stanzas[name] = (
            f"{control}Filename: ./{package.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
        )
        (self.folder / "Packages").write_text("\n".join(self._stanzas.values()))
        return package


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    folder = tmp_path / "repository"
    folder.mkdir()
    found = Repository(folder)
    found.add("tool", "1.0", depends="tool-6.1-cloud, libc6")
    found.add("tool-6.1-cloud", "2:1.0")
    return found


@pytest.fixture
def apt(tmp_path: Path, repository: Repository) -> AptCache:
    return AptCache(tmp_path / "cache", sources=repository.sources)


def test_fetching(apt: AptCache, tmp_path: Path) -> None:
    found = apt.fetch(["tool", "tool-6.1-cloud"])
    assert found["tool"].version == "1.0"
    assert found["tool-6.1-cloud"].version == "2:1.0"
    assert all(package.path.parent == tmp_path / "cache/archives" for package in found.values())
    assert all(package.path.read_bytes().startswith(b"!<arch>") for package in found.values())


def test_dependencies_and_names(apt: AptCache) -> None:
    assert apt.dependency("tool", r"tool-[0-9].*") == "tool-6.1-cloud"
    with pytest.raises(PackageError, match="no package like"):
        apt.dependency("tool", r"other-.*")
    assert apt.exists("tool")
    assert not apt.exists("tool-6.1")


def test_pins_stay_until_an_update(apt: AptCache, repository: Repository) -> None:
    apt.fetch(["tool"])
    repository.add("tool", "1.1")
    apt.refresh()
    assert apt.fetch(["tool"])["tool"].version == "1.0"
    assert apt.fetch(["tool"], update=True)["tool"].version == "1.1"
    assert apt.fetch(["tool"])["tool"].version == "1.1"


def test_what_is_here_needs_no_repository(apt: AptCache, repository: Repository) -> None:
    apt.fetch(["tool"])
    for file in repository.folder.glob("*.deb"):
        file.unlink()
    assert apt.fetch(["tool"])["tool"].version == "1.0"


def test_stale_lists_are_refreshed(apt: AptCache, repository: Repository) -> None:
    """The lists name a version the repository has no more."""
    assert apt.exists("tool")
    repository.add("tool", "1.1")
    (repository.folder / "tool_1.0_all.deb").unlink()
    with pytest.raises(PackageError):
        apt.fetch(["tool"])
    package = apt.with_lists(lambda: apt.fetch(["tool"])["tool"], update=False)
    assert package.version == "1.1"


def test_a_damaged_download_is_fetched_again(apt: AptCache) -> None:
    path = apt.fetch(["tool"])["tool"].path
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"x")
    assert apt.fetch(["tool"])["tool"].path.read_bytes() == data


def test_a_package_with_another_hash_is_refused(apt: AptCache, repository: Repository) -> None:
    assert apt.exists("tool")
    package = repository.folder / "tool_1.0_all.deb"
    data = bytearray(package.read_bytes())
    data[-1] ^= 1
    package.write_bytes(data)
    with pytest.raises(PackageError):
        apt.fetch(["tool"])


def test_unknown_packages_and_broken_pins(apt: AptCache, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="absent"):
        apt.fetch(["absent"])
    (tmp_path / "cache/packages.json").write_text(json.dumps({"tool": {"file": 1}}))
    with pytest.raises(PackageError, match="is damaged"):
        apt.fetch(["tool"])


def test_a_host_without_apt(apt: AptCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(PackageError, match="Debian or Ubuntu"):
        apt.fetch(["tool"])


def test_downloads_are_told_by_name_and_number(tmp_path: Path, repository: Repository) -> None:
    told: list[str] = []
    apt = AptCache(tmp_path / "cache", told.append, repository.sources)
    apt.fetch(["tool", "tool-6.1-cloud"])
    steps = [step for step in told if step.startswith("downloading")]
    assert steps == ["downloading tool (1/2)", "downloading tool-6.1-cloud (2/2)"]


def test_fresh_lists_do_not_bring_apt(apt: AptCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(apt, "refresh", lambda: pytest.fail("fetched the lists"))
    with pytest.raises(AptMissing):
        apt.with_lists(lambda: apt.fetch(["tool"]), update=False)


@pytest.mark.parametrize("lost, package", [("gcc", "gcc"), ("mkfs.erofs", "erofs-utils")])
def test_missing_programs_are_told_before_a_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str, package: str
) -> None:
    for name in {"apt-get", "gcc", "mkfs.erofs"} - {lost}:
        (tmp_path / name).symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolsMissing, match=f"{lost}; install them: apt-get install {package}"):
        build_image(tmp_path / "image", cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
