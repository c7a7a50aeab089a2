"""Metrics that virtmgr reports, one JSON object a line."""

import json
import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avf.virtualizationservice.exporters import Exporter
from avf.virtualizationservice.files import append, keep_directory
from avf.virtualizationservice.parties import Party

MAX_BYTES = 4 << 20
MAX_PARTY_BYTES = 1 << 20
MAX_TEXT = 4096

log = logging.getLogger(__name__)


class AtomLog:
    """A file of atoms, `atoms.jsonl`; or, `per_party`, one for each in `atoms`, so that nobody's rotate another's away.

    At MAX_BYTES, or MAX_PARTY_BYTES, a file becomes `NAME.1`, over the former one.
    """

    def __init__(
        self, directory: Path, exporters: Sequence[Exporter] = (), *, per_party: bool = False
    ) -> None:
        self._directory = directory
        self._per_party = per_party
        self._exporters = exporters
        self._lock = threading.Lock()

    def write(self, name: str, fields: dict[str, Any], party: Party) -> None:
        """Never fails: an atom that cannot be written is a warning in the log."""
        fields = {k: v[:MAX_TEXT] if isinstance(v, str) else v for k, v in fields.items()}
        line = json.dumps({"atom": name, "time": round(time.time(), 3), **fields}) + "\n"
        with self._lock:
            try:
                self._append(line.encode(), party)
            except OSError as e:
                log.warning("atom %s is lost: %s", name, e, extra={"party": party})
        for exporter in self._exporters:
            exporter.observe(name, fields)

    def _append(self, line: bytes, party: Party) -> None:
        if not self._per_party:
            append(self._directory / "atoms.jsonl", line, MAX_BYTES)
            return
        folder = self._directory / "atoms"
        keep_directory(folder)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        append(folder / f"{party.name}.jsonl", line, MAX_PARTY_BYTES)
