"""A migration stream without the pages of one block of memory: made by hand, in every form QEMU knows."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avf.vmm.qemu.stream import PAGE, StreamError, without_memory

FILL, DATA, SAME, LAST, SIZES = 0x02, 0x08, 0x20, 0x10, 0x04
HEADER = b"QEVM" + struct.pack(">I", 3)
BOARD = b"\x07" + struct.pack(">I", 3) + b"q35"
REST = b"\x04devices and all that follows\0"
EMPTY = b"\0"


def string(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def start(*blocks: tuple[bytes, int]) -> bytes:
    sizes = b"".join(string(name) + struct.pack(">Q", size) for name, size in blocks)
    total = sum(size for _, size in blocks)
    head = b"\x01" + struct.pack(">I", 2) + string(b"ram") + struct.pack(">II", 0, 4)
    return head + struct.pack(">Q", total | SIZES) + sizes + end()


def part(*records: bytes, kind: int = 3, section: int = 2) -> bytes:
    return bytes([kind]) + struct.pack(">I", section) + b"".join(records) + end()


def end() -> bytes:
    return struct.pack(">Q", LAST) + b"\x7e" + struct.pack(">I", 2)


def page(address: int, content: bytes, block: bytes | None = None) -> bytes:
    """`block` None: the same one as that of the record before."""
    kind = FILL if len(content) == 1 else DATA
    word = struct.pack(">Q", address | kind | (SAME if block is None else 0))
    return word + (b"" if block is None else string(block)) + content


def unfolded(stream: bytes, pages: int) -> tuple[bytes, bytes]:
    """The rest of the stream, and the memory."""
    memory = bytearray(pages * PAGE)
    with memoryview(memory) as places:
        rest = b"".join(without_memory(memoryview(stream), "ram", places))
    return rest, bytes(memory)


def test_what_has_no_page_of_the_block_stays_as_it_is() -> None:
    blocks = start((b"ram", PAGE), (b"rom", PAGE))
    stream = HEADER + BOARD + blocks + part(page(0, b"x" * PAGE, b"rom")) + REST
    assert unfolded(stream, 1) == (stream, bytes(PAGE))


def test_a_block_is_named_once_where_only_pages_of_the_other_lie_between() -> None:
    before = part(
        page(0, b"a" * PAGE, b"rom"), page(0, EMPTY, b"ram"), page(PAGE, b"b" * PAGE, b"rom")
    )
    after = part(page(0, b"a" * PAGE, b"rom"), page(PAGE, b"b" * PAGE))
    stream = HEADER + start((b"ram", PAGE), (b"rom", 2 * PAGE))
    assert unfolded(stream + before + REST, 1)[0] == stream + after + REST


def test_a_block_is_remembered_from_one_section_to_the_next() -> None:
    stream = HEADER + start((b"ram", 2 * PAGE))
    first = part(page(0, b"a" * PAGE, b"ram"), kind=2)
    second = part(page(PAGE, b"b" * PAGE))
    rest, memory = unfolded(stream + first + second + REST, 2)
    assert rest == stream + part(kind=2) + part() + REST
    assert memory == b"a" * PAGE + b"b" * PAGE


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"ram", b"rom"]), st.integers(0, 99), st.sampled_from([b"\0", b"\1"])
        ),
        unique_by=lambda record: record[:2],
    )
)
def test_what_is_loaded_is_the_same(records: list[tuple[bytes, int, bytes]]) -> None:
    stream = HEADER + start((b"ram", 100 * PAGE), (b"rom", 100 * PAGE))
    stream += part(*(page(at * PAGE, fill, block) for block, at, fill in records)) + REST
    rest, memory = unfolded(stream, 100)
    kept = [(block, at * PAGE, fill) for block, at, fill in records if block != b"ram"]
    assert records_of(rest, len(HEADER + start((b"ram", 1), (b"rom", 1)))) == kept
    wanted = bytearray(100 * PAGE)
    for block, at, fill in records:
        if block == b"ram":
            wanted[at * PAGE : (at + 1) * PAGE] = fill * PAGE
    assert memory == wanted


def records_of(stream: bytes, at: int) -> list[tuple[bytes, int, bytes]]:
    """The records of the section at `at`, as QEMU reads them, of one byte each."""
    found, block = [], b""
    at += 5
    while True:
        (word,) = struct.unpack_from(">Q", stream, at)
        at += 8
        if word & LAST:
            return found
        if not word & SAME:
            block = stream[at + 1 : at + 1 + stream[at]]
            at += 1 + stream[at]
        found.append((block, word & ~(PAGE - 1), stream[at : at + 1]))
        at += 1


GOOD = HEADER + BOARD + start((b"ram", PAGE)) + part(page(0, b"x" * PAGE, b"ram"))


@pytest.mark.parametrize("length", [*range(120), len(GOOD) - 20, len(GOOD) - 1, len(GOOD)])
def test_a_stream_that_was_cut_is_refused(length: int) -> None:
    with pytest.raises(StreamError):
        unfolded(GOOD[:length], 1)


@pytest.mark.parametrize(
    "stream",
    [
        b"QEVM" + struct.pack(">I", 4) + REST,
        HEADER + REST,
        HEADER + start((b"ram", PAGE)) + part(struct.pack(">Q", 0x40)) + REST,
        HEADER + start((b"ram", PAGE)) + part(struct.pack(">Q", 0x80 | DATA)) + REST,
    ],
    ids=["another version", "no memory", "a record that is not known", "a page that is not known"],
)
def test_a_stream_of_another_form_is_refused(stream: bytes) -> None:
    with pytest.raises(StreamError):
        unfolded(stream, 1)


def test_pages_of_the_block_go_to_their_places_and_others_stay() -> None:
    blocks = start((b"ram", 6 * PAGE), (b"rom", PAGE))
    records = (
        page(5 * PAGE, b"f" * PAGE, b"ram"),
        page(2 * PAGE, b"c" * PAGE),
        page(0, EMPTY),
        page(PAGE, b"\xff"),
        page(0, b"r" * PAGE, b"rom"),
        page(3 * PAGE, b"d" * PAGE, b"ram"),
    )
    rest, memory = unfolded(HEADER + BOARD + blocks + part(*records) + REST, 6)
    assert rest == HEADER + BOARD + blocks + part(page(0, b"r" * PAGE, b"rom")) + REST
    places = [bytes(PAGE), b"\xff" * PAGE, b"c" * PAGE, b"d" * PAGE, bytes(PAGE), b"f" * PAGE]
    assert memory == b"".join(places)


@pytest.mark.parametrize("content", [b"x" * PAGE, b"\xff"])
@pytest.mark.parametrize("first", [True, False])
def test_a_page_beyond_the_memory_is_refused(content: bytes, first: bool) -> None:
    records = [] if first else [page(0, b"x" * PAGE, b"ram")]
    records.append(page(2 * PAGE, content, b"ram" if first else None))
    with pytest.raises(StreamError, match="beyond"):
        unfolded(HEADER + start((b"ram", 3 * PAGE)) + part(*records) + REST, 2)


@given(st.data())
def test_a_stream_that_ends_early_is_refused(data: st.DataObject) -> None:
    records = [page(n * PAGE, bytes([n + 1]) * PAGE, None if n else b"ram") for n in range(4)]
    stream = HEADER + start((b"ram", 4 * PAGE)) + part(*records)
    length = data.draw(st.integers(0, len(stream) - 1))
    with pytest.raises(StreamError):
        unfolded(stream[:length], 4)
