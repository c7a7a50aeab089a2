"""Constant expressions: what they come to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avf.aidlc import AidlError
from tests.aidlc.compiling import compile_text, untimed

TRUE = """
~(-1) == 0
~~(1 << 31) == (1 << 31)
-0x7fffffff < 0
0x80000000 < 0
0xffffffff == -1
(1 << 31) == 0x80000000
7 - 9 == -2
6 * 7 == 42
29 / 3 == 9
-29 / 3 == -9
-29 % 3 == -2
29 % -3 == 2
(12 ^ 10) == 6
(12 & 10) == 8
(12 | 10) == 14
3 <= 3
!(4 < 4)
5 != 6
(22 << 1) == 44
(11 >> 1) == 5
(8 << -1) == 4
(8 >> -1) == 16
1 || 0 && 0
(0 || 0) == 0
true && !false
2 + 3 * 4 == 14
20 - 5 - 5 == 10
(1 | 2 == 2) == 1
1 + 1 << 3 == 16
1_000 == 1000
0x1_0 == 16
0xffu8 == -1
0x80u8 / 2 == -0x40u8
255u8 + 1 == 0
200u32 == 100u32 + 100u32
0xffffffffu32 + 1 == 0
0xffffffffffffffff == -1
0xfffffffff == 68719476735
18446744073709551615u64 + 1 == 0
(0xfL << 32) == 0xf00000000
2147483647 + 1L == 2147483648
-9223372036854775807 - 1 < 0
!!7 == 1
"""


def value_of(expression: str, kind: str = "long") -> object:
    text = compile_text(f"package p; interface IFoo {{ const {kind} X = {expression}; }}")
    line = next(line for line in text.splitlines() if line.startswith("    X = "))
    found: object = eval(line.removeprefix("    X = "))
    return found


@pytest.mark.parametrize("expression", TRUE.strip().splitlines())
def test_true(expression: str) -> None:
    assert value_of(expression, "boolean") is True
    assert value_of(expression, "int") == 1


@pytest.mark.parametrize(
    ("kind", "expression", "value"),
    [
        ("byte", "-128", -128),
        ("byte", "0xC0u8", -64),
        ("int", "-2147483648", -(1 << 31)),
        ("int", "0xFFFFFFFF", -1),
        ("int", "2147483648u32", -(1 << 31)),
        ("long", "0x7fffffffffffffff", (1 << 63) - 1),
        ("boolean", "3 > 2", True),
        ("boolean", "0", False),
        ("String", '"a" + "b" + "\'"', "ab'"),
        ("char", "'\"'", '"'),
        ("char", "'''", "'"),
        ("float", "-1.5f", -1.5),
        ("double", "+.5", 0.5),
        ("double", "3.14e-17", 3.14e-17),
        ("double", "1f", 1.0),
    ],
)
def test_values(kind: str, expression: str, value: object) -> None:
    found = value_of(expression, kind)
    assert found == value
    assert type(found) is type(value)


def test_references() -> None:
    text = compile_text("""
        package p;
        interface IFoo {
            const int LAST = IFoo.Bits.C + MORE;
            const int MORE = p.IFoo.Bits.B | 1;
            @Backing(type="int") enum Bits { A = 1 << 4, B, C = A | B, D }
        }
    """)
    assert "\n        A = 1 << 4\n        B = 17\n        C = 17\n        D = 18\n" in text
    assert "\n    LAST = 34\n    MORE = 17\n" in text


def test_a_long_enum_and_a_long_sum() -> None:
    enumerators = ", ".join(f"E{n}" for n in range(5000))
    total = " + ".join(["1"] * 5000)
    text = compile_text(f"""
        package p;
        interface IFoo {{
            const int SUM = {total};
            @Backing(type="int") enum Long {{ {enumerators} }}
        }}
    """)
    assert "    E4999 = 4999\n" in text
    assert "\n    SUM = 5000\n" in text


def test_a_long_chain_of_constants_is_refused() -> None:
    chain = "".join(f"const int C{n} = C{n + 1};" for n in range(2000))
    with pytest.raises(AidlError, match="ends a chain of more than 100 constants"):
        compile_text(f"package p; interface IFoo {{ {chain} const int C2000 = 1; }}")


numbers = st.integers(0, (1 << 63) - 1).map(lambda n: (f"{n}L", n))


def combined(
    children: st.SearchStrategy[tuple[str, int | None]],
) -> st.SearchStrategy[tuple[str, int | None]]:
    def join(
        left: tuple[str, int | None], operator: str, right: tuple[str, int | None]
    ) -> tuple[str, int | None]:
        text = f"({left[0]} {operator} {right[0]})"
        if left[1] is None or right[1] is None:
            return text, None
        value = int(eval(f"({left[1]}) {operator} ({right[1]})"))
        return text, value if -(1 << 63) <= value < 1 << 63 else None

    operators = st.sampled_from(["+", "-", "*", "&", "|", "^", "<", "<=", "==", "!=", ">", ">="])
    return st.builds(join, children, operators, children)


@untimed
@given(st.recursive(numbers, combined, max_leaves=12))
def test_arithmetic_is_pythons_within_64_bits(pair: tuple[str, int | None]) -> None:
    expression, value = pair
    if value is None:
        with pytest.raises(AidlError, match="overflows"):
            value_of(expression)
    else:
        assert value_of(expression) == value
