"""Lines in rows, and words found in them."""

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from avf.top.layout import Layout, Search
from avf.top.lines import Lines


def lines_of(text: str, **limits: int) -> Lines:
    lines = Lines(**limits)
    lines.feed(text.encode())
    return lines


def texts(layout: Layout) -> list[str]:
    return [layout.row(row)[2] for row in range(len(layout))]


def test_wrapped() -> None:
    layout = Layout(lines_of("short\n" + "0123456789" * 5 + "\n\nlast\n"), 20)
    digits = "0123456789"
    assert texts(layout) == ["short", digits * 2, digits * 2, digits, "", "last"]
    assert [layout.row(row)[:2] for row in range(6)] == [(0, 0), (1, 0), (1, 20), (1, 40), (2, 0), (3, 0)]  # fmt: skip
    assert [layout.row_of(number) for number in range(4)] == [0, 1, 4, 5]


def test_cut_off() -> None:
    layout = Layout(lines_of("x" * 70 + "\ny\n"), 0)
    assert texts(layout) == ["x" * 70, "y"]
    assert layout.widest == 70


def test_what_comes_is_taken_in() -> None:
    lines = lines_of("one\nbegun")
    layout = Layout(lines, 20)
    lines.feed(b" and going on, and on\nnext\n")
    assert layout.update() == 0
    assert texts(layout) == ["one", "begun and going on, ", "and on", "next"]


def test_rows_of_dropped_lines_are_told() -> None:
    lines = lines_of("".join("x" * 30 + "\n" for _ in range(8)), max_lines=8)
    layout = Layout(lines, 20)
    lines.feed(b"new\n")
    assert layout.update() == 2 * lines.first > 0
    assert len(layout) == 2 * (len(lines) - 1) + 1
    assert layout.row(len(layout) - 1)[0] == 8
    lines.feed(b"flood\n" * 50)
    layout.update()
    assert texts(layout) == list(lines)


WIDE = st.text(alphabet="ab é漢字🎉\u0301\n", max_size=200)


@given(st.lists(WIDE, max_size=8))
def test_rows_always_make_up_the_lines(pieces: list[str]) -> None:
    lines = Lines(max_lines=12, max_chars=300)
    layout = Layout(lines, 20)
    for piece in pieces:
        lines.feed(piece.encode())
        layout.update()
        rows = [layout.row(row) for row in range(len(layout))]
        assert all(cell_len(text) <= 20 for _, _, text in rows)
        for number in range(lines.first, lines.end):
            mine = [row for row in rows if row[0] == number]
            assert "".join(text for _, _, text in mine) == lines[number]
            assert all(lines[number][begins:].startswith(text) for _, begins, text in mine)


def test_searching() -> None:
    lines = lines_of("Alpha\nbeta alpha alpha\ngamma\n")
    search = Search("alpha")
    assert list(search.spans(lines[1])) == [(5, 10), (11, 16)]
    assert search.count(lines) == 2
    assert Search("Alpha").count(lines) == 1
    assert [search.after(lines, at) for at in (-1, 0, 1, 2)] == [0, 1, 0, 0]
    assert [search.before(lines, at) for at in (3, 1, 0)] == [1, 0, 1]
    assert Search("delta").after(lines, 0) is None
    assert list(Search("").spans("x")) == [] and not Search("").found_in("x")


def test_places_stay_where_lower_case_is_longer() -> None:
    line = "İİ ready"
    assert [line[slice(*span)] for span in Search("ready").spans(line)] == ["ready"]
