"""A VM's start as spans of OpenTelemetry: in a file of OTLP, or through the tracer of a program that has one.

The format is OTLP's JSON (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding), one request for
`/v1/traces`: a collector takes it over HTTP, or reads the file.
"""

import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self, TypeAlias

from avf.client.timeline import LifecycleStep, Timeline

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

__all__ = ["Span", "TraceContext", "Value", "otlp_json", "record_spans", "start_spans"]

Value: TypeAlias = str | int | float | bool
"""What an attribute can be."""

_SECOND = 1_000_000_000
_SCOPE = "avf"
_INTERNAL, _ERROR = 1, 2
"""SPAN_KIND_INTERNAL and STATUS_CODE_ERROR."""
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """The trace that a span belongs to, and the span that it is a part of."""

    trace_id: bytes
    """16 bytes."""
    span_id: bytes | None
    """8 bytes; None: it begins the trace."""

    @classmethod
    def new(cls) -> Self:
        """A trace of its own, with a random ID."""
        return cls(secrets.token_bytes(16), None)

    @classmethod
    def parse(cls, traceparent: str | None) -> Self:
        """The one in `$TRACEPARENT`, as W3C Trace Context writes it; a new one if that is none."""
        found = _TRACEPARENT.fullmatch(traceparent or "")
        if found is None:
            return cls.new()
        trace, span = bytes.fromhex(found[1]), bytes.fromhex(found[2])
        return cls(trace, span) if any(trace) and any(span) else cls.new()


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a start; times in nanoseconds since 1970."""

    name: str
    begin: int
    end: int
    attributes: Mapping[str, Value] = field(default_factory=dict)
    events: tuple[tuple[str, int], ...] = ()
    failed: bool = False
    """It did not come to its end."""
    parts: tuple["Span", ...] = ()


def start_spans(timeline: Timeline, attributes: Mapping[str, Value]) -> Span:
    """The span of a start, whose parts are its phases: the host's, and one for the guest with the guest's own.

    `attributes` go to the whole, such as `vm.name`.
    """
    host = [phase for phase in timeline.phases if not phase.in_guest]
    guest = [phase for phase in timeline.phases if phase.in_guest]

    def at(seconds: float) -> int:
        return timeline.created_ns + round(seconds * _SECOND)

    parts = [Span(phase.name, at(phase.begin), at(phase.end)) for phase in host]
    if guest:
        inside = tuple(Span(phase.name, at(phase.begin), at(phase.end)) for phase in guest)
        error = round((timeline.guest_error or 0) * 1000, 3)
        known = {"vm.clock_error_ms": error}
        parts.append(Span("guest", inside[0].begin, inside[-1].end, known, parts=inside))
    events = tuple(
        (moment.step.name.lower().replace("_", " "), at(moment.time)) for moment in timeline.moments
    )
    return Span(
        "vm start",
        timeline.created_ns,
        at(timeline.end),
        {"vm.start.kind": timeline.kind.name.lower(), **attributes},
        tuple(event for event in events if event[1] <= at(timeline.end)),
        timeline.at(LifecycleStep.DIED) is not None and timeline.duration is None,
        tuple(parts),
    )


def otlp_json(span: Span, context: TraceContext, resource: Mapping[str, Value]) -> str:
    """One line of JSON. `resource`: who tells, `service.name` at least."""
    spans = list(_encoded(span, context.trace_id, context.span_id))
    scope = {"scope": {"name": _SCOPE}, "spans": spans}
    told = {"resource": {"attributes": _attributes(resource)}, "scopeSpans": [scope]}
    return json.dumps({"resourceSpans": [told]}, separators=(",", ":")) + "\n"


def _encoded(span: Span, trace_id: bytes, parent: bytes | None) -> Iterator[dict[str, object]]:
    span_id = secrets.token_bytes(8)
    yield {
        "traceId": trace_id.hex(),
        "spanId": span_id.hex(),
        **({} if parent is None else {"parentSpanId": parent.hex()}),
        "name": span.name,
        "kind": _INTERNAL,
        "startTimeUnixNano": str(span.begin),
        "endTimeUnixNano": str(span.end),
        "attributes": _attributes(span.attributes),
        "events": [{"name": name, "timeUnixNano": str(at)} for name, at in span.events],
        "status": {"code": _ERROR} if span.failed else {},
    }
    for part in span.parts:
        yield from _encoded(part, trace_id, span_id)


def _attributes(values: Mapping[str, Value]) -> Sequence[dict[str, object]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _value(value: Value) -> dict[str, object]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case _:
            return {"stringValue": value}


def record_spans(span: Span, tracer: "Tracer") -> None:
    """Has a tracer of `opentelemetry` record the span and its parts, below the span that is current."""
    from opentelemetry.trace import Status, StatusCode, use_span

    recorded = tracer.start_span(span.name, attributes=dict(span.attributes), start_time=span.begin)
    for name, at in span.events:
        recorded.add_event(name, timestamp=at)
    if span.failed:
        recorded.set_status(Status(StatusCode.ERROR))
    with use_span(recorded, end_on_exit=False):
        for part in span.parts:
            record_spans(part, tracer)
    recorded.end(end_time=span.end)
