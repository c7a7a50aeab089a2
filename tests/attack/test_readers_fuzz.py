"""The fuzz targets of the readers on their seeds and on all that fuzzers found worth keeping."""

from pathlib import Path
from types import ModuleType

import pytest

import fuzz.aidlc.seeds
import fuzz.aidlc.targets
import fuzz.guest.seeds
import fuzz.guest.targets
import fuzz.image.seeds
import fuzz.image.targets

PACKAGES: dict[str, tuple[ModuleType, ModuleType]] = {
    "aidlc": (fuzz.aidlc.targets, fuzz.aidlc.seeds),
    "guest": (fuzz.guest.targets, fuzz.guest.seeds),
    "image": (fuzz.image.targets, fuzz.image.seeds),
}
TARGETS = [(name, target) for name, (targets, _) in PACKAGES.items() for target in targets.TARGETS]


@pytest.mark.parametrize(("package", "target"), TARGETS)
def test_seeds_are_accepted(package: str, target: str) -> None:
    targets, seeds = PACKAGES[package]
    good = seeds.seeds()[target]
    assert good
    for seed in good:
        assert targets.run(target, seed)


@pytest.mark.parametrize(("package", "target"), TARGETS)
def test_the_corpus_raises_nothing_else(package: str, target: str) -> None:
    targets, _ = PACKAGES[package]
    kept = list(Path(fuzz.__path__[0], package, "corpus", target).iterdir())
    assert kept
    for path in kept:
        targets.run(target, path.read_bytes())


@pytest.mark.parametrize(("package", "target"), TARGETS)
def test_every_shortened_seed_raises_nothing_else(package: str, target: str) -> None:
    targets, seeds = PACKAGES[package]
    for seed in seeds.seeds()[target]:
        for size in range(0, len(seed), max(1, len(seed) // 200)):
            targets.run(target, seed[:size])
