"""Finds parcelables that hold one of themselves: no value of such a type has an end in C++ or Rust."""

from collections.abc import Callable, Iterable, Iterator

from .model import TypeDef


def holding_themselves(
    types: Iterable[TypeDef], held: Callable[[TypeDef], Iterable[TypeDef]]
) -> Iterator[TypeDef]:
    """One type of each circle. `held` are those that one of a type always has inside."""
    done: set[TypeDef] = set()
    for first in types:
        if first not in done:
            yield from _circles(first, held, done)


def _circles(
    first: TypeDef, held: Callable[[TypeDef], Iterable[TypeDef]], done: set[TypeDef]
) -> Iterator[TypeDef]:
    under_way = {first}
    path = [(first, iter(held(first)))]
    while path:
        around, inside = path[-1]
        for found in inside:
            if found in under_way:
                yield found
            elif found not in done:
                under_way.add(found)
                path.append((found, iter(held(found))))
                break
        else:
            path.pop()
            under_way.discard(around)
            done.add(around)
