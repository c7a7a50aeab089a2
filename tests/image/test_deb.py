import subprocess
import tarfile
from pathlib import Path

import pytest

from avf.image import PackageError, deb


def build_package(folder: Path, compression: str) -> Path:
    """A package made by dpkg-deb itself."""
    root = folder / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN/control").write_text(
        "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@y.z>\nDescription: x\n"
    )
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/tool").write_bytes(b"tool" * 5000)
    (root / "usr/bin/tool").chmod(0o755)
    (root / "usr/bin/alias").symlink_to("tool")
    package = folder / "x.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", f"-Z{compression}", "-b", root, package],
        check=True,
        capture_output=True,
    )
    return package


@pytest.mark.parametrize("compression", ["xz", "gzip", "zstd", "none"])
def test_what_dpkg_packs(tmp_path: Path, compression: str) -> None:
    found = dict(deb.entries(build_package(tmp_path, compression)))
    assert found == {
        "usr/bin/tool": deb.File(0o755, b"tool" * 5000),
        "usr/bin/alias": deb.Link("tool"),
    }


def test_truncated_package(tmp_path: Path) -> None:
    package = build_package(tmp_path, "xz")
    package.write_bytes(package.read_bytes()[:-100])
    with pytest.raises(PackageError, match="damaged"):
        list(deb.entries(package))


def test_not_a_package(tmp_path: Path) -> None:
    path = tmp_path / "x.deb"
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(PackageError, match="not a Debian package"):
        list(deb.entries(path))
    path.write_bytes(b"!<arch>\n")
    with pytest.raises(PackageError, match=r"no data\.tar"):
        list(deb.entries(path))


def test_paths_that_lead_out_are_refused(tmp_path: Path) -> None:
    data = tmp_path / "data.tar"
    with tarfile.open(data, "w") as archive:
        archive.addfile(tarfile.TarInfo("../../etc/passwd"))
    content = data.read_bytes()
    header = (
        b"data.tar        0           0     0     100644  "
        + str(len(content)).encode().ljust(10)
        + b"`\n"
    )
    package = tmp_path / "x.deb"
    package.write_bytes(b"!<arch>\n" + header + content)
    with pytest.raises(PackageError, match="unsafe path"):
        list(deb.entries(package))
