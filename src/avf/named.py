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
            values = list(self)
            for field in changed:
                if field not in self._fields:
                    raise TypeError(f"{type(self).__name__}: unknown: {field}")
                values[self._fields.index(field)] = changed[field]
            return tuple.__new__(type(self), values)

        def __repr__(self) -> str:
            fields = ", ".join(f"{name}={value!r}" for name, value in self._asdict().items())
            return f"{type(self).__name__}({fields})"

        def __getnewargs__(self) -> tuple[Any, ...]:
            return tuple(self)

    def _complete(cls: Any, values: tuple[Any, ...], named: dict[str, Any]) -> list[Any]:
        """The values of all fields, in order. Raises TypeError."""
        complete, used = list(values), 0
        for field in cls._fields[len(values) :]:
            if field in named:
                complete.append(named[field])
                used += 1
            elif field in cls._field_defaults:
                complete.append(cls._field_defaults[field])
        if len(complete) != len(cls._fields) or used != len(named):
            raise _misfit(cls, values, named)
        return complete

    def _misfit(cls: Any, values: tuple[Any, ...], named: dict[str, Any]) -> TypeError:
        """What is wrong with the values."""
        given = dict(zip(cls._fields, values, strict=False))
        unknown = sorted(named.keys() - cls._fields)
        twice = sorted(named.keys() & given.keys())
        complete = cls._field_defaults | given | named
        missing = [field for field in cls._fields if field not in complete]
        for what, fields in (("unknown", unknown), ("given twice", twice), ("missing", missing)):
            if fields:
                return TypeError(f"{cls.__name__}: {what}: {', '.join(fields)}")
        return TypeError(f"{cls.__name__}: {len(values)} values for {len(cls._fields)} fields")


__all__ = ["NamedTuple"]
