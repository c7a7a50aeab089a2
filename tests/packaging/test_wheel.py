"""The wheel has what a first run takes, and what it installs works away from the sources."""

import email
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest

from hatch_build import with_named_pages

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    (found,) = folder.iterdir()
    return found


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that has the wheel, and the dependencies of the one that runs the tests but not its avf."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-qq"]
    python = str(folder / "bin/python")
    subprocess.run([*pip, "--python", python, "install", "--no-deps", wheel], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (ours,) = {path for path in map(Path, sys.path) if path.name == "site-packages"}
    for path in ours.iterdir():
        if path.suffix != ".pth" and not (site / path.name).exists() and "avf" not in path.name:
            (site / path.name).symlink_to(path)
    return folder


def output_of(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True)
    return done.stdout


def shared(wheel: Path) -> Iterator[str]:
    for name in zipfile.ZipFile(wheel).namelist():
        _, is_shared, path = name.partition(".data/data/")
        if is_shared:
            yield path


def test_documents_examples_pages_and_completion_are_in_it(wheel: Path) -> None:
    documents = "share/doc/avf-linux/"
    expected = {f"{documents}{path.relative_to(ROOT)}" for path in (ROOT / "docs").rglob("*.md")}
    expected |= {
        f"{documents}README.md",
        f"{documents}examples/payload/hello.py",
        f"{documents}packaging/policy.toml.example",
        f"{documents}packaging/systemd/avf-virtualizationservice.socket",
        "include/avf-payload/vm_main.h",
        "share/bash-completion/completions/vm",
        "share/fish/vendor_completions.d/vm.fish",
        "share/man/man1/vm.1",
        "share/man/man1/vm-run-app.1",
        "share/pkgconfig/avf-payload.pc",
        "share/zsh/site-functions/_vm",
    }
    assert not expected - set(shared(wheel))


def test_no_test_and_no_rubbish_is_in_it(wheel: Path) -> None:
    for name in zipfile.ZipFile(wheel).namelist():
        if name.startswith("avf/project/skeletons/"):  # projects that `vm new` makes have tests
            continue
        assert not re.search(r"(^|/)(tests|__pycache__|build|\.git)/|\.pyc$|\.orig$", name), name


def test_whoever_builds_an_image_needs_no_extra(metadata: Message) -> None:
    needed = {
        re.split(r"[<>=;\[ ]", text)[0]
        for text in metadata.get_all("Requires-Dist", [])
        if "extra" not in text
    }
    assert {"zstandard", "lz4", "click", "cryptography"} <= needed


def test_all_is_every_other_extra(metadata: Message) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert extras["all"] == [f"avf-linux[{','.join(sorted(extras.keys() - {'all'}))}]"]
    assert set(metadata.get_all("Provides-Extra", [])) == set(extras)


def test_the_description_names_pages_that_are_installed(metadata: Message, wheel: Path) -> None:
    text = str(metadata.get_payload())
    assert all(link.startswith(("https://", "#")) for link in re.findall(r"\]\(([^)]+)\)", text))
    pages = re.findall(r"`(docs/[^`]+\.md)`", text)
    assert len(pages) > 10
    assert {f"share/doc/avf-linux/{page}" for page in pages} <= set(shared(wheel))


def test_links_become_names() -> None:
    text = "[a](docs/a.md#b) [c](https://c) [d](#d) see `examples/`, [docs/x.md](docs/x.md)"
    named = with_named_pages(text).splitlines()
    assert named[0] == "a: `docs/a.md` [c](https://c) [d](#d) see `examples/`, `docs/x.md`"
    assert "share/doc/avf-linux" in named[-1]


def test_no_address_is_made_up(metadata: Message) -> None:
    """There is none so far, and a reserved name such as `.example` leads nowhere."""
    said = [*metadata.get_all("Project-URL", []), *metadata.get_all("Home-page", [])]
    said += [str(metadata.get(field, "")) for field in ("Author-email", "Maintainer-email")]
    assert not [text for text in said if re.search(r"\.(example|invalid|test)\b", text)]


def test_commands_pages_and_the_image_builder_work_away_from_the_sources(
    installed: Path, tmp_path: Path
) -> None:
    python, vm = installed / "bin/python", installed / "bin/vm"
    place = output_of(python, "-c", "import avf; print(avf.__file__)", cwd=tmp_path).strip()
    assert Path(place).is_relative_to(installed)
    assert output_of(vm, "--version", cwd=tmp_path).startswith("vm, version ")
    assert "--update" in output_of(python, "-m", "avf.image", "build", "--help", cwd=tmp_path)
    assert 'TH VM 1 "" "AVF for Linux' in (installed / "share/man/man1/vm.1").read_text()
    completion = installed / "share/bash-completion/completions/vm"
    assert (
        completion.read_text().strip() == output_of(vm, "completion", "bash", cwd=tmp_path).strip()
    )


def test_an_image_goes_where_vm_looks_for_one(installed: Path, tmp_path: Path) -> None:
    code = (
        "from avf import image, runtime; print(image.default_output() == runtime.image_dirs()[0])"
    )
    assert output_of(installed / "bin/python", "-c", code, cwd=tmp_path) == "True\n"


def test_doctor_points_to_the_documents(installed: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [installed / "bin/vm", "doctor"],
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "AVF_RUNTIME_DIR": str(tmp_path / "r"),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert f"fix: {installed}/bin/python -m avf.image build\n" in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("Documentation")]
    assert Path(line.partition(": ")[2], "docs/payloads.md").exists()


def test_pages_are_made_with_what_the_build_requires() -> None:
    """As the build has it."""
    code = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in ("avf", "click", "msgspec"):
            raise ImportError(f"{name} is needed")
sys.meta_path.insert(0, Hidden())
from avf.cli.man import pages
print(len(list(pages("1"))))
"""
    assert int(output_of(sys.executable, "-c", code, cwd=ROOT)) >= 19


def test_a_wheel_can_be_made_of_the_source_archive(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert {"hatch_build.py", "README.md", "docs/payloads.md", "packaging/deb/build.py"} <= names
