"""The order in which a module's classes stand."""

from collections.abc import Callable, Iterable, Iterator

from .limits import ORDER_STEPS
from .model import Definition, TypeDef


def ordered(
    definitions: Iterable[Definition], needs: Callable[[Definition], set[TypeDef]]
) -> list[Definition]:
    """Enums, parcelables and unions, interfaces; each after those it needs and, where that goes, those it mentions."""
    by_rank = sorted(definitions, key=lambda made: (_rank(made.type), made.type.name))
    known = {made.type: made for made in by_rank}
    hard = {made.type: needs(made) & known.keys() for made in by_rank}
    search = _Search(hard)
    done: dict[TypeDef, Definition] = {}
    open_: set[TypeDef] = set()

    def before(type_def: TypeDef) -> Iterator[TypeDef]:
        """What should stand before a type; it is in `open_` while that is gone through."""
        yield from sorted(hard[type_def], key=lambda found: found.name)
        for mentioned in dict.fromkeys(known[type_def].bases()):
            later = mentioned not in known or _rank(mentioned) > _rank(type_def)
            if not later and mentioned not in done and not search.reaches(mentioned, open_):
                yield mentioned

    for made in by_rank:
        if made.type in done:
            continue
        path = [(made.type, before(made.type))]
        while path:
            type_def, rest = path[-1]
            open_.add(type_def)
            following = next((t for t in rest if t not in done and t not in open_), None)
            if following is not None:
                path.append((following, before(following)))
                continue
            path.pop()
            open_.remove(type_def)
            done[type_def] = known[type_def]
    return list(done.values())


def _rank(type_def: TypeDef) -> int:
    return 0 if type_def.is_enum else 2 if type_def.is_interface else 1


class _Search:
    """Looks for what must stand before a type, as long as the steps for that last; then it takes the worst for true."""

    def __init__(self, hard: dict[TypeDef, set[TypeDef]]) -> None:
        self._hard = hard
        self._left = ORDER_STEPS

    def reaches(self, start: TypeDef, goals: set[TypeDef]) -> bool:
        """Whether something in `goals` must stand before `start`."""
        seen = {start}
        waiting = [start]
        while waiting and self._left > 0:
            for needed in self._hard[waiting.pop()]:
                self._left -= 1
                if needed in goals:
                    return True
                if needed not in seen:
                    seen.add(needed)
                    waiting.append(needed)
        return self._left <= 0
