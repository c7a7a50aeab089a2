"""Tables: .aidl texts and the Python or the errors they become."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from avf.aidlc import AidlError, Modules, Options
from tests.aidlc.compiling import compile_text, compile_texts, table

OUTPUTS = table("outputs.txt")
ERRORS = table("errors.txt")
CLASSES = {"a.Outer.Inner": "mine.Inner"}


def files_of(case: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in case.items() if name.endswith(".aidl")}


@pytest.mark.parametrize("case", OUTPUTS.values(), ids=OUTPUTS)
def test_output(case: dict[str, str]) -> None:
    files = files_of(case)
    texts = compile_texts(files, options=Options(classes=CLASSES))
    wanted = {name: text for name, text in case.items() if name not in files}
    assert {name: texts[name] for name in wanted} == wanted
    types = {name for name in texts if "._" in name and not name.endswith("_async")}
    assert types <= wanted.keys()


@pytest.mark.parametrize("case", OUTPUTS.values(), ids=OUTPUTS)
def test_order_of_files_does_not_matter(case: dict[str, str]) -> None:
    files = files_of(case)
    options = Options(classes=CLASSES)
    there = compile_texts(files, *files, options=options)
    back = compile_texts(files, *reversed(files), options=options)
    assert list(there.items()) == list(back.items())


def test_outputs_are_formatted(tmp_path: Path) -> None:
    for number, case in enumerate(OUTPUTS.values()):
        for name in case.keys() - files_of(case).keys():
            (tmp_path / f"{number}{name}.py").write_text(case[name])
    ruff = Path(sys.executable).with_name("ruff")
    command = [str(ruff), "format", "--check", "--line-length", "100", str(tmp_path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("case", ERRORS.values(), ids=ERRORS)
def test_errors(case: dict[str, str]) -> None:
    with pytest.raises(AidlError) as caught:
        compile_texts(files_of(case))
    assert f"{caught.value}\n" == case["errors"]


def test_at_most_fifty_errors() -> None:
    fields = "\n".join(f"    Nope{n} f{n};" for n in range(200))
    with pytest.raises(AidlError) as caught:
        compile_text(f"package p;\nparcelable P {{\n{fields}\n}}\n")
    assert len(caught.value.diagnostics) == 50


def test_needed_types_come_along() -> None:
    files = {
        "a/A.aidl": "package a; import b.B; parcelable A { B b; }",
        "a/Unused.aidl": "package a; parcelable Unused { int x; }",
        "b/B.aidl": "package b; parcelable B { C c; parcelable C { int x; } }",
    }
    texts = compile_texts(files, "a/A.aidl")
    assert texts.keys() == {"a", "a._A", "b", "b._B"}
    assert "Unused" not in texts["a"]
    assert "    class C(" in texts["b._B"]


def test_a_type_does_not_depend_on_others() -> None:
    """Each type's module is the same whatever else there is, and whichever files are given."""
    files = {
        "a/A.aidl": "package a; parcelable A { State s; enum State { X } const int MAX = 1; }",
        "a/B.aidl": "package a; parcelable B { State s; enum State { Y } const int MAX = 2; }",
        "a/State.aidl": "package a; enum State { Z }",
        "c/C.aidl": "package c; import a.A; parcelable C { A.State s; }",
    }
    alone = [compile_texts(files, path) for path in files]
    together = compile_texts(files)
    for texts in alone:
        for name in texts.keys() - {"a", "c"}:
            assert texts[name] == together[name]
    assert "    class State(Enum" in together["a._A"]
    assert "    s: A.State = field(factory=lambda: A.State.X)" in together["a._A"]
    assert "    s: A.State = field(factory=lambda: A.State.X)" in together["c._C"]


def test_a_nested_type_comes_whole() -> None:
    """With all that is beside it, though only a part is mentioned."""
    files = {
        "a/A.aidl": "package a; parcelable A { enum X { P } enum Y { Q } }",
        "a/B.aidl": "package a; import a.A; parcelable B { A.X x; }",
    }
    assert compile_texts(files, "a/B.aidl")["a._A"] == compile_texts(files, "a/A.aidl")["a._A"]


@pytest.mark.parametrize(
    ("members", "names"),
    [
        ("int a; int A;", ["a", "A"]),
        ("int A; int a;", ["a", "a_"]),
        ("int fooBar; int foo_bar; int FooBar;", ["foo_bar", "foo_bar_", "FooBar"]),
        ("int foo_bar; int fooBar;", ["foo_bar", "fooBar"]),
        ("int from; int from_;", ["from_", "from__"]),
        ("int self; int toDict; int from_dict;", ["self_", "to_dict_", "from_dict_"]),
        ("int x; enum x { A } const int y = 1; int y;", ["x_", "y_"]),
        ("int _x; int x;", ["x", "x_"]),
    ],
)
def test_names_that_python_cannot_tell_apart(members: str, names: list[str]) -> None:
    text = compile_text(f"package p; parcelable P {{ {members} }}", "p/P.aidl")
    assert re.findall(r"(?m)^    (\w+): int = 0$", text) == names


def test_methods_and_arguments_that_python_cannot_tell_apart() -> None:
    text = compile_text(
        "package p; interface IFoo { void foo_bar(int aB, int a_b); void fooBar(in int[] x, out int[] y,"
        " int yLength); const int dump = 1; }"
    )
    assert "def foo_bar(self, a_b: int, a_b_: int) -> None:" in text
    assert "def fooBar(self, x: list[int], y_length_: Length, y_length: int) -> list[int]:" in text
    assert "    dump_ = 1\n" in text


