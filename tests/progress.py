"""Says in a long run how far it is and which tests take long, so that one that is cut off tells where it was."""

import threading
import time

import pytest

SAID_AFTER_SECONDS = 120
SAID_EVERY_SECONDS = 300


class Progress:
    """Of the tests of all processes."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal
        self._begun = self._said = time.monotonic()
        self._running: dict[str, float] = {}
        self._done = 0
        self._ended = threading.Event()
        self._lock = threading.Lock()

    def pytest_sessionstart(self) -> None:
        threading.Thread(target=self._watch, daemon=True).start()

    def pytest_sessionfinish(self) -> None:
        self._ended.set()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        with self._lock:
            self._running[nodeid] = time.monotonic()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        with self._lock:
            self._running.pop(nodeid, None)
            self._done += 1

    def _watch(self) -> None:
        while not self._ended.wait(SAID_AFTER_SECONDS / 2):
            for line in self._lines(time.monotonic()):
                self._terminal.write_line(line)

    def _lines(self, now: float) -> list[str]:
        with self._lock:
            lines = [
                f"{nodeid} has run for {now - begun:.0f} s"
                for nodeid, begun in self._running.items()
                if now - begun > SAID_AFTER_SECONDS
            ]
        if now - self._said > SAID_EVERY_SECONDS:
            self._said = now
            lines.append(f"{self._done} tests in {(now - self._begun) / 60:.0f} minutes")
        return [f"\n{line}" for line in lines]


def register(config: pytest.Config) -> None:
    """Only in a process that has tests run by others: whoever runs a test has its output taken away meanwhile."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal and getattr(config.option, "numprocesses", None):
        config.pluginmanager.register(Progress(terminal), "progress of a long run")
