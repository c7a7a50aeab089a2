"""How a payload is to be called, as the client says it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from avf.aidl.virtualizationservice import VirtualMachineAppConfig, VirtualMachineConfig
from avf.aidl.vm_control import PayloadInvocation
from avf.binder import ParcelFileDescriptor, RemoteException
from avf.invocation import InvocationError, check


@dataclass(frozen=True, slots=True)
class Invocation:
    """What the guest is told: arguments after the program's own name, variables beside its own."""

    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    stderr_fd: ParcelFileDescriptor | None = None
    """Where its standard error goes, the client's; None for where its standard output goes."""

    @classmethod
    def from_aidl(cls, told: PayloadInvocation, config: VirtualMachineConfig) -> Self:
        """Raises RemoteException (ILLEGAL_ARGUMENT)."""
        if config.which != "app_config":
            raise RemoteException.illegal_argument("only the payload of an app takes arguments")
        debuggable = config.app_config.debug_level != VirtualMachineAppConfig.DebugLevel.NONE
        try:
            environment = _parse(told.environment)
            check(told.arguments, environment, debuggable=debuggable)
        except InvocationError as error:
            raise RemoteException.illegal_argument(f"payload: {error}") from None
        if told.stderr_fd is not None:
            _check_stderr(debuggable, config.app_config.forkable)
        return cls(tuple(told.arguments), environment, told.stderr_fd)


def _check_stderr(debuggable: bool, forkable: bool) -> None:
    """Raises RemoteException."""
    if not debuggable:
        raise RemoteException.security("stderrFd: a non-debuggable VM shows nothing of its payload")
    if forkable:
        raise RemoteException.illegal_argument(
            "stderrFd: a forkable VM keeps no connections, so that its payload's standard error goes to the log"
        )


def _parse(variables: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for variable in variables:
        name, equals, value = variable.partition("=")
        if not equals:
            raise InvocationError(f"variable {variable!r} has no value")
        if name in found:
            raise InvocationError(f"variable {name} comes twice")
        found[name] = value
    return found
