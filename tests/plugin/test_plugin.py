"""The plugin as a project has it that has installed the package: pytest in a process and a folder of its own."""

import shutil
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

SERVICE = """
import os, socket, sys
import avf_payload
print("the payload has", os.environ["WORD"], *sys.argv[1:], flush=True)
with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as listener:
    listener.bind((socket.VMADDR_CID_ANY, 5678))
    listener.listen()
    avf_payload.notify_payload_ready()
    while True:
        with listener.accept()[0] as stream:
            stream.sendall(stream.recv(100).upper())
"""
TESTS = """
import pytest

@pytest.mark.avf("service.py", args=["one"], env={"WORD": "words"})
def test_it_answers(vm):
    with vm.connect_vsock(5678) as stream:
        stream.sendall(b"hello")
        assert stream.recv(100) == b"HELLO"

@pytest.mark.avf("service.py", args=["two"], env={"WORD": "words"})
def test_it_answers_something_else(vm):
    vm.stop()
    assert vm.wait_for_death(60) is None

def test_it_ends_too_early(make_vm):
    make_vm("broken.py")
"""


ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs/testing.md"
EXAMPLE = ("parrot.py", "test_parrot.py")


@pytest.fixture
def project(pytester: pytest.Pytester, runtime_dir: Path) -> pytest.Pytester:
    pytester.makepyfile(service=SERVICE, broken="raise SystemExit('no luck today')")
    return pytester


@pytest.mark.vm
@pytest.mark.usefixtures("image_dir")
def test_machines_of_tests(project: pytest.Pytester, runtime_dir: Path) -> None:
    project.makepyfile(test_it=TESTS)
    for name in EXAMPLE:
        shutil.copy(ROOT / "examples/testing" / name, project.path)
    result = project.runpytest_subprocess("-p", "no:cacheprovider", "-v")
    result.assert_outcomes(passed=2, failed=2)  # one of them is the example's
    result.stdout.fnmatch_lines_random(
        [
            "*- VM service: log -*",
            "the payload has words two",
            "*- VM service: death -*",
            "*KILLED*",
            "*Finished*",
            "*- VM broken: log -*",
            "no luck today",
        ]
    )
    assert "the payload has words one" not in result.stdout.str()  # its test has passed
    assert not list((runtime_dir / "vms").iterdir())


def test_a_test_without_the_marker(project: pytest.Pytester) -> None:
    project.makepyfile(test_it="def test_it(vm): pass")
    result = project.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*the fixture `vm` needs the marker: @pytest.mark.avf(SOURCE)*"])


def test_a_source_that_is_none(project: pytest.Pytester) -> None:
    project.makefile(".txt", words="hello")
    project.makepyfile(
        test_it="import pytest\n@pytest.mark.avf('words.txt')\ndef test_it(vm): pass"
    )
    result = project.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*ProjectError*words.txt is no payload*"])


def test_the_marker_is_known(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess("--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.avf(source, *"])


@pytest.mark.parametrize("name", EXAMPLE)
def test_the_guide_shows_the_example(name: str) -> None:
    code = (ROOT / "examples/testing" / name).read_text()
    assert f"```python\n{code}```\n" in GUIDE.read_text()
