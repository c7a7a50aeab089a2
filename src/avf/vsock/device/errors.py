"""Errors of the device.

DeviceError
 +-- FrontEndError   a vhost-user message makes no sense; it is refused and the device goes on
 |    +-- ControlLost  ... and the control stream can no longer be read; the device ends
 |    +-- MemoryGone   ... because the front-end has ended, as the control stream is about to tell
 +-- GuestError      the guest broke the rules of its queues; its traffic ends until it sets them up anew
"""


class DeviceError(Exception):
    """Base of all errors of the device."""


class FrontEndError(DeviceError):
    """A vhost-user message makes no sense."""


class ControlLost(FrontEndError):
    """The control stream cannot be followed any further."""


class MemoryGone(FrontEndError):
    """The front-end has ended, and its memory with it."""


class GuestError(DeviceError):
    """The guest broke the rules of its queues."""
