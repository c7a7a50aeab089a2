import pytest

from avf.client import VirtualMachine


@pytest.mark.avf("parrot.py")
def test_it_repeats(vm: VirtualMachine) -> None:
    with vm.connect_vsock(5678) as stream:
        stream.sendall(b"hello")
        assert stream.recv(100) == b"hello"
