"""Requirements of a project: pure wheels, found by pip in a folder."""

import io
import zipfile
from pathlib import Path

import pytest

from avf.apk import SigningKey
from avf.project import ProjectError, build, open_project
from avf.project.vendor import read_requirements, unpacked, vendored


def wheel(folder: Path, name: str, files: dict[str, bytes], *, pure: str = "true") -> Path:
    project, version = name.split("-")[:2]
    info = f"{project}-{version}.dist-info"
    path = folder / name
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in files.items():
            archive.writestr(file, content)
        metadata = f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n"
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: {pure}\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where pip looks, and nowhere else; the cache is the test's own."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def test_wheels_are_vendored_and_cached(index: Path, tmp_path: Path) -> None:
    made = wheel(index, "pure-1.0-py3-none-any.whl", {"pure/__init__.py": b"x = 1\n"})
    project = tmp_path / "p"
    project.mkdir()
    (project / "main.py").write_text("import pure")
    (project / "requirements.txt").write_text("# what is needed\npure >= 0.5  # this\n")
    key = SigningKey.generate()
    for _ in range(2):
        apk = io.BytesIO()
        build(open_project(project), apk, key)
        names = zipfile.ZipFile(apk).namelist()
        assert "site-packages/pure/__init__.py" in names
        assert "site-packages/pure-1.0.dist-info/METADATA" in names
        assert "bin/requirements.txt" not in names
        made.unlink(missing_ok=True)  # the second time it is in the cache
    (project / "pure").mkdir()
    (project / "pure/__init__.py").touch()
    with pytest.raises(ProjectError, match="is also in a wheel"):
        build(open_project(project), io.BytesIO(), key)


def test_a_wheel_that_is_not_pure_is_refused_by_its_name(index: Path, tmp_path: Path) -> None:
    from packaging.tags import sys_tags

    tag = next(str(tag) for tag in sys_tags())
    wheel(index, f"native-2.0-{tag}.whl", {"native/x.so": b"\x7fELF"}, pure="false")
    wheel(index, "pure-1.0-py3-none-any.whl", {"pure.py": b""})
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("native\npure\n")
    with pytest.raises(ProjectError, match=rf"not pure Python: native-2\.0-{tag}\.whl"):
        list(vendored(requirements))
    assert not list((tmp_path / "cache/avf/wheels").iterdir())


def test_a_wheel_with_other_packages_inside_its_own(tmp_path: Path) -> None:
    """As setuptools has them."""
    inner = "outer/_vendor/inner-0.1.dist-info"
    files = {
        "outer/__init__.py": b"",
        f"{inner}/WHEEL": b"Root-Is-Purelib: false\n",
        f"{inner}/METADATA": b"",
    }
    made = wheel(tmp_path, "outer-1.0-py3-none-any.whl", files)
    assert files.items() <= dict(unpacked(made)).items()


def test_what_pip_does_not_find(index: Path, tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("absent==1.0\n")
    with pytest.raises(ProjectError, match=r"pip found no wheels$") as raised:
        list(vendored(requirements))
    assert "absent==1.0" in str(raised.value.__cause__)


@pytest.mark.parametrize(
    "line",
    [
        "-e .",
        "--no-binary :all:",
        "--index-url http://example.com",
        "-r other.txt",
        "./local",
        "name @ file:///tmp/x",
        "git+https://example.com/x",
        "/tmp/x.whl",
        "..",
        "name --config-settings x=y",
        "name ; python_version < '3' --no-binary=name",
    ],
)
def test_lines_that_could_run_code_are_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "r.txt").write_text(f"good==1\n{line}\n")
    with pytest.raises(ProjectError, match="no plain requirement"):
        read_requirements(tmp_path / "r.txt")


def test_plain_requirements(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text(
        "# comment\n\nrequests[socks] >=2, <3 ; python_version >= '3.8'\n"
        f"six==1.16.0 \\\n    --hash=sha256:{'a' * 64}\n"
    )
    assert read_requirements(tmp_path / "r.txt") == [
        "requests[socks] >=2, <3 ; python_version >= '3.8'",
        f"six==1.16.0 --hash=sha256:{'a' * 64}",
    ]


@pytest.mark.parametrize(
    ("name", "files", "pure", "said"),
    [
        ("a-1-cp311-abi3-linux_x86_64.whl", {}, "true", "not pure Python"),
        ("a-1-py3-none-any.whl", {"a.so": b"\x7fELF..."}, "true", "a.so is an ELF file"),
        ("a-1-py3-none-any.whl", {}, "false", "Root-Is-Purelib is not true"),
        ("a-1-py3-none-any.whl", {"../../etc/passwd": b""}, "true", "damaged"),
        ("a-1-py3-none-any.whl", {"/etc/passwd": b""}, "true", "damaged"),
    ],
)
def test_wheels_that_are_refused(
    tmp_path: Path, name: str, files: dict[str, bytes], pure: str, said: str
) -> None:
    with pytest.raises(ProjectError, match=said):
        list(unpacked(wheel(tmp_path, name, files, pure=pure)))


def test_a_wheel_is_spread_without_its_scripts(tmp_path: Path) -> None:
    files = {"a-1.data/purelib/a/b.py": b"b", "a-1.data/scripts/run": b"#!", "a/c.py": b"c"}
    names = [name for name, _ in unpacked(wheel(tmp_path, "a-1-py3-none-any.whl", files))]
    assert names[:2] == ["a/b.py", "a/c.py"]
    assert not any("run" in name for name in names)
