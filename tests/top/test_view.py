"""The view, driven by keys and clicks, over VMs that nobody runs."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from avf.client import DeathReason, NoSuchVm, VirtualMachineState
from avf.top.app import TopApp, list_height
from avf.top.board import Column
from avf.top.dialogs import KEYS, HelpDialog, StopDialog
from avf.top.output import OutputView
from avf.top.panel import OutputPanel, Tab
from avf.top.rows import VmRows, slots
from tests.top.world import World, a_vm, died, foreign, many

SMALL, LARGE = (80, 24), (160, 50)


@asynccontextmanager
async def viewing(world: World, size: tuple[int, int] = SMALL) -> AsyncIterator[Pilot[int]]:
    app = TopApp(world, world)
    async with app.run_test(size=size, notifications=True) as pilot:
        try:
            await pilot.pause()
            yield pilot
        finally:
            world.close()


async def until(pilot: Pilot[int], condition: Callable[[], bool]) -> None:
    """Waits for what a timer or a thread of the view has yet to do."""
    async with asyncio.timeout(20):
        while not condition():
            await pilot.pause(0.02)


async def received(end: socket.socket) -> bytes:
    """The next byte, none at the stream's end; what closes the other end may need the loop."""
    end.setblocking(False)
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(end, 1), 20)


def screen(pilot: Pilot[int]) -> str:
    """What the terminal shows."""
    lines = pilot.app.screen._compositor.render_strips(pilot.app.size)
    return "\n".join(strip.text for strip in lines)


def view(pilot: Pilot[int]) -> OutputView:
    return pilot.app.query_one(OutputView)


def app_of(pilot: Pilot[int]) -> TopApp:
    assert isinstance(pilot.app, TopApp)
    return pilot.app


@pytest.fixture
def world() -> World:
    return World()


def test_where_there_is_no_vm(world: World) -> None:
    async def look() -> None:
        async with viewing(world) as pilot:
            assert "No VM runs." in screen(pilot)
            assert "vm run-app hello.py" in screen(pilot)
            world.show(problem="SECURITY: you lack DEBUG_VIRTUAL_MACHINE")
            await until(pilot, lambda: "you lack DEBUG_VIRTUAL_MACHINE" in screen(pilot))
            for key in ("x", "s", "enter", "down", "slash", "escape", "r", "w", "C", "i"):
                await pilot.press(key)
            world.show(a_vm(2048, "counter"))
            await until(pilot, lambda: "counter" in screen(pilot))
            world.show()
            await until(pilot, lambda: "counter" not in screen(pilot))

    asyncio.run(look())


@pytest.mark.parametrize("size", [SMALL, LARGE, (40, 10), (250, 70)])
def test_a_vm_at_any_size(world: World, size: tuple[int, int]) -> None:
    world.show(a_vm(2048, "counter"))
    world.consoles[2048] = b"hello from the guest\n"

    async def look() -> None:
        async with viewing(world, size) as pilot:
            await until(pilot, lambda: "2048" in screen(pilot))
            if size != (40, 10):
                await until(pilot, lambda: "hello from the guest" in screen(pilot))
                shown = screen(pilot)
                for text in ("counter", "READY", "12%", "154M", "1m00s", "● ready", "○ ended", "of 256M"):  # fmt: skip
                    assert text in shown, text
            await pilot.resize_terminal(*SMALL)
            await until(pilot, lambda: "hello from the guest" in screen(pilot))

    asyncio.run(look())


def test_columns_fill_the_width() -> None:
    for width in range(68, 300):
        assert 2 + sum(slot.width + 1 for slot in slots(width)) <= width + 1
    assert [list_height(24, rows, False) for rows in (0, 1, 3, 30)] == [4, 4, 5, 6]
    assert [list_height(50, rows, True) for rows in (1, 5, 30)] == [5, 8, 17]


