"""What things are called in Python, and what becomes of comments."""

import re

import pytest

from avf.aidlc.docs import docstring, paragraphs
from avf.aidlc.names import snake_case
from tests.aidlc.compiling import compile_text


@pytest.mark.parametrize(
    ("name", "snake"),
    [
        ("getCid", "get_cid"),
        ("getVmCID", "get_vm_cid"),
        ("VMName", "vm_name"),
        ("isOEMUnlocked", "is_oem_unlocked"),
        ("listVMs", "list_vms"),
        ("getURLsOf", "get_urls_of"),
        ("utf8InCpp", "utf8_in_cpp"),
        ("int8_t_large", "int8_t_large"),
        ("RepeatBoolean", "repeat_boolean"),
        ("already_snake", "already_snake"),
        ("a", "a"),
        ("A", "a"),
        ("aB", "a_b"),
    ],
)
def test_snake_case(name: str, snake: str) -> None:
    assert snake_case(name) == snake


def test_names_with_another_use() -> None:
    text = compile_text("""
        package p;
        interface IFoo {
            void from(int self, int lambda, int bytes);
            void dump(); void onReleased(); void list(); void method(); void hasPermission();
            union U { int value; int which; int whichOne; }
            parcelable P { int bytes; int type; int _x; int _1; int Class; }
            enum E { None, name, real, __A, OK }
        }
    """)
    assert re.findall(r"(?m)^    def (\w+)\(", text) == [
        "from_",
        "dump_",
        "on_released_",
        "list_",
        "method_",
        "has_permission_",
    ]
    assert "def from_(self, self_: int, lambda_: int, bytes: int)" in text
    assert re.findall(r"(?m)^        (\w+): int$", text) == ["value_", "which_", "which_one"]
    fields = re.findall(r"(?m)^        (\w+): int = 0$", text)
    assert fields == ["bytes_", "type", "x", "u_1", "class_"]
    enumerators = re.findall(r"(?m)^        (\w+) = \d$", text)
    assert enumerators == ["None_", "name_", "real_", "A", "OK"]


@pytest.mark.parametrize(
    ("comment", "said"),
    [
        ("/** One line. */", ["One line."]),
        ("/**\n * Two\n * lines.\n *\n * Another.\n */", ["Two lines.", "Another."]),
        ("/** {@code x < y} and {@link Foo#bar} or {@link Foo the foo} */", ["`x < y` and Foo.bar or the foo"]),
        ("/**\n * First.\n * @param someName what\n *     it is\n * @return  it\n */",
         ["First.", "some_name: what it is", "Returns it"]),
        ("/** A<p>B<br/>C <b>bold</b> &lt;tag&gt; */", ["A", "B", "C bold <tag>"]),
        ("/** <ul><li>one</li><li>two</li></ul> */", ["- one", "- two"]),
        ("/**\n * List:\n * - a\n *   b\n * * c\n * 1. d\n */", ["List:", "- a b", "- c", "1. d"]),
        ("/** @hide */", []),
        ("/** {@hide} */", []),
        ("/** @deprecated use b */", ["Deprecated: use b"]),
        ("/** @throws Foo if bad\n @see Foo#bar */", ["Throws Foo: if bad", "See Foo.bar"]),
        ("/** @brief Short.\n @note Mind. */", ["Short.", "Note: Mind."]),
        ("/** SPDX-License-Identifier: Apache-2.0 */", []),
        ("/***\n *** Stars.\n **/", ["Stars."]),
        ("/** \x00\x1b[31mred */", ["[31mred"]),
        (None, []),
    ],
)  # fmt: skip
def test_paragraphs(comment: str | None, said: list[str]) -> None:
    assert paragraphs(comment) == said


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        '"quoted"',
        'ends with "',
        'three """ in a row',
        "back\\slash \\",
        "x" * 200,
        "word " * 60,
        "\\N{x} \\x0",
    ],
)
def test_docstrings_mean_what_they_say(text: str) -> None:
    lines = docstring([text], 0)
    found: object = eval("\n".join(lines))
    assert isinstance(found, str)
    assert found.split() == text.split()


def test_words_are_pythons() -> None:
    text = compile_text(
        "package p; interface IFoo { /** Before {@link #fooBar}, set someThing, not otherThing. */ "
        "void fooBar(int someThing); }"
    )
    assert '"""Before foo_bar, set some_thing, not otherThing."""' in text


def test_where_documentation_stands() -> None:
    text = compile_text("""
        package p;
        /** Before. */
        @VintfStability
        interface IFoo {
            @Hide
            /** Between. */
            @JavaPassthrough(annotation="@a")
            void a();
            /** Lost. */ /* no doc */ /** The last. */
            // nor this
            void b();
            void c(/** inside */ int x);
            void d();
        }
    """)
    assert [line.strip() for line in text.splitlines() if '"""' in line] == [
        '"""AIDL interface p.IFoo."""',
        '"""Before."""',
        '"""Between."""',
        '"""The last."""',
    ]
