"""The site as `make docs` builds it."""

from dataclasses import dataclass
from pathlib import Path

from sphinx.util.inventory import InventoryFile


@dataclass(frozen=True, slots=True)
class Site:
    folder: Path
    status: int
    told: str
    """What the build wrote."""

    def entries(self, domain: str) -> set[str]:
        """The names of all that can be referred to, of "py" or "std"."""
        inventory = InventoryFile.loads((self.folder / "objects.inv").read_bytes(), uri="")
        kinds = inventory.data.items()
        return {name for kind, items in kinds if kind.startswith(f"{domain}:") for name in items}

    def page(self, name: str) -> str:
        return (self.folder / f"{name}.html").read_text()
