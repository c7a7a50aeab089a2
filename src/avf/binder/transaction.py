"""A call that came from the peer, before it is run."""

from .errors import StatusError
from .objects import IBinder, Node
from .parcel import ParcelReader


class Transaction:
    """A call received: for `target`, or a special one when that is None."""

    __slots__ = ("code", "node", "oneway", "reader", "refusal", "target")

    def __init__(
        self,
        target: IBinder | None,
        node: Node | None,
        code: int,
        oneway: bool,
        reader: ParcelReader,
        refusal: StatusError | None,
    ) -> None:
        self.target = target
        self.node = node
        self.code = code
        self.oneway = oneway
        self.reader = reader
        self.refusal = refusal

    def __lt__(self, other: "Transaction") -> bool:
        return False
