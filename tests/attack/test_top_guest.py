"""What guests and the virtmgrs of others say, in `vm top`: it is shown as it is written, and does nothing."""

import asyncio
import re
import socket
import threading
from contextlib import suppress
from dataclasses import replace

import pytest
from rich.cells import cell_len
from textual.pilot import Pilot
from textual.widgets import Input

from avf.client import DeathReason, NoSuchVm, VirtualMachineState
from avf.top.lines import MAX_CHARS, MAX_LINES, Lines, visible
from avf.top.output import OutputView
from avf.top.panel import OutputPanel
from tests.attack.counting import peak_memory
from tests.top.test_view import app_of, received, screen, until, viewing
from tests.top.world import World, a_vm, died, foreign

MARKUP = "[bold]x[/bold][@click=app.quit]press[/][link=file:///etc/passwd]l[/link][/nothing]$x"
TRICKS = (
    "\x1b[2J\x1b]0;title\x07\x1b]8;;http://x\x07\u202egpj.\x9b31m\x00\x08\x7f\ufeff\u2028\u2066"
)
HEAP = "a" + "\u0301" * 500


def check(pilot: Pilot[int]) -> str:
    """Nothing on the screen is anything but text: no control, no link, no action but those of the footer."""
    lines = pilot.app.screen._compositor.render_strips(pilot.app.size)
    for strip in lines:
        assert strip.text.isprintable(), repr(strip.text)
        assert cell_len(strip.text) == pilot.app.size.width, repr(strip.text)
        assert not re.search("\u0301{4}", strip.text)
        for segment in strip:
            assert not segment.control
            assert segment.style is None or segment.style.link is None
            assert segment.style is None or "@click" not in segment.style.meta
    return "\n".join(strip.text for strip in lines)


@pytest.mark.parametrize("key", ["c", "l"])
def test_what_a_guest_writes(key: str) -> None:
    world = World()
    world.show(a_vm())
    said = f"{MARKUP}\n{TRICKS} seen\n{HEAP} heaped\n".encode() + b"\xff\xfe raw\nthe end\n"
    world.consoles[2048] = world.logs[2048] = said

    async def look() -> None:
        async with viewing(world, (160, 50)) as pilot:
            await pilot.press(key)
            await until(pilot, lambda: "the end" in screen(pilot))
            shown = check(pilot)
            assert MARKUP in shown
            assert r"\u{1b}[2J\u{1b}]0;title\u{7}" in shown and "seen" in shown
            assert "\ufffd\ufffd raw" in shown
            y = next(n for n, line in enumerate(shown.splitlines()) if MARKUP in line)
            for x in range(1, 100, 20):
                await pilot.click(offset=(x, y))
            assert pilot.app.is_running
            pilot.app.query_one(OutputView).focus()
            await pilot.press("slash")
            pilot.app.query_one(Input).value = "[bold]"
            await until(pilot, lambda: "1 line with “[bold]”" in check(pilot))

    asyncio.run(look())


TEXTS = (MARKUP, TRICKS, HEAP, "漢" * 300, "x" * 100_000, "[", "\\", "]")


@pytest.mark.parametrize("size", [(80, 24), (160, 50)])
def test_what_is_told_of_a_vm(size: tuple[int, int]) -> None:
    """Its name, its report, why it cannot be looked into."""
    world = World()
    reports = [
        died(DeathReason.CRASH, last_step=text, vmm_events=(text,), vmm_stderr=text, failure=text,
             console_tail=(text,), lost_output=(text,))
        for text in TEXTS
    ]  # fmt: skip
    dead = [
        a_vm(2048 + at, text, VirtualMachineState.DEAD, report=reports[at])
        for at, text in enumerate(TEXTS)
    ]
    world.show(*dead, *(replace(foreign(3000), problem=visible(text)[:300]) for text in TEXTS[:3]))

    async def look() -> None:
        async with viewing(world, size) as pilot:
            await pilot.press("r")
            for at in range(len(TEXTS)):
                await until(pilot, lambda at=at: f"CID {2048 + at}" in check(pilot))
                app_of(pilot).board.choose(at + 1)
                app_of(pilot)._show()
            await until(pilot, lambda: "CID 3000" in check(pilot))

    asyncio.run(look())


