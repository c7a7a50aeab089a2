"""Atoms as metrics for others: Prometheus (extra `prometheus`) and OpenTelemetry (extra `opentelemetry`).

avf_vm_creations      counter    by result (ok, failed) and config (app, raw)
avf_vm_boot_seconds   histogram  createVm's start to "payload started"
avf_vm_deaths         counter    by reason
avf_vm_guest_seconds  counter    CPU time spent in guests that have died
avf_vm_rss_bytes      histogram  a dead VM's largest resident memory, by part (guest, vmm)
"""

from collections.abc import Mapping
from typing import Any, Protocol

from avf.aidl.virtualizationcommon import DeathReason

CONFIG_TYPES = {1: "app", 2: "raw"}
BOOT_BUCKETS = (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300)
RSS_BUCKETS = tuple(float(1 << n) for n in range(24, 36))


class ExporterError(RuntimeError):
    """An exporter cannot be set up; the message says what is missing."""


class Exporter(Protocol):
    """Takes one atom after the other, from any thread."""

    def observe(self, atom: str, fields: Mapping[str, Any]) -> None: ...


class PrometheusExporter:
    """Serves metrics over HTTP at /metrics."""

    def __init__(self, host: str, port: int) -> None:
        """Raises ExporterError without `prometheus-client`, OSError if the address is taken."""
        try:
            from prometheus_client import (
                CollectorRegistry,
                Counter,
                Histogram,
                start_http_server,
            )
        except ImportError as e:
            raise ExporterError("--prometheus needs the package prometheus-client") from e
        registry = CollectorRegistry()
        self._creations = Counter(
            "avf_vm_creations", "Calls of createVm", ["result", "config"], registry=registry
        )
        self._boots = Histogram(
            "avf_vm_boot_seconds", "Start to payload", buckets=BOOT_BUCKETS, registry=registry
        )
        self._deaths = Counter("avf_vm_deaths", "VMs that died", ["reason"], registry=registry)
        self._guest = Counter("avf_vm_guest_seconds", "CPU time in guests", registry=registry)
        self._rss = Histogram(
            "avf_vm_rss_bytes", "Largest memory", ["part"], buckets=RSS_BUCKETS, registry=registry
        )
        self._server, self._thread = start_http_server(port, host, registry)

    @property
    def port(self) -> int:
        return int(self._server.server_port)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def observe(self, atom: str, fields: Mapping[str, Any]) -> None:
        match atom:
            case "VmCreationRequested":
                self._creations.labels(**_creation_labels(fields)).inc()
            case "VmBooted":
                self._boots.observe(max(0, fields["elapsed_time_millis"]) / 1000)
            case "VmExited":
                self._deaths.labels(_reason(fields)).inc()
                self._guest.inc(max(0, fields["guest_time_millis"]) / 1000)
                for part, key in (("guest", "rss_vm_kb"), ("vmm", "rss_crosvm_kb")):
                    self._rss.labels(part).observe(max(0, fields[key]) * 1024)


class OpenTelemetryExporter:
    """Hands metrics to whatever OpenTelemetry SDK the process was set up with (`opentelemetry-instrument`)."""

    def __init__(self) -> None:
        """Raises ExporterError without `opentelemetry-api`."""
        try:
            from opentelemetry.metrics import get_meter_provider
        except ImportError as e:
            raise ExporterError("--opentelemetry needs the package opentelemetry-api") from e
        meter = get_meter_provider().get_meter("avf")
        self._creations = meter.create_counter("avf_vm_creations")
        self._boots = meter.create_histogram("avf_vm_boot_seconds", "s")
        self._deaths = meter.create_counter("avf_vm_deaths")
        self._guest = meter.create_counter("avf_vm_guest_seconds", "s")
        self._rss = meter.create_histogram("avf_vm_rss_bytes", "By")

    def observe(self, atom: str, fields: Mapping[str, Any]) -> None:
        match atom:
            case "VmCreationRequested":
                self._creations.add(1, _creation_labels(fields))
            case "VmBooted":
                self._boots.record(max(0, fields["elapsed_time_millis"]) / 1000)
            case "VmExited":
                self._deaths.add(1, {"reason": _reason(fields)})
                self._guest.add(max(0, fields["guest_time_millis"]) / 1000)
                for part, key in (("guest", "rss_vm_kb"), ("vmm", "rss_crosvm_kb")):
                    self._rss.record(max(0, fields[key]) * 1024, {"part": part})


def _creation_labels(fields: Mapping[str, Any]) -> dict[str, str]:
    return {
        "result": "ok" if fields["creation_succeeded"] else "failed",
        "config": CONFIG_TYPES.get(fields["config_type"], "other"),
    }


def _reason(fields: Mapping[str, Any]) -> str:
    """Known reasons by name; all others are one, for whoever may report can make them up."""
    name = str(fields["death_reason"])
    return name if name in DeathReason.__members__ else "UNRECOGNISED"
