"""How much room a caller has for an array that comes out of a method: a number that a peer chooses."""

import pytest

from avf.binder import Interface, Length, Status, StatusError, method
from avf.binder.scalars import MAX_LENGTH
from tests.binder.conftest import Serve, serve

__all__ = ["serve"]


class IReader(Interface, descriptor="test.IReader"):
    @method(1)
    def read(self, data_length: Length) -> bytes:
        raise NotImplementedError


class IHostile(Interface, descriptor="test.IReader"):
    """The same to a peer that sends any number."""

    @method(1)
    def read(self, data_length: int) -> bytes:
        raise NotImplementedError


class Reader(IReader):
    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def read(self, data_length: Length) -> bytes:
        self.asked.append(data_length)
        return b"x" * min(data_length, 10)


@pytest.mark.parametrize("length", [-(1 << 31), -2, MAX_LENGTH + 1, (1 << 31) - 1])
def test_a_length_that_no_answer_can_have_reaches_no_method(serve: Serve, length: int) -> None:
    reader = Reader()
    hostile = serve(root=reader).connect().get_root(IHostile)
    with pytest.raises(StatusError, match=f"{length} elements|BAD_VALUE") as caught:
        hostile.read(length)
    assert caught.value.status == Status.BAD_VALUE
    assert reader.asked == []
    assert hostile.read(3) == b"xxx"


@pytest.mark.parametrize(("sent", "seen"), [(-1, 0), (0, 0), (7, 7), (MAX_LENGTH, MAX_LENGTH)])
def test_what_callers_have_room_for(serve: Serve, sent: int, seen: int) -> None:
    """Java sends -1 for an array that is null."""
    reader = Reader()
    assert serve(root=reader).connect().get_root(IHostile).read(sent) == b"x" * min(seen, 10)
    assert reader.asked == [seen]


@pytest.mark.parametrize("length", [-1, MAX_LENGTH + 1])
def test_a_caller_is_told_at_once(serve: Serve, length: int) -> None:
    reader = Reader()
    with pytest.raises(ValueError, match=r"IReader.read: data_length: .* no length of an array"):
        serve(root=reader).connect().get_root(IReader).read(length)
    assert reader.asked == []
