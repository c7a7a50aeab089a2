"""Keys are compared as numbers, and both backends say the same of every key, odd ones too."""

import ctypes
import io
import random

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from avf.apk import (
    ApkError,
    CertificateError,
    PublicKeyError,
    SignatureAlgorithm,
    SigningKey,
    VerificationError,
)
from avf.apk import verify as verify_apk
from avf.apk.crypto import (
    certificate_public_key,
    libcrypto,
    pyca,
    read_public_key,
    verify_signature,
)
from avf.apk.crypto.spki import BIT_STRING, INTEGER, OID, SEQUENCE, Der, der
from avf.apk.signing_block import BlockId
from tests.apk.conftest import KINDS
from tests.apk.forge import Anatomy, Forger

DATA = b"what is signed"
RSA = bytes.fromhex("2a864886f70d010101")
EC = bytes.fromhex("2a8648ce3d0201")
DSA = bytes.fromhex("2a8648ce380401")
P256 = bytes.fromhex("2a8648ce3d030107")
NULL = b"\5\0"
CURVES = {"ec-p256": P256, "ec-p384": bytes.fromhex("2b81040022")}


def spki(algorithm: bytes, bits: bytes) -> bytes:
    return der(SEQUENCE, der(SEQUENCE, algorithm) + der(BIT_STRING, b"\0" + bits))


