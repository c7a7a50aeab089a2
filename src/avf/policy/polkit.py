"""Asks polkit, over the system bus, whether a process may do something (org.freedesktop.PolicyKit1.Authority)."""

import asyncio
import logging
from pathlib import Path

PATIENCE_SECONDS = 10

_NAME = "org.freedesktop.PolicyKit1"
_PATH = "/org/freedesktop/PolicyKit1/Authority"
_NO_INTERACTION = 0
_START_TIME_FIELD = 22

log = logging.getLogger(__name__)


class _NoAnswer(Exception):
    """polkit did not say yes or no."""


def is_authorized(action: str, uid: int, pid: int) -> bool:
    """Whether polkit lets process `pid` of `uid` do `action`, asking nobody for a password.

    Never fails: no, with a warning in the log, if polkit cannot be asked.
    """
    try:
        start_time = _start_time(pid)
    except (OSError, ValueError):
        return False  # it has ended
    try:
        import dbus_fast
    except ImportError:
        log.warning("the policy says polkit, but the package dbus-fast is not installed")
        return False
    try:
        return asyncio.run(asyncio.wait_for(_ask(action, uid, pid, start_time), PATIENCE_SECONDS))
    except (OSError, EOFError, TimeoutError, _NoAnswer, dbus_fast.DBusFastError) as e:
        log.warning("polkit cannot be asked about %s: %s", action, str(e) or type(e).__name__)
        return False


async def _ask(action: str, uid: int, pid: int, start_time: int) -> bool:
    from dbus_fast import BusType, Message, MessageType, Variant
    from dbus_fast.aio import MessageBus

    process = {
        "pid": Variant("u", pid),
        "start-time": Variant("t", start_time),
        "uid": Variant("i", uid),
    }
    question = Message(
        destination=_NAME,
        path=_PATH,
        interface=f"{_NAME}.Authority",
        member="CheckAuthorization",
        signature="(sa{sv})sa{ss}us",
        body=[["unix-process", process], action, {}, _NO_INTERACTION, ""],
    )
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    try:
        answer = await bus.call(question)
    finally:
        bus.disconnect()
        await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
    if answer is None or answer.message_type is not MessageType.METHOD_RETURN:
        text = answer.body[0] if answer is not None and answer.body else "no answer"
        raise _NoAnswer(str(text))
    if answer.signature != "(bba{ss})":
        raise _NoAnswer(f"an answer of type {answer.signature}")
    authorized: bool = answer.body[0][0]
    return authorized


def _start_time(pid: int) -> int:
    """When a process began, in the kernel's ticks (proc(5)): what tells it from a later one with its number."""
    after_name = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2]
    return int(after_name.split()[_START_TIME_FIELD - 3])
