"""The parts of a report that tell what ran, how it started, what it used and how it ended."""

import shlex
from datetime import timedelta

from avf.client import DeathReason, LifecycleStep
from avf.report.charts import cpu_chart, memory_chart, start_chart
from avf.report.facts import VmReport
from avf.report.html import Child, Html, element, join, lines
from avf.report.words import duration, moment, step

_OUTPUT_LINES = 200
_MAX_OUTPUT = 64 << 10


def section(title: str, *children: Child, kind: str | None = None) -> Html:
    return element("section", element("h2", title), *children, class_=kind)


def facts(rows: list[tuple[str, Child]]) -> Html:
    """A table of names and values."""
    return element(
        "table",
        *(
            element("tr", element("th", name, scope="row"), element("td", value))
            for name, value in rows
            if value not in ("", None)
        ),
        class_="facts",
    )


def ran_section(report: VmReport) -> Html:
    details, parts = report.details, report.parts
    rows: list[tuple[str, Child]] = []
    if parts.is_app:
        rows.append(("Payload", parts.payload))
        rows.append(("Arguments", shlex.join(parts.arguments)))
        rows.append(("Variables", ", ".join(parts.variables)))
    else:
        rows.append(("Payload", "none: a VM described part by part"))
    rows.append(
        (
            "Memory",
            "what the VMM gives" if details.memory_mib is None else f"{details.memory_mib} MiB",
        )
    )
    rows.append(("CPUs", "as many as the host has" if details.cpus is None else str(details.cpus)))
    rows.append(("VMM", _vmm(report)))
    rows.append(("Asked for by", f"uid {details.requester_uid}, process {details.requester_pid}"))
    rows.append(("Asked for at", moment(report.timeline.created)))
    return section("What ran", facts(rows))


def _vmm(report: VmReport) -> str:
    pid = report.details.vmm_pid
    return report.details.vmm + ("" if pid is None else f", process {pid}")


def start_section(report: VmReport) -> Html:
    timeline = report.timeline
    title = "Where the time of the start went"
    if not timeline.phases:
        return section(title, element("p", "The VM was not started.", class_="soft"))
    error = timeline.guest_error
    note = (
        "The guest has told no phases of its own."
        if error is None
        else f"The guest tells its phases by its own clock; all of them may be {duration(error)} too early or too late."
    )
    legend = [element("li", "host: virtmgr and the VMM")]
    if error is not None:
        legend.append(element("li", "guest: its kernel and its agent", class_="guest"))
    return section(
        title,
        element("p", note, class_="note"),
        start_chart(timeline),
        element("ul", *legend, class_="legend"),
    )


def usage_section(report: VmReport) -> Html | None:
    if not report.history:
        return None
    timeline = report.timeline
    started, payload = timeline.at(LifecycleStep.START_ASKED), timeline.duration
    began = None if started is None or payload is None else payload - started
    return section(
        "What it used",
        element("h3", "Memory of the host"),
        memory_chart(report.history, began),
        element(
            "ul",
            element("li", "guest", class_="guest"),
            element("li", "the whole VMM, the guest included"),
            class_="legend",
        ),
        element("h3", "CPU; 100% is one CPU"),
        cpu_chart(report.history, began),
        element(
            "p",
            "Time counts from the start of the VM; the dashed line is the start of its payload.",
            class_="note",
        ),
    )


def lifecycle_section(report: VmReport) -> Html:
    timeline = report.timeline
    rows = []
    before = 0.0
    for at in timeline.moments:
        rows.append(
            element(
                "tr",
                element("td", step(at.step.name)),
                element("td", moment(timeline.created + timedelta(seconds=at.time))),
                element("td", duration(at.time), class_="number"),
                element("td", f"+{duration(at.time - before)}", class_="number"),
            )
        )
        before = at.time
    head = element(
        "tr",
        element("th", "Step"),
        element("th", "When"),
        element("th", "Since it was asked for", class_="number"),
        element("th", "Since the step before", class_="number"),
    )
    return section("Its life", element("table", head, *rows))


def death_section(report: VmReport) -> Html | None:
    """Why it died, what to try, and what everybody said last."""
    death = report.death
    if death is None:
        return None
    calm = death.reason in (DeathReason.SHUTDOWN, DeathReason.KILLED)
    words: list[Child] = [element("p", element("b", str(death.reason)), ": ", death.last_step)]
    if death.remedy and not calm:
        words.append(element("p", element("b", "Try: "), with_code(death.remedy)))
    rows: list[tuple[str, Child]] = [
        ("The VMM", _ending(death.vmm_status)),
        ("Its events", ", ".join(death.vmm_events)),
        ("The guest's reason", death.failure),
        ("Output that is lost", "; ".join(death.lost_output)),
    ]
    said = element("pre", lines(death.vmm_stderr)) if death.vmm_stderr else None
    return section(
        "How it died",
        element("div", *words, class_="verdict calm" if calm else "verdict"),
        facts(rows),
        join(element("h3", "What the VMM said"), said) if said else None,
    )


def with_code(text: str) -> Html:
    """Words of ours, in which what is to be typed stands between backquotes."""
    pieces = text.split("`")
    return join(*(element("code", p) if n % 2 else p for n, p in enumerate(pieces)))


def _ending(status: int) -> str:
    return f"exited with status {status}" if status >= 0 else f"was killed by signal {-status}"


def output_section(title: str, text: str | None) -> Html | None:
    """The last lines; nothing for one that said nothing."""
    if not text or not text.strip():
        return None
    last = "\n".join(text.rstrip().splitlines()[-_OUTPUT_LINES:])
    return element(
        "section",
        element(
            "details",
            element("summary", title),
            element("pre", lines(last, _MAX_OUTPUT)),
            open=True,
        ),
        class_="long",
    )


def has_started_payload(report: VmReport) -> bool:
    return report.timeline.at(LifecycleStep.PAYLOAD_STARTED) is not None
