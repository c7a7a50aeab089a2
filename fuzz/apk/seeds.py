"""Good inputs of every target, to start from."""

import io
import struct

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
from avf.apk.lineage import encode_lineage

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
    idsigs = [_idsig(apks[0], None), _idsig(apks[0], new)]
    return {
        "certificate": [new.certificate],
        "idsig": idsigs,
        "idsig_of_apk": [struct.pack("<I", 4 + len(made)) + made + apks[0] for made in idsigs],
        "lineage": [encode_lineage(nodes)],
        "manifest": [read_entry(unsigned, "AndroidManifest.xml", limit=1 << 16)],
        "public_key": [SigningKey.generate(kind).public_key for kind in KINDS],
        "rewrite": [unsigned.getvalue(), apks[0]],
        "tree": [struct.pack("<I", 100)[:3] + bytes(200)],
        "verify": apks,
        "zip": [unsigned.getvalue(), apks[0]],
    }


def _idsig(apk: bytes, key: SigningKey | None) -> bytes:
    made = Idsig.create(io.BytesIO(apk))
    if key:
        sign_idsig(made, len(apk), key)
    return made.header() + bytes(made.tree or b"")
