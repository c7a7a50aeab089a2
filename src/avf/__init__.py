"""AVF for Linux: run a signed payload in its own verified virtual machine."""

__version__ = "0.1.0"
