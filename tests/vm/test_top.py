"""A machine that runs, in the view of `vm top`."""

import asyncio
import os

import pytest

from avf.top.app import TopApp
from avf.top.doors import RealDoors
from avf.top.panel import OutputPanel
from avf.top.watching import Watching
from tests.eventually import eventually
from tests.top.test_terminal import VM, at_a_terminal
from tests.top.test_view import screen, until
from tests.vm.conftest import App

pytestmark = pytest.mark.vm


def test_a_vm_from_its_start_to_its_end(app: App) -> None:
    """Its life, its curves, its console and its log; it is stopped by a key, and its report says so."""
    console = app.folder / "console"
    with app.service.create_vm(app.running("echo.py"), console=console) as vm:
        vm.start()
        vm.wait_until_ready(timeout=300)

        async def look() -> None:
            doors = RealDoors()
            with Watching(os.getuid(), 0.2) as watching:
                view = TopApp(watching, doors)
                async with view.run_test(size=(160, 50), notifications=True) as pilot:
                    await until(pilot, lambda: "● ready" in screen(pilot))
                    shown = screen(pilot)
                    for text in ("test", str(vm.cid), "READY", "debuggable"):
                        assert text in shown, text
                    (known,) = watching.snapshot().vms
                    assert known.details is not None and known.details.uptime is not None
                    watched = known.samples[-1].at - known.samples[0].at
                    assert watched > known.details.uptime / 2  # what was before the view opened
                    assert any(sample.cpu_percent > 0 for sample in known.samples)
                    assert any(sample.guest_mib > 0 for sample in known.samples)
                    last = console.read_text().splitlines()[-1].rstrip()
                    await until(pilot, lambda: last[:100] in screen(pilot))
                    await pilot.press("l")
                    panel = view.query_one(OutputPanel)
                    said = "executing main task"
                    await until(pilot, lambda: any(said in line for line in panel.view.lines))
                    assert doors.shell(known.info)[-2:] == ["shell", str(vm.cid)]
                    await pilot.press("x", "y")
                    await until(
                        pilot, lambda: "Killed: stopped on request of process" in screen(pilot)
                    )
                    await pilot.press("r")
                    await until(pilot, lambda: "the VMM was killed by SIGKILL" in screen(pilot))
                    vm.close()
                    await until(pilot, lambda: all(vm.gone for vm in watching.snapshot().vms))
                    assert "Killed" in screen(pilot)

        asyncio.run(look())


def test_a_shell_and_back(app: App) -> None:
    """The key `s` at a terminal: a shell in the guest that has all of the terminal, and then the view again."""
    with app.service.create_vm(app.running("echo.py")) as vm:
        vm.start()
        vm.wait_until_ready(timeout=300)
        with at_a_terminal(*VM) as terminal:

            def shows(text: bytes, since: int = 0) -> None:
                eventually(lambda: terminal.shows(b"") or text in terminal.shown[since:], True, 60)

            shows(b"READY")
            terminal.type(b"s")
            shows(b"A shell in VM test; its end goes back to vm top.")
            shows(b"$ ")
            terminal.type(b"id; stty size; exit 3\r")
            shows(b"uid=6000(payload)")
            shows(b"30 100\r\n")
            shows(b"The shell ended with status 3. Enter goes back to vm top.")
            before = len(terminal.shown)
            terminal.type(b"\r")
            shows(b"\x1b[?1049h", before)
            shows(b"READY", before)

            def leaves() -> (
                int | None
            ):  # Textual drops a key that comes while it takes the terminal
                terminal.type(b"q")
                return terminal.ended()

            eventually(leaves, 0, 60)
