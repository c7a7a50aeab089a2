"""What can go wrong between host and shell service.

ShellError
 +-- ProtocolError   the peer sent something that is not in the protocol, or too much of it
 +-- TransferError   a file or folder cannot be sent or put in its place; the message names it
"""


class ShellError(Exception):
    """Base of the errors of this package."""


class ProtocolError(ShellError):
    """The peer sent something that is not in the protocol, or too much of it."""


class TransferError(ShellError):
    """A file or folder cannot be sent or put in its place."""
