"""Where partitions lie, and which sets of partitions are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avf.disk import LayoutError, Partition, UnsupportedImage, layout, measure
from tests.disk.conftest import MakeFile

NO_FD = -1


def partitions(*labels: str, writable: bool = False) -> list[Partition]:
    return [Partition(label, NO_FD, writable) for label in labels]


def test_offsets_are_crosvms() -> None:
    """The arithmetic of crosvm's own unit test, as since January 2025."""
    plan = layout(partitions("a", "b", "c"), [103, 8596, 4744], writable=False)
    lbas = [(place.offset // 512, place.end // 512 - 1) for place in plan.placements]
    assert lbas == [(40, 47), (48, 71), (72, 87)]
    assert (plan.footer_offset, plan.size) == (45056, 65536)


def test_an_empty_disk_is_header_and_footer() -> None:
    assert layout([], [], writable=True).size == 40960


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["x", "y", "x"], "duplicate GPT partition label 'x'"),
        (["n" * 36 + "1", "n" * 36 + "2"], "duplicate GPT partition label"),
        (["a\0b"], "contains NUL"),
        (["\udc80"], "not valid text"),
        ([str(number) for number in range(129)], "129 partitions"),
    ],
)
def test_refused_labels(labels: list[str], message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        layout(partitions(*labels), [4096] * len(labels), writable=False)


def test_labels_are_cut_at_36_units() -> None:
    (place,) = layout(partitions("ä" * 35 + "😀"), [1], writable=False).placements
    assert len(place.label) == 72
    assert place.label.startswith("ä".encode("utf-16-le") * 35)


def test_128_partitions_fit() -> None:
    labels = [str(number) for number in range(128)]
    assert len(layout(partitions(*labels), [1] * 128, writable=False).placements) == 128


def test_writable_partitions_must_be_aligned() -> None:
    with pytest.raises(LayoutError, match="'w' has 4097 bytes"):
        layout(partitions("w", writable=True), [4097], writable=True)
    (place,) = layout(partitions("w", writable=True), [4097], writable=False).placements
    assert not place.writable and place.span == 8192


def test_empty_partitions_are_refused() -> None:
    with pytest.raises(LayoutError, match="'e' is empty"):
        layout(partitions("e"), [0], writable=False)


def test_measuring_names_the_partition(make_file: MakeFile) -> None:
    good, sparse = make_file(b"x" * 5), make_file(bytes.fromhex("3aff26ed"))
    assert measure([Partition("good", good)]) == [5]
    with pytest.raises(UnsupportedImage, match=r"partition 'bad': .*Android sparse"):
        measure([Partition("good", good), Partition("bad", sparse)])


@given(st.lists(st.integers(1, 1 << 44), max_size=128))
def test_partitions_follow_each_other_without_gaps(sizes: list[int]) -> None:
    plan = layout(partitions(*map(str, range(len(sizes)))), sizes, writable=False)
    ends = [20480, *(place.end for place in plan.placements)]
    assert [place.offset for place in plan.placements] == ends[:-1]
    assert all(place.offset % 4096 == 0 for place in plan.placements)
    assert all(
        0 <= place.span - size < 4096 for place, size in zip(plan.placements, sizes, strict=True)
    )
    assert plan.size == ends[-1] + 20480