def test_what_is_said_in_passing() -> None:
    """What an error says, a question asks, the user filters by and searches for."""
    world = World()
    text = f"{MARKUP} {TRICKS} {HEAP[:9]}"
    world.show(a_vm(2048, text))
    world.refusal = NoSuchVm(text)

    async def look() -> None:
        async with viewing(world, (160, 50)) as pilot:
            await until(pilot, lambda: "The console cannot be read: [bold]x[/bold]" in check(pilot))
            await pilot.press("x")
            assert "Stop VM [bold]x[/bold][@click" in check(pilot)
            await pilot.press("y")
            await until(pilot, lambda: "could not be stopped" in check(pilot))
            app_of(pilot).board.filter_by(text)
            pilot.app.query_one(OutputView).search_for(text)
            app_of(pilot)._show()
            assert "with “[bold]x[/bold]" in check(pilot)
            world.show(problem=text)
            await until(pilot, lambda: not app_of(pilot).board.total)
            check(pilot)

    asyncio.run(look())


def flood(sock: socket.socket, block: bytes, blocks: int) -> threading.Thread:
    def write() -> None:
        with suppress(OSError):
            for _ in range(blocks):
                sock.sendall(block)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("block", [b"\n" * 65_536, b"\x1b" * 65_536])
def test_a_guest_that_floods_leaves_the_view_to_its_user(block: bytes) -> None:
    """100 MB are on their way; keys are obeyed and other VMs shown meanwhile, and what is kept is bounded."""
    world = World()
    world.show(a_vm(2048), a_vm(2049, "another"))
    world.consoles[2049] = b"the other one speaks\n"

    async def look() -> None:
        async with viewing(world) as pilot:
            await until(pilot, lambda: ("console", 2048) in world.ends)
            thread = flood(world.ends["console", 2048], block, 1600)
            view = pilot.app.query_one(OutputView)
            await until(pilot, lambda: view.lines.first > 0)
            await pilot.press("l", "c", "tab", "pageup", "G", "tab")
            assert thread.is_alive()
            assert view.lines.received < 1600 * 65_536 // 2
            assert len(view.lines) <= MAX_LINES + 1
            assert view.lines.first > 0 and " dropped · " in check(pilot)
            await pilot.press("down")
            await until(pilot, lambda: "the other one speaks" in check(pilot))
            thread.join(15)  # nobody listens to it any more
            assert not thread.is_alive()

    asyncio.run(look())


@pytest.mark.parametrize(
    "block", [b"x", b"\n", b"\x1b", b"\xcc\x81", "漢".encode(), b"x" * 99 + b"\n"]
)
def test_what_is_kept_of_a_flood(block: bytes) -> None:
    chunk = (block * 4096)[:65_536]

    def take() -> None:
        lines = Lines()
        for _ in range(36):
            lines.feed(chunk)
        assert len(lines) <= MAX_LINES + 1
        assert sum(map(len, lines)) <= MAX_CHARS + 100_000

    assert peak_memory(take) < 16 << 20


def test_a_vm_that_comes_and_goes_leaves_no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avf.top.panel._SETTLE_SECONDS", 0.0)
    world = World()

    async def look() -> None:
        async with viewing(world) as pilot:
            panel = pilot.app.query_one(OutputPanel)
            for cid in range(3000, 3020):
                world.show(a_vm(cid))
                await until(pilot, lambda cid=cid: ("log", cid) in world.ends)
            assert len(panel._tasks) == 2
            world.show()
            await until(pilot, lambda: not panel._tasks)
            for end in list(world.ends.values()):
                assert await received(end) == b""

    asyncio.run(look())
