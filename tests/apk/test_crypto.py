"""Both backends against the same vectors, and the certificate walk against `cryptography`."""

import datetime
import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from hypothesis import given
from hypothesis import strategies as st

from avf.apk import SignatureAlgorithm, SigningKey, VerificationError
from avf.apk.crypto import (
    Backend,
    backend,
    certificate_public_key,
    libcrypto,
    pyca,
    verify_signature,
)
from avf.apk.keys import SigningKey as Key

DATA = b"what is signed" * 100
ALGORITHMS = list(SignatureAlgorithm)
KINDS = {
    "RSA": ("rsa-2048", "rsa-4096"),
    "EC": ("ec-p256", "ec-p384"),
    "DSA": ("dsa-1024", "dsa-2048"),
}
VECTORS = [(a, kind) for a in ALGORITHMS for kind in KINDS[a.key_type.value]]

backends = pytest.mark.parametrize("library", [pyca, libcrypto], ids=["pyca", "libcrypto"])


def check(
    library: Backend,
    algorithm: SignatureAlgorithm,
    public_key: bytes,
    data: bytes,
    signature: bytes,
) -> None:
    verify_signature(algorithm, public_key, data, signature, library=library)


@backends
@pytest.mark.parametrize(("algorithm", "kind"), VECTORS)
def test_good_and_bad_signatures(
    library: Backend, keys: dict[str, SigningKey], algorithm: SignatureAlgorithm, kind: str
) -> None:
    key = keys[kind]
    signature = key.sign(algorithm, DATA)
    check(library, algorithm, key.public_key, DATA, signature)
    wrong = bytearray(signature)
    wrong[len(wrong) // 2] ^= 1
    for data, bad in [
        (DATA + b"!", signature),
        (DATA, bytes(wrong)),
        (DATA, signature[:-1]),
        (DATA, signature + b"\0"),
        (DATA, b""),
    ]:
        with pytest.raises(VerificationError, match=r"^Signature is invalid\.$"):
            check(library, algorithm, key.public_key, data, bad)


@backends
def test_another_algorithm_of_the_same_key_does_not_do(
    library: Backend, keys: dict[str, SigningKey]
) -> None:
    for algorithm, kind in VECTORS:
        key = keys[kind]
        signature = key.sign(algorithm, DATA)
        for other in ALGORITHMS:
            same = (other.hash_name, other.pss) == (algorithm.hash_name, algorithm.pss)
            if same or other.key_type is not algorithm.key_type:
                continue
            with pytest.raises(VerificationError, match="Signature is invalid"):
                check(library, other, key.public_key, DATA, signature)


@pytest.mark.parametrize("kind", KINDS["RSA"])
@pytest.mark.parametrize("hash_name", ["sha256", "sha512"])
def test_pss_is_that_of_rfc_8017(keys: dict[str, SigningKey], kind: str, hash_name: str) -> None:
    """Against the definition written down here: Debian's apksigner cannot be asked."""
    key = keys[kind]
    algorithm = SignatureAlgorithm[f"RSA_PSS_{hash_name.upper()}"]
    public = load_der_public_key(key.public_key)
    assert isinstance(public, rsa.RSAPublicKey)
    signature = key.sign(algorithm, DATA)
    assert emsa_pss_holds(public.public_numbers(), DATA, signature, hash_name)
    assert not emsa_pss_holds(public.public_numbers(), DATA + b"!", signature, hash_name)


def emsa_pss_holds(
    public: rsa.RSAPublicNumbers, message: bytes, signature: bytes, hash_name: str
) -> bool:
    """RSASSA-PSS-VERIFY (section 8.1.2) with a salt as long as the hash, for keys of whole bytes."""
    size = hashlib.new(hash_name).digest_size
    encoded = pow(int.from_bytes(signature, "big"), public.e, public.n).to_bytes(
        len(signature), "big"
    )
    masked, digest, trailer = encoded[: -size - 1], encoded[-size - 1 : -1], encoded[-1]
    counters = range(-(-len(masked) // size))
    mask = b"".join(
        hashlib.new(hash_name, digest + counter.to_bytes(4, "big")).digest() for counter in counters
    )
    block = bytearray(a ^ b for a, b in zip(masked, mask, strict=False))
    block[0] &= 0x7F
    padding, salt = bytes(block[:-size]), bytes(block[-size:])
    expected = hashlib.new(
        hash_name, bytes(8) + hashlib.new(hash_name, message).digest() + salt
    ).digest()
    whole = padding == b"\0" * (len(padding) - 1) + b"\1"
    return whole and trailer == 0xBC and digest == expected


@pytest.mark.parametrize("bits", range(1024, 1033))
@pytest.mark.parametrize("pss", [False, True])
def test_encodings_of_every_kind_have_the_same_verdicts(bits: int, pss: bool) -> None:
    """Blocks that nobody encodes like this, signed nevertheless, by keys of whole and of broken bytes."""
    private = rsa.generate_private_key(65537, bits)
    numbers = private.private_numbers()
    n, size = numbers.public_numbers.n, -(-bits // 8)
    public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    name = "RSA_PSS_SHA256" if pss else "RSA_PKCS1_V1_5_SHA256"
    algorithm = SignatureAlgorithm[name]
    verdicts = []
    for block in odd_pss_blocks(bits) if pss else odd_pkcs1_blocks(size):
        signature = pow(int.from_bytes(block, "big"), numbers.d, n).to_bytes(size, "big")
        found = set()
        for library in (pyca, libcrypto):
            try:
                check(library, algorithm, public, DATA, signature)
                found.add(True)
            except VerificationError:
                found.add(False)
        verdicts.append(found)
    assert verdicts == [{True}, *[{False}] * (len(verdicts) - 1)]


def odd_pkcs1_blocks(size: int) -> list[bytes]:
    """A right one, then wrong ones."""
    prefix = bytes.fromhex("3031300d060960864801650304020105000420")
    without_null = bytes.fromhex("302f300b0609608648016503040201" + "0420")
    digest = hashlib.sha256(DATA).digest()
    info = prefix + digest

    def padded(content: bytes, kind: int = 1, byte: int = 0xFF) -> bytes:
        return bytes([0, kind]) + bytes([byte]) * (size - 3 - len(content)) + b"\0" + content

    short = b"\0\1" + b"\xff" * 8 + b"\0" + info
    return [
        padded(info),
        padded(info, kind=2),
        padded(info, kind=0, byte=0),
        padded(info, byte=0xFE),
        padded(without_null + digest),
        padded(digest),
        padded(prefix + digest[:-1] + b"!"),
        padded(b"\0" + info),
        short + bytes(size - len(short)),
        padded(info + b"!"),
    ]


def odd_pss_blocks(bits: int) -> list[bytes]:
    """A right one, then wrong ones, each less than any modulus of that many bits."""
    length, size = -(-(bits - 1) // 8), 32
    spare = 8 * length - (bits - 1)

    def mask(seed: bytes, wanted: int) -> bytes:
        blocks = (hashlib.sha256(seed + bytes([0, 0, 0, i])).digest() for i in range(8))
        return b"".join(blocks)[:wanted]

    def encoded(
        salt: bytes, *, one: int = 1, padding: int = 0, end: int = 0xBC, tag: bytes = b""
    ) -> bytes:
        salted = bytes(8) + hashlib.sha256(DATA).digest() + salt
        digest = tag or hashlib.sha256(salted).digest()
        zeros = bytearray(length - size - 2 - len(salt))
        zeros[-1] ^= padding
        block = bytes(zeros) + bytes([one]) + salt
        masked = bytearray(a ^ b for a, b in zip(block, mask(digest, len(block)), strict=True))
        masked[0] &= 0xFF >> spare
        return bytes(masked) + digest + bytes([end])

    return [
        encoded(bytes(range(32))),
        encoded(bytes(range(31))),
        encoded(bytes(range(33))),
        encoded(b""),
        encoded(bytes(32), one=0),
        encoded(bytes(32), one=2),
        encoded(bytes(32), padding=1),
        encoded(bytes(32), end=0xCC),
        encoded(bytes(32), tag=bytes(32)),
    ]


@backends
def test_keys_of_another_type(library: Backend, keys: dict[str, SigningKey]) -> None:
    for algorithm, kind in [
        (SignatureAlgorithm.ECDSA_SHA256, "rsa-2048"),
        (SignatureAlgorithm.RSA_PSS_SHA256, "ec-p256"),
        (SignatureAlgorithm.DSA_SHA256, "ec-p256"),
        (SignatureAlgorithm.ECDSA_SHA256, "dsa-1024"),
        (SignatureAlgorithm.RSA_PKCS1_V1_5_SHA256, "dsa-1024"),
    ]:
        with pytest.raises(VerificationError, match="Public key has the wrong ID"):
            check(library, algorithm, keys[kind].public_key, DATA, b"")


def spki(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@backends
def test_a_curve_that_is_not_accepted(library: Backend) -> None:
    public = spki(ec.generate_private_key(ec.SECP256K1()))
    with pytest.raises(VerificationError, match="on a curve that is not accepted: OID 2b8104000a"):
        check(library, SignatureAlgorithm.ECDSA_SHA256, public, DATA, b"")


@backends
@pytest.mark.parametrize("bits", [512, 768])
def test_a_short_rsa_key(library: Backend, bits: int) -> None:
    key = _sequence(_der(2, b"\0" + b"\xff" * (bits // 8)) + bytes.fromhex("0203010001"))
    rsa_encryption = bytes.fromhex("300d06092a864886f70d0101010500")
    public = _sequence(rsa_encryption + _der(3, b"\0" + key))
    with pytest.raises(VerificationError, match=f"Public key has {bits} bits"):
        check(library, SignatureAlgorithm.RSA_PSS_SHA256, public, DATA, b"")


@backends
@pytest.mark.parametrize("change", [b"", b"\0", b"0"])
def test_keys_that_cannot_be_read(
    library: Backend, keys: dict[str, SigningKey], change: bytes
) -> None:
    good = keys["ec-p256"].public_key
    for bad in (change, good[:-1], good + b"\0"):
        with pytest.raises(VerificationError, match="Public key cannot be read"):
            check(library, SignatureAlgorithm.ECDSA_SHA256, bad, DATA, b"")


@given(position=st.integers(0, 90), value=st.integers(0, 255))
def test_backends_agree_on_broken_keys(position: int, value: int) -> None:
    algorithm = SignatureAlgorithm.ECDSA_SHA256
    public = bytearray(FIXED.public_key)
    public[position] = value
    outcomes = set()
    for library in (pyca, libcrypto):
        try:
            check(library, algorithm, bytes(public), DATA, FIXED_SIGNATURE)
            outcomes.add("good")
        except VerificationError:
            outcomes.add("bad")
    assert len(outcomes) == 1


FIXED = Key.generate("ec-p256")
FIXED_SIGNATURE = FIXED.sign(SignatureAlgorithm.ECDSA_SHA256, DATA)


def test_the_backend_is_cryptography_where_it_can_be_imported() -> None:
    assert backend() is pyca


@pytest.mark.parametrize("kind", ["rsa-2048", "ec-p256", "ec-p384"])
def test_certificate_public_key(keys: dict[str, SigningKey], kind: str) -> None:
    assert certificate_public_key(keys[kind].certificate) == keys[kind].public_key


VALIDITY = bytes.fromhex("301e") + 2 * (b"\x17\x0d" + b"200101000000Z")


def test_a_version_1_certificate_has_no_version_field(key: SigningKey) -> None:
    """Rebuilt from a v3 one: without [0] and without extensions."""
    public = key.public_key
    parts = x509.load_der_x509_certificate(key.certificate)
    serial = b"\x02\x01\x05"
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    name = parts.subject.public_bytes()
    tbs = _sequence(serial + algorithm + name + VALIDITY + name + public)
    certificate = _sequence(tbs + algorithm + b"\x03\x01\x00")
    assert certificate_public_key(certificate) == public


def _sequence(body: bytes) -> bytes:
    return _der(0x30, body)


def _der(tag: int, body: bytes) -> bytes:
    size = len(body)
    if size < 0x80:
        return bytes([tag, size]) + body
    length = size.to_bytes(1 if size < 0x100 else 2, "big")
    return bytes([tag, 0x80 | len(length)]) + length + body


GOOD_FIELDS = {
    "version": bytes.fromhex("a003020102"),
    "serial number": bytes.fromhex("020105"),
    "signature algorithm": bytes.fromhex("300306012a"),
    "issuer": bytes.fromhex("3000"),
    "validity": VALIDITY,
    "subject": bytes.fromhex("3000"),
    "public key": bytes.fromhex("3009300306012a03020007"),
}


def certificate_of(fields: dict[str, bytes]) -> bytes:
    signature = GOOD_FIELDS["signature algorithm"] + b"\3\1\0"
    return _sequence(_sequence(b"".join(fields.values())) + signature)


def test_the_smallest_certificate() -> None:
    assert certificate_public_key(certificate_of(GOOD_FIELDS)) == GOOD_FIELDS["public key"]


@pytest.mark.parametrize("field", list(GOOD_FIELDS))
def test_a_wrong_certificate_field_is_named(field: str) -> None:
    good = GOOD_FIELDS[field]
    named = "serial number" if field == "version" else field
    with pytest.raises(VerificationError, match=f"no {named} at byte"):
        certificate_public_key(certificate_of({**GOOD_FIELDS, field: b"\x04" + good[1:]}))
    with pytest.raises(VerificationError, match=f"{field} at byte [0-9]+ is cut short"):
        certificate_public_key(certificate_of({**GOOD_FIELDS, field: good[:1] + b"\x7f"}))
    for length in (b"\x80", b"\x85\0\0\0\0\1", b"\xff"):
        with pytest.raises(VerificationError, match=f"bad length of {field}"):
            certificate_public_key(certificate_of({**GOOD_FIELDS, field: good[:1] + length}))


def test_a_certificate_length_that_is_cut_short() -> None:
    with pytest.raises(VerificationError, match="bad length of certificate"):
        certificate_public_key(b"\x30\x82\x01")


@pytest.mark.parametrize("cut", range(0, 300, 7))
def test_a_truncated_certificate(key: SigningKey, cut: int) -> None:
    with pytest.raises(VerificationError, match="Certificate: "):
        certificate_public_key(key.certificate[:cut])


def test_bytes_after_a_certificate_are_ignored(key: SigningKey) -> None:
    assert certificate_public_key(key.certificate + b"\0") == key.public_key


@given(st.binary(max_size=200))
def test_no_junk_is_a_certificate(junk: bytes) -> None:
    with pytest.raises(VerificationError):
        certificate_public_key(junk)


def test_a_generated_certificate_is_valid_now(key: SigningKey) -> None:
    certificate = x509.load_der_x509_certificate(key.certificate)
    now = datetime.datetime.now(datetime.UTC)
    assert certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc
