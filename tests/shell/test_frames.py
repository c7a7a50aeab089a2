"""Frames, requests and grants, by themselves and over real sockets."""

import socket
import threading

import pytest

from avf.shell import (
    MAX_PAYLOAD,
    WINDOW,
    Action,
    Decoder,
    Failure,
    Frame,
    FrameStream,
    Kind,
    ProtocolError,
    Request,
    ShellError,
    Window,
    encode,
)

REQUESTS = [
    Request(Action.RUN),
    Request(Action.RUN, (b"ls", b"-l", b""), True, (24, 80), False, (b"A=b", b"C="), b"/tmp"),
    Request(Action.TAKE, (b"/data", b"\xff name"), into=True),
    Request(Action.GIVE, (b"",)),
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_request_comes_back(request_: Request) -> None:
    assert Request.decode(request_.encode()) == request_


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_request_that_is_cut_short_is_refused(request_: Request) -> None:
    data = request_.encode()
    for end in range(len(data)):
        with pytest.raises(ProtocolError):
            Request.decode(data[:end])
    with pytest.raises(ProtocolError):
        Request.decode(data + b"\0")


def test_a_request_of_another_version_is_refused() -> None:
    with pytest.raises(ProtocolError, match="version 9, this guest version 1"):
        Request.decode(b"\x09" + Request(Action.RUN).encode()[1:])


def test_a_request_that_cannot_be_sent() -> None:
    with pytest.raises(ShellError, match="65536 at most"):
        Request(Action.RUN, (bytes([65]) * MAX_PAYLOAD,)).encode()
    with pytest.raises(ValueError, match="NUL"):
        Request(Action.RUN, (b"a\0b",)).encode()


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_frames_arrive_in_pieces_of_any_size(size: int) -> None:
    frames = [
        Frame(Kind.INPUT, bytes(range(200))),
        Frame(Kind.INPUT_END, b""),
        Frame(Kind.DATA, b"x"),
    ]
    data = b"".join(encode(*frame) for frame in frames)
    decoder = Decoder()
    found = [f for at in range(0, len(data), size) for f in decoder.feed(data[at : at + size])]
    assert found == frames
    assert decoder.is_between_frames


@pytest.mark.parametrize(
    "header",
    [b"\x03" + (MAX_PAYLOAD + 1).to_bytes(4, "little"), b"\xc8\0\0\0\0", b"\0\xff\xff\xff\xff"],
)
def test_a_bad_header_is_refused_before_its_payload(header: bytes) -> None:
    with pytest.raises(ProtocolError):
        Decoder().feed(header)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(header)
        with pytest.raises(ProtocolError):
            FrameStream(ours).receive()


def test_a_stream_that_ends_within_a_frame() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            theirs.sendall(encode(Kind.DONE) + encode(Kind.DATA, b"12345")[:-1])
        stream = FrameStream(ours)
        assert stream.receive() == Frame(Kind.DONE, b"")
        with pytest.raises(ProtocolError, match="ends within a frame"):
            stream.receive()


def test_the_largest_frame_over_a_socket() -> None:
    ours, theirs = socket.socketpair()
    payload = bytes(range(256)) * (MAX_PAYLOAD // 256)
    with ours, theirs:
        sender = threading.Thread(target=FrameStream(theirs).send, args=(Kind.DATA, payload))
        sender.start()
        assert FrameStream(ours).receive() == Frame(Kind.DATA, payload)
        sender.join()


def test_grants_are_bounded() -> None:
    window = Window()
    assert window.left == 0
    window.grant(WINDOW)
    window.use(10)
    window.grant(10)
    with pytest.raises(ProtocolError):
        window.grant(1)


def test_failures() -> None:
    failure = Failure(127, "no such thing")
    assert Failure.decode(failure.encode()) == failure
    with pytest.raises(ProtocolError):
        Failure.decode(b"")
