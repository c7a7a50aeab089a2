"""`typing.NamedTuple`, whose classes are made in a tenth of the time: no source is put together and compiled for each.

A guest makes some fifty of them before its payload starts, under emulation.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import NamedTuple
else:
    from _collections import _tuplegetter

    class _NamedTupleType(type):
        def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
            fields = tuple(namespace.get("__annotations__", ()))
            defaults = {field: namespace.pop(field) for field in fields if field in namespace}
            getters = {
                field: _tuplegetter(index, f"Alias for field number {index}")
                for index, field in enumerate(fields)
            }
            described = {"_fields": fields, "_field_defaults": defaults, "__match_args__": fields}
            return super().__new__(mcs, name, bases, namespace | getters | described | _NO_DICT)

    _NO_DICT = {"__slots__": ()}

    class NamedTuple(tuple, metaclass=_NamedTupleType):
        """A tuple whose items are also attributes: the annotated names of the class, in order."""

        def __new__(cls, *values: Any, **named: Any) -> Any:
            if named or len(values) != len(cls._fields):
                values = _complete(cls, values, named)
            return tuple.__new__(cls, values)

        @classmethod
        def _make(cls, values: Any) -> Any:
            return cls(*values)

        def _asdict(self) -> dict[str, Any]:
            return dict(zip(self._fields, self, strict=True))

        def _replace(self, **changed: Any) -> Any:
            return type(self)(**(self._asdict() | changed))

        def __repr__(self) -> str:
            fields = ", ".join(f"{name}={value!r}" for name, value in self._asdict().items())
            return f"{type(self).__name__}({fields})"

        def __getnewargs__(self) -> tuple[Any, ...]:
            return tuple(self)

    def _complete(cls: Any, values: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        """The values of all fields, in order. Raises TypeError."""
        given = dict(zip(cls._fields, values, strict=False))
        unknown = sorted(named.keys() - cls._fields)
        twice = sorted(named.keys() & given.keys())
        complete = cls._field_defaults | given | named
        missing = [field for field in cls._fields if field not in complete]
        for what, fields in (("unknown", unknown), ("given twice", twice), ("missing", missing)):
            if fields:
                raise TypeError(f"{cls.__name__}: {what}: {', '.join(fields)}")
        if len(values) > len(cls._fields):
            raise TypeError(f"{cls.__name__}: {len(values)} values for {len(cls._fields)} fields")
        return tuple(complete[field] for field in cls._fields)


__all__ = ["NamedTuple"]
