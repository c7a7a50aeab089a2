"""Whatever is given to the compiler, it answers with Python or with AidlError."""

import ast
import contextlib

from hypothesis import given
from hypothesis import strategies as st

from avf.aidlc import AidlError
from tests.aidlc.compiling import compile_texts, table, untimed

SOUP = """
package import interface parcelable union enum oneway const in out inout true false void int long byte boolean float
double char String List Map IBinder ParcelFileDescriptor ParcelableHolder p Foo IFoo x y { } ( ) < > [ ] ; , . = + - * /
% & | ^ ! ~ << >> <= >= == != && || 0 1 0xff 0xffu8 1L 1.5f "s" 'c' @nullable @Backing @utf8InCpp @FixedSize
@VintfStability ( type = "int" ) /** doc */ // cpp_header
"""
WORDS = SOUP.split()
CASES = [
    {name: text for name, text in case.items() if name.endswith(".aidl")}
    for source in ("outputs.txt", "errors.txt")
    for case in table(source).values()
]


def survives(files: dict[str, str]) -> None:
    """Compiles; errors must have text, modules must be Python."""
    try:
        texts = compile_texts(files)
    except AidlError as error:
        assert error.diagnostics
        assert "error: " in str(error)
    else:
        for text in texts.values():
            ast.parse(text)


@untimed
@given(st.text())
def test_any_text(text: str) -> None:
    survives({"p/IFoo.aidl": text})


@untimed
@given(st.lists(st.sampled_from(WORDS), max_size=60))
def test_any_words(words: list[str]) -> None:
    survives({"p/IFoo.aidl": "package p; " + " ".join(words)})


@untimed
@given(st.lists(st.sampled_from(WORDS), max_size=30))
def test_any_words_inside(words: list[str]) -> None:
    survives({"p/IFoo.aidl": f"package p; interface IFoo {{ {' '.join(words)} }}"})
    survives({"p/IFoo.aidl": f"package p; parcelable IFoo {{ {' '.join(words)} }}"})


@untimed
@given(st.sampled_from(CASES), st.data())
def test_broken_files(files: dict[str, str], data: st.DataObject) -> None:
    """Takes something out of a good file, doubles it, or puts something in."""
    path = data.draw(st.sampled_from(sorted(files)))
    text = files[path]
    start = data.draw(st.integers(0, len(text)))
    end = min(len(text), start + data.draw(st.integers(0, 40)))
    middle = data.draw(st.one_of(st.just(""), st.sampled_from(WORDS), st.just(text[start:end] * 2)))
    survives({**files, path: text[:start] + middle + text[end:]})


@untimed
@given(st.integers(1, 3000), st.sampled_from(["(", "{", "List<", "[", "-", "parcelable P {"]))
def test_any_depth(depth: int, opening: str) -> None:
    with contextlib.suppress(AidlError):
        compile_texts({"p/P.aidl": f"package p; parcelable Q {{ {opening * depth} x; }}"})
    with contextlib.suppress(AidlError):
        compile_texts({"p/P.aidl": f"package p; parcelable Q {{ int x = {opening * depth} 1; }}"})
