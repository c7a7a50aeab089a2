"""Public keys as numbers, read from SubjectPublicKeyInfo (RFC 5280, 3279, 5480), and their one DER encoding.

Android compares the key in a signer's record with the encoding that it makes itself of the certificate's key. Here
too, so that neither backend sees another encoding than this one, and both take the same keys.
"""

from avf.apk.algorithms import KeyType
from avf.apk.errors import PublicKeyError
from avf.named import NamedTuple

SEQUENCE, INTEGER, BIT_STRING, OCTET_STRING, OID = 0x30, 0x02, 0x03, 0x04, 0x06
MIN_RSA_BITS, MAX_RSA_BITS = 1024, 16384
MAX_RSA_EXPONENT_BITS = 33
DSA_BITS = (1024, 2048, 3072, 4096)
DSA_ORDER_BITS = (160, 224, 256)
_RSA = bytes.fromhex("2a864886f70d010101")
_DSA = bytes.fromhex("2a8648ce380401")
_EC = bytes.fromhex("2a8648ce3d0201")
_NULL = b"\x05\x00"


class Curve(NamedTuple):
    """A NIST curve y^2 = x^3 - 3x + b over the integers modulo p."""

    name: str
    p: int
    b: int

    @property
    def size(self) -> int:
        """Bytes in a coordinate."""
        return -(-self.p.bit_length() // 8)

    def holds(self, x: int, y: int) -> bool:
        """Is (x, y) a point?"""
        return x < self.p and y < self.p and (y * y - self._square(x)) % self.p == 0

    def lift(self, x: int, odd: int) -> int:
        """The y of a compressed point; not a point's if there is none. (p is 3 modulo 4.)"""
        y = pow(self._square(x), (self.p + 1) // 4, self.p)
        return y if y % 2 == odd else self.p - y

    def _square(self, x: int) -> int:
        return (x * x * x - 3 * x + self.b) % self.p


_CURVES = {
    bytes.fromhex("2a8648ce3d030107"): Curve(
        "P-256",
        2**256 - 2**224 + 2**192 + 2**96 - 1,
        0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
    ),
    bytes.fromhex("2b81040022"): Curve(
        "P-384",
        2**384 - 2**128 - 2**96 + 2**32 - 1,
        int(
            "B3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875A"
            "C656398D8A2ED19D2A85C8EDD3EC2AEF",
            16,
        ),
    ),
    bytes.fromhex("2b81040023"): Curve(
        "P-521",
        2**521 - 1,
        int(
            "0051953EB9618E1C9A1F929A21A0B68540EEA2DA725B99B315F3B8B489918EF1"
            "09E156193951EC7E937B1652C0BD3BB1BF073573DF883D2C34F1EF451FD46B50"
            "3F00",
            16,
        ),
    ),
}


class PublicKey(NamedTuple):
    """The type of a key and its only DER encoding."""

    type: KeyType
    der: bytes
    bits: int
    """Of the modulus, the prime or the curve."""


def read_public_key(data: bytes) -> PublicKey:
    """The key in a SubjectPublicKeyInfo, whichever way its numbers are encoded.

    An RSA modulus that is negative as encoded counts as unsigned, a missing NULL is added and a compressed point is
    expanded. PublicKeyError if it cannot be read, is of a kind that is not accepted, or is no valid key.
    """
    try:
        return _read(data)
    except BadDer as error:
        raise PublicKeyError(f"Public key cannot be read: {error}") from None


def check_type(public_key: PublicKey, expected: KeyType) -> None:
    """PublicKeyError if the key is of another type."""
    if public_key.type is not expected:
        raise PublicKeyError("Public key has the wrong ID")


def _read(data: bytes) -> PublicKey:
    outer = Der(data)
    info = outer.inner(SEQUENCE)
    outer.end()
    algorithm = info.inner(SEQUENCE)
    bits = info.take(BIT_STRING)
    info.end()
    if not bits or bits[0]:
        raise BadDer("its bits are not whole bytes")
    oid = algorithm.take(OID)
    if oid == _RSA:
        return _rsa(bits[1:])
    if oid == _EC:
        if algorithm.has(SEQUENCE):
            raise PublicKeyError(
                "Public key is on a curve that is given by numbers, not by its name"
            )
        return _ec(algorithm.take(OID), bits[1:])
    if oid == _DSA:
        return _dsa(algorithm, bits[1:])
    raise PublicKeyError("Public key has the wrong ID")


def _rsa(data: bytes) -> PublicKey:
    numbers = Der(data).inner(SEQUENCE)
    n, e = numbers.unsigned(), numbers.unsigned()
    numbers.end()
    if not MIN_RSA_BITS <= n.bit_length() <= MAX_RSA_BITS:
        raise PublicKeyError(f"Public key has {n.bit_length()} bits")
    if not n % 2 or not e % 2 or e < 3 or e.bit_length() > MAX_RSA_EXPONENT_BITS:
        raise PublicKeyError("Public key is no RSA key: its numbers are out of range")
    algorithm = der(OID, _RSA) + _NULL
    encoded = _spki(algorithm, der(SEQUENCE, _integer(n) + _integer(e)))
    return PublicKey(KeyType.RSA, encoded, n.bit_length())


def _ec(curve_id: bytes, point: bytes) -> PublicKey:
    curve = _CURVES.get(curve_id)
    if curve is None:
        raise PublicKeyError(f"Public key is on a curve that is not accepted: OID {curve_id.hex()}")
    form, size = point[:1], curve.size
    x = int.from_bytes(point[1 : 1 + size], "big")
    y = int.from_bytes(point[1 + size :], "big")
    if form in (b"\2", b"\3") and len(point) == 1 + size:
        y = curve.lift(x, form[0] & 1)
    elif form != b"\4" or len(point) != 1 + 2 * size:
        raise PublicKeyError("Public key cannot be read: bad form of point")
    if not curve.holds(x, y):
        raise PublicKeyError(f"Public key is no point of {curve.name}")
    encoded = b"\4" + x.to_bytes(size, "big") + y.to_bytes(size, "big")
    algorithm = der(OID, _EC) + der(OID, curve_id)
    return PublicKey(KeyType.EC, _spki(algorithm, encoded), curve.p.bit_length())


def _dsa(algorithm: "Der", data: bytes) -> PublicKey:
    parameters = algorithm.inner(SEQUENCE)
    p, q, g = parameters.unsigned(), parameters.unsigned(), parameters.unsigned()
    y = Der(data).unsigned()
    if p.bit_length() not in DSA_BITS:
        raise PublicKeyError(f"Public key has {p.bit_length()} bits")
    if not p % 2 or q.bit_length() not in DSA_ORDER_BITS or not 1 < g < p or not 1 < y < p:
        raise PublicKeyError("Public key is no DSA key: its numbers are out of range")
    numbers = der(SEQUENCE, _integer(p) + _integer(q) + _integer(g))
    return PublicKey(KeyType.DSA, _spki(der(OID, _DSA) + numbers, _integer(y)), p.bit_length())


def _spki(algorithm: bytes, bits: bytes) -> bytes:
    return der(SEQUENCE, der(SEQUENCE, algorithm) + der(BIT_STRING, b"\0" + bits))


def _integer(value: int) -> bytes:
    return der(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def der(tag: int, body: bytes) -> bytes:
    """One DER element."""
    size = len(body)
    if size < 0x80:
        return bytes([tag, size]) + body
    length = size.to_bytes(-(-size.bit_length() // 8), "big")
    return bytes([tag, 0x80 | len(length)]) + length + body


class BadDer(Exception):
    """Not the DER element that was expected."""


class Der:
    """Reads elements one after the other; lengths may be longer than they need to be."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, tag: int) -> bytes:
        data, start = self._data, self._position
        if len(data) - start < 2 or data[start] != tag:
            raise BadDer(f"no element {tag:#04x} at byte {start}")
        length, body = data[start + 1], start + 2
        if length >= 0x80:
            count = length & 0x7F
            if not 1 <= count <= 4 or body + count > len(data):
                raise BadDer(f"bad length at byte {start}")
            length, body = int.from_bytes(data[body : body + count], "big"), body + count
        if length > len(data) - body:
            raise BadDer(f"element at byte {start} is cut short")
        self._position = body + length
        return data[body : self._position]

    def inner(self, tag: int) -> "Der":
        return Der(self.take(tag))

    def element(self) -> tuple[int, bytes]:
        """The tag and the body of the next element, whatever it is."""
        if self.done:
            raise BadDer("it ends too early")
        tag = self._data[self._position]
        return tag, self.take(tag)

    def has(self, tag: int) -> bool:
        """Does an element with this tag follow?"""
        return self._data.startswith(bytes([tag]), self._position)

    @property
    def done(self) -> bool:
        return self._position == len(self._data)

    def unsigned(self) -> int:
        return int.from_bytes(self.take(INTEGER), "big")

    def end(self) -> None:
        if not self.done:
            raise BadDer("bytes follow it")
