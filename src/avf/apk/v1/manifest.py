"""META-INF/MANIFEST.MF: the digests of the entries."""

from array import array

from avf.apk.errors import V1SignatureError
from avf.apk.v1.sections import Section, sections

MANIFEST = "META-INF/MANIFEST.MF"


class Manifest:
    """The sections of a manifest by name, in little memory: where they lie in `data`."""

    def __init__(self, data: bytes) -> None:
        """V1SignatureError if it has no main section, or if another one has no name or that of another."""
        self.data = data
        self._index: dict[str, int] = {}
        self._bounds = array("I")
        parts = sections(data)
        main = next(parts, None)
        if main is None:
            raise V1SignatureError(f"{MANIFEST} is empty")
        self.main = main
        for number, part in enumerate(parts):
            name = part.name
            if name is None:
                raise V1SignatureError(f"{MANIFEST}: section {number + 1} has no name")
            if self._index.setdefault(name, number) != number:
                raise V1SignatureError(f"{MANIFEST}: {name!r} occurs twice")
            self._bounds.extend((part.start, part.end))

    def __len__(self) -> int:
        """How many entries it names."""
        return len(self._index)

    def index(self, name: str) -> int | None:
        """The number of the section with this name."""
        return self._index.get(name)

    def section(self, index: int) -> Section:
        start, end = self._bounds[2 * index : 2 * index + 2]
        return Section(self.data, start, end)

    def name_of(self, index: int) -> str:
        return self.section(index).name or ""
