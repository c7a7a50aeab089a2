"""The page as a whole."""

import base64
import hashlib

from avf.client import DeathReason, LifecycleStep
from avf.report.chain import chain_section, files_section
from avf.report.facts import VmReport
from avf.report.html import Html, element, join, shown
from avf.report.sections import (
    death_section,
    lifecycle_section,
    output_section,
    ran_section,
    start_section,
    usage_section,
)
from avf.report.style import STYLE
from avf.report.words import duration, mib, moment, step

MARK = "<!DOCTYPE html>\n<!-- vm report -->\n"
"""How every report begins."""
_CALM = (DeathReason.SHUTDOWN, DeathReason.KILLED, DeathReason.REBOOT)


def render(report: VmReport) -> str:
    """One page of HTML, all of it visible ASCII or text in UTF-8. It runs no script and loads nothing."""
    title = f"{report.details.name or 'VM'} ({report.details.cid})"
    body = element(
        "main",
        _header(report),
        _tiles(report),
        death_section(report),
        ran_section(report),
        start_section(report),
        usage_section(report),
        chain_section(report),
        files_section(report),
        lifecycle_section(report),
        output_section("What the console said last", report.console),
        output_section("What the log said last", report.log),
        _footer(report),
    )
    page = element("html", _head(title), element("body", body), lang="en")
    return f"{MARK}{page}\n"


def policy() -> str:
    """The page's Content-Security-Policy: this style, and nothing else of any kind."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _head(title: str) -> Html:
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy()),
        element("meta", name="referrer", content="no-referrer"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"Report of VM {title}"),
        element("style", Html(STYLE)),
    )


def _header(report: VmReport) -> Html:
    details, parts = report.details, report.parts
    was_started = report.timeline.at(LifecycleStep.START_ASKED) is not None
    kind = report.timeline.title if was_started else "not started"
    badges = [_state_badge(report), _badge(kind)]
    if parts.is_app:
        badges.append(
            _badge("debuggable", "warn") if parts.is_debuggable else _badge("not debuggable")
        )
    if details.protected:
        badges.append(_badge("protected", "good"))
    return element(
        "header",
        element("p", f"Virtual machine {details.cid}", class_="kicker"),
        element("h1", details.name or "without a name"),
        element("div", *badges, class_="badges"),
    )


def _state_badge(report: VmReport) -> Html:
    if report.death is None:
        return _badge(step(report.details.state.name), "good")
    calm = report.death.reason in _CALM
    return _badge(f"died: {report.death.reason}", "good" if calm else "bad")


def _badge(text: str, kind: str = "") -> Html:
    return element("span", text, class_=f"badge {kind}".strip())


def _tiles(report: VmReport) -> Html:
    timeline, metrics = report.timeline, report.metrics
    started, died = (
        timeline.at(LifecycleStep.START_ASKED),
        timeline.at(LifecycleStep.DIED),
    )
    tiles = []
    if timeline.duration is not None:
        tiles.append(("Start", duration(timeline.duration), "until the payload was started"))
    if died is not None and started is not None:
        tiles.append(("Life", duration(died - started), "from its start to its death"))
    elif report.details.uptime is not None:
        tiles.append(("Age", duration(report.details.uptime), "since its start"))
    tiles.append(
        ("Memory, at most", mib(metrics.peak_rss_vmm_kb), "of the host's, the VMM included")
    )
    tiles.append(("CPU time", duration(metrics.cpu_time_millis / 1000), "the guest's included"))
    return element("dl", *(_tile(*tile) for tile in tiles), class_="tiles")


def _tile(title: str, value: str, remark: str) -> Html:
    return element(
        "div",
        element("dt", title),
        element("dd", value, element("small", remark)),
        class_="tile",
    )


def _footer(report: VmReport) -> Html:
    return element(
        "footer",
        join(
            f"Made {moment(report.made)} by AVF for Linux {report.version} on {shown(report.host)}."
            " Text of the guest and of files is shown as it came, with what is not visible spelt out."
        ),
    )