def integer(value: int, padding: int = 0) -> bytes:
    return der(INTEGER, bytes(padding) + value.to_bytes(value.bit_length() // 8 + 1, "big"))


def long_form(element: bytes) -> bytes:
    """The same element with its length in four bytes."""
    header = 2 if element[1] < 0x80 else 2 + (element[1] & 0x7F)
    body = element[header:]
    return element[:1] + b"\x84" + len(body).to_bytes(4, "big") + body


def odd_encodings(key: SigningKey) -> dict[str, bytes]:
    """The same key in encodings other than its own."""
    public = load_der_public_key(key.public_key)
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        n, e = numbers.n, integer(numbers.e)
        negative = der(INTEGER, n.to_bytes(public.key_size // 8, "big"))
        plain = der(SEQUENCE, integer(n) + e)
        return {
            "negative modulus": spki(der(OID, RSA) + NULL, der(SEQUENCE, negative + e)),
            "padded modulus": spki(der(OID, RSA) + NULL, der(SEQUENCE, integer(n, 3) + e)),
            "no NULL": spki(der(OID, RSA), plain),
            "long lengths": long_form(spki(der(OID, RSA) + NULL, long_form(plain))),
        }
    if isinstance(public, ec.EllipticCurvePublicKey):
        form = PublicFormat.CompressedPoint
        point = public.public_bytes(Encoding.X962, form)
        curve = der(OID, EC) + der(OID, _curve(public))
        return {"compressed": spki(curve, point), "long lengths": long_form(key.public_key)}
    assert isinstance(public, dsa.DSAPublicKey)
    values = public.public_numbers()
    parameters = values.parameter_numbers
    numbers = integer(parameters.p, 1) + integer(parameters.q) + integer(parameters.g)
    return {"padded prime": spki(der(OID, DSA) + der(SEQUENCE, numbers), integer(values.y))}


def _curve(public: ec.EllipticCurvePublicKey) -> bytes:
    return CURVES["ec-p256" if public.key_size == 256 else "ec-p384"]


@pytest.mark.parametrize("kind", KINDS)
def test_each_encoding_is_the_same_key(keys: dict[str, SigningKey], kind: str) -> None:
    key = keys[kind]
    assert read_public_key(key.public_key).der == key.public_key
    for name, encoded in odd_encodings(key).items():
        assert encoded != key.public_key, name
        assert read_public_key(encoded).der == key.public_key, name


def apk_with(anatomy: Anatomy, key: SigningKey, in_certificate: bytes, in_signer: bytes) -> bytes:
    """An APK whose certificate and signer record hold these encodings of the key."""
    fields = certificate_public_key(key.certificate)
    tbs = der(SEQUENCE, _before_key(key.certificate, fields) + in_certificate)
    certificate = der(SEQUENCE, tbs + der(SEQUENCE, der(OID, EC)) + der(BIT_STRING, b"\0"))
    digests = [(key.algorithm, anatomy.digest(key.algorithm))]
    forger = Forger(key, digests, certificates=[certificate], public_key=in_signer)
    return anatomy.with_pairs((BlockId.V3, forger.block())).build()


def _before_key(certificate: bytes, key: bytes) -> bytes:
    """The fields of the certificate from its version on to its key."""
    from cryptography import x509

    tbs = x509.load_der_x509_certificate(certificate).tbs_certificate_bytes
    header = 2 if tbs[1] < 0x80 else 2 + (tbs[1] & 0x7F)
    return tbs[header : tbs.index(key)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_certificate_may_encode_the_key_as_it_likes(
    anatomy: Anatomy, keys: dict[str, SigningKey], kind: str
) -> None:
    key = keys[kind]
    for encoded in [key.public_key, *odd_encodings(key).values()]:
        assert verify_apk(io.BytesIO(apk_with(anatomy, key, encoded, key.public_key)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_signer_holds_the_encoding_that_android_makes(
    anatomy: Anatomy, keys: dict[str, SigningKey], kind: str
) -> None:
    key = keys[kind]
    for encoded in odd_encodings(key).values():
        for in_certificate in (encoded, key.public_key):
            with pytest.raises(VerificationError, match="Public key mismatch"):
                verify_apk(io.BytesIO(apk_with(anatomy, key, in_certificate, encoded)))


def outcome(library: object, key: bytes, algorithm: SignatureAlgorithm, signature: bytes) -> str:
    try:
        verify_signature(algorithm, key, DATA, signature, library=library)  # type: ignore[arg-type]
    except VerificationError as error:
        return error.code
    return "good"


def odd_keys(key: SigningKey) -> list[bytes]:
    """Broken encodings, and numbers that make no key."""
    chosen = random.Random(1)
    made = list(odd_encodings(key).values())
    for _ in range(120):
        broken = bytearray(key.public_key)
        broken[chosen.randrange(len(broken))] = chosen.randrange(256)
        made.append(bytes(broken))
    made += [key.public_key[:cut] for cut in range(0, len(key.public_key), 9)]
    made += [key.public_key + b"\0"]
    return made


NUMBERS = {
    "RSA": [
        spki(der(OID, RSA) + NULL, der(SEQUENCE, integer(n) + integer(e)))
        for n in (3, (1 << 1023) + 1, (1 << 2047) + 2, (1 << 16384) + 1, (1 << 4095) + 1)
        for e in (0, 1, 2, 3, 65537, (1 << 32) + 1, (1 << 33) + 1, (1 << 64) + 1, (1 << 300) + 1)
    ],
    "EC": [
        spki(der(OID, EC) + der(OID, P256), point)
        for point in (
            *(b"", b"\0", b"\4", b"\2" + bytes(32), b"\3" + b"\xff" * 32, b"\4" + bytes(64)),
            *(b"\6" + bytes(64), b"\4" + b"\xff" * 64, b"\2" + (5).to_bytes(32, "big")),
        )
    ],
    "DSA": [
        spki(der(OID, DSA) + der(SEQUENCE, integer(p) + integer(q) + integer(g)), integer(y))
        for p in ((1 << 1023) + 1, (1 << 1023) + 2, (1 << 1500) + 1)
        for q in ((1 << 159) + 1, (1 << 200) + 1)
        for g in (0, 1, 2)
        for y in (0, 1, 2, 1 << 1024)
    ],
}


@pytest.mark.parametrize("kind", KINDS)
def test_both_backends_say_the_same_of_odd_keys(keys: dict[str, SigningKey], kind: str) -> None:
    key = keys[kind]
    algorithm = key.algorithm
    signature = key.sign(algorithm, DATA)
    odd = odd_keys(key) + NUMBERS[algorithm.key_type.value]
    verdicts = [
        [outcome(library, encoded, algorithm, signature) for encoded in odd]
        for library in (pyca, libcrypto)
    ]
    assert verdicts[0] == verdicts[1]
    assert {"good", "public-key", "signature-invalid"} <= set(verdicts[0])


def odd_signatures(signature: bytes) -> list[bytes]:
    """Broken ones, and the same numbers in encodings other than the one of DER."""
    chosen = random.Random(2)
    made = [b"", b"\0", signature + b"\0", b"\0" + signature, signature[1:], signature[:-1]]
    made += [bytes(len(signature)), b"\xff" * len(signature), signature * 2]
    for _ in range(60):
        broken = bytearray(signature)
        broken[chosen.randrange(len(broken))] ^= 1 << chosen.randrange(8)
        made.append(bytes(broken))
    if signature[:1] == b"0":  # a SEQUENCE of two INTEGERs
        numbers = Der(signature).inner(SEQUENCE)
        r, s = numbers.unsigned(), numbers.unsigned()
        made += [
            long_form(signature),
            der(SEQUENCE, integer(r, 1) + integer(s)),
            der(SEQUENCE, integer(r) + integer(s, 3)),
            der(SEQUENCE, integer(r) + integer(s) + integer(1)),
            der(SEQUENCE, long_form(integer(r)) + integer(s)),
            der(SEQUENCE, integer(0) + integer(s)),
            der(SEQUENCE, integer(r) + integer(0)),
            der(SEQUENCE, integer(r << 8) + integer(s)),
            b"\x30\x80" + integer(r) + integer(s) + b"\0\0",
        ]
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_both_backends_say_the_same_of_odd_signatures(
    keys: dict[str, SigningKey], kind: str
) -> None:
    key = keys[kind]
    algorithm = key.algorithm
    signature = key.sign(algorithm, DATA)
    assert outcome(pyca, key.public_key, algorithm, signature) == "good"
    for odd in odd_signatures(signature):
        verdicts = {outcome(lib, key.public_key, algorithm, odd) for lib in (pyca, libcrypto)}
        assert len(verdicts) == 1, odd.hex()


def odd_certificates(key: SigningKey) -> list[bytes]:
    chosen = random.Random(3)
    made = []
    for _ in range(150):
        broken = bytearray(key.certificate)
        for _ in range(chosen.choice((1, 1, 3))):
            broken[chosen.randrange(len(broken))] = chosen.randrange(256)
        made.append(bytes(broken))
    return made + [key.certificate[:cut] for cut in range(0, len(key.certificate), 23)]


@pytest.mark.parametrize("kind", KINDS)
def test_both_backends_say_the_same_of_odd_certificates(
    keys: dict[str, SigningKey], kind: str
) -> None:
    key = keys[kind]
    algorithm = key.algorithm
    signature = key.sign(algorithm, DATA)

    def verdict(library: object, certificate: bytes) -> str:
        try:
            encoded = certificate_public_key(certificate)
        except VerificationError as error:
            return error.code
        return outcome(library, encoded, algorithm, signature)

    odd = odd_certificates(key)
    verdicts = [[verdict(library, item) for item in odd] for library in (pyca, libcrypto)]
    assert verdicts[0] == verdicts[1]
    assert {"good", "certificate"} <= set(verdicts[0])


def openssl_reads(certificate: bytes) -> bool:
    """Does `d2i_X509`, with which AVF and Android read certificates, take it?"""
    crypto = ctypes.CDLL("libcrypto.so.3")
    crypto.d2i_X509.restype = ctypes.c_void_p
    crypto.X509_free.argtypes = [ctypes.c_void_p]
    buffer = ctypes.create_string_buffer(certificate, len(certificate) or 1)
    position = ctypes.c_void_p(ctypes.addressof(buffer))
    found = crypto.d2i_X509(None, ctypes.byref(position), ctypes.c_long(len(certificate)))
    crypto.X509_free(found)
    crypto.ERR_clear_error()
    return bool(found)


def is_readable(certificate: bytes) -> bool:
    try:
        return bool(certificate_public_key(certificate))
    except CertificateError:
        return False


@pytest.mark.parametrize("kind", ["rsa-2048", "ec-p256", "dsa-1024"])
def test_no_certificate_is_read_that_openssl_refuses(
    keys: dict[str, SigningKey], kind: str
) -> None:
    certificate, chosen = keys[kind].certificate, random.Random(4)
    odd = odd_certificates(keys[kind])
    for place in [*range(120), *range(len(certificate) - 40, len(certificate))]:
        for value in (0, 1, 5, 0x0C, 0x30, 0x80, 0xA3, 0xFF, chosen.randrange(256)):
            odd.append(certificate[:place] + bytes([value]) + certificate[place + 1 :])
    for place, value in enumerate(certificate):
        odd.append(certificate[:place] + bytes([value ^ 0x20]) + certificate[place + 1 :])
    readable = [item for item in odd if is_readable(item)]
    assert all(openssl_reads(item) for item in readable)
    assert 100 < len(readable) < len(odd)
    both = sum(openssl_reads(item) for item in odd)
    assert len(readable) > 0.9 * both


@pytest.mark.parametrize("kind", ["rsa-2048", "ec-p256", "dsa-1024"])
def test_the_bit_of_constructed_elements(keys: dict[str, SigningKey], kind: str) -> None:
    """It counts for all but lists, the names and what is in them, but for the key as others read it."""
    certificate = keys[kind].certificate
    public_key = certificate.index(keys[kind].public_key)
    places = [*range(public_key), *range(public_key + len(keys[kind].public_key), len(certificate))]
    flipped = [
        certificate[:place] + bytes([certificate[place] ^ 0x20]) + certificate[place + 1 :]
        for place in places
    ]
    found = [is_readable(item) for item in flipped]
    assert found == [openssl_reads(item) for item in flipped]
    assert {True, False} == set(found)


@pytest.mark.parametrize(
    ("tag", "value", "readable"),
    [
        (0x0C, "é".encode(), True),
        (0x0C, b"\xff", False),
        (0x1E, b"\0a", True),
        (0x1E, b"a", False),
        (0x13, b"\xff", True),
        (0x04, b"a", False),
        (0x02, b"\1", False),
        (0x30, b"", True),
        (0x03, b"\0", True),
        (0x03, b"\x08", False),
    ],
)
def test_values_in_names(key: SigningKey, tag: int, value: bytes, readable: bool) -> None:
    text = der(0x0C, b"AVF payload")
    name = der(OID, bytes.fromhex("550403"))

    def named(element: bytes) -> bytes:
        return der(SEQUENCE, der(0x31, der(SEQUENCE, name + element)))

    body = Der(Der(key.certificate).take(SEQUENCE))
    tbs, rest = body.take(SEQUENCE), key.certificate
    assert tbs.count(named(text)) == 2
    rest = rest[rest.index(tbs) + len(tbs) :]
    odd = der(SEQUENCE, der(SEQUENCE, tbs.replace(named(text), named(der(tag, value)))) + rest)
    assert is_readable(odd) == openssl_reads(odd) == readable


def test_a_curve_without_a_name_is_refused_as_such() -> None:
    with pytest.raises(PublicKeyError, match="given by numbers, not by its name"):
        read_public_key(spki(der(OID, EC) + der(SEQUENCE, integer(1)), b"\4" + bytes(64)))


@pytest.mark.parametrize("encoded", [item for items in NUMBERS.values() for item in items])
def test_numbers_that_make_no_key_are_refused_before_a_backend(encoded: bytes) -> None:
    try:
        assert read_public_key(read_public_key(encoded).der).der
    except PublicKeyError as error:
        assert str(error).startswith("Public key ")


@pytest.mark.parametrize("more", [b"", b"0", b"\x30\0", b"\x30\x80\0\0"])
def test_every_certificate_of_a_chain_is_read(
    anatomy: Anatomy, key: SigningKey, more: bytes
) -> None:
    digests = [(key.algorithm, anatomy.digest(key.algorithm))]
    good = Forger(key, digests, certificates=[key.certificate, key.certificate])
    assert verify_apk(io.BytesIO(anatomy.with_pairs((BlockId.V3, good.block())).build()))
    bad = Forger(key, digests, certificates=[key.certificate, more])
    with pytest.raises(ApkError, match=r"^Certificate: "):
        verify_apk(io.BytesIO(anatomy.with_pairs((BlockId.V3, bad.block())).build()))


def test_bytes_behind_a_certificate_are_ignored(anatomy: Anatomy, key: SigningKey) -> None:
    digests = [(key.algorithm, anatomy.digest(key.algorithm))]
    forger = Forger(key, digests, certificates=[key.certificate + b"\0more"])
    assert verify_apk(io.BytesIO(anatomy.with_pairs((BlockId.V3, forger.block())).build()))
