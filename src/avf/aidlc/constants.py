"""Computes constant expressions as Android's compiler does: C's rules on 8 to 64 bit integers, overflow an error."""

import math
import re
from collections.abc import Callable
from functools import partial

from . import tree
from .errors import Diagnostics
from .lexer import Kind, shown
from .limits import COMPUTING_DEPTH, CONSTANT_CHAIN, EXPANSION, STRING_LENGTH
from .model import Builtin, Constant, EnumValue, Type, TypeDef
from .source import Source, Span
from .values import Sort, Value, fits, parse_integer, signed
from .world import World

_NAMES = {
    Sort.BOOLEAN: "a boolean",
    Sort.INT8: "an integer",
    Sort.INT32: "an integer",
    Sort.INT64: "an integer",
    Sort.CHAR: "a character",
    Sort.STRING: "a string",
    Sort.FLOAT: "a floating point number",
    Sort.ARRAY: "an array",
}


class _Refused(Exception):
    """Has been reported."""


_NOT_ALLOWED = re.compile(r"[^ -\x7e]|\\")
"""In strings and characters."""

_MAX_FLOAT = 3.4028235677973366e38
"""What is below this rounds to a float that is finite."""

_RANGES = {Builtin.BYTE: 8, Builtin.INT: 32, Builtin.LONG: 64}


