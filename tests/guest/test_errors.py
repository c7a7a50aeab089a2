from pathlib import Path

import pytest

from avf.aidl.virtualizationcommon import ErrorCode
from avf.guest.errors import (
    FailedToConnect,
    GuestError,
    InvalidConfig,
    PayloadChanged,
    PayloadVerificationFailed,
    chain,
    failure_text,
)
from avf.guest.report import report_failure


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    try:
        raise error from cause
    except type(error) as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (
            FailedToConnect("x"),
            ErrorCode.UNKNOWN,
            "MICRODROID_FAILED_TO_CONNECT_TO_VIRTUALIZATION_SERVICE",
        ),
        (PayloadChanged("x"), ErrorCode.PAYLOAD_CHANGED, "MICRODROID_PAYLOAD_HAS_CHANGED"),
        (
            PayloadVerificationFailed("x"),
            ErrorCode.PAYLOAD_VERIFICATION_FAILED,
            "MICRODROID_PAYLOAD_VERIFICATION_FAILED",
        ),
        (InvalidConfig("x"), ErrorCode.PAYLOAD_CONFIG_INVALID, "MICRODROID_INVALID_PAYLOAD_CONFIG"),
        (GuestError("x"), ErrorCode.UNKNOWN, "MICRODROID_UNKNOWN_RUNTIME_ERROR|x"),
    ],
)
def test_what_the_host_hears(error: GuestError, code: ErrorCode, text: str) -> None:
    assert error.code is code
    assert (
        failure_text(raised(error, OSError("secret detail"))).removesuffix(
            ": OSError: secret detail"
        )
        == text
    )


def test_the_whole_chain() -> None:
    inner = raised(GuestError("middle"), raised(OSError(5, "Input/output error")))
    outer = raised(GuestError("Failed to run payload"), inner)
    assert chain(outer) == "Failed to run payload: middle: OSError: [Errno 5] Input/output error"


def test_foreign_errors() -> None:
    assert failure_text(raised(KeyError("x"))) == "MICRODROID_UNKNOWN_RUNTIME_ERROR|KeyError: 'x'"
    assert failure_text(MemoryError()) == "MICRODROID_UNKNOWN_RUNTIME_ERROR|MemoryError"


def test_a_hidden_context_stays_hidden() -> None:
    try:
        try:
            raise OSError("inner")
        except OSError:
            raise GuestError("outer") from None
    except GuestError as error:
        assert chain(error) == "outer"


def test_the_failure_port_gets_it_all_in_small_pieces(tmp_path: Path) -> None:
    port = tmp_path / "port"
    port.touch()
    text = "MICRODROID_UNKNOWN_RUNTIME_ERROR|" + "é" * 30
    with pytest.MonkeyPatch.context() as patch:
        pieces: list[bytes] = []
        from avf.guest import report

        def write(fd: int, data: bytes) -> int:
            pieces.append(data)
            return len(data)

        patch.setattr(report.os, "write", write)
        report_failure(text, str(port))
    assert b"".join(pieces) == text.encode()
    assert max(map(len, pieces)) == 16


def test_a_missing_port_costs_a_log_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    report_failure("x", str(tmp_path / "absent"))
    assert "cannot write to" in capfd.readouterr().err
