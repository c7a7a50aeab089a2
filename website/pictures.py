"""`python -m website.pictures` draws docs/pictures, which the repository holds, so that its browsers show them, too."""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "docs/pictures"
STYLE = """
.paper { fill: #ffffff; }
.zone { fill: #f5f7fa; stroke: #b7c0cc; stroke-dasharray: 5 4; }
.box { fill: #ffffff; stroke: #3d5a80; stroke-width: 1.5; }
.proof { fill: #eaf4ec; stroke: #3a7d44; stroke-width: 1.5; }
.wall { fill: #fdf3f0; stroke: #b3432b; stroke-width: 2.5; }
.state { fill: #eef3fb; stroke: #3d5a80; stroke-width: 1.5; }
.arrow { fill: none; stroke: #3d5a80; stroke-width: 1.5; marker-end: url(#head); }
text { font: 13px "DejaVu Sans", Verdana, sans-serif; fill: #1f2933; text-anchor: middle; }
.title { font-weight: bold; }
.label { font-size: 12px; fill: #52606d; }
.corner { text-anchor: start; fill: #52606d; font-size: 12px; font-weight: bold; }
"""
LINE = 17


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle with a title and lines of text; a zone has its title in the corner."""

    x: int
    y: int
    width: int
    height: int
    title: str
    lines: tuple[str, ...] = ()
    kind: str = "box"

    def draw(self) -> Iterator[str]:
        yield (
            f'<rect class="{self.kind}" x="{self.x}" y="{self.y}" width="{self.width}"'
            f' height="{self.height}" rx="6"/>'
        )
        if self.kind in ("zone", "wall"):
            yield _text("corner", self.x + 12, self.y + 20, self.title)
            return
        middle = self.x + self.width // 2
        top = self.y + (self.height - LINE * len(self.lines)) // 2 + 4
        yield _text("title", middle, top, self.title)
        for number, line in enumerate(self.lines, 1):
            yield _text("", middle, top + LINE * number, line)


@dataclass(frozen=True, slots=True)
class Arrow:
    """Along points; each line of the label above the middle of the part before last, or beside it if that goes down."""

    points: tuple[tuple[int, int], ...]
    label: tuple[str, ...] = ()
    at: tuple[int, int] | None = None
    """Where the label's middle is."""

    def draw(self) -> Iterator[str]:
        path = " L ".join(f"{x} {y}" for x, y in self.points)
        yield f'<path class="arrow" d="M {path}"/>'
        (x1, y1), (x2, y2) = self.points[0], self.points[-1]
        x, y = self.at or ((x1 + x2) // 2, (y1 + y2) // 2 - 8 - 15 * (len(self.label) - 1))
        for number, line in enumerate(self.label):
            yield _text("label", x, y + 15 * number, line)


@dataclass(frozen=True, slots=True)
class Picture:
    width: int
    height: int
    description: str
    parts: tuple[Box | Arrow, ...]

    def svg(self) -> str:
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}"'
            f' width="{self.width}" height="{self.height}" role="img">',
            f"<title>{escape(self.description)}</title>",
            f"<style>{STYLE}</style>",
            '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7"'
            ' orient="auto-start-reverse"><path d="M 0 0 L 10 5 L 0 10 z" fill="#3d5a80"/></marker></defs>',
            f'<rect class="paper" width="{self.width}" height="{self.height}" rx="8"/>',
        ]
        for part in self.parts:
            lines += part.draw()
        return "\n".join([*lines, "</svg>", ""])


def _text(kind: str, x: int, y: int, text: str) -> str:
    chosen = f' class="{kind}"' if kind else ""
    return f'<text{chosen} x="{x}" y="{y}">{escape(text)}</text>'