def test_the_chosen_vm_is_listened_to_and_no_other(world: World) -> None:
    vms = many(3)
    world.show(*vms)
    for vm in vms:
        world.consoles[vm.cid] = f"console of {vm.cid}\n".encode()
        world.logs[vm.cid] = f"log of {vm.cid}\n".encode()

    async def look() -> None:
        async with viewing(world) as pilot:
            await until(pilot, lambda: "console of 2048" in screen(pilot))
            await pilot.press("down", "down")
            await until(pilot, lambda: "console of 2050" in screen(pilot))
            left = [end for (_, cid), end in world.ends.items() if cid != 2050]
            assert len(left) >= 2 and {await received(end) for end in left} == {b""}
            await pilot.press("l")
            await until(pilot, lambda: "log of 2050" in screen(pilot))
            world.ends["log", 2050].sendall(b"and more\n")
            await until(pilot, lambda: "and more" in screen(pilot))
            await pilot.press("k", "c")
            await until(pilot, lambda: "console of 2049" in screen(pilot))

    asyncio.run(look())


def test_scrolling_stops_following_and_the_end_follows_again(world: World) -> None:
    world.show(a_vm())
    world.consoles[2048] = b"".join(b"line %d\n" % n for n in range(200))

    async def look() -> None:
        async with viewing(world) as pilot:
            await until(pilot, lambda: "line 199" in screen(pilot))
            assert "following" in screen(pilot)
            await pilot.press("tab", "pageup")
            await until(pilot, lambda: "G follows" in screen(pilot))
            before = view(pilot).scroll_offset
            world.ends["console", 2048].sendall(b"line 200\n")
            await until(pilot, lambda: view(pilot).lines.end == 201)
            assert view(pilot).scroll_offset == before
            assert "line 200" not in screen(pilot)
            await pilot.press("G")
            await until(pilot, lambda: "line 200" in screen(pilot))
            world.ends["console", 2048].sendall(b"line 201\n")
            await until(pilot, lambda: "line 201" in screen(pilot))
            await pilot.press("g")
            await until(pilot, lambda: "line 0 " in screen(pilot))
            await pilot.resize_terminal(*LARGE)
            await until(pilot, lambda: "line 0 " in screen(pilot))

    asyncio.run(look())


def test_searching(world: World) -> None:
    world.show(a_vm())
    said = [f"line {n}" + (" needle" if n in (20, 120) else "") for n in range(200)]
    world.consoles[2048] = "\n".join(said).encode()

    async def look() -> None:
        async with viewing(world) as pilot:
            await until(pilot, lambda: "line 199" in screen(pilot))
            await pilot.press("tab", "slash", *"needle")
            await until(pilot, lambda: "line 120 needle" in screen(pilot))
            assert "2 lines with “needle”" in screen(pilot)
            await pilot.press("enter", "n")
            await until(pilot, lambda: "line 20 needle" in screen(pilot))
            await pilot.press("N")
            await until(pilot, lambda: view(pilot).found_at == 120)
            await pilot.press("escape")
            assert view(pilot).search.term == ""
            assert pilot.app.focused is view(pilot)

    asyncio.run(look())


def test_filtering_and_sorting(world: World) -> None:
    world.show(*many(30))

    async def look() -> None:
        async with viewing(world, LARGE) as pilot:
            board = app_of(pilot).board
            await until(pilot, lambda: len(board.rows) == 30)
            await pilot.press("slash", *"vault")
            assert {vm.name for vm in board.rows} == {"vault", "vault-1", "vault-2", "vault-3"}
            assert "Your VMs 4 of 30  with “vault”" in screen(pilot)
            await pilot.press("enter")
            assert isinstance(pilot.app.focused, VmRows)
            await pilot.press("greater_than_sign", "i")
            assert (board.sort, board.backwards) == (Column.NAME, True)
            assert "NAME▼" in screen(pilot)
            await pilot.press("escape")
            assert len(board.rows) == 30
            await pilot.press("slash", *"xyz", "escape")
            assert len(board.rows) == 30
            await pilot.click("VmHead", offset=(5, 0))
            assert (board.sort, board.backwards) == (Column.CID, False)

    asyncio.run(look())


