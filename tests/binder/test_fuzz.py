"""The fuzz targets on their seeds and on all that fuzzers found worth keeping."""

from pathlib import Path

import pytest

from fuzz.binder import targets
from fuzz.binder.seeds import seeds

KEPT = sorted(path for path in (Path(targets.__file__).parent / "corpus").glob("*/*"))


@pytest.mark.parametrize("name", sorted(targets.TARGETS))
def test_seeds_are_accepted(name: str) -> None:
    for seed in seeds()[name]:
        assert targets.run(name, seed)


@pytest.mark.parametrize("name", sorted(targets.TARGETS))
def test_the_corpus_raises_nothing_else(name: str) -> None:
    kept = [path for path in KEPT if path.parent.name == name]
    assert kept
    for path in kept:
        targets.run(name, path.read_bytes())


@pytest.mark.parametrize("name", sorted(targets.TARGETS))
def test_shortened_and_spoilt_seeds_raise_nothing_else(name: str) -> None:
    for seed in seeds()[name]:
        for place in range(0, len(seed), max(1, len(seed) // 100)):
            targets.run(name, seed[:place])
            for spoilt in (0x00, 0xFF, seed[place] ^ 0x01, seed[place] ^ 0x80):
                targets.run(name, seed[:place] + bytes([spoilt]) + seed[place + 1 :])
