"""The annotations AIDL has, and whether they stand where they may."""

import difflib
import enum
from collections.abc import Iterable
from dataclasses import dataclass

from . import tree
from .constants import Evaluator
from .errors import Diagnostics
from .model import Builtin, Constant, Type, TypeDef


class Target(enum.Flag):
    """What an annotation can be on."""

    INTERFACE = enum.auto()
    ENUM = enum.auto()
    PARCELABLE = enum.auto()
    UNION = enum.auto()
    FORWARD = enum.auto()
    CONSTANT = enum.auto()
    FIELD = enum.auto()
    METHOD = enum.auto()
    TYPE = enum.auto()


_DECLARED = Target.INTERFACE | Target.ENUM | Target.PARCELABLE | Target.UNION | Target.FORWARD
_MEMBER = Target.CONSTANT | Target.FIELD | Target.METHOD
_STRUCTURED = Target.PARCELABLE | Target.UNION
_CALLS = Target.INTERFACE | Target.METHOD

_STRING = Type(Builtin.STRING)
_STRINGS = Type(Builtin.STRING, (None,))
_BOOLEAN = Type(Builtin.BOOLEAN)
_INT = Type(Builtin.INT)
_LONG = Type(Builtin.LONG)


@dataclass(frozen=True, slots=True)
class _Schema:
    targets: Target
    arguments: dict[str, Type]
    required: str = ""


def _flags(*names: str) -> dict[str, Type]:
    return dict.fromkeys(names, _BOOLEAN)


_SCHEMAS = {
    "Backing": _Schema(Target.ENUM, {"type": _STRING}, "type"),
    "Descriptor": _Schema(Target.INTERFACE, {"value": _STRING}, "value"),
    "EnforcePermission": _Schema(_CALLS, {"value": _STRING, "anyOf": _STRINGS, "allOf": _STRINGS}),
    "FixedSize": _Schema(_STRUCTURED, {}),
    "Hide": _Schema(_DECLARED | _MEMBER, {}),
    "JavaDebug": _Schema(_STRUCTURED, {}),
    "JavaDefault": _Schema(Target.INTERFACE, {}),
    "JavaDelegator": _Schema(Target.INTERFACE, {}),
    "JavaDerive": _Schema(_STRUCTURED | Target.ENUM, _flags("toString", "equals")),
    "JavaOnlyImmutable": _Schema(_STRUCTURED | Target.FORWARD, {}),
    "JavaOnlyStableParcelable": _Schema(Target.FORWARD, {}),
    "JavaPassthrough": _Schema(
        _DECLARED | _MEMBER | Target.TYPE, {"annotation": _STRING}, "annotation"
    ),
    "JavaSuppressLint": _Schema(_DECLARED | _MEMBER | Target.TYPE, {"value": _STRINGS}, "value"),
    "NdkOnlyStableParcelable": _Schema(Target.FORWARD, {}),
    "PermissionManuallyEnforced": _Schema(_CALLS, {}),
    "PropagateAllowBlocking": _Schema(Target.METHOD, {}),
    "RequiresNoPermission": _Schema(_CALLS, {}),
    "RustDerive": _Schema(
        _STRUCTURED, _flags("Copy", "Clone", "PartialOrd", "Ord", "PartialEq", "Eq", "Hash")
    ),
    "RustOnlyStableParcelable": _Schema(Target.FORWARD, {}),
    "SensitiveData": _Schema(Target.INTERFACE, {}),
    "SuppressWarnings": _Schema(_DECLARED | _MEMBER, {"value": _STRINGS}, "value"),
    "UnsupportedAppUsage": _Schema(
        _DECLARED | _MEMBER,
        {
            "expectedSignature": _STRING,
            "implicitMember": _STRING,
            "maxTargetSdk": _INT,
            "publicAlternatives": _STRING,
            "trackingBug": _LONG,
        },
    ),
    "VintfStability": _Schema(_DECLARED, {}),
    "nullable": _Schema(Target.TYPE, _flags("heap")),
    "utf8InCpp": _Schema(Target.TYPE, {}),
}

_REPEATABLE = ("JavaPassthrough",)


def target_of(declaration: tree.Declaration) -> Target:
    if isinstance(declaration, tree.InterfaceDecl):
        return Target.INTERFACE
    if isinstance(declaration, tree.EnumDecl):
        return Target.ENUM
    if isinstance(declaration, tree.UnionDecl):
        return Target.UNION
    return Target.PARCELABLE if isinstance(declaration, tree.ParcelableDecl) else Target.FORWARD


def check(
    annotations: Iterable[tree.Annotation],
    target: Target,
    scope: TypeDef,
    evaluator: Evaluator,
    diagnostics: Diagnostics,
) -> dict[str, dict[str, Constant]]:
    """The annotations with their arguments; reports those that are wrong, or wrong here."""
    found: dict[str, dict[str, Constant]] = {}
    for annotation in annotations:
        name = annotation.name
        schema = _SCHEMAS.get(name)
        if schema is None:
            close = difflib.get_close_matches(name, _SCHEMAS, 1, 0.6)
            more = f" (did you mean '@{close[0]}'?)" if close else ""
            diagnostics.error(f"AIDL has no @{name}{more}", scope.source, annotation.span)
            continue
        if not schema.targets & target:
            message = f"@{name} cannot stand on {_told(target)}"
            diagnostics.error(message, scope.source, annotation.span)
        if name in found and name not in _REPEATABLE:
            diagnostics.error(f"@{name} is there twice", scope.source, annotation.span)
        found[name] = _arguments(annotation, schema, scope, evaluator, diagnostics)
    return found


def _arguments(
    annotation: tree.Annotation,
    schema: _Schema,
    scope: TypeDef,
    evaluator: Evaluator,
    diagnostics: Diagnostics,
) -> dict[str, Constant]:
    found: dict[str, Constant] = {}
    given = set()
    for name, expression in annotation.arguments:
        given.add(name.text)
        target = schema.arguments.get(name.text)
        if target is None:
            known = ", ".join(schema.arguments) or "none"
            message = f"@{annotation.name} has no argument '{name.text}'; it has: {known}"
            diagnostics.error(message, scope.source, name.span)
            continue
        # One string will do for a list of them.
        if target is _STRINGS and not isinstance(expression, tree.Array):
            target = _STRING
        value = evaluator.convert(expression, target, scope)
        if value is not None:
            found[name.text] = value
    if schema.required and schema.required not in given:
        message = f"@{annotation.name} needs the argument '{schema.required}'"
        diagnostics.error(message, scope.source, annotation.span)
    return found


def _told(target: Target) -> str:
    words = {
        Target.INTERFACE: "an interface",
        Target.ENUM: "an enum",
        Target.PARCELABLE: "a parcelable",
        Target.UNION: "a union",
        Target.FORWARD: "a declaration without a body",
        Target.CONSTANT | Target.TYPE: "a constant",
        Target.FIELD | Target.TYPE: "a field",
        Target.METHOD | Target.TYPE: "a method",
        Target.TYPE: "a type",
    }
    return words[target]
