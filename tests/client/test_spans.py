"""A start as spans, read by OpenTelemetry's own code."""

import base64
import json

import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from avf.client import LifecycleStep, Moment
from avf.client.spans import TraceContext, otlp_json, record_spans, start_spans
from tests.report.made import CREATED, timeline

MS = 1_000_000
IDS = ("traceId", "spanId", "parentSpanId")


def parsed(text: str) -> ExportTraceServiceRequest:
    """By the official schema, unknown fields refused. OTLP writes ids in hex where JSON of protobuf has base64."""
    told = json.loads(text)
    for span in told["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        for key in IDS:
            if key in span:
                span[key] = base64.b64encode(bytes.fromhex(span[key])).decode()
    return ParseDict(told, ExportTraceServiceRequest())


def test_a_file_of_otlp() -> None:
    context = TraceContext(bytes(range(1, 17)), bytes(range(1, 9)))
    span = start_spans(timeline(), {"vm.cid": 2048, "vm.name": "</script>\u202e"})
    text = otlp_json(span, context, {"service.name": "test"})
    assert text.endswith("\n") and text.count("\n") == 1 and text.isascii()
    (resource,) = parsed(text).resource_spans
    (scope,) = resource.scope_spans
    spans = {span.name: span for span in scope.spans}
    assert list(spans) == ["vm start", "spawn", "monitor", "resume", "guest", "kernel", "verify"]
    assert {span.trace_id for span in scope.spans} == {context.trace_id}
    assert len({span.span_id for span in scope.spans}) == len(spans)
    whole, guest = spans["vm start"], spans["guest"]
    assert whole.parent_span_id == context.span_id
    assert spans["spawn"].parent_span_id == guest.parent_span_id == whole.span_id
    assert spans["kernel"].parent_span_id == spans["verify"].parent_span_id == guest.span_id
    assert whole.start_time_unix_nano == CREATED
    assert whole.end_time_unix_nano == CREATED + 1620 * MS
    assert (guest.start_time_unix_nano, guest.end_time_unix_nano) == (
        CREATED + 300 * MS,
        CREATED + 1600 * MS,
    )
    told = {attribute.key: attribute.value for attribute in whole.attributes}
    assert told["vm.start.kind"].string_value == "cold"
    assert told["vm.cid"].int_value == 2048
    assert told["vm.name"].string_value == "</script>\u202e"
    assert [event.name for event in whole.events] == [
        "creation asked",
        "start asked",
        "payload started",
    ]
    assert whole.status.code == Status.STATUS_CODE_UNSET
    assert resource.resource.attributes[0].value.string_value == "test"


def test_a_start_that_failed() -> None:
    made = timeline()
    moments = (made.moments[0], Moment(LifecycleStep.DIED, 0.5))
    failed = type(made)(made.kind, made.created_ns, made.phases[:3], moments, None)
    span = start_spans(failed, {})
    (resource,) = parsed(otlp_json(span, TraceContext.new(), {})).resource_spans
    whole = resource.scope_spans[0].spans[0]
    assert whole.status.code == Status.STATUS_CODE_ERROR
    assert whole.end_time_unix_nano == CREATED + 500 * MS
    assert whole.parent_span_id == b""


TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize("text", [f"00-{TRACE}-{PARENT}-01", f"01-{TRACE}-{PARENT}-00-more"])
def test_a_trace_goes_on(text: str) -> None:
    context = TraceContext.parse(text)
    assert (context.trace_id.hex(), context.span_id and context.span_id.hex()) == (TRACE, PARENT)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "nonsense",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{PARENT}-01\n",
        f"00-{TRACE}-{PARENT}",
    ],
)
def test_what_names_no_trace_begins_one(text: str | None) -> None:
    first, second = TraceContext.parse(text), TraceContext.parse(text)
    assert first.span_id is second.span_id is None
    assert first.trace_id != second.trace_id and len(first.trace_id) == 16


def test_the_tracer_of_a_program() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("deploy"):
        record_spans(start_spans(timeline(), {"vm.cid": 2048}), tracer)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert set(spans) == {
        "deploy", "vm start", "spawn", "monitor", "resume", "guest", "kernel", "verify",
    }  # fmt: skip
    parents = {name: span.parent and span.parent.span_id for name, span in spans.items()}
    ids = {name: span.context.span_id for name, span in spans.items() if span.context}
    assert parents["vm start"] == ids["deploy"]
    assert parents["spawn"] == parents["guest"] == ids["vm start"]
    assert parents["verify"] == ids["guest"]
    verify = spans["verify"]
    assert (verify.start_time, verify.end_time) == (CREATED + 1100 * MS, CREATED + 1600 * MS)
    assert [event.name for event in spans["vm start"].events][-1] == "payload started"
