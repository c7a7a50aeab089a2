"""Runs a payload that is a shared library: loads it, hands it the vm_payload API, calls AVmPayload_main.

Runs in a process forked from the agent, which saves the start of an interpreter.
"""

from collections.abc import Callable, Sequence
from typing import Any

from avf.guest import payload_client
from avf.guest.report import say

LIBRARY = "libvm_payload.so"
ENTRY = "AVmPayload_main"
_FAILED = 1


def run_library(arguments: Sequence[str]) -> int:
    """The value of AVmPayload_main; 1 if it cannot be loaded or has none. It may also just end the process.

    `arguments`: the library's path, and what AvfPayload_getArguments gives besides.
    """
    import ctypes

    path = arguments[0]
    calls = _install_calls(ctypes)
    argv = _install_arguments(ctypes, arguments)
    try:
        payload = ctypes.CDLL(path)
        main = payload[ENTRY]
    except OSError as error:
        say(f"payload: Failed to load {path}: {error}")
        return _FAILED
    except AttributeError:
        say(f"payload: Failed to find entrypoint {ENTRY} in {path}")
        return _FAILED
    main.restype = ctypes.c_int
    code: int = main()
    del calls, argv  # the C side keeps pointers into it until here
    return code


def exit_process(code: int) -> None:
    """exit(3): C's own exit handlers and buffers want their turn, Python's are nobody's business here."""
    import ctypes

    ctypes.CDLL(None).exit(code)


def _install_calls(ctypes: Any) -> Any:
    """Gives libvm_payload.so its function pointers; the result must live as long as they may be called."""
    buffer, size = ctypes.c_void_p, ctypes.c_size_t
    nothing = ctypes.CFUNCTYPE(ctypes.c_int64)
    secret = ctypes.CFUNCTYPE(ctypes.c_int64, buffer, size, buffer, size)
    fill = ctypes.CFUNCTYPE(ctypes.c_int64, buffer, size)
    run = ctypes.CFUNCTYPE(ctypes.c_int64, buffer)
    callback = ctypes.CFUNCTYPE(None, ctypes.c_uint64, buffer)
    register = ctypes.CFUNCTYPE(ctypes.c_int64, callback, buffer)

    class Calls(ctypes.Structure):  # type: ignore[misc]
        _fields_ = (
            ("ready", nothing),
            ("secret", secret),
            ("chain", fill),
            ("cdi", fill),
            ("run_server", run),
            ("code_secret", secret),
            ("on_clone", register),
        )

    def getter(get: Callable[[bytes, int], bytes]) -> Callable[[int, int, int, int], int]:
        def get_secret(identifier: int, identifier_size: int, target: int, wanted: int) -> int:
            name = ctypes.string_at(identifier, identifier_size) if identifier_size else b""
            ctypes.memmove(target, get(name, wanted), wanted)
            return wanted

        return get_secret

    def copy(value: bytes, target: int, capacity: int) -> int:
        if capacity:
            ctypes.memmove(target, value, min(len(value), capacity))
        return len(value)

    def notify_ready() -> int:
        payload_client.notify_payload_ready()
        return 0

    def run_server(address: int) -> int:
        from avf.guest import native_server

        native_server.run_server(native_server.NativeServer.from_address(address))
        return 0

    def on_clone(tell: Callable[[int, int | None], None], param: int | None) -> int:
        payload_client.on_clone(lambda number: tell(number, param))
        return 0

    calls = Calls(
        nothing(_guarded(notify_ready)),
        secret(_guarded(getter(payload_client.get_vm_instance_secret))),
        fill(
            _guarded(
                lambda target, room: copy(payload_client.get_dice_attestation_chain(), target, room)
            )
        ),
        fill(
            _guarded(
                lambda target, room: copy(payload_client.get_dice_attestation_cdi(), target, room)
            )
        ),
        run(_guarded(run_server)),
        secret(_guarded(getter(payload_client.get_vm_code_secret))),
        register(_guarded(on_clone)),
    )
    ctypes.CDLL(LIBRARY, mode=ctypes.RTLD_GLOBAL).avf_payload_set_calls(ctypes.byref(calls))
    return calls


def _install_arguments(ctypes: Any, arguments: Sequence[str]) -> Any:
    """Gives libvm_payload.so what it answers for AvfPayload_getArguments; the result must live as long."""
    words = [argument.encode() for argument in arguments]
    argv = (ctypes.c_char_p * (len(words) + 1))(*words, None)
    ctypes.CDLL(LIBRARY).avf_payload_set_arguments(len(words), argv)
    return argv


def _guarded(function: Callable[..., int]) -> Callable[..., int]:
    """No exception may cross C: -1 makes the library abort."""

    def call(*arguments: Any) -> int:
        try:
            return function(*arguments)
        except Exception as error:  # noqa: BLE001
            say(f"vm_payload: {error}")
            return -1

    return call
