"""The agent: takes a guest from "the kernel is up" to "the payload has ended", and tells the host about each step.

Follows Microdroid's manager step by step. Whatever goes wrong ends here, as one error to the host and one reason on the
failure port; the guest's init powers the machine off when this process has ended.
"""

import os
from collections.abc import Sequence

from avf.aidl.virtualmachineservice import IVirtualMachineService
from avf.binder import BinderError
from avf.guest import libc, limits, nettle, partitions, phases
from avf.guest.clock import keep_clock, set_clock
from avf.guest.config import MAX_SIZE, PayloadConfig, Task, explicit_config, parse_config
from avf.guest.errors import (
    FailedToConnect,
    GuestError,
    InvalidConfig,
    PayloadKilled,
    chain,
    failure_text,
)
from avf.guest.forks import Forks
from avf.guest.host_link import HostLink
from avf.guest.identity import PayloadIdentity, first_identity
from avf.guest.instance import InstanceImage
from avf.guest.metadata import Metadata, read_metadata
from avf.guest.payload import Payload, mount_apks, verify_payload
from avf.guest.process import Process
from avf.guest.record import SALT_SIZE
from avf.guest.remember import remember
from avf.guest.report import log, log_exception, report_failure
from avf.guest.secrets import (
    Cdi,
    PayloadLayer,
    agent_cdi,
    instance_key,
    payload_inputs,
    payload_layer,
)
from avf.guest.shell import ShellService, start_if_debuggable
from avf.guest.swap import enable_swap
from avf.guest.system import mount_system
from avf.guest.task import APK, Program, find_program
from avf.invocation import InvocationError, check

METADATA_PARTITION = "payload-metadata"
INSTANCE_PARTITION = "vm-instance"
STORAGE_PARTITION = "encryptedstore"
DEBUGGABLE_MARKER = "/etc/avf/debuggable"


def main(process: Process) -> int:
    """Runs the payload in `process`, forked before; 0 once the outcome is told, as well as it could be told."""
    log("started.")
    nettle.load()
    shell = start_if_debuggable()
    try:
        host = HostLink()
        phases.ended("connect")
    except FailedToConnect as error:
        log(chain(error))
        report_failure(failure_text(error))
        return 0
    with host:
        try:
            _run(host, process, shell)
        except Exception as error:  # noqa: BLE001
            log(chain(error))
            if not isinstance(error, GuestError):
                log_exception()
            report_failure(failure_text(error))
    return 0


def _run(host: HostLink, process: Process, shell: ShellService | None) -> None:
    """The payload's whole life. What it raises has been told to the host already, or could not be."""
    try:
        exit_code = run_payload(host, process, shell)
    except Exception as error:
        known = (
            error
            if isinstance(error, GuestError)
            else GuestError(str(error) or type(error).__name__)
        )
        try:
            phases.ended("failure")
            tell_phases(host)
            host.notify_error(known.code, str(known))
        except (BinderError, OSError) as failure:
            raise GuestError("cannot tell the host about an error") from failure
        raise
    log(f"payload finished with exit code {exit_code}")
    os.sync()
    host.notify_payload_finished(exit_code)


def run_payload(host: HostLink, process: Process, shell: ShellService | None = None) -> int:
    """Verifies, mounts and runs the payload in `process`; its exit code. `shell` serves from then on."""
    mount_system()
    log("the system is mounted")
    phases.ended("system")
    debuggable = os.access(DEBUGGABLE_MARKER, os.F_OK)
    metadata = read_metadata(partitions.wait_for(METADATA_PARTITION))
    cdi = agent_cdi(debuggable)
    phases.ended("disks")
    if metadata.forkable:
        payload, identity = verify_forkable(metadata)
    else:
        payload, identity = verify_and_remember(host, metadata, cdi)
    phases.ended("verify")
    if metadata.config_path is None and metadata.binary_name is None:
        raise InvalidConfig("No payload config in metadata")

    def layer_of(identity: PayloadIdentity) -> PayloadLayer:
        inputs = payload_inputs(identity, debuggable, metadata.config_path, metadata.binary_name)
        return payload_layer(cdi, inputs, identity.first_authority)

    layer = layer_of(identity)
    forks = None
    if metadata.forkable:
        forks = Forks(host, layer, lambda: layer_of(identity._replace(salt=os.urandom(SALT_SIZE))))
    storage = partitions.labels().get(STORAGE_PARTITION)
    if storage is not None:
        from avf.guest.storage import mount_storage

        mount_storage(f"/dev/{storage}", layer.cdi)
        phases.ended("storage")
    server = mount_apks(payload)
    phases.ended("mount")
    config = load_config(metadata, payload)
    task = check_task(config, debuggable)
    if debuggable if config.export_tombstones is None else config.export_tombstones:
        export_tombstones()
    check_invocation(metadata, debuggable)
    program = prepare(task)
    program = program._replace(arguments=(*program.arguments, *metadata.arguments))
    serve_payload(host, layer, restricted_allowed=metadata.config_path is not None, forks=forks)
    confine(process, server)
    if forks is not None:
        forks.serve()
    if shell is not None:
        shell.begin()
    try:
        return run_process(
            host,
            process,
            program,
            as_root=task.run_as_root,
            environment=metadata.environment,
            errors_apart=metadata.errors_apart and debuggable,
        )
    finally:
        if storage is not None:
            from avf.guest.storage import close_storage

            close_storage()


