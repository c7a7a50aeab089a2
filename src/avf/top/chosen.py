"""What is told of the chosen VM beside its text: what it is, how far it has come, why it ended, and its curves."""

from textual.content import Content
from textual.widget import Widget

from avf.top.lines import visible
from avf.top.model import Host, Snapshot, Vm, stages
from avf.top.plot import area, over_time
from avf.top.words import count, mib, percent, span

_MAX_TEXT = 400


def summary(snapshot: Snapshot, width: int) -> Content:
    """One line on the host and all VMs together."""
    running = [vm for vm in snapshot.vms if vm.is_running]
    cpu = sum(vm.now.cpu_percent for vm in running if vm.now)
    memory = sum(vm.now.vmm_mib for vm in running if vm.now)
    host = snapshot.host
    parts = [
        Content.styled("vm top", "bold $primary"),
        Content.assemble((str(len(running)), "bold"), (" running", "$dim")),
        Content.assemble(("CPU ", "$dim"), (percent(cpu), "bold"), (f" of {100 * host.cpus}%", "$dim")),
        Content.assemble(("memory ", "$dim"), (mib(memory), "bold"), (f" of {mib(host.memory_mib)}", "$dim")),
    ]  # fmt: skip
    if width >= 100:
        parts.append(Content.styled(f"{mib(host.available_mib)} available on this host", "$dim"))
    return Content("   ").join(parts).truncate(width, ellipsis=True)


def about(vm: Vm | None, snapshot: Snapshot, *, tall: bool) -> Content:
    """`tall`: there is room for a line each."""
    if vm is None:
        return Content("")
    lines = [_identity(vm), _life(vm), *_facts(vm, tall=tall)]
    return Content("\n").join(lines)


def _identity(vm: Vm) -> Content:
    return Content.assemble(
        (vm.name or "VM", "bold $primary"),
        (f"  CID {vm.cid} · {vm.user} · process {vm.info.requester_pid}", "$dim"),
    )


def _life(vm: Vm) -> Content:
    """The stages, those that were reached in colour."""
    parts = []
    for stage in stages(vm):
        look = "$success" if stage.done else "$dim"
        if stage.name == "ended" and stage.done:
            look = "$error" if vm.report and vm.phase.value == "failed" else "$foreground"
        parts.append(Content.assemble(("● " if stage.done else "○ ", look), (stage.name, look)))
    return Content.styled(" ─ ", "$rule").join(parts)


def _facts(vm: Vm, *, tall: bool) -> list[Content]:
    if vm.problem and not vm.has_ended:
        return [Content.styled(vm.problem, "$warning")]
    if vm.details is None:
        return [Content.styled("not asked yet", "$dim")]
    if vm.report is not None:
        step = visible(vm.report.last_step[:_MAX_TEXT])
        return [Content.assemble((f"{vm.report.reason}: ", "bold $error"), step)]
    if vm.gone:
        why = "its owner let go of it, or was killed; nobody was there to say why"
        return [Content.styled(why, "$dim")]
    details = vm.details
    size = f"{details.memory_mib} MiB" if details.memory_mib else "the usual memory"
    cpus = count(details.cpus, "CPU") if details.cpus else "all CPUs"
    machine = f"{visible(details.vmm[:20])} process {details.vmm_pid or '-'}, {cpus}, {size}"
    when = f"up {span(details.uptime)}" if details.uptime is not None else "not started"
    when += f", created {span(details.age)} ago"
    kind = ", ".join(
        word
        for word, yes in (
            ("protected", details.protected),
            ("debuggable", details.takes_console_input),
            (f"waits for a debugger at {visible((details.debugger_socket or '')[:100])}", details.debugger_socket),
        )
        if yes
    ) or "not debuggable"  # fmt: skip
    if tall:
        return [Content(""), Content(when), Content(machine), Content(kind)]
    return [Content.assemble(when, (" · ", "$dim"), (machine, "$dim"))]


class Curve(Widget):
    """An amount over time: the present one in words, and an area below."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self._head = Content("")
        self._times: list[float] = []
        self._values: list[float] = []
        self._top = 1.0

    def show(self, head: Content, vm: Vm | None, values: list[float], top: float) -> None:
        """`values`: of the VM's samples; `top`: the amount at the upper edge."""
        self._times = [sample.at for sample in vm.samples] if vm else []
        self._head, self._values, self._top = head, values, top
        self.refresh()

    def render(self) -> Content:
        width, height = self.size
        look = "$primary" if self.id == "cpu" else "$accent"
        values = over_time(self._times, self._values, 2 * width)
        lines = area(values, width, height - 1, self._top)
        head = self._head.truncate(width, ellipsis=True)
        return Content("\n").join([head, *(Content.styled(line, look) for line in lines)])


def show_cpu(curve: Curve, vm: Vm | None, host: Host) -> None:
    """CPU time of the VM's process, its guest included."""
    values = [sample.cpu_percent for sample in vm.samples] if vm else []
    top = max([100.0, *values])
    now = percent(vm.now.cpu_percent) if vm and vm.now else "-"
    head = Content.assemble(
        ("CPU ", "$dim"),
        (now, "bold $primary"),
        (f" · up to {percent(max(values, default=0.0))} in {_watched(vm)}", "$dim"),
    )
    curve.show(head, vm, values, top)


def _watched(vm: Vm | None) -> str:
    """How long the curves are."""
    samples = vm.samples if vm else ()
    return span(samples[-1].at - samples[0].at if samples else 0.0)


def show_memory(curve: Curve, vm: Vm | None) -> None:
    """Memory of the guest in the host's RAM, and below the size that the guest was given."""
    values = [sample.guest_mib for sample in vm.samples] if vm else []
    given = float(vm.details.memory_mib or 0) if vm and vm.details else 0.0
    top = max([given, 16.0, *values])
    now = vm.now if vm else None
    head = Content.assemble(
        ("memory ", "$dim"), (mib(now.guest_mib if now else None), "bold $accent"),
        (f" of {mib(top)} · VMM {mib(now.vmm_mib if now else None)}", "$dim"),
    )  # fmt: skip
    curve.show(head, vm, values, top)