def test_the_mouse(world: World) -> None:
    world.show(*many(4))

    async def look() -> None:
        async with viewing(world, LARGE) as pilot:
            board = app_of(pilot).board
            await until(pilot, lambda: len(board.rows) == 4)
            await pilot.click(VmRows, offset=(10, 2))
            assert board.index == 2
            await pilot.click(VmRows, offset=(10, 40))
            assert board.index == 2
            await pilot.click("TabBar", offset=(12, 0))
            assert pilot.app.query_one(OutputPanel).tab is Tab.LOG
            await pilot.double_click(VmRows, offset=(10, 1))
            assert pilot.app.screen.has_class("-zoomed")
            await pilot.press("escape")
            assert not pilot.app.screen.has_class("-zoomed")

    asyncio.run(look())


def test_stopping_asks_first(world: World) -> None:
    world.show(a_vm(2048, "counter"))

    async def look() -> None:
        async with viewing(world) as pilot:
            for keys in (("enter",), ("n",), ("escape",), ("q",)):
                await pilot.press("x")
                assert isinstance(pilot.app.screen, StopDialog)
                assert "Stop VM counter (CID 2048)?" in screen(pilot)
                await pilot.press(*keys)
                assert not isinstance(pilot.app.screen, StopDialog), keys
            assert world.stopped == []
            for keys in (("y",), ("right", "enter")):
                await pilot.press("x", *keys)
                await until(pilot, lambda: len(world.stopped) == 1)
                world.stopped.clear()
            await until(pilot, lambda: "VM counter was stopped" in screen(pilot))
            world.refusal = NoSuchVm("there is no VM with CID 2048")
            await pilot.press("x", "y")
            await until(pilot, lambda: "could not be stopped" in screen(pilot))
            world.show(a_vm(state=VirtualMachineState.NOT_STARTED))
            await until(pilot, lambda: "NOT_STARTED" in screen(pilot))
            await pilot.press("x")
            await until(pilot, lambda: "VM 2048 does not run." in screen(pilot))

    asyncio.run(look())


def test_why_a_vm_ended(world: World) -> None:
    step = "the guest told of an error, UNKNOWN: no libmissing.so"
    report = died(DeathReason.MICRODROID_UNKNOWN_RUNTIME_ERROR, last_step=step, vmm_status=0)
    world.show(a_vm(state=VirtualMachineState.DEAD, report=report, gone=True))

    async def look() -> None:
        async with viewing(world) as pilot:
            await until(
                pilot, lambda: "MicrodroidUnknownRuntimeError: the guest told" in screen(pilot)
            )
            assert "● ended" in screen(pilot)
            assert world.attached == []
            await pilot.press("r")
            await until(pilot, lambda: f"last step: {step}" in screen(pilot))
            assert "VM ended: MicrodroidUnknownRuntimeError" in screen(pilot)
            assert "the VMM exited with status 0" in screen(pilot)
            await pilot.press("C")
            await until(pilot, lambda: "No VM runs." in screen(pilot))

    asyncio.run(look())


def test_why_there_is_no_text(world: World) -> None:
    mute, theirs, silent = a_vm(2048, debuggable=False), foreign(2049), a_vm(2050)
    world.show(mute, theirs, silent)

    async def look() -> None:
        async with viewing(world) as pilot:
            await until(pilot, lambda: "its guest is not debuggable" in screen(pilot))
            await pilot.press("down")
            await until(
                pilot, lambda: screen(pilot).count("only bob and root can look into it") == 2
            )
            await pilot.press("down")
            await until(pilot, lambda: "Nothing was written to the console yet." in screen(pilot))
            await pilot.press("r")
            await until(pilot, lambda: "The VM has not ended." in screen(pilot))
            world.show(a_vm(2050, gone=True))
            await until(pilot, lambda: "took its report along" in screen(pilot))

    asyncio.run(look())