def test_later_members_do_not_rename_earlier_ones() -> None:
    first = compile_text("package p; parcelable P { int fooBar; }", "p/P.aidl")
    both = compile_text("package p; parcelable P { int fooBar; int foo_bar; }", "p/P.aidl")
    assert first.rstrip() in both


def test_two_things_of_one_name_in_a_package() -> None:
    files = {
        "a/IFoo.aidl": "package a; interface IFoo {}",
        "a/IFooAsync.aidl": "package a; interface IFooAsync {}",
    }
    with pytest.raises(AidlError, match="two things are called IFooAsync in the Python package a"):
        compile_texts(files)


def test_external_packages_are_not_written() -> None:
    files = {
        "a/A.aidl": "package a; import b.c.B; import b.c.Native; parcelable A { B b; @nullable Native n; }",
        "b/c/B.aidl": "package b.c; parcelable B { int x; }",
        "b/c/Native.aidl": "package b.c; parcelable Native;",
    }
    options = Options(Modules(mapped={"a": "mine.first"}, external={"b": "theirs"}))
    texts = compile_texts(files, "a/A.aidl", options=options)
    assert texts.keys() == {"mine.first", "mine.first._A"}
    assert "from theirs.c import B, Native  # noqa: E402\n" in texts["mine.first._A"]
    assert "    b: B = field(factory=lambda: B())\n" in texts["mine.first._A"]


def test_the_longest_mapping_counts() -> None:
    modules = Modules({"a": "x", "a.b": "y.z", "a.b.c": "w"}, {"a.b.d": "v"})
    packages = ("a", "a.b", "a.b.c.e", "a.b.d", "ab", "a.q")
    assert [modules.module(package) for package in packages] == [
        "x",
        "y.z",
        "w.e",
        "v",
        "ab",
        "x.q",
    ]


def test_a_file_without_package() -> None:
    options = Options(Modules({"": "mine"}))
    texts = compile_texts({"IFoo.aidl": "interface IFoo { void a(); }"}, options=options)
    assert 'class IFoo(Interface, descriptor="IFoo"):' in texts["mine._IFoo"]


def test_versions() -> None:
    files = {
        "a/IA.aidl": "package a; import b.IB; interface IA { IB get(); }",
        "b/IB.aidl": "package b; interface IB {}",
    }
    texts = compile_texts(files, "a/IA.aidl", options=Options(version=3, hash="abc123"))
    texts = {"a": texts["a._IA"], "b": texts["b._IB"], "async": texts["a._IA_async"]}
    assert "    async def get_interface_version(self) -> int:" in texts["async"]
    assert "@method(0x00FFFFFF)\n    def get_interface_version(self) -> int:" in texts["a"]
    assert "        return 3\n" in texts["a"]
    assert "@method(0x00FFFFFE)\n    def get_interface_hash(self) -> str:" in texts["a"]
    assert '        return "abc123"\n' in texts["a"]
    assert "get_interface" not in texts["b"]


def chain(field: str, length: int) -> str:
    """Parcelables that hold one another: P0 a P1, and so on."""
    body = "".join(f"parcelable P{n} {{ {field.format(n + 1)} next; }}\n" for n in range(length))
    return f"package p;\n{body}parcelable P{length} {{ int x; }}\n"


def test_long_chains() -> None:
    assert "    next: P3000 | None = None" in compile_text(chain("@nullable P{}", 3000))
    assert compile_text(chain("P{}", 50)).count("= field(factory=lambda: P50())") == 1
    with pytest.raises(AidlError, match=r"P\d+ is in a chain of more than 64 types that hold"):
        compile_text(chain("P{}", 3000))


def test_types_of_one_name() -> None:
    """From several packages, one of which is called like another."""
    files = {
        "a/Enum.aidl": "package a; parcelable Enum { int x; }",
        "b/x/Enum.aidl": "package b.x; parcelable Enum { int x; }",
        "c/x/Enum.aidl": "package c.x; parcelable Enum { int x; }",
        "d/D.aidl": "package d; parcelable D { a.Enum a; b.x.Enum b; c.x.Enum c; Own own; enum Own { X } }",
    }
    text = compile_texts(files, "d/D.aidl")["d._D"]
    assert "from avf.binder import Enum, Parcelable, field\n" in text
    assert "from a import Enum as AEnum  # noqa: E402\n" in text
    assert "from b.x import Enum as XEnum  # noqa: E402\n" in text
    assert "from c.x import Enum as CXEnum  # noqa: E402\n" in text
    assert "    b: XEnum = field(factory=lambda: XEnum())\n" in text


def test_packages_named_like_python_keywords() -> None:
    files = {"a/lambda/with/P.aidl": "package a.lambda.with; parcelable P { int x; }"}
    assert compile_texts(files).keys() == {"a.lambda_.with_", "a.lambda_.with_._P"}


def test_licenses_are_no_documentation() -> None:
    text = compile_text(
        "/** Copyright 2020 Somebody */\npackage p;\n/** Licensed under X */\ninterface IFoo {}\n"
    )
    assert '"""AIDL interface p.IFoo."""\n' in text
    assert text.endswith('class IFoo(Interface, descriptor="p.IFoo"):\n    pass\n')
