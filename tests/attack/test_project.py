"""Sources, wheels and guests that want more than a payload gets: files of the host, its memory, its time."""

import os
import zipfile
from pathlib import Path

import pytest

from avf.apk import SigningKey
from avf.cli.payload_output import AgentFilter
from avf.project import ProjectError, build, open_project
from avf.project import files as project_files
from avf.project.vendor import MAX_WHEEL_BYTES, MAX_WHEEL_FILES, read_requirements, unpacked


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "project"
    path.mkdir()
    (path / "main.py").write_text("print()")
    return path


def built(folder: Path) -> list[str]:
    """The names in the APK."""
    apk = folder.parent / "made.apk"
    with open(apk, "w+b") as file:
        build(open_project(folder), file, SigningKey.generate())
    with zipfile.ZipFile(apk) as archive:
        return archive.namelist()


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "../secret", "/proc/self/environ", "../../../../etc/passwd"]
)
@pytest.mark.parametrize("at", ["innocent.txt", "main.py", "deep/er/innocent.txt"])
def test_links_bring_no_file_of_the_host_along(folder: Path, target: str, at: str) -> None:
    (folder.parent / "secret").write_text("secret")
    (folder / at).parent.mkdir(parents=True, exist_ok=True)
    (folder / at).unlink(missing_ok=True)
    (folder / at).symlink_to(target)
    with pytest.raises(ProjectError):
        built(folder)


def test_a_linked_folder_is_not_entered(folder: Path) -> None:
    (folder / "etc").symlink_to("/etc")
    with pytest.raises(ProjectError, match="leads out of the folder"):
        built(folder)
    (folder / "etc").unlink()
    (folder / "itself").symlink_to(".")
    with pytest.raises(ProjectError, match="not a regular file"):
        built(folder)


def test_pipes_and_sockets_are_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    with pytest.raises(ProjectError, match="fifo is not a regular file"):
        built(folder)
    (folder / "fifo").unlink()
    (folder / "main.py").unlink()
    os.mkfifo(folder / "main.py")
    with pytest.raises(ProjectError):
        built(folder)


def test_keys_stay_on_the_host(folder: Path) -> None:
    key, certificate = SigningKey.generate().to_pem()
    (folder / "release.pem").write_bytes(certificate + key)
    (folder / "release.p12").write_bytes(b"0")
    (folder / ".ssh").mkdir()
    (folder / ".ssh/id_rsa").write_bytes(key)
    names = built(folder)
    assert [name for name in names if "release" in name or "ssh" in name] == []


def test_a_project_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(folder / "huge.bin", "wb") as file:
        file.truncate(project_files.MAX_BYTES + 1)
    with pytest.raises(ProjectError, match="has more than"):
        built(folder)
    (folder / "huge.bin").unlink()
    monkeypatch.setattr(project_files, "MAX_FILES", 10)
    for number in range(11):
        (folder / f"{number}.txt").touch()
    with pytest.raises(ProjectError, match="has more than 10 files"):
        built(folder)


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 100_000,
        "a" * 100_000,
        'main = "/etc/passwd"',
        'main = "../secret"',
        'main = ""',
        'build = "touch /tmp/owned"',
        "\0",
    ],
)
def test_settings_name_nothing_outside_and_run_nothing(folder: Path, text: str) -> None:
    (folder / "payload.toml").write_text(text)
    with pytest.raises(ProjectError, match=r"payload\.toml"):
        built(folder)


def wheel(path: Path, files: dict[str, int]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a-1.dist-info/WHEEL", "Root-Is-Purelib: true\n")
        for name, size in files.items():
            with archive.open(name, "w") as file:
                for _ in range(size >> 20):
                    file.write(bytes(1 << 20))
    return path


def test_a_wheel_that_unpacks_to_too_much_is_not_unpacked(tmp_path: Path) -> None:
    path = wheel(tmp_path / "a-1-py3-none-any.whl", {"a.py": MAX_WHEEL_BYTES + (1 << 20)})
    assert path.stat().st_size < 1 << 20
    with pytest.raises(ProjectError, match="which is too much"):
        next(unpacked(path))
    many = wheel(tmp_path / "b-1-py3-none-any.whl", {f"{n}": 0 for n in range(MAX_WHEEL_FILES + 1)})
    with pytest.raises(ProjectError, match="which is too much"):
        next(unpacked(many))


def test_a_wheel_that_lies_about_its_sizes(tmp_path: Path) -> None:
    path = wheel(tmp_path / "a-1-py3-none-any.whl", {"a.py": 32 << 20})
    data = path.read_bytes()
    size = (32 << 20).to_bytes(4, "little")
    assert data.count(size)
    path.write_bytes(data.replace(size, (16).to_bytes(4, "little")))
    with pytest.raises(ProjectError, match="damaged"):
        list(unpacked(path))


def test_requirements_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    path.write_bytes(b"a\n" * (1 << 20))
    with pytest.raises(ProjectError, match="longer than"):
        read_requirements(path)
    path.write_bytes(b"\xff\n")
    with pytest.raises(ProjectError, match="not text in UTF-8"):
        read_requirements(path)


def test_a_guest_that_never_ends_its_line_takes_no_memory() -> None:
    for start in (b"[    1.000] agent: ", b"[", b"[    1.000", b""):
        stream = AgentFilter()
        shown = len(stream.feed(start))
        for _ in range(64):
            shown += len(stream.feed(b"x" * (64 << 10)))
        assert shown >= 63 * (64 << 10)
