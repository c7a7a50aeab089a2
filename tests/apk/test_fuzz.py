"""The fuzz targets on their seeds and on all that fuzzers found worth keeping."""

from pathlib import Path

import pytest

from fuzz.apk import targets
from fuzz.apk.seeds import seeds

CORPUS = Path(targets.__file__).parent / "corpus"
KEPT = sorted(path for path in CORPUS.glob("*/*") if path.is_file())


@pytest.fixture(scope="module")
def good() -> dict[str, list[bytes]]:
    return seeds()


@pytest.mark.parametrize("name", sorted(set(targets.TARGETS) - {"tree"}))
def test_seeds_are_accepted(good: dict[str, list[bytes]], name: str) -> None:
    assert good[name]
    for seed in good[name]:
        assert targets.run(name, seed)


def test_a_tree_of_another_file_is_refused(good: dict[str, list[bytes]]) -> None:
    assert not targets.run("tree", good["tree"][0])


@pytest.mark.parametrize("name", sorted(targets.TARGETS))
def test_the_corpus_raises_nothing_else(name: str) -> None:
    kept = [path for path in KEPT if path.parent.name == name]
    assert kept
    for path in kept:
        targets.run(name, path.read_bytes())


@pytest.mark.parametrize("name", sorted(targets.TARGETS))
def test_every_shortened_seed_raises_nothing_else(good: dict[str, list[bytes]], name: str) -> None:
    seed = good[name][0]
    for size in range(0, len(seed), max(1, len(seed) // 200)):
        targets.run(name, seed[:size])
