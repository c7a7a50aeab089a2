"""Metrics that virtmgr reports, one JSON object a line."""

import json
import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avf.virtualizationservice.exporters import Exporter

MAX_BYTES = 4 << 20
MAX_TEXT = 4096

log = logging.getLogger(__name__)


class AtomLog:
    """A file of atoms; at MAX_BYTES it is set aside as `NAME.1`, over the one set aside before."""

    def __init__(self, path: Path, exporters: Sequence[Exporter] = ()) -> None:
        self._path = path
        self._exporters = exporters
        self._lock = threading.Lock()

    def write(self, name: str, fields: dict[str, Any]) -> None:
        """Never fails: an atom that cannot be written is a warning in the log."""
        fields = {k: v[:MAX_TEXT] if isinstance(v, str) else v for k, v in fields.items()}
        line = json.dumps({"atom": name, "time": round(time.time(), 3), **fields}) + "\n"
        with self._lock:
            try:
                self._make_room(len(line))
                with self._path.open("a") as file:
                    file.write(line)
            except OSError as e:
                log.warning("atom %s is lost: %s", name, e)
        for exporter in self._exporters:
            exporter.observe(name, fields)

    def _make_room(self, size: int) -> None:
        try:
            if self._path.stat().st_size + size > MAX_BYTES:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
        except FileNotFoundError:
            pass
