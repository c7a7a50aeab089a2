"""The class of a parcelable that AIDL only declares."""

from typing import Self

from avf.binder import CustomParcelable, Parcel, ParcelReader


class Native(CustomParcelable):
    """Two numbers."""

    def __init__(self, x: int, y: int) -> None:
        self.x = x
        self.y = y

    def write_to_parcel(self, parcel: Parcel) -> None:
        parcel.write_int(self.x)
        parcel.write_int(self.y)

    @classmethod
    def read_from_parcel(cls, reader: ParcelReader) -> Self:
        return cls(reader.read_int(), reader.read_int())
