"""How a payload is called: what the client says, what virtmgr lets through, what the guest reads."""

import os
from pathlib import Path

import pytest

from avf.aidl.virtualizationservice import (
    VirtualMachineAppConfig,
    VirtualMachineConfig,
    VirtualMachineRawConfig,
)
from avf.aidl.vm_control import PayloadInvocation
from avf.binder import ExceptionCode, ParcelFileDescriptor, RemoteException
from avf.disk import MetadataPartition
from avf.guest.agent import check_invocation
from avf.guest.errors import InvalidConfig
from avf.guest.metadata import Metadata, read_metadata
from avf.invocation import MAX_BYTES, MAX_STRINGS, InvocationError, check
from avf.virtmgr.invocation import Invocation

DebugLevel = VirtualMachineAppConfig.DebugLevel


def app(level: DebugLevel = DebugLevel.NONE) -> VirtualMachineConfig:
    return VirtualMachineConfig(app_config=VirtualMachineAppConfig(debug_level=level))


def called(
    arguments: list[str], environment: list[str], config: VirtualMachineConfig | None = None
) -> Invocation:
    told = PayloadInvocation(arguments=arguments, environment=environment)
    return Invocation.from_aidl(told, config or app())


@pytest.mark.parametrize("errors_apart", [False, True])
def test_what_the_client_says_arrives_in_the_guest(tmp_path: Path, errors_apart: bool) -> None:
    invocation = called(["-v", "", "ein Wort", "ü"], ["A=1", "B=", "C=x=y"])
    path = tmp_path / "metadata"
    with open(path, "w+b") as file:
        written = MetadataPartition(
            arguments=invocation.arguments,
            environment=tuple(invocation.environment.items()),
            errors_apart=errors_apart,
        )
        written.write(file.fileno())
        assert MetadataPartition.read(file.fileno()) == written
    found = read_metadata(str(path))
    assert found.errors_apart is errors_apart
    assert found.arguments == ("-v", "", "ein Wort", "ü")
    assert found.environment == (("A", "1"), ("B", ""), ("C", "x=y"))


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["a\0b"], [], "argument 1 has a NUL"),
        ([], ["A=\0"], "variable A has a NUL"),
        ([], ["A"], "'A' has no value"),
        ([], ["=x"], "'' is no name"),
        ([], ["A=1", "A=2"], "A comes twice"),
        (["x"] * (MAX_STRINGS + 1), [], f"at most {MAX_STRINGS}"),
        ([], [f"A{n}=" for n in range(MAX_STRINGS + 1)], f"at most {MAX_STRINGS}"),
        (["x" * MAX_BYTES], [], f"at most {MAX_BYTES}"),
        ([], ["A=" + "x" * MAX_BYTES], f"at most {MAX_BYTES}"),
        *[
            ([], [f"{name}=x"], f"variable {name} can change which code runs")
            for name in (
                *("LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONSTARTUP", "PATH", "HOME"),
                *("BASH_ENV", "ENV", "GLIBC_TUNABLES", "GCONV_PATH", "PERL5LIB", "IFS"),
            )
        ],
    ],
)
def test_what_is_refused(arguments: list[str], environment: list[str], said: str) -> None:
    with pytest.raises(RemoteException, match=said) as error:
        called(arguments, environment)
    assert error.value.code is ExceptionCode.ILLEGAL_ARGUMENT


def test_a_debuggable_vm_takes_any_variable() -> None:
    found = called([], ["LD_PRELOAD=x", "PATH=/bin"], app(DebugLevel.FULL))
    assert dict(found.environment) == {"LD_PRELOAD": "x", "PATH": "/bin"}


def test_a_raw_vm_has_no_payload_to_call() -> None:
    raw = VirtualMachineConfig(raw_config=VirtualMachineRawConfig())
    with pytest.raises(RemoteException, match="only the payload of an app"):
        called(["x"], [], raw)


@pytest.mark.parametrize(
    ("level", "forkable", "code"),
    [
        (DebugLevel.NONE, False, ExceptionCode.SECURITY),
        (DebugLevel.FULL, True, ExceptionCode.ILLEGAL_ARGUMENT),
    ],
)
def test_vms_whose_standard_error_goes_to_the_log(
    level: DebugLevel, forkable: bool, code: ExceptionCode
) -> None:
    config = VirtualMachineConfig(
        app_config=VirtualMachineAppConfig(debug_level=level, forkable=forkable)
    )
    with ParcelFileDescriptor(os.open("/dev/null", os.O_WRONLY)) as nowhere:
        told = PayloadInvocation(arguments=[], environment=[], stderr_fd=nowhere)
        with pytest.raises(RemoteException, match="stderrFd: ") as error:
            Invocation.from_aidl(told, config)
    assert error.value.code is code


def test_the_guest_decides_whatever_the_host_wrote() -> None:
    metadata = Metadata("apk", "idsig", None, "x.py", (), (("LD_PRELOAD", "/x.so"),))
    with pytest.raises(InvalidConfig, match="LD_PRELOAD"):
        check_invocation(metadata, False)
    check_invocation(metadata, True)


def test_arguments_that_are_not_unicode() -> None:
    with pytest.raises(InvocationError, match="argument 2 is not Unicode"):
        check(["fine", "\udcff"], {}, debuggable=True)
