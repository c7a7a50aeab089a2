"""What a guest that is a template makes of what its host says."""

import os
import threading
from pathlib import Path

import pytest

from avf.guest import template
from avf.guest.errors import GuestError
from avf.guest.template import find_port, parse_identity, parse_rehearsal, read_line
from avf.image.build import TEMPLATES
from avf.virtmgr.warm import TEMPLATES as KNOWN_TO_VIRTMGR
from avf.vmm.qemu import devices

SEED = bytes(range(32))


def test_guest_and_host_speak_of_the_same() -> None:
    assert template.PORT_NAME == devices.TEMPLATE_PORT
    assert template.READY == devices.TEMPLATE_IS_READY
    assert template.TAKEN == devices.CLONE_IS_ITSELF
    assert template.REHEARSED == devices.CLONE_HAS_REHEARSED
    assert TEMPLATES == KNOWN_TO_VIRTMGR == int(template.READY.split()[1])


def test_an_identity_is_a_seed_and_a_time() -> None:
    line = f"identity {SEED.hex()} 1795887657000000001".encode()
    assert parse_identity(line) == (SEED, 1795887657000000001)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"identity",
        b"identity 00 1",
        f"identity {SEED.hex()} ".encode(),
        f"identity {SEED.hex()} 0".encode(),
        f"identity {SEED.hex()} -1".encode(),
        f"identity {SEED.hex()} 1 2".encode(),
        f"identity {SEED.hex()}00 1".encode(),
        f"other {SEED.hex()} 1".encode(),
        b"\xff\xfe \xff 1",
        f"identity {SEED.hex()[:-1]}x 1".encode(),
    ],
)
def test_anything_else_is_refused(line: bytes) -> None:
    with pytest.raises(GuestError, match="malformed"):
        parse_identity(line)


def test_a_rehearsal_has_a_seed_of_its_own() -> None:
    assert parse_rehearsal(f"rehearse {SEED.hex()}".encode()) == SEED
    assert parse_rehearsal(f"identity {SEED.hex()} 1".encode()) is None


@pytest.mark.parametrize(
    "line", [b"rehearse", b"rehearse ", b"rehearse 00", b"rehearse " + b"x" * 64, b"rehearse \xff"]
)
def test_a_rehearsal_without_a_seed_is_refused(line: bytes) -> None:
    with pytest.raises(GuestError, match="malformed"):
        parse_rehearsal(line)


def test_a_line_may_come_in_pieces() -> None:
    read_end, write_end = os.pipe()
    try:
        for piece in (b"iden", b"tity", b" x\n"):
            os.write(write_end, piece)
        assert read_line(read_end) == b"identity x"
    finally:
        os.close(read_end)
        os.close(write_end)


def test_a_line_without_end_is_refused() -> None:
    read_end, write_end = os.pipe()
    try:
        os.write(write_end, b"x" * 5000)
        with pytest.raises(GuestError, match="no end"):
            read_line(read_end)
    finally:
        os.close(read_end)
        os.close(write_end)


def test_the_port_is_found_by_its_name_once_it_is_there(tmp_path: Path) -> None:
    def appear() -> None:
        (tmp_path / "vport0p1").mkdir()
        (tmp_path / "vport0p1" / "name").write_text("another\n")
        (tmp_path / "vport0p4").mkdir()
        (tmp_path / "vport0p4" / "name").write_text("avf.template\n")

    thread = threading.Timer(0.05, appear)
    thread.start()
    try:
        assert find_port(str(tmp_path)) == "/dev/vport0p4"
    finally:
        thread.join()
