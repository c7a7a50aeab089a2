"""How the host talks to the shell service of a debuggable guest: frames on one stream, trees of files.

Both sides use this, so it is standard library only and imports little. A stream serves one request: run a command, take
a file or folder, or give one. The host sends a REQUEST, then the frames of `Kind` that go with it.
"""

from avf.shell.errors import ProtocolError, ShellError, TransferError
from avf.shell.flow import WINDOW, Outlet, Window
from avf.shell.frames import MAX_PAYLOAD, Decoder, Frame, FrameStream, Kind, encode
from avf.shell.place import Place, find_place
from avf.shell.receive import LinkRule, receive_tree
from avf.shell.requests import Action, Failure, Request
from avf.shell.send import send_tree

__all__ = [
    "MAX_PAYLOAD",
    "WINDOW",
    "Action",
    "Decoder",
    "Failure",
    "Frame",
    "FrameStream",
    "Kind",
    "LinkRule",
    "Outlet",
    "Place",
    "ProtocolError",
    "Request",
    "ShellError",
    "TransferError",
    "Window",
    "encode",
    "find_place",
    "receive_tree",
    "send_tree",
]