PICTURES = {
    "processes": Picture(
        860,
        400,
        "A client starts virtmgr, virtmgr starts QEMU, QEMU runs the guest; virtualizationservice gives out CIDs.",
        (
            Box(15, 15, 560, 370, "the host", kind="zone"),
            Box(600, 15, 245, 370, "the virtual machine", kind="zone"),
            Box(35, 60, 130, 80, "your program", ("or the vm", "command")),
            Box(235, 60, 130, 80, "virtmgr", ("your rights,", "ends with you")),
            Box(435, 60, 120, 80, "QEMU", ("in a sandbox",)),
            Box(620, 60, 205, 80, "kernel and init", ("from the guest image",)),
            Box(620, 180, 205, 80, "agent", ("verifies the APK, opens", "the storage, reports")),
            Box(620, 290, 205, 70, "payload", ("your code, uid 6000",)),
            Box(435, 180, 120, 80, "vsock device", ("in a sandbox",)),
            Box(
                235, 290, 320, 70, "virtualizationservice", ("CIDs, directories, the list of VMs",)
            ),
            Arrow(((165, 100), (233, 100)), ("RPC Binder,", "descriptors"), (200, 50)),
            Arrow(((365, 100), (433, 100)), ("open files", "only"), (400, 50)),
            Arrow(((555, 100), (618, 100))),
            Arrow(((722, 140), (722, 178))),
            Arrow(((722, 260), (722, 288))),
            Arrow(((618, 220), (557, 220))),
            Arrow(((433, 220), (300, 220), (300, 142)), ("RPC Binder,", "port = CID"), (366, 195)),
            Arrow(((262, 140), (262, 288)), ("RPC Binder",), (222, 250)),
            Arrow(((100, 142), (100, 325), (233, 325)), ("vm ls, vm top",), (152, 315)),
        ),
    ),
    "trust": Picture(
        860,
        330,
        "Each step of the start proves the next one: kernel and initramfs, system, idsig, APK, instance, payload.",
        (
            Box(15, 15, 260, 300, "given by the host", kind="zone"),
            Box(295, 15, 550, 300, "checked in the guest before it is used", kind="zone"),
            Box(35, 50, 220, 56, "kernel, initramfs", ("with the system's root hash",)),
            Box(
                35,
                126,
                220,
                76,
                "APK and idsig",
                ("your code, its signature,", "hashes of its blocks"),
            ),
            Box(
                35,
                222,
                220,
                76,
                "instance image, storage",
                ("sealed and encrypted", "by the guest"),
            ),
            Box(315, 50, 240, 56, "system", ("each block by dm-verity",), "proof"),
            Box(
                315,
                126,
                240,
                76,
                "APK",
                ("signature over every byte,", "each block by dm-verity"),
                "proof",
            ),
            Box(
                315,
                222,
                240,
                76,
                "identity",
                ("same package, same signer", "or successor, no older"),
                "proof",
            ),
            Box(625, 126, 200, 76, "payload runs", ("with its secret", "and its storage"), "state"),
            Arrow(((255, 78), (313, 78))),
            Arrow(((255, 164), (313, 164))),
            Arrow(((255, 260), (313, 260))),
            Arrow(((435, 106), (435, 124))),
            Arrow(((435, 202), (435, 220))),
            Arrow(((555, 260), (725, 260), (725, 204)), ("else: PAYLOAD_CHANGED",), (650, 280)),
        ),
    ),
    "walls": Picture(
        860,
        430,
        "The walls: the payload in the guest, the guest in QEMU, QEMU and the vsock device in sandboxes, users apart.",
        (
            Box(15, 15, 520, 400, "user A", kind="zone"),
            Box(555, 15, 290, 400, "others on the host", kind="zone"),
            Box(35, 50, 130, 64, "client", ("user A's rights",)),
            Box(225, 50, 150, 64, "virtmgr", ("cannot be traced",)),
            Box(35, 160, 340, 235, "sandbox: no files, no network, few system calls", kind="wall"),
            Box(55, 190, 300, 190, "QEMU, which counts as taken over", kind="zone"),
            Box(75, 220, 260, 145, "guest: kernel and agent", kind="zone"),
            Box(
                95,
                255,
                220,
                90,
                "payload",
                ("uid 6000, no capabilities,", "limits on all it uses"),
                "proof",
            ),
            Box(395, 160, 125, 235, "sandbox", kind="wall"),
            Box(405, 235, 105, 80, "vsock device", ("opens", "nothing")),
            Box(
                575,
                50,
                250,
                80,
                "virtualizationservice",
                ("a user of its own,", "a budget for each party"),
            ),
            Box(575, 240, 250, 64, "user B's client and virtmgr", ("as user A's",)),
            Arrow(((165, 82), (223, 82))),
            Arrow(((375, 82), (573, 82)), ("asks, within a budget",), (465, 72)),
            Arrow(((260, 114), (260, 158)), ("open files, QMP",), (315, 142)),
            Arrow(((355, 275), (403, 275))),
            Arrow(((457, 233), (457, 98), (377, 98)), ("asks to dial,", "paced"), (412, 128)),
            Arrow(((700, 240), (700, 132))),
        ),
    ),
    "life": Picture(
        780,
        210,
        "The states of a VM: NOT_STARTED, STARTING, STARTED, READY, FINISHED, DEAD, with the events between them.",
        (
            Box(15, 60, 115, 46, "NOT_STARTED", kind="state"),
            Box(190, 60, 100, 46, "STARTING", kind="state"),
            Box(350, 60, 100, 46, "STARTED", kind="state"),
            Box(510, 60, 90, 46, "READY", kind="state"),
            Box(660, 60, 100, 46, "FINISHED", kind="state"),
            Box(410, 150, 90, 46, "DEAD", kind="state"),
            Arrow(((130, 83), (188, 83)), ("start()",), (159, 50)),
            Arrow(((290, 83), (348, 83)), ("PayloadStarted",), (319, 50)),
            Arrow(((450, 83), (508, 83)), ("PayloadReady",), (479, 50)),
            Arrow(((600, 83), (658, 83)), ("PayloadFinished",), (630, 50)),
            Arrow(((240, 106), (240, 173), (408, 173)), ("VmDied, from any state",), (325, 190)),
            Arrow(((400, 106), (435, 148))),
            Arrow(((550, 106), (480, 148))),
            Arrow(((710, 106), (710, 173), (502, 173)), ("VmDied",), (606, 190)),
        ),
    ),
}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, picture in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(picture.svg())


if __name__ == "__main__":
    main()
