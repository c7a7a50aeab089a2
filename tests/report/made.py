"""Reports of VMs that never were."""

from datetime import UTC, datetime

from avf.aidl.virtualizationservice import VirtualMachineState
from avf.aidl.vm_control import PayloadState
from avf.client import (
    DeathReason,
    DeathReport,
    LifecycleStep,
    MetricsSample,
    Moment,
    Phase,
    StartKind,
    Timeline,
    VmDetails,
    VmFile,
    VmMetrics,
    VmParts,
)
from avf.report.facts import ApkProof, Certificate, FileDigest, VmReport

CREATED = 1_764_363_725_000_000_000


def file(label: str, path: str, *, writable: bool = False) -> VmFile:
    return VmFile(label, 0, path, 8192, writable, 1, 2, 3)


def timeline(name: str = "verify") -> Timeline:
    return Timeline(
        StartKind.COLD,
        CREATED,
        (
            Phase("spawn", False, 0.01, 0.05),
            Phase("monitor", False, 0.05, 0.25),
            Phase("resume", False, 0.25, 0.251),
            Phase("kernel", True, 0.3, 1.1),
            Phase(name, True, 1.1, 1.6),
        ),
        (
            Moment(LifecycleStep.CREATION_ASKED, 0.0),
            Moment(LifecycleStep.START_ASKED, 0.01),
            Moment(LifecycleStep.PAYLOAD_STARTED, 1.62),
            Moment(LifecycleStep.DIED, 9.0),
        ),
        0.002,
    )


def report(text: str = "text") -> VmReport:
    """With `text` wherever a guest, a file or a user could have written it."""
    return VmReport(
        made=datetime(2026, 11, 28, 21, 0, tzinfo=UTC),
        version="0.1.0",
        host=text,
        details=VmDetails(
            cid=2048,
            name=text,
            state=VirtualMachineState.DEAD,
            payload_state=PayloadState.FINISHED,
            vmm=text,
            vmm_pid=None,
            requester_uid=1000,
            requester_pid=4711,
            protected=False,
            memory_mib=256,
            cpus=1,
            age=10.0,
            uptime=9.0,
            has_console=True,
            has_log=True,
            takes_console_input=True,
            debugger_socket=None,
        ),
        parts=VmParts(text, True, True, (text, text), (text,), (file(text, text),)),
        timeline=timeline(text),
        metrics=VmMetrics(4000, 0, 0, 0, 90_000, 250_000),
        history=tuple(
            MetricsSample(second, 500 * second, 0, 60_000 + 900 * second, 200_000 + 1000 * second)
            for second in range(10)
        ),
        apks=(
            ApkProof(
                file("microdroid-apk", text),
                file("microdroid-apk-idsig", text),
                unchanged=False,
                problem=text,
                scheme="v3",
                package=text,
                version=7,
                algorithm=text,
                certificate=Certificate("ab" * 32, text, None, None),
                lineage=(text,),
                root_hash=text,
            ),
        ),
        files=(FileDigest(file(text, text), text, text),),
        console=text,
        log=text,
        death=DeathReport(
            DeathReason.MICRODROID_UNKNOWN_RUNTIME_ERROR,
            text,
            -9,
            (text,),
            text,
            text,
            (text,),
            (text,),
        ),
    )
