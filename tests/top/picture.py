"""`python -m tests.top.picture`: draws the picture of `vm top` for the documentation."""

import asyncio
import math
import re
from pathlib import Path

from avf.client import DeathReason, VirtualMachineState
from avf.top.app import TopApp
from tests.top.world import World, a_vm, died

PICTURE = Path(__file__).parents[2] / "docs/pictures/vm-top.svg"
SAID = b"""[    0.000000] Linux version 6.1.0 (build@host) #1 SMP
[    1.204417] virtio_blk virtio2: [vda] 20480 512-byte logical blocks (10.5 MB/10.0 MiB)
[    1.611093] agent: the root hash of the idsig is 5f2c8e11a09d
[    1.742250] device-mapper: verity: sha256 using shash "sha256-generic"
[    1.906371] agent: mounted the APK at /mnt/apk
[    2.350118] agent: executing main task
[    2.731604] agent: the payload is ready
"""


def world() -> World:
    crash = died(DeathReason.CRASH, last_step="the guest's kernel panicked")
    made = World()
    made.show(
        a_vm(2048, "counter", cpu=lambda at: 34 + 28 * math.sin(at / 9) + 12 * math.sin(at / 2),
             guest=lambda at: 64 + 60 * (1 - math.exp(-at / 40)), seconds=184),
        a_vm(2049, "greeter", cpu=lambda at: 2 + 3 * (at % 11 == 0), seconds=3700),
        a_vm(2050, "signer", VirtualMachineState.STARTING, cpu=lambda at: 96.0, seconds=4),
        a_vm(2047, "ledger", VirtualMachineState.DEAD, report=crash, gone=True),
    )  # fmt: skip
    made.consoles[2048] = SAID
    return made


async def draw() -> str:
    """The view as SVG. It names no font of another place, so that no page loads one."""
    shown = world()
    app = TopApp(shown, shown)
    async with app.run_test(size=(132, 34)) as pilot:
        await pilot.press("down")
        while "ready" not in "".join(app.query_one("OutputView").lines):  # type: ignore[attr-defined]
            await pilot.pause(0.05)
        await pilot.pause(0.3)
        svg = app.export_screenshot(title="vm top")
    shown.close()
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code, monospace", "monospace").replace(
        "font-family: arial", "font-family: sans-serif"
    )


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(asyncio.run(draw()) + "\n")
