"""An interface with a method for every kind of argument, and an object that answers all of them at once."""

from typing import Annotated

from avf.binder import (
    Byte,
    Char,
    Enum,
    FixedSize,
    Float,
    IBinder,
    Interface,
    Long,
    Parcelable,
    ParcelableHolder,
    ParcelFileDescriptor,
    RemoteException,
    Union,
    method,
)


class Level(Enum, backing="byte"):
    NONE = 0
    FULL = 1


class Tree(Parcelable, descriptor="avf.fuzz.Tree"):
    value: int = 0
    name: str | None = None
    level: Level = Level.NONE
    left: "Tree | None" = None
    more: "list[Tree | None] | None" = None
    held: ParcelableHolder = ParcelableHolder()
    binder: IBinder | None = None
    file: ParcelFileDescriptor | None = None


class Choice(Union):
    number: Long
    tree: Tree
    names: list[str]


Grid = Annotated[list[Annotated[list[int], FixedSize(2)]], FixedSize(2)]
Key = Annotated[bytes, FixedSize(4)]


class IFuzz(Interface, descriptor="avf.fuzz.IFuzz"):
    @method(1)
    def scalars(
        self, a: bool, b: Byte, c: Char, d: int, e: Long, f: Float, g: float, h: Level
    ) -> tuple[bool, Byte, Char, int, Long, Float, float, Level]:
        raise NotImplementedError

    @method(2)
    def arrays(
        self, a: bytes, b: list[str], c: list[Level], d: Grid, e: Key, f: list[Char] | None
    ) -> tuple[bytes, list[str], list[Level], Grid, Key, list[Char] | None]:
        raise NotImplementedError

    @method(3)
    def values(self, tree: Tree, choice: Choice, maybe: Tree | None) -> tuple[Tree, Choice]:
        raise NotImplementedError

    @method(4)
    def objects(
        self, one: IBinder, maybe: "IFuzz | None", more: list[IBinder]
    ) -> "tuple[IBinder, IFuzz | None, list[IBinder]]":
        raise NotImplementedError

    @method(5)
    def files(self, files: list[ParcelFileDescriptor]) -> list[ParcelFileDescriptor]:
        raise NotImplementedError

    @method(6)
    def fail(self, code: int, message: str) -> None: ...

    @method(7, oneway=True)
    def note(self, number: int, who: IBinder | None) -> None: ...

    @method(8)
    def keep(self, who: IBinder | None) -> IBinder | None:
        """The one that was kept before."""
        raise NotImplementedError

    @method(0x00FFFFFF)
    def get_interface_version(self) -> int:
        return 7


class Fuzzed(IFuzz):
    """Gives back what it gets."""

    def __init__(self) -> None:
        self.kept: IBinder | None = None

    def scalars(
        self, a: bool, b: int, c: str, d: int, e: int, f: float, g: float, h: Level
    ) -> tuple[bool, int, str, int, int, float, float, Level]:
        return a, b, c, d, e, f, g, h

    def arrays(
        self,
        a: bytes,
        b: list[str],
        c: list[Level],
        d: list[list[int]],
        e: bytes,
        f: list[str] | None,
    ) -> tuple[bytes, list[str], list[Level], list[list[int]], bytes, list[str] | None]:
        return a, b, c, d, e, f

    def values(self, tree: Tree, choice: Choice, maybe: Tree | None) -> tuple[Tree, Choice]:
        tree.held.get(Tree) if tree.held.descriptor == "avf.fuzz.Tree" else None
        return maybe or tree, choice

    def objects(
        self, one: IBinder, maybe: IFuzz | None, more: list[IBinder]
    ) -> tuple[IBinder, IFuzz | None, list[IBinder]]:
        return one, maybe, more

    def files(self, files: list[ParcelFileDescriptor]) -> list[ParcelFileDescriptor]:
        return files

    def fail(self, code: int, message: str) -> None:
        raise RemoteException(code, message)

    def note(self, number: int, who: IBinder | None) -> None:
        self.kept = who

    def keep(self, who: IBinder | None) -> IBinder | None:
        kept, self.kept = self.kept, who
        return kept
