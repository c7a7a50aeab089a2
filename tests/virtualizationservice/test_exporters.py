"""Atoms as metrics: scraped over HTTP, also from a daemon, and through the real OpenTelemetry SDK."""

import builtins
import re
import urllib.request
from typing import Any

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from avf.aidl.virtualizationcommon import DeathReason
from avf.aidl.virtualizationservice_internal import AtomVmBooted
from avf.virtualizationservice.exporters import (
    ExporterError,
    OpenTelemetryExporter,
    PrometheusExporter,
)
from tests.virtualizationservice.daemon import ALICE, Host

ATOMS: list[tuple[str, dict[str, Any]]] = [
    ("VmCreationRequested", {"creation_succeeded": True, "config_type": 1}),
    ("VmCreationRequested", {"creation_succeeded": False, "config_type": 77}),
    ("VmBooted", {"elapsed_time_millis": 1500}),
    (
        "VmExited",
        {"death_reason": "KILLED", "guest_time_millis": 2500, "rss_vm_kb": 1, "rss_crosvm_kb": 2},
    ),
    (
        "VmExited",
        {
            "death_reason": DeathReason(4711).name,
            "guest_time_millis": -5,
            "rss_vm_kb": -1,
            "rss_crosvm_kb": 0,
        },
    ),
]


def test_prometheus() -> None:
    exporter = PrometheusExporter("127.0.0.1", 0)
    try:
        for name, fields in ATOMS:
            exporter.observe(name, fields)
        with urllib.request.urlopen(f"http://127.0.0.1:{exporter.port}/metrics") as answer:
            text = answer.read().decode()
    finally:
        exporter.close()
    for line in (
        'avf_vm_creations_total{config="app",result="ok"} 1.0',
        'avf_vm_creations_total{config="other",result="failed"} 1.0',
        'avf_vm_boot_seconds_bucket{le="2.0"} 1.0',
        'avf_vm_deaths_total{reason="KILLED"} 1.0',
        'avf_vm_deaths_total{reason="UNRECOGNISED"} 1.0',
        "avf_vm_guest_seconds_total 2.5",
        'avf_vm_rss_bytes_sum{part="vmm"} 2048.0',
    ):
        assert re.search(rf"^{re.escape(line)}$", text, re.MULTILINE), line


def test_a_daemon_with_metrics(host: Host) -> None:
    with host.daemon("--prometheus", "0", "--opentelemetry"), host.client(ALICE) as alice:
        alice.atom_vm_booted(AtomVmBooted(elapsed_time_millis=5))
        port = re.search(r"metrics are served on port (\d+)", host.log)
        assert port is not None
        with urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/metrics") as answer:
            assert b"avf_vm_boot_seconds_count 1.0" in answer.read()


def test_opentelemetry() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    metrics.set_meter_provider(provider)
    exporter = OpenTelemetryExporter()
    for name, fields in ATOMS:
        exporter.observe(name, fields)
    data = reader.get_metrics_data()
    assert data is not None
    found = {m.name: m.data for m in data.resource_metrics[0].scope_metrics[0].metrics}
    provider.shutdown()
    assert {dict(p.attributes or {})["reason"] for p in found["avf_vm_deaths"].data_points} == {
        "KILLED",
        "UNRECOGNISED",
    }
    assert [p.value for p in found["avf_vm_guest_seconds"].data_points] == [2.5]
    assert [p.sum for p in found["avf_vm_boot_seconds"].data_points] == [1.5]


@pytest.mark.parametrize(
    ("package", "make", "complaint"),
    [
        (
            "prometheus_client",
            lambda: PrometheusExporter("127.0.0.1", 0),
            "--prometheus needs the package prometheus-client",
        ),
        (
            "opentelemetry.metrics",
            OpenTelemetryExporter,
            "--opentelemetry needs the package opentelemetry-api",
        ),
    ],
)
def test_without_the_package(
    monkeypatch: pytest.MonkeyPatch, package: str, make: Any, complaint: str
) -> None:
    real_import = builtins.__import__

    def no_such_package(name: str, *rest: Any) -> Any:
        if name == package:
            raise ImportError(name)
        return real_import(name, *rest)

    monkeypatch.setattr(builtins, "__import__", no_such_package)
    with pytest.raises(ExporterError, match=complaint):
        make()
