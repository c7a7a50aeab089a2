"""How the body of a structured parcelable is written and read."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from avf.named import NamedTuple

from .codec import Codec, Reader, Writer
from .errors import Status, StatusError
from .parcel import I32, Parcel, ParcelReader, misfit, too_deep
from .shapes import Shape, runs
from .wire import MAX_NESTED_VALUES


class Field(NamedTuple):
    """One field of a parcelable."""

    name: str
    codec: Codec
    default: Callable[[], Any]
    """Makes the value of one that an older peer does not know."""


def body_functions(cls: type[Any], fields: list[Field]) -> tuple[Writer, Reader]:
    """A structured parcelable is its size (an int, counting itself), then the fields.

    A reader leaves out the fields an older writer did not know, and jumps over those a newer one added.
    """
    cuts = [fields[start:stop] for start, stop in runs([field.codec.fixed for field in fields])]
    writers = [_fields_writer(part) for part in cuts]
    readers = [_fields_reader(cls, part) for part in cuts]

    def write(parcel: Parcel, value: Any) -> None:
        if not isinstance(value, cls):
            raise TypeError(f"{cls.__name__} wanted, not {type(value).__name__}")
        depth = parcel.depth
        if depth >= MAX_NESTED_VALUES:
            raise too_deep(cls.__name__)
        parcel.depth = depth + 1
        data = parcel.data
        start = len(data)
        data += b"\0\0\0\0"
        for write_fields in writers:
            write_fields(parcel, value)
        I32.pack_into(data, start, len(data) - start)
        parcel.depth = depth

    def read(reader: ParcelReader) -> Any:
        start = reader.pos
        size = reader.read_int()
        stop = start + size
        if size < 4 or stop > reader.end:
            raise StatusError(Status.BAD_VALUE, f"{cls.__name__}: size {size}")
        depth = reader.depth
        if depth >= MAX_NESTED_VALUES:
            raise too_deep(cls.__name__)
        reader.depth = depth + 1
        made = cls.__new__(cls)  # type: ignore[call-overload]
        for read_fields in readers:
            read_fields(reader, made, stop)
        reader.pos = stop
        reader.depth = depth
        return made

    return write, read


def _fields_writer(fields: list[Field]) -> Writer:
    """Writes these fields of a parcelable."""
    names_writers = [(field.name, field.codec.write) for field in fields]

    def write_singly(parcel: Parcel, value: Any) -> None:
        for name, write_field in names_writers:
            try:
                write_field(parcel, getattr(value, name))
            except (StatusError, OSError):
                raise
            except Exception as error:
                raise misfit(error, f".{name}") from error

    if len(fields) == 1:
        return write_singly
    shape = _shape(fields)
    values_of = attrgetter(*[field.name for field in fields])

    def write(parcel: Parcel, value: Any) -> None:
        try:
            packed = shape.packed(values_of(value))
        except AttributeError:
            packed = None
        if packed is None:
            write_singly(parcel, value)
        else:
            parcel.data += packed

    return write


def _fields_reader(cls: type[Any], fields: list[Field]) -> Callable[[ParcelReader, Any, int], None]:
    """Reads these fields of a parcelable that ends at a place, those that are before it."""
    names_readers = [(field.name, field.codec.read, field.default) for field in fields]

    def read_singly(reader: ParcelReader, made: Any, stop: int) -> None:
        for name, read_field, default in names_readers:
            setattr(made, name, read_field(reader) if reader.pos < stop else default())
            if reader.pos > stop:
                raise StatusError(Status.BAD_VALUE, f"{cls.__name__}.{name} exceeds its size")

    if len(fields) == 1:
        return read_singly
    shape, names = _shape(fields), [field.name for field in fields]

    def read(reader: ParcelReader, made: Any, stop: int) -> None:
        pos = reader.pos
        after = pos + shape.size
        if after > stop:
            read_singly(reader, made, stop)
            return
        for name, value in zip(names, shape.unpacked(reader.buf, pos), strict=True):
            setattr(made, name, value)
        reader.pos = after

    return read


def _shape(fields: list[Field]) -> Shape:
    return Shape([field.codec.fixed for field in fields if field.codec.fixed is not None])
