"""A stand-in for polkit on a bus of one's own: `python -m tests.policy.authority ACTION:UID...` says yes to these.

It answers like polkit's authority, refuses subjects that polkit would refuse, and says `ready` when it can be asked.
`ACTION:fail` makes it fail over an action, `ACTION:silent` never answer.
"""

import asyncio
import sys
from pathlib import Path

from dbus_fast import BusType, DBusError
from dbus_fast.aio import MessageBus
from dbus_fast.service import ServiceInterface, method

NAME = "org.freedesktop.PolicyKit1"


class Authority(ServiceInterface):
    def __init__(self, rules: list[str]) -> None:
        super().__init__(f"{NAME}.Authority")
        self.rules = rules

    @method()
    async def CheckAuthorization(
        self,
        subject: "(sa{sv})",  # noqa: F722
        action: "s",  # noqa: F821
        details: "a{ss}",  # noqa: F722
        flags: "u",  # noqa: F821
        cancellation: "s",  # noqa: F821
    ) -> "(bba{ss})":  # noqa: F722
        kind, process = subject
        check(kind == "unix-process", f"subject {kind}")
        check(process["start-time"].signature == "t", "start-time")
        check(process["pid"].signature == "u" and process["uid"].signature == "i", "pid, uid")
        check((details, flags, cancellation) == ({}, 0, ""), "details, flags, cancellation")
        fields = Path(f"/proc/{process['pid'].value}/stat").read_text().rpartition(")")[2].split()
        check(process["start-time"].value == int(fields[19]), "another process")
        if f"{action}:fail" in self.rules:
            raise DBusError(f"{NAME}.Error.Failed", "out of order")
        if f"{action}:silent" in self.rules:
            await asyncio.Event().wait()
        return [f"{action}:{process['uid'].value}" in self.rules, False, {}]


def check(holds: bool, what: str) -> None:
    if not holds:
        raise DBusError(f"{NAME}.Error.Failed", f"wrong: {what}")


async def main(rules: list[str]) -> None:
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    bus.export("/org/freedesktop/PolicyKit1/Authority", Authority(rules))
    await bus.request_name(NAME)
    print("ready", flush=True)
    await bus.wait_for_disconnect()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