def test_a_refused_console_is_asked_for_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("avf.top.panel._RETRY_SECONDS", 0.05)
    world.show(a_vm())
    world.consoles[2048] = b"at last\n"
    world.refusal = NoSuchVm("16 listen to this VM already")

    async def look() -> None:
        async with viewing(world) as pilot:
            reason = "The console cannot be read: 16 listen to this VM already"
            await until(pilot, lambda: reason in screen(pilot))
            world.refusal = None
            await until(pilot, lambda: "at last" in screen(pilot))

    asyncio.run(look())


def test_wrapping(world: World) -> None:
    world.show(a_vm())
    world.consoles[2048] = b"begin " + b"x" * 90 + b" end\n"

    async def look() -> None:
        async with viewing(world) as pilot:
            await until(pilot, lambda: "x end" in screen(pilot))
            await pilot.press("w")
            await until(pilot, lambda: "begin" in screen(pilot) and "x end" not in screen(pilot))
            await pilot.press("w")
            await until(pilot, lambda: "x end" in screen(pilot))

    asyncio.run(look())


def test_whose_vms(world: World) -> None:
    async def look() -> None:
        async with viewing(world) as pilot:
            await pilot.press("a", "a")
            assert world.watched == [None, os.getuid()]
            await pilot.press("a")
            assert "VMs of all users" in screen(pilot)

    asyncio.run(look())


def test_every_key_in_the_help_does_something(world: World) -> None:
    world.show(a_vm())

    async def look() -> None:
        async with viewing(world, LARGE) as pilot:
            await pilot.press("question_mark")
            assert isinstance(pilot.app.screen, HelpDialog)
            assert all(text in screen(pilot) for _, text in KEYS)
            await pilot.press("escape")
            bound = {
                key.upper() if len(key) == 1 else key
                for node in (pilot.app, pilot.app.query_one(VmRows), view(pilot))
                for key in node._bindings.key_to_bindings
            }
            names = {"<": "less_than_sign", ">": "greater_than_sign", "/": "slash",
                     "?": "question_mark", "↑": "up", "↓": "down"}  # fmt: skip
            for keys, _ in KEYS:
                for key in keys.split() if keys != "mouse" else ():
                    name = names.get(key, key.lower() if len(key) > 1 else key.upper())
                    assert name in bound, key

    asyncio.run(look())


def test_marked_text_is_copied(world: World) -> None:
    world.show(a_vm())
    world.consoles[2048] = b"first\nsecond line\nthird\n"

    async def look() -> None:
        async with viewing(world) as pilot:
            await until(pilot, lambda: "third" in screen(pilot))
            await pilot.mouse_down(OutputView, offset=(1, 0))
            await pilot.hover(OutputView, offset=(7, 1))
            await pilot.mouse_up(OutputView, offset=(7, 1))
            await pilot.press("ctrl+c")
            assert pilot.app.is_running
            assert pilot.app.clipboard.startswith("first\nsecond")

    asyncio.run(look())


def test_typing_into_a_prompt_does_nothing_else(world: World) -> None:
    world.show(*many(3))

    async def look() -> None:
        async with viewing(world) as pilot:
            await pilot.press("slash", *"qxsatC")
            assert pilot.app.is_running and world.watched == []
            assert pilot.app.query_one(Input).value == "qxsatC"
            await pilot.press("escape", "q")
        assert pilot.app.return_code == 0

    asyncio.run(look())


def test_light_and_dark(world: World) -> None:
    async def look() -> None:
        async with viewing(world) as pilot:
            await pilot.press("t")
            assert pilot.app.theme == "avf-light" and not pilot.app.current_theme.dark
            await pilot.press("t")
            assert pilot.app.theme == "avf-dark"

    asyncio.run(look())


def test_a_timer_that_comes_while_the_view_is_taken_apart(world: World) -> None:
    async def look() -> None:
        async with viewing(world) as pilot:
            view, panel = app_of(pilot), pilot.app.query_one(OutputPanel)
        assert not view.query("#summary")
        world.show(a_vm(2048, "late"))
        with view._context():
            view._tick()
            panel._tick()
            panel.pick(Tab.LOG)

    asyncio.run(look())
