"""Values of constant expressions, and integers as they are written."""

from dataclasses import dataclass
from enum import IntEnum

from . import tree
from .lexer import Kind
from .model import Constant, EnumValue


class Sort(IntEnum):
    """What a value is. The integers are in order of their width; booleans count as the narrowest."""

    BOOLEAN = 0
    INT8 = 8
    INT32 = 32
    INT64 = 64
    CHAR = 100
    STRING = 101
    FLOAT = 102
    ARRAY = 103


@dataclass(frozen=True, slots=True)
class Value:
    """A computed expression. `enumerator` is the one it names, if it is just a name."""

    sort: Sort
    value: int | float | str | tuple[tuple[tree.Expression, "Value"], ...]
    enumerator: EnumValue | None = None
    suffix: bool = False
    """Whether a floating point number ends in f."""

    @property
    def is_integer(self) -> bool:
        return self.sort <= Sort.INT64

    @property
    def number(self) -> int:
        assert isinstance(self.value, int)
        return self.value


def fits(value: int, bits: int) -> bool:
    return -(1 << (bits - 1)) <= value < 1 << (bits - 1)


def signed(value: int, bits: int) -> int:
    """`bits` bits, the highest of them the sign."""
    return value - (1 << bits) if value >> (bits - 1) else value


_SUFFIXES = ("u8", "u32", "u64", "l", "L")
_MAX_DIGITS = 80


def parse_integer(text: str) -> Value | None:
    """An integer literal; None if it is none, or more than 64 bits.

    Hexadecimal fills the type with bits, so 0xFFFFFFFF is -1. 2^63 is too big even behind a minus sign.
    """
    suffix = next((ending for ending in _SUFFIXES if text.endswith(ending)), "")
    digits = text.removesuffix(suffix)
    is_hex = digits[:2] in ("0x", "0X")
    groups = (digits[2:] if is_hex else digits).split("_")
    if not all(groups) or len(digits) > _MAX_DIGITS:
        return None
    try:
        value = int("".join(groups), 16 if is_hex else 10)
    except ValueError:  # two suffixes
        return None
    if suffix in ("u8", "u32", "u64") or is_hex:
        bits = int(suffix[1:]) if suffix[:1] == "u" else 64 if suffix or value >> 32 else 32
        return Value(Sort(bits), signed(value, bits)) if value >> bits == 0 else None
    for bits in (64,) if suffix else (8, 32, 64):
        if fits(value, bits):
            return Value(Sort(bits), value)
    return None


def literal_text(expression: tree.Expression | None, value: Constant) -> str:
    """Python for an integer as it was written, where hexadecimal or a shift says more than the number; else nothing."""
    if isinstance(value, bool) or not isinstance(value, int):
        return ""
    if isinstance(expression, tree.Binary) and expression.operator == "<<":
        left, right = _python_digits(expression.left), _python_digits(expression.right)
        if left and right and int(right, 0) < 64 and int(left, 0) << int(right, 0) == value:
            return f"{left} << {right}"
        return ""
    text = _python_digits(expression)
    return text if text.startswith("0x") and int(text, 0) == value else ""


def _python_digits(node: tree.Expression | None) -> str:
    if not isinstance(node, tree.Literal) or node.kind is not Kind.INTEGER:
        return ""
    digits = node.text.rstrip("lL")
    if digits[:2] in ("0x", "0X"):
        return "" if "u" in digits else f"0x{digits[2:].upper()}"
    return str(int(digits)) if digits.isdigit() else ""
