"""The pytest plugin: virtual machines as fixtures, and what a machine wrote in the report of a test that fails.

    @pytest.mark.avf("service.py", args=["--verbose"])
    def test_it_answers(vm):
        with vm.connect_vsock(5678) as stream:
            ...

pytest loads it by itself where avf-linux is installed. Nothing is started for tests that ask for none of its fixtures:

vm_service   the connection to virtmgr, one for all tests of a process
make_vm      a function that starts a machine; all it has started are killed when the test ends
vm           the machine that the marker `avf` describes

Machines are debuggable unless `debug_level` says otherwise, so that there is something to show.
"""

import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from avf.apk import SigningKey
    from avf.client import VirtualizationService, VirtualMachine

    MakeVm = Callable[..., VirtualMachine]

__all__ = ["make_vm", "vm", "vm_service"]

_MARKER = (
    "avf(source, *, ready=True, timeout=300, **config): the machine that the fixture `vm` starts."
    " `source` is an APK, or what `vm run-app` takes: a script, a program, a folder; relative to the test's file."
    " `ready`: wait `timeout` seconds for the payload to say that it is ready."
    " `config`: fields of avf.client.AppConfig."
)
_SHOWN = 64 << 10
"""So many bytes, the last, of each output are in a report."""


@dataclass(frozen=True, slots=True)
class _Started:
    vm: "VirtualMachine"
    name: str
    outputs: dict[str, Path]


_started = pytest.StashKey[list[_Started]]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture(scope="session")
def vm_service() -> Iterator["VirtualizationService"]:
    """The connection to a virtmgr of this process; its machines die with it."""
    from avf.client import connect

    with connect() as service:
        yield service


@pytest.fixture(scope="session")
def _avf_key() -> "SigningKey":
    """What signs the APKs that are made of sources."""
    from avf.apk import SigningKey

    return SigningKey.generate()


@pytest.fixture
def make_vm(
    request: pytest.FixtureRequest, vm_service: "VirtualizationService", _avf_key: "SigningKey"
) -> Iterator["MakeVm"]:
    """`make_vm(source, *, ready=True, timeout=300, **config)` starts a machine, as the marker `avf` has it.

    It raises what avf.client and avf.project raise: ConfigError, Refused, ProjectError, TimedOut, Died, Finished.
    """
    started = request.node.stash.setdefault(_started, [])
    with ExitStack() as stack:

        def make(
            source: str | Path, *, ready: bool = True, timeout: float = 300, **config: Any
        ) -> "VirtualMachine":
            path = request.path.parent / source
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="avf-")))
            one = _make(vm_service, path, folder, _avf_key, config)
            stack.enter_context(one.vm)
            started.append(one)
            one.vm.start()
            if ready:
                one.vm.wait_until_ready(timeout)
            return one.vm

        yield make


@pytest.fixture
def vm(request: pytest.FixtureRequest, make_vm: "MakeVm") -> "VirtualMachine":
    """The machine that `pytest.mark.avf` describes, started."""
    marker = request.node.get_closest_marker("avf")
    if marker is None:
        raise pytest.UsageError("the fixture `vm` needs the marker: @pytest.mark.avf(SOURCE)")
    return make_vm(*marker.args, **marker.kwargs)


def _make(
    service: "VirtualizationService",
    source: Path,
    folder: Path,
    key: "SigningKey",
    config: dict[str, Any],
) -> _Started:
    from avf.client import AppConfig, DebugLevel

    apk, main = _apk(source, folder, key)
    fields: dict[str, Any] = {"name": source.stem, "debug_level": DebugLevel.FULL} | config
    if main is not None and "config_path" not in fields:
        fields.setdefault("payload_binary_name", main)
    outputs = {}
    if fields["debug_level"] != DebugLevel.NONE:
        outputs = {name: folder / name for name in ("console", "log")}
    for name in ("idsig", "instance"):
        (folder / name).touch()
    service.create_or_update_idsig_file(apk, folder / "idsig")
    app = AppConfig(apk=apk, idsig=folder / "idsig", instance_image=folder / "instance", **fields)
    machine = service.create_vm(app, console=outputs.get("console"), log=outputs.get("log"))
    return _Started(machine, app.name, outputs)


def _apk(source: Path, folder: Path, key: "SigningKey") -> tuple[Path, str | None]:
    """The APK itself, or the one that is made of a source; and its payload's name, if it can be told."""
    from avf.project import SourceKind, build, kind_of, open_project, recorded_main

    if kind_of(source) is SourceKind.APK:
        with source.open("rb") as file:
            return source, recorded_main(file.fileno())
    with (folder / "apk").open("xb+") as file:
        return folder / "apk", build(open_project(source), file, key).main


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds to the report of a failure what the test's machines wrote, and how those died that are dead."""
    report = yield
    if report.failed and report.when != "teardown":
        for one in item.stash.get(_started, []):
            report.sections += _sections(one)
    return report


def _sections(one: _Started) -> Iterator[tuple[str, str]]:
    from avf.binder import BinderError
    from avf.client import ClientError

    for name, path in one.outputs.items():
        if text := _tail(path):
            yield f"VM {one.name}: {name}", text
    try:
        report = one.vm.death_report
    except (BinderError, ClientError) as error:
        yield f"VM {one.name}: death", str(error)
    else:
        if report is not None:
            yield f"VM {one.name}: death", "\n".join(report.lines(console=False))


def _tail(path: Path) -> str:
    """The end of an output, its unprintable characters escaped; empty if there is none."""
    from avf.printable import printable_lines

    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _SHOWN))
            text = file.read(_SHOWN).decode(errors="replace")
    except OSError:
        return ""
    return printable_lines(text)
