"""Numbers of vsock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avf.vsock import AddressError, check_guest_cid, check_port, port_from_aidl


@pytest.mark.parametrize("port", [0, 1, 1023, 1024, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFE])
def test_ports_have_32_bits(port: int) -> None:
    assert check_port(port) == port


@pytest.mark.parametrize("port", [-1, 0xFFFF_FFFF, 1 << 32, 1 << 64])
def test_the_wildcard_is_no_port(port: int) -> None:
    with pytest.raises(AddressError, match=str(port)):
        check_port(port)


@pytest.mark.parametrize("cid", [0, 1, 2, -1, -2048, 0xFFFF_FFFF, 1 << 32])
def test_reserved_numbers_are_no_guests(cid: int) -> None:
    with pytest.raises(AddressError):
        check_guest_cid(cid)


@given(st.integers(0, 0xFFFF_FFFE))
def test_aidl_carries_ports_with_a_sign(port: int) -> None:
    signed = port - (1 << 32) if port >= 1 << 31 else port
    assert port_from_aidl(signed) == port


@pytest.mark.parametrize("number", [-1, 1 << 31, -(1 << 31) - 1])
def test_what_aidl_cannot_mean(number: int) -> None:
    with pytest.raises(AddressError):
        port_from_aidl(number)
