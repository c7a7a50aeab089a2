"""Good inputs of the target, to start from."""

_FILES = (
    """package p;
/** An interface. {@link Q} @param x */
@VintfStability
interface IFoo {
    const int A = 1 << 3 | 0x10;
    const String S = "a" + "b";
    oneway void m(in int[] a, IBinder b) = 1;
    @nullable List<String> n(out byte[] c, inout Q q) = 2;
    @Backing(type="long") enum E { X, Y = 5, Z }
    parcelable Q { int x = A; char[2] c = {'a', 'b'}; double d = 1.5e3; E e = E.Y; }
}
""",
    """package p; union U { int a = 3; @utf8InCpp String b; U[] c; }
parcelable P<T> { @nullable(heap=true) P p; U u; boolean[3] f; ParcelFileDescriptor g; float h = 1.5f; }
""",
)


def seeds() -> dict[str, list[bytes]]:
    """By target."""
    return {"compile": [text.encode() for text in _FILES]}
