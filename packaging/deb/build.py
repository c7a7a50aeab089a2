"""`python packaging/deb/build.py OUT`: builds a Debian package. One file is for Debian 12, Debian 13 and Ubuntu 24.04.

Debian 12's cryptography is older than what the code needs, and msgspec and qemu.qmp are not in it: so
the package brings the locked wheels along, in an environment of its own below /usr/lib/avf. The compiled parts
of wheels have the interpreter's version in their names, so those for several versions lie side by side.
"""

import argparse
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PYTHONS = ["3.11", "3.12", "3.13"]
HOME = "usr/lib/avf"
SITE = f"{HOME}/lib/python{PYTHONS[0]}/site-packages"
GLIBC = range(17, 37)
"""Minor versions of glibc 2 that the wheels may ask for: Debian 12 has 2.36."""
MOVED = {
    "share/zsh/site-functions": "share/zsh/vendor-completions",
    "share/doc/avf-linux/packaging/policy.toml.example": "share/doc/avf-linux/examples/policy.toml",
}
SYSTEM_FILES = {
    "packaging/systemd/avf-virtualizationservice.service": "usr/lib/systemd/system/",
    "packaging/systemd/avf-virtualizationservice.socket": "usr/lib/systemd/system/",
    "packaging/systemd/sysusers.conf": "usr/lib/sysusers.d/avf.conf",
    "packaging/systemd/tmpfiles.conf": "usr/lib/tmpfiles.d/avf.conf",
    "packaging/polkit/org.avf.policy": "usr/share/polkit-1/actions/",
}
NOT_IN_THE_DOCUMENTS = ("packaging/systemd/", "packaging/polkit/")
"""The package has them where they belong."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="the folder to put the package into")
    print(build(parser.parse_args().out))
    return 0


def build(out: Path) -> Path:
    """The file of the package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="avf-deb-") as scratch:
        tree = Path(scratch, "tree")
        make_environment(tree, project["scripts"])
        add_wheels(tree / SITE, Path(scratch))
        add_project(tree, make_wheel(Path(scratch)))
        add_system_files(tree)
        values = {
            "VERSION": project["version"],
            "ARCHITECTURE": output_of("dpkg", "--print-architecture").strip(),
            "MAINTAINER": maintainer(),
            "AFTER": after(PYTHONS[-1]),
        }
        add_control(tree, values)
        package = out / f"{project['name']}_{values['VERSION']}_{values['ARCHITECTURE']}.deb"
        make_deb(tree, package)
    return package


def make_environment(tree: Path, scripts: dict[str, str]) -> None:
    """What `python -m venv` would make, without pip, for each version of Python; and the commands."""
    (tree / SITE).mkdir(parents=True)
    for version in PYTHONS[1:]:
        (tree / HOME / f"lib/python{version}").symlink_to(f"python{PYTHONS[0]}")
    settings = "home = /usr/bin\ninclude-system-site-packages = false\n"
    (tree / HOME / "pyvenv.cfg").write_text(settings)
    for folder in (f"{HOME}/bin", "usr/bin", f"{HOME}/share/doc"):
        (tree / folder).mkdir(parents=True)
    (tree / HOME / "bin/python3").symlink_to("/usr/bin/python3")
    (tree / HOME / "share/doc/avf-linux").symlink_to("/usr/share/doc/avf-linux")
    for name, entry in scripts.items():
        module, _, function = entry.partition(":")
        path = tree / "usr/bin" / name
        start = f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n"
        path.write_text(f"#!/{HOME}/bin/python3 -I\n{start}")
        path.chmod(0o755)


def add_wheels(site: Path, scratch: Path) -> None:
    """The locked dependencies; the first version's files count where those of others differ, as their notes do."""
    platforms = [f"--platform=manylinux_2_{minor}_{os.uname().machine}" for minor in GLIBC]
    platforms += [f"--platform=manylinux2014_{os.uname().machine}"]
    for version in PYTHONS:
        folder = scratch / version
        pip(
            *("install", "--target", str(folder), "--no-compile", "--no-deps"),
            *("--only-binary", ":all:", "--python-version", version, *platforms),
            *("--require-hashes", "-r", str(ROOT / "requirements/package.txt")),
        )
        shutil.rmtree(folder / "bin", ignore_errors=True)
        for path in files(folder):
            target = site / path.relative_to(folder)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                path.rename(target)


def make_wheel(scratch: Path) -> Path:
    pip("wheel", "--no-deps", "--no-build-isolation", "-w", str(scratch), str(ROOT))
    (wheel,) = scratch.glob("avf_linux-*.whl")
    return wheel


def add_project(tree: Path, wheel: Path) -> None:
    """Our own wheel: its packages into the environment, what it shares into /usr."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            _, is_shared, shared = name.partition(".data/data/")
            target = f"usr/{moved(shared)}" if is_shared else f"{SITE}/{name}"
            data = archive.read(name)
            if target.startswith("usr/share/man/"):
                target, data = f"{target}.gz", gzip.compress(data, mtime=0)
            if not shared.removeprefix("share/doc/avf-linux/").startswith(NOT_IN_THE_DOCUMENTS):
                write(tree / target, data)


def moved(path: str) -> str:
    """Where Debian has it."""
    for ours, theirs in MOVED.items():
        if path.startswith(ours):
            return theirs + path.removeprefix(ours)
    return path


def add_system_files(tree: Path) -> None:
    for source, target in SYSTEM_FILES.items():
        name = target + Path(source).name if target.endswith("/") else target
        write(tree / name, (ROOT / source).read_bytes())


def add_control(tree: Path, values: dict[str, str]) -> None:
    documents = tree / "usr/share/doc/avf-linux"
    write(documents / "copyright", filled("copyright", values).encode())
    size = sum(path.lstat().st_size for path in files(tree)) // 1024
    sums = "".join(
        f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(tree)}\n"
        for path in sorted(files(tree))
        if not path.is_symlink()
    )
    write(tree / "DEBIAN/md5sums", sums.encode())
    write(tree / "DEBIAN/control", filled("control", values | {"SIZE": str(size)}).encode())
    for name in ("postinst", "prerm", "postrm"):
        write(tree / "DEBIAN" / name, (HERE / name).read_bytes(), 0o755)


def make_deb(tree: Path, package: Path) -> None:
    """All of it root's, with modes that do not depend on who builds it."""
    for path in [tree, *tree.rglob("*")]:
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)
    command = ["dpkg-deb", "--root-owner-group", "-Zzstd", "--build", str(tree), str(package)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def maintainer() -> str:
    """Whoever builds the package, as Debian's own tools ask for the name and the address."""
    name = os.environ.get("DEBFULLNAME", "AVF for Linux, built locally")
    return f"{name} <{os.environ.get('DEBEMAIL', 'root@localhost')}>"


def after(version: str) -> str:
    """The version of Python that is the first without compiled parts here."""
    major, _, minor = version.partition(".")
    return f"{major}.{int(minor) + 1}"


def filled(template: str, values: dict[str, str]) -> str:
    text = (HERE / template).read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def write(path: Path, data: bytes, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)


def files(folder: Path) -> Iterator[Path]:
    """Files and links below a folder, without the links to folders' contents."""
    return (path for path in list(folder.rglob("*")) if path.is_symlink() or path.is_file())


def pip(*arguments: str) -> None:
    quiet = ["--disable-pip-version-check", "--no-input", "-qq"]
    subprocess.run([sys.executable, "-m", "pip", *quiet, *arguments], check=True)


def output_of(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
