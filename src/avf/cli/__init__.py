"""The `vm` command."""

import signal
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Runs the command line of this process, and exits."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # While there is nothing to clean up, Ctrl-C ends this without a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from avf.cli.command import main as run

    run()
