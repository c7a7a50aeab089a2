"""Good inputs of every target, to start from."""

import hashlib
import io
import struct

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates

from avf.apk import (
    ApkBuilder,
    Idsig,
    Rotation,
    Scheme,
    SigningKey,
    read_entry,
    rotate,
    sign,
    sign_idsig,
)
from avf.apk.crypto.spki import OCTET_STRING, OID, SEQUENCE, der
from avf.apk.key_files import PrivateKey
from avf.apk.lineage import encode_lineage
from fuzz.apk.targets import PASSWORD

KINDS = ("ec-p256", "ec-p521", "rsa-2048", "dsa-1024")


def seeds() -> dict[str, list[bytes]]:
    """By target."""
    old, new = SigningKey.generate("ec-p256"), SigningKey.generate("ec-p256")
    unsigned = io.BytesIO()
    ApkBuilder().add("assets/a", b"abc" * 100, compress=True).add("b", b"x").write(unsigned)
    nodes = rotate(old, new)
    apks = []
    for rotation in (None, Rotation(old, nodes), Rotation(old, nodes, 28)):
        out = io.BytesIO()
        sign(unsigned, out, new, rotation=rotation)
        apks.append(out.getvalue())
    out = io.BytesIO()
    sign(unsigned, out, new, schemes=[Scheme.V2], others=[old])
    apks.append(out.getvalue())
    v1_apks = []
    for kind in ("ec-p256", "rsa-2048"):
        out = io.BytesIO()
        sign(unsigned, out, SigningKey.generate(kind), schemes=[Scheme.V1], min_sdk=18)
        v1_apks.append(out.getvalue())
    idsigs = [_idsig(apks[0], None), _idsig(apks[0], new)]
    return {
        "block": [read_entry(io.BytesIO(v1_apks[0]), "META-INF/CERT.EC", limit=1 << 16)],
        "certificate": [new.certificate],
        "idsig": idsigs,
        "idsig_of_apk": [struct.pack("<I", 4 + len(made)) + made + apks[0] for made in idsigs],
        "java_store": [_java_store(new)],
        "lineage": [encode_lineage(nodes)],
        "manifest": [read_entry(unsigned, "AndroidManifest.xml", limit=1 << 16)],
        "pkcs12": [_pkcs12_store(new)],
        "public_key": [SigningKey.generate(kind).public_key for kind in KINDS],
        "rewrite": [unsigned.getvalue(), apks[0]],
        "subject": [new.certificate],
        "tree": [struct.pack("<I", 100)[:3] + bytes(200)],
        "v1": v1_apks,
        "verify": apks,
        "zip": [unsigned.getvalue(), apks[0]],
    }


def _java_store(key: SigningKey) -> bytes:
    """A JKS store, its key encrypted as OpenJDK does."""
    password, salt = PASSWORD.encode("utf-16-be"), bytes(range(20))
    plain = load_pem_private_key(key.to_pem()[0], None).private_bytes(
        Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
    )
    block, stream = salt, b""
    while len(stream) < len(plain):
        block = hashlib.sha1(password + block, usedforsecurity=False).digest()
        stream += block
    hidden = bytes(a ^ b for a, b in zip(plain, stream, strict=False))
    digest = hashlib.sha1(password + plain, usedforsecurity=False).digest()
    algorithm = der(SEQUENCE, der(OID, bytes.fromhex("2b060104012a02110101")) + b"\5\0")
    info = der(SEQUENCE, algorithm + der(OCTET_STRING, salt + hidden + digest))
    body = struct.pack(">4s3I", b"\xfe\xed\xfe\xed", 2, 1, 1) + _string(b"a") + bytes(8)
    body += struct.pack(">I", len(info)) + info + struct.pack(">I", 1)
    body += _string(b"X.509") + struct.pack(">I", len(key.certificate)) + key.certificate
    end = hashlib.sha1(password + b"Mighty Aphrodite" + body, usedforsecurity=False).digest()
    return body + end


def _string(text: bytes) -> bytes:
    return struct.pack(">H", len(text)) + text


def _pkcs12_store(key: SigningKey) -> bytes:
    pem, certificate = key.to_pem()
    private, loaded = load_pem_private_key(pem, None), x509.load_pem_x509_certificate(certificate)
    assert isinstance(private, PrivateKey)
    encryption = BestAvailableEncryption(PASSWORD.encode())
    return serialize_key_and_certificates(b"release", private, loaded, None, encryption)


def _idsig(apk: bytes, key: SigningKey | None) -> bytes:
    made = Idsig.create(io.BytesIO(apk))
    if key:
        sign_idsig(made, len(apk), key)
    return made.header() + bytes(made.tree or b"")
