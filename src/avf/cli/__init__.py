"""The `vm` command."""

from avf.cli.command import main

__all__ = ["main"]
