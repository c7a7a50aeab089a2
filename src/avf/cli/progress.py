"""Showing at a terminal that something long goes on, and how far it is."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_PATIENCE = 0.5
_INTERVAL = 0.1


@contextmanager
def progress(what: str, total: int, done: Callable[[], int | None]) -> Iterator[None]:
    """Shows on standard error, if that is a terminal, how much of `total` bytes is `done`, when it takes a while."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_show, args=(what, total, done, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _show(what: str, total: int, done: Callable[[], int | None], over: threading.Event) -> None:
    if over.wait(_PATIENCE):
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        while not over.wait(_INTERVAL):
            bar.update(task, completed=min(done() or 0, total))


def bytes_read_by(pid: int) -> Callable[[], int | None]:
    """How much process `pid` has read since now, by any system call; None where that cannot be known."""
    before = _bytes_read(pid)

    def since() -> int | None:
        now = _bytes_read(pid)
        return None if now is None or before is None else now - before

    return since


def _bytes_read(pid: int) -> int | None:
    try:
        for line in Path(f"/proc/{pid}/io").read_text().splitlines():
            name, _, value = line.partition(": ")
            if name == "rchar":
                return int(value)
    except (OSError, ValueError):
        pass
    return None
