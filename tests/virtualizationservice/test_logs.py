"""What the log leaves out, and that it says so."""

import logging

from avf.virtualizationservice.logs import LogLimit
from avf.virtualizationservice.parties import ROOT, UNKNOWN, Party
from avf.virtualizationservice.quotas import RateLimit


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def record(line: int, party: Party | None = None) -> logging.LogRecord:
    made = logging.LogRecord("name", logging.INFO, "file", line, "%d of it", (7,), None)
    if party is not None:
        made.party = party
    return made


def test_each_line_for_each_party() -> None:
    clock = Clock()
    limit = LogLimit(RateLimit(2, 1, clock=clock))
    assert [limit.filter(record(1, UNKNOWN)) for _ in range(5)] == [True, True, False, False, False]
    assert limit.filter(record(1, ROOT))
    assert limit.filter(record(1))
    assert limit.filter(record(2, UNKNOWN))
    clock.now += 1
    said = record(1, UNKNOWN)
    assert limit.filter(said)
    assert said.getMessage() == "7 of it (3 more like it were left out)"
    clock.now += 1
    said = record(1, UNKNOWN)
    assert limit.filter(said)
    assert said.getMessage() == "7 of it"