def run_process(
    host: IVirtualMachineService,
    process: Process,
    program: Program,
    *,
    as_root: bool,
    environment: Sequence[tuple[str, str]] = (),
    errors_apart: bool = False,
) -> int:
    """The exit code of the payload, whose start the host hears of first. Raises GuestError if a signal ended it."""
    log("executing main task")
    errors = None
    if errors_apart:
        from avf.guest import error_stream

        errors = error_stream.ErrorStream(process.errors, error_stream.connect())
    phases.ended("prepare")
    if set_clock(phases.asking(host.get_time)):
        keep_clock(host.get_time)
    phases.ended("clock")
    tell_phases(host)
    host.notify_payload_started()
    process.start(program, as_root=as_root, environment=environment, errors_apart=errors_apart)
    try:
        return process.wait()
    except PayloadKilled as end:
        raise GuestError(f"Failed to run payload: {why_killed(end, process.pid)}") from None
    finally:
        if errors is not None:
            errors.finish()


def tell_phases(host: IVirtualMachineService) -> None:
    """Before the payload may have the word; best effort, and without waiting for an answer."""
    try:
        host.report_start_phases(*phases.report())
    except (BinderError, OSError) as error:
        log(f"the host does not hear of the phases of this start: {error}")


def why_killed(end: PayloadKilled, pid: int) -> str:
    """The signal by its name, and whether it was for want of memory."""
    import signal

    if end.number == signal.SIGKILL and limits.ran_out_of_memory(pid):
        return "out of memory, SIGKILL"
    return str(end)


def confine(process: Process, server: int | None) -> None:
    """Swap stands before the payload starts, and so do its limits. Raises GuestError."""
    enable_swap()
    try:
        bounds = limits.measure()
        limits.confine(process.pid, server, bounds)
    except (OSError, ValueError) as error:
        raise GuestError("cannot limit what the payload may take") from error


def verify_and_remember(
    host: IVirtualMachineService, metadata: Metadata, cdi: Cdi
) -> tuple[Payload, PayloadIdentity]:
    """Verifies the payload against its signature and what this instance has seen before. Raises GuestError."""
    fd = os.open(partitions.wait_for(INSTANCE_PARTITION), os.O_RDWR | os.O_CLOEXEC)
    try:
        return remember(
            InstanceImage(fd),
            instance_key(cdi),
            host,
            lambda known: verify_payload(metadata, known.apks if known else ()),
        )
    finally:
        os.close(fd)


def verify_forkable(metadata: Metadata) -> tuple[Payload, PayloadIdentity]:
    """Of a machine that may be copied: it keeps nothing, and has an identity for one life. Raises GuestError."""
    for label in (INSTANCE_PARTITION, STORAGE_PARTITION):
        if label in partitions.labels():
            raise InvalidConfig(
                f"a VM that can be forked keeps nothing, but has a {label} partition"
            )
    payload = verify_payload(metadata, ())
    return payload, first_identity(os.urandom(SALT_SIZE), payload.apks)


def load_config(metadata: Metadata, payload: Payload) -> PayloadConfig:
    """The payload's own configuration file, or the explicit configuration. Raises InvalidConfig."""
    extras = len(payload.extra_devices)
    if metadata.config_path is None:
        config = explicit_config(metadata.binary_name or "", extras)
    else:
        config = parse_config(_read_config(metadata.config_path))
    if config.task is None:
        raise InvalidConfig("No task in VM config")
    if config.extra_apks != extras:
        raise GuestError(f"config expects {config.extra_apks} extra apks, but found {extras}")
    return config


def _read_config(path: str) -> bytes:
    if not path.startswith(f"{APK}/") or ".." in path.split("/"):
        raise InvalidConfig(f"the VM config {path!r} is not inside the APK")
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_SIZE + 1)
    except OSError as error:
        raise InvalidConfig(f"cannot read the VM config {path}") from error
    if len(data) > MAX_SIZE:
        raise InvalidConfig(f"the VM config {path} has more than {MAX_SIZE} bytes")
    return data


def check_task(config: PayloadConfig, debuggable: bool) -> Task:
    """What is run. Raises InvalidConfig if it asks for rights that payloads of this guest do not get."""
    assert config.task is not None
    if config.task.run_as_root and not debuggable:
        raise InvalidConfig("VM config: task.run_as_root needs a debuggable VM")
    return config.task


def check_invocation(metadata: Metadata, debuggable: bool) -> None:
    """Raises InvalidConfig for arguments and variables that this guest's payloads do not get."""
    try:
        check(metadata.arguments, dict(metadata.environment), debuggable=debuggable)
    except InvocationError as error:
        raise InvalidConfig(f"payload: {error}") from None


def export_tombstones() -> None:
    """Best effort: a payload can do without."""
    from avf.guest.tombstone import enable

    try:
        enable()
    except OSError as error:
        log(f"no tombstones will be exported: {error}")


def prepare(task: Task) -> Program:
    """The program. From here on nothing may be written below /."""
    program = find_program(task)
    try:
        libc.mount("", "/", "", libc.MS_REMOUNT | libc.MS_RDONLY)
    except OSError as error:
        log(f"the root file system stays writable: {error}")
    return program


def serve_payload(
    host: IVirtualMachineService,
    layer: PayloadLayer,
    *,
    restricted_allowed: bool,
    forks: Forks | None = None,
) -> None:
    """Makes the vm_payload API available. Its threads end with the agent."""
    from avf.guest.payload_service import PayloadService, serve

    serve(PayloadService(host, layer, restricted_allowed, forks))