class Evaluator:
    """Computes constants and remembers them."""

    def __init__(self, world: World, diagnostics: Diagnostics) -> None:
        self.world = world
        self.diagnostics = diagnostics
        self._known: dict[tree.Constant | tree.Enumerator, Value | None] = {}
        self._open: list[tree.Constant | tree.Enumerator] = []
        self._members: dict[TypeDef, dict[str, int]] = {}
        """For each type the places of its constants or enumerators by name; the first of several counts."""
        self._depth = 0
        self._grown = 0

    # For the outside

    def convert(self, expression: tree.Expression, target: Type, scope: TypeDef) -> Constant | None:
        """An expression as a value of a type; None if that was reported to be impossible."""
        try:
            value = self._compute(expression, scope)
            return self._as(value, target, expression, scope.source)
        except _Refused:
            return None

    def size(self, expression: tree.Expression, scope: TypeDef) -> int | None:
        """An array's size; None if it was reported to be none."""
        try:
            value = self._compute(expression, scope)
        except _Refused:
            return None
        if not value.is_integer or value.sort > Sort.INT32 or value.number < 0:
            message = "an array's size must be an int that is not negative"
            self.diagnostics.error(message, scope.source, expression.span)
            return None
        return value.number

    def enumerator(self, enum: TypeDef, index: int, backing: Builtin) -> int | None:
        """An enumerator's number, computed after all those before it; None if that was reported to fail."""
        declaration = enum.declaration
        assert isinstance(declaration, tree.EnumDecl)
        node = declaration.enumerators[index]
        try:
            value = self._enumerator(enum, index)
            if not value.is_integer or not fits(value.number, _RANGES[backing]):
                where = node.value.span if node.value else node.name.span
                message = (
                    f"{self._told(value)} is no {backing.value}, which {enum.simple} is made of"
                )
                raise self._refused(message, enum.source, where)
            return int(value.number)
        except _Refused:
            return None

    # Computing

    def _refused(self, message: str, source: Source, span: Span) -> _Refused:
        self.diagnostics.error(message, source, span)
        return _Refused()

    def _grow(self, length: int, source: Source, span: Span) -> None:
        """Counts the characters of a string. Constants that are used again and again add up here.

        Raises AidlError if all of them are too long together.
        """
        self._grown += length
        if self._grown > EXPANSION:
            message = f"constants grow to more than {EXPANSION} characters in all"
            self.diagnostics.error(message, source, span)
            self.diagnostics.check()

    def _compute(self, expression: tree.Expression, scope: TypeDef) -> Value:
        if self._depth == COMPUTING_DEPTH:
            raise self._refused("this is nested too deeply", scope.source, expression.span)
        self._depth += 1
        try:
            return self._computed(expression, scope)
        finally:
            self._depth -= 1

    def _computed(self, expression: tree.Expression, scope: TypeDef) -> Value:
        source = scope.source
        if isinstance(expression, tree.Literal):
            return self._literal(expression, source)
        if isinstance(expression, tree.Reference):
            return self._reference(expression, scope)
        if isinstance(expression, tree.Unary):
            return self._unary(expression, scope)
        if isinstance(expression, tree.Array):
            items = tuple((item, self._compute(item, scope)) for item in expression.items)
            return Value(Sort.ARRAY, items)
        # Long sums lean to the left: they are walked along, not down.
        chain: list[tree.Binary] = []
        left: tree.Expression = expression
        while isinstance(left, tree.Binary):
            chain.append(left)
            left = left.left
        value = self._compute(left, scope)
        for node in reversed(chain):
            value = self._binary(node, value, self._compute(node.right, scope), source)
        return value

    def _literal(self, literal: tree.Literal, source: Source) -> Value:
        text = literal.text
        if literal.kind is Kind.KEYWORD:
            return Value(Sort.BOOLEAN, int(text == "true"))
        if literal.kind is Kind.INTEGER:
            if (parsed := parse_integer(text)) is None:
                bits = next((s[1:] for s in ("u8", "u32") if text.endswith(s)), "64")
                message = f"'{text}' is no integer of at most {bits} bits"
                raise self._refused(message, source, literal.span)
            return parsed
        if literal.kind is Kind.FLOAT:
            number = float(text.removesuffix("f"))
            if math.isinf(number):
                raise self._refused(f"'{text}' is too big", source, literal.span)
            return Value(Sort.FLOAT, number, suffix=text.endswith("f"))
        inner = text[1:-1]
        if len(inner) > STRING_LENGTH:
            message = f"a string has at most {STRING_LENGTH} characters"
            raise self._refused(message, source, literal.span)
        if (found := _NOT_ALLOWED.search(inner)) is not None:
            at = literal.span.start + 1 + found.start()
            message = f"AIDL does not allow {shown(found.group())} here"
            raise self._refused(message, source, Span(at, at + 1))
        return Value(Sort.CHAR if literal.kind is Kind.CHAR else Sort.STRING, inner)

    def _reference(self, reference: tree.Reference, scope: TypeDef) -> Value:
        outer, _, last = reference.name.text.rpartition(".")
        if not outer:
            around: TypeDef | None = scope
            while around is not None:
                if (found := self._member(around, last)) is not None:
                    return found
                around = around.parent
            raise self._refused(f"no constant '{last}' here", scope.source, reference.span)
        owner = self.world.lookup(outer, scope.source, scope)
        if owner is None and self.world.is_lost(outer, scope.source):
            raise _Refused
        if not isinstance(owner, TypeDef):
            more = self.world.suggestion(outer, scope.source, scope)
            raise self._refused(f"unknown type '{outer}'{more}", scope.source, reference.span)
        if (found := self._member(owner, last)) is not None:
            return found
        raise self._refused(
            f"{owner.simple} has no constant '{last}'", scope.source, reference.span
        )

    def _member(self, owner: TypeDef, name: str) -> Value | None:
        declaration = owner.declaration
        if owner not in self._members:
            nodes: tuple[tree.Constant | tree.Enumerator, ...] = declaration.constants
            if isinstance(declaration, tree.EnumDecl):
                nodes = declaration.enumerators
            places = self._members[owner] = {}
            for place, node in enumerate(nodes):
                places.setdefault(node.name.text, place)
        index = self._members[owner].get(name)
        if index is None:
            return None
        if owner.is_enum:
            value = self._enumerator(owner, index)
            marked = EnumValue(owner, name, value.number if value.is_integer else 0)
            return Value(value.sort, value.value, marked)
        constant = declaration.constants[index]
        compute = partial(self._compute, constant.value, owner)
        return self._once(constant, constant.name, owner, compute)

    def _enumerator(self, enum: TypeDef, index: int) -> Value:
        declaration = enum.declaration
        assert isinstance(declaration, tree.EnumDecl)
        nodes = declaration.enumerators
        # One without a value counts on from the last one that has one, or that is computed already.
        start = index
        while start and nodes[start].value is None and nodes[start - 1] not in self._known:
            start -= 1
        for at in range(start, index):
            if nodes[at] not in self._known:
                self._once(nodes[at], nodes[at].name, enum, partial(self._numbered, enum, at))
        node = nodes[index]
        return self._once(node, node.name, enum, partial(self._numbered, enum, index))

    def _numbered(self, enum: TypeDef, index: int) -> Value:
        declaration = enum.declaration
        assert isinstance(declaration, tree.EnumDecl)
        node = declaration.enumerators[index]
        if node.value is not None:
            value = self._compute(node.value, enum)
            return Value(value.sort, value.value)
        if index == 0:
            return Value(Sort.INT8, 0)
        before = self._known.get(declaration.enumerators[index - 1])
        if before is None:
            raise _Refused
        sort = max(before.sort, Sort.INT32)
        return self._checked(before.number + 1, sort, enum.source, node.name.span)

    def _once(
        self,
        node: tree.Constant | tree.Enumerator,
        name: tree.Name,
        owner: TypeDef,
        compute: Callable[[], Value],
    ) -> Value:
        if node in self._known:
            value = self._known[node]
            if value is None:
                raise _Refused
            return value
        if node in self._open:
            raise self._refused(f"'{name.text}' is defined by itself", owner.source, name.span)
        if len(self._open) >= CONSTANT_CHAIN:
            message = f"'{name.text}' ends a chain of more than {CONSTANT_CHAIN} constants"
            raise self._refused(message, owner.source, name.span)
        self._open.append(node)
        try:
            value = self._known[node] = compute()
        except _Refused:
            self._known[node] = None
            raise
        finally:
            self._open.pop()
        return value

    def _checked(self, value: int, sort: Sort, source: Source, span: Span) -> Value:
        if sort is not Sort.BOOLEAN and not fits(value, sort):
            raise self._refused(f"this overflows {sort.value} bits", source, span)
        return Value(sort, value)

    def _unary(self, node: tree.Unary, scope: TypeDef) -> Value:
        operand = self._compute(node.operand, scope)
        operator = node.operator
        if operand.sort is Sort.FLOAT and operator in "+-":
            assert isinstance(operand.value, float)
            number = -operand.value if operator == "-" else operand.value
            return Value(Sort.FLOAT, number, suffix=operand.suffix)
        if operator == "!" and operand.is_integer:
            return Value(operand.sort, int(not operand.value))
        if not operand.is_integer or operand.sort is Sort.BOOLEAN:
            message = f"'{operator}' cannot be applied to {_NAMES[operand.sort]}"
            raise self._refused(message, scope.source, node.span)
        value = {"+": operand.number, "-": -operand.number, "~": ~operand.number}[operator]
        return self._checked(value, operand.sort, scope.source, node.span)

    def _binary(self, node: tree.Binary, left: Value, right: Value, source: Source) -> Value:
        operator = node.operator
        if left.sort is Sort.STRING and right.sort is Sort.STRING and operator == "+":
            return self._joined(str(left.value), str(right.value), source, node.span)
        if not (left.is_integer and right.is_integer):
            message = f"'{operator}' cannot join {_NAMES[left.sort]} and {_NAMES[right.sort]}"
            raise self._refused(message, source, node.operator_span)
        a, b = left.number, right.number
        if operator in _COMPARISONS:
            return Value(Sort.BOOLEAN, int(_COMPARISONS[operator](a, b)))
        sort = max(left.sort, right.sort, Sort.INT32)
        if operator in ("<<", ">>"):
            return self._shift(node, a, b, sort, source)
        if operator in "/%":
            if b == 0:
                raise self._refused("this divides by zero", source, node.span)
            quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
            result = quotient if operator == "/" else a - b * quotient
            if not fits(quotient, sort):
                result = quotient
        else:
            result = _ARITHMETIC[operator](a, b)
        return self._checked(result, sort, source, node.span)

    def _joined(self, left: str, right: str, source: Source, span: Span) -> Value:
        length = len(left) + len(right)
        if length > STRING_LENGTH:
            raise self._refused(f"a string has at most {STRING_LENGTH} characters", source, span)
        self._grow(length, source, span)
        return Value(Sort.STRING, left + right)

    def _shift(self, node: tree.Binary, a: int, b: int, sort: Sort, source: Source) -> Value:
        """Shifting by less than nothing shifts the other way."""
        left = (node.operator == "<<") == (b >= 0)
        if a < 0 or abs(b) >= sort or (left and a.bit_length() + abs(b) > sort):
            raise self._refused(f"this overflows {sort.value} bits", source, node.span)
        return Value(sort, signed(a << abs(b), sort) if left else a >> abs(b))

    # Turning into a type

    def _told(self, value: Value) -> str:
        return str(value.value) if value.is_integer else _NAMES[value.sort]

    def _as(self, value: Value, target: Type, node: tree.Expression, source: Source) -> Constant:
        if target.is_array:
            return self._as_array(value, target, node, source)
        base = target.base
        if isinstance(base, TypeDef):
            if base.is_enum and value.enumerator is not None and value.enumerator.type is base:
                return value.enumerator
            what = "can only be given its enumerators" if base.is_enum else "takes no constants"
            raise self._refused(f"{base.simple} {what}", source, node.span)
        if base in _RANGES and value.is_integer:
            return self._as_integer(value, base, node, source)
        if base is Builtin.BOOLEAN and value.is_integer:
            return bool(value.value)
        if base is Builtin.CHAR and value.sort is Sort.CHAR:
            return str(value.value)
        if base is Builtin.STRING and value.sort is Sort.STRING:
            self._grow(len(str(value.value)), source, node.span)
            return str(value.value)
        if base in (Builtin.FLOAT, Builtin.DOUBLE) and value.sort is Sort.FLOAT:
            assert isinstance(value.value, float)
            if base is Builtin.FLOAT and not value.suffix:
                raise self._refused("a float's value must end in 'f'", source, node.span)
            if base is Builtin.FLOAT and abs(value.value) > _MAX_FLOAT:
                raise self._refused("this is too big for a float", source, node.span)
            return value.value
        raise self._refused(f"{target} cannot be given {_NAMES[value.sort]}", source, node.span)

    def _as_integer(
        self, value: Value, base: Builtin, node: tree.Expression, source: Source
    ) -> int:
        bits = _RANGES[base]
        if not fits(value.number, bits):
            hint = ""
            if isinstance(node, tree.Literal) and 0 <= value.number < 1 << bits:
                hint = f" (did you mean '{node.text.rstrip('lL')}u{bits}'?)"
            raise self._refused(
                f"{value.value} does not fit into {base.value}{hint}", source, node.span
            )
        return int(value.number)

    def _as_array(
        self, value: Value, target: Type, node: tree.Expression, source: Source
    ) -> Constant:
        if value.sort is not Sort.ARRAY:
            raise self._refused(f"{target} cannot be given {_NAMES[value.sort]}", source, node.span)
        assert isinstance(value.value, tuple)
        size = target.dimensions[0]
        if size is not None and len(value.value) != size:
            message = f"{target} wants {size} elements, not {len(value.value)}"
            raise self._refused(message, source, node.span)
        item = target.item()
        return [self._as(inner, item, part, source) for part, inner in value.value]


_COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
    "&&": lambda a, b: bool(a and b),
    "||": lambda a, b: bool(a or b),
}
_ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "|": lambda a, b: a | b,
    "&": lambda a, b: a & b,
    "^": lambda a, b: a ^ b,
}
