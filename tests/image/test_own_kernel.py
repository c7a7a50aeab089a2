"""A kernel from a source package: a small one in the place of Linux, which takes minutes to compile."""

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from avf.image import KernelError, PackageError, ToolsMissing, check_tools, kbuild, module_closure
from avf.image.apt import Package
from avf.image.kernel import current_kernel, files_in, keep_as_current
from avf.image.kernel_source import unpack_source
from avf.image.own_kernel import CONFIG, build_from

MAKEFILE = b"""\
allnoconfig:
\tcp $(KCONFIG_ALLCONFIG) .config
\tsed -i '/$(LACKING)/d' .config
vmlinux:
\techo 'char v[] = "$(KBUILD_BUILD_TIMESTAMP) $(ARCH) $(CFLAGS)"; int main(void) { return v[0]; }' > v.c
\tgcc -g -Wl,--build-id=none -o vmlinux v.c
\techo kernel/drivers/block/loop.ko > modules.builtin
\tmkdir -p include/config
\techo 6.1-avf > include/config/kernel.release
"""
FILES = {
    "Makefile": MAKEFILE.replace(b"$(LACKING)", b"CONFIG_NOTHING"),
    "arch/x86/boot/main.c": b"x86",
    "arch/Kconfig": b"arch",
    "arch/arm/boot/main.c": b"arm",
    "arch/arm/Kconfig": b"arm",
    "drivers/net/loopback.c": b"loopback",
    "drivers/net/ethernet/intel/e1000.c": b"e1000",
    "drivers/net/ethernet/intel/Makefile": b"e1000",
    "drivers/gpu/drm/drm.c": b"drm",
    "drivers/gpu/drm/Kconfig.debug": b"drm",
    "Documentation/index.rst": b"text",
}


def source_package(folder: Path, files: dict[str, bytes], compression: str = "xz") -> Package:
    """As Debian makes it."""
    root = folder / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN/control").write_text(
        "Package: linux-source-6.1\nVersion: 1\nArchitecture: all\nMaintainer: x <x@y.z>\nDescription: x\n"
    )
    (root / "usr/src").mkdir(parents=True)
    path = root / f"usr/src/linux-source-6.1.tar.{compression}"
    with tarfile.open(path, f"w:{compression}") as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(f"linux-source-6.1/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    deb = folder / "linux-source-6.1_1_all.deb"
    command = ["dpkg-deb", "--root-owner-group", "-b", root, deb]
    subprocess.run(command, check=True, capture_output=True)
    return Package("linux-source-6.1", "1", deb)


@pytest.mark.parametrize("compression", ["xz", "gz"])
def test_source_is_unpacked_as_far_as_a_guest_needs_it(tmp_path: Path, compression: str) -> None:
    target = tmp_path / "source"
    target.mkdir()
    unpack_source(source_package(tmp_path, FILES, compression), target)
    found = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    left_out = {
        "arch/arm/boot/main.c",
        "drivers/net/ethernet/intel/e1000.c",
        "drivers/gpu/drm/drm.c",
        "Documentation/index.rst",
    }
    assert found == set(FILES) - left_out
    assert (target / "drivers/net/loopback.c").read_bytes() == b"loopback"


def test_packages_without_a_source_are_refused(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for number, (files, compression, complaint) in enumerate(
        (
            ({"README": b""}, "xz", "no Makefile in the source archive"),
            (FILES, "bz2", "no source archive that can be read"),
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(PackageError, match=complaint):
            unpack_source(source_package(folder, files, compression), tmp_path / "source")


def test_a_source_that_leads_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with pytest.raises(PackageError, match=r"linux-source-6\.1_1_all\.deb: .*unsafe path"):
        package = source_package(tmp_path, FILES | {"../../outside": b""})
        unpack_source(package, tmp_path / "source")
    assert not (tmp_path / "outside").exists()


def test_the_same_kernel_wherever_it_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = source_package(tmp_path, FILES)
    monkeypatch.setenv("CFLAGS", "-O3")
    monkeypatch.setenv("KBUILD_BUILD_TIMESTAMP", "now")
    build_from(package, tmp_path / "one" / "kernel")
    monkeypatch.setenv("MAKEFLAGS", "--dry-run")
    build_from(package, tmp_path / "the other" / "kernel")
    one, other = (files_in(tmp_path / name / "kernel", "") for name in ("one", "the other"))
    assert one.vmlinux.read_bytes() == other.vmlinux.read_bytes()
    assert b"1970-01-01 x86_64 \0" in one.vmlinux.read_bytes()
    assert [path.name for path in one.modules_dir.iterdir()] == ["modules.builtin"]
    assert module_closure(one, ["loop"]) == []
    assert (tmp_path / "one/kernel/release").read_text() == "6.1-avf"
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["kernel"]


def test_an_option_that_the_source_lacks_is_named(tmp_path: Path) -> None:
    files = FILES | {"Makefile": MAKEFILE.replace(b"$(LACKING)", b"CONFIG_DM_VERITY=y")}
    with pytest.raises(KernelError, match=r"cannot have: CONFIG_DM_VERITY=y$"):
        build_from(source_package(tmp_path, files), tmp_path / "cache/kernel")
    assert not list((tmp_path / "cache").iterdir())


def test_what_the_compiler_says_is_told(tmp_path: Path) -> None:
    makefile = FILES["Makefile"].replace(b"int main", b"float main_")
    package = source_package(tmp_path, FILES | {"Makefile": makefile})
    with pytest.raises(KernelError, match=r"(?s)make .* failed:\n.*main"):
        build_from(package, tmp_path / "cache/kernel")


def test_a_kernel_made_by_other_rules_is_not_taken(tmp_path: Path) -> None:
    directory = tmp_path / "kernel/one"
    (directory / "modules").mkdir(parents=True)
    (directory / "vmlinux").touch()
    keep_as_current(tmp_path, "own", directory, "6.1-avf", "rules")
    assert current_kernel(tmp_path, "own", "rules") == files_in(directory, "6.1-avf")
    assert current_kernel(tmp_path, "own", "others") is None
    (tmp_path / "kernel/own.json").write_text("[]")
    assert current_kernel(tmp_path, "own", "rules") is None


def test_every_option_is_one_line(tmp_path: Path) -> None:
    options = kbuild.options(CONFIG.read_text())
    names = [option.partition("=")[0] for option in options]
    assert len(names) > 100
    assert sorted(set(names)) == sorted(names)
    assert all(name.startswith("CONFIG_") for name in names)


@pytest.mark.parametrize(("lost", "package"), [("flex", "flex"), ("bc", "bc"), ("ld", "binutils")])
def test_lacking_tools_are_named_with_their_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str, package: str
) -> None:
    for name in {"apt-get", "mkfs.erofs", "gcc", "bc", "bison", "flex", "ld", "make"} - {lost}:
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    check_tools()
    with pytest.raises(ToolsMissing, match=f"{lost}; install them: apt-get install {package}$"):
        check_tools(for_kernel=True)


def test_lacking_libelf_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("apt-get", "mkfs.erofs", "gcc", "bc", "bison", "flex", "ld", "make"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolsMissing, match=r"libelf's headers; .* libelf-dev$"):
        check_tools(for_kernel=True)
