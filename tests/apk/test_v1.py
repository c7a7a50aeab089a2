"""v1 (JAR) signatures: what platforms accept, and each way to break them."""

import io
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from avf.apk import (
    ApkError,
    CertificateError,
    DigestMismatch,
    EntryError,
    EntryNotSigned,
    NoSigner,
    SchemeNotFound,
    SignatureInvalid,
    SignatureStripped,
    SignerMismatch,
    SigningKey,
    UnsupportedAlgorithm,
    V1SignatureError,
    VerifiedV1,
    verify,
    verify_range,
    verify_v1,
)
from avf.apk import sign as sign_apk
from avf.apk.algorithms import KeyType
from avf.apk.crypto.spki import der
from avf.apk.signers import MAX_SDK
from avf.apk.v1.mechanisms import Mechanism, not_in, platforms
from avf.apk.v1.sections import sections
from avf.apk.verify import Scheme
from tests.apk.conftest import ApkSigner, builder, run_apksigner
from tests.apk.jar import (
    DIGEST_OIDS,
    DSA,
    EC,
    MANIFEST,
    RSA,
    SIGNED_DATA,
    Jar,
    Signer,
    attributes_for,
    block,
    digest,
    oid,
)

V1 = [
    *(f"--v{n}-signing-enabled={str(n == 1).lower()}" for n in (1, 2, 3)),
    "--v1-signer-name",
    "CERT",
]
SF, EC_BLOCK = "META-INF/CERT.SF", "META-INF/CERT.EC"


@pytest.fixture(scope="module")
def jar(key: SigningKey) -> Jar:
    return Jar(key)


def check(apk: io.BytesIO, low: int = 18, high: int = MAX_SDK) -> VerifiedV1:
    return verify_v1(apk, min_sdk=low, max_sdk=high)


@pytest.mark.parametrize(
    ("kind", "low", "suffix"),
    [("rsa-2048", 1, "RSA"), ("ec-p384", 18, "EC"), ("dsa-1024", 21, "DSA")],
)
def test_what_apksigner_signed(
    apksigner: ApkSigner, keys: dict[str, SigningKey], kind: str, low: int, suffix: str
) -> None:
    path = apksigner(kind, *V1, "--min-sdk-version", str(low))
    with path.open("rb") as apk:
        (verdict,) = verify_range(apk, min_sdk=low, max_sdk=29)
    assert isinstance(verdict.apk, VerifiedV1)
    (signer,) = verdict.apk.signers
    assert verdict.apk.scheme is Scheme.V1
    assert verdict.apk.warnings == ()
    assert signer.name == f"CERT.{suffix}"
    assert signer.certificates == (keys[kind].certificate,)
    assert signer.public_key == keys[kind].public_key


def test_what_jarsigner_signed(tmp_path: Path, unsigned: Path) -> None:
    """Its signatures cover attributes, which platforms before SDK 19 do not check."""
    store, out = tmp_path / "store", tmp_path / "out.apk"
    words = ["-keystore", str(store), "-storepass", "swordfish"]
    subject = ["-dname", "CN=jar signer, O=Example", "-alias", "release", "-keyalg", "RSA"]
    for command in (
        ["keytool", "-genkeypair", *words, *subject],
        ["jarsigner", *words, "-sigfile", "CERT", "-signedjar", str(out), str(unsigned), "release"],
    ):
        subprocess.run(command, check=True, capture_output=True)
    with out.open("rb") as apk:
        assert [item.name for item in verify_v1(apk, min_sdk=19).signers] == ["CERT.RSA"]
        with pytest.raises(UnsupportedAlgorithm, match="before SDK 19 do not check"):
            verify_v1(apk, min_sdk=18)


def test_a_hand_made_signature_is_good(jar: Jar, tmp_path: Path) -> None:
    """What the other tests break is right before, for apksigner too."""
    path = tmp_path / "good.apk"
    path.write_bytes(jar.build().getvalue())
    run_apksigner("verify", "--min-sdk-version", "18", str(path))
    assert [signer.name for signer in check(jar.build()).signers] == ["CERT.EC"]


MAIN = "SHA-256-Digest-Manifest-Main-Attributes"
OTHER = SigningKey.generate()
Change = Callable[[Jar], dict[str, bytes | None]]
BROKEN: list[tuple[str, Change, type[ApkError], str]] = [
    ("contents", lambda jar: {"a": b"2"}, DigestMismatch, "'a'.*digest mismatch"),
    ("an entry more", lambda jar: {"c": b""}, EntryNotSigned, "'c' is not in the manifest"),
    ("an entry less", lambda jar: {"a": None}, V1SignatureError, "no ZIP entry 'a'"),
    ("no manifest", lambda jar: {MANIFEST: None}, SchemeNotFound, "no v1"),
    ("no signature file", lambda jar: {SF: None}, SchemeNotFound, "there is no META-INF/CERT.SF"),
    ("no block", lambda jar: {EC_BLOCK: None}, SchemeNotFound, "manifest without signature"),
    ("empty manifest", lambda jar: {MANIFEST: b""}, V1SignatureError, "is empty"),
    (
        "section without a name",
        lambda jar: {MANIFEST: jar.manifest() + b"SHA-256-Digest: AA\r\n\r\n"},
        V1SignatureError,
        "section 4 has no name",
    ),
    (
        "section twice",
        lambda jar: {MANIFEST: jar.manifest() + jar.section("a", b"1")},
        V1SignatureError,
        "'a' occurs twice",
    ),
    (
        "digest that is no base64",
        lambda jar: {MANIFEST: jar.manifest().replace(b"-Digest: ", b"-Digest: !")},
        V1SignatureError,
        "not in base64",
    ),
    (
        "digest of an unknown name",
        lambda jar: {MANIFEST: jar.manifest().replace(b"SHA-256-", b"SHA-3-")},
        EntryNotSigned,
        "no usable digest",
    ),
    ("another manifest", lambda jar: {SF: jar.signature_file(b"A: b\r\n\r\nName: a\r\n\r\n")},
     DigestMismatch, "says something else of 'a'"),
    ("no version", lambda jar: {SF: jar.signature_file()[24:]}, SchemeNotFound,
     "has no Signature-Version"),
    (
        "other main section",
        lambda jar: {SF: jar.signature_file(main=f"{MAIN}: {digest(b'x')}\r\n")},
        DigestMismatch,
        "main section is another one",
    ),
    ("empty block", lambda jar: {EC_BLOCK: b""}, V1SignatureError, "there is nothing"),
    ("block of zeros", lambda jar: {EC_BLOCK: bytes(64)}, V1SignatureError, "found tag 0"),
    ("block cut short", lambda jar: {EC_BLOCK: block(b"", Signer(jar.key))[:-9]},
     V1SignatureError, "cut short"),
    ("signature of something else", lambda jar: {EC_BLOCK: block(b"x", Signer(jar.key))},
     SignatureInvalid, "not of the signature file"),
    ("block without signature", lambda jar: {EC_BLOCK: block(b"", certificates=[b"\x30\0"])},
     SignatureInvalid, "holds no signature"),
    (
        "certificate of somebody else",
        lambda jar: {
            EC_BLOCK: block(jar.signature_file(), Signer(jar.key), certificates=[OTHER.certificate])
        },
        CertificateError,
        "does not hold the certificate",
    ),
    (
        "certificate named by its key",
        lambda jar: {EC_BLOCK: block(jar.signature_file(), Signer(jar.key, name=der(0x80, b"k")))},
        CertificateError,
        "does not hold the certificate",
    ),
    (
        "broken certificate",
        lambda jar: {EC_BLOCK: block(jar.signature_file(), Signer(jar.key), certificates=[b"\x30\0"])},
        CertificateError,
        "ends early",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "error", "text"), [item[1:] for item in BROKEN], ids=[item[0] for item in BROKEN]
)
def test_each_way_to_break_it(jar: Jar, change: Change, error: type[ApkError], text: str) -> None:
    with pytest.raises(error, match=text):
        check(jar.build(change(jar)))


@pytest.mark.parametrize("name", ["a", "META-INF/x", MANIFEST])
def test_names_in_the_zip_that_occur_twice(jar: Jar, name: str) -> None:
    apk = jar.build({"META-INF/x": b"1"})
    with zipfile.ZipFile(apk, "a") as archive, pytest.warns(UserWarning):
        archive.writestr(name, b"1")
    with pytest.raises(EntryError, match=f"{name}' occurs twice"):
        check(apk)


def test_a_signature_file_with_digests_of_sections_alone(jar: Jar) -> None:
    data = jar.signature_file(whole=False)
    assert check(jar.build({SF: data})).signers
    with pytest.raises(DigestMismatch, match="something else of 'b'"):
        check(jar.build({SF: data, MANIFEST: jar.manifest().replace(b"Name: b", b"X: 1\r\nName: b")
                         .replace(b"X: 1\r\nName: b\r\n", b"Name: b\r\nX: 1\r\n")}))  # fmt: skip


def test_lines_end_and_go_on_in_every_way() -> None:
    for data in (
        b"A: one\r\nB: two three\r\n\r\nName: x\r\nC: d\r\n\r\n",
        b"A: one\nB: two\n  three\n\n\nName: x\nC: d",
        b"\r\rA: o\r ne\rB: two three\r\r\rName: \r x\rC: d\r",
    ):
        main, part = sections(data)
        assert main.attributes() == {"a": "one", "b": "two three"}
        assert (part.name, part.attributes()["c"]) == ("x", "d")
        assert main.encoded in data
        assert part.end == len(data)


@pytest.mark.parametrize(
    ("hash_name", "name", "low"),
    [
        ("sha1", "SHA1-Digest", 18),
        ("sha384", "SHA-384-Digest", 18),
        ("sha512", "SHA-512-Digest", 18),
    ],
)
def test_digests_of_every_length(key: SigningKey, hash_name: str, name: str, low: int) -> None:
    made = Jar(key, hash_name=hash_name, digest_attribute=name)
    assert check(made.build(), low).signers
    with pytest.raises(DigestMismatch):
        check(made.build({"a": b"x"}), low)


def test_the_strongest_digest_counts(jar: Jar) -> None:
    """Before SDK 18 it is the one that Digest-Algorithms names; none of these is there."""
    line = f"SHA1-Digest: {digest(b'wrong', 'sha1')}\r\n".encode()
    both = jar.manifest().replace(b"SHA-256-Digest", line + b"SHA-256-Digest")
    assert check(jar.build({MANIFEST: both})).signers
    stronger = jar.manifest().replace(b"SHA-256-Digest", b"SHA-512-Digest: AAAA\r\nSHA-256-Digest")
    with pytest.raises(DigestMismatch, match="sha512"):
        check(jar.build({MANIFEST: stronger}))


def test_md5_counts_before_sdk_18_alone(keys: dict[str, SigningKey]) -> None:
    key = keys["rsa-2048"]
    made = Jar(key, hash_name="md5", digest_attribute="MD5-Digest")
    manifest = made.manifest().replace(b"MD5-Digest", b"Digest-Algorithms: MD5\r\nMD5-Digest")
    data = made.signature_file(manifest, main="Digest-Algorithms: MD5\r\n")
    data = data.replace(b"\r\nMD5-Digest: ", b"\r\nDigest-Algorithms: MD5\r\nMD5-Digest: ")
    signed = block(data, Signer(key, Mechanism(KeyType.RSA, "sha1"), RSA))
    files = {MANIFEST: manifest, SF: data, EC_BLOCK: None, "META-INF/CERT.RSA": signed}
    assert check(made.build(files), 1, 17).signers
    for low in (1, 18):
        with pytest.raises(ApkError):
            check(made.build(files), low)


def test_signed_attributes(jar: Jar) -> None:
    """They must be those of the file; without a digest or a content type nobody can tell."""
    data = jar.signature_file()
    right = attributes_for(data)
    assert check(jar.build({EC_BLOCK: block(data, Signer(jar.key, attributes=right))}), 19).signers
    for attributes, error in (
        (attributes_for(b"x"), SignatureInvalid),
        (attributes_for(data, content_type=SIGNED_DATA), SignatureInvalid),
        (right[:1], V1SignatureError),
        (right[1:], V1SignatureError),
        ([right[0], right[1], right[1]], V1SignatureError),
    ):
        with pytest.raises(error):
            check(jar.build({EC_BLOCK: block(data, Signer(jar.key, attributes=attributes))}), 19)
    without_type = block(data, Signer(jar.key, attributes=right[1:]))
    assert check(jar.build({EC_BLOCK: without_type}), 19, 23).signers


def test_any_signature_in_a_block_counts_since_sdk_24(jar: Jar) -> None:
    data = jar.signature_file()
    signed = block(
        data, Signer(OTHER, signature=OTHER.sign(Signer(OTHER).how, b"x")), Signer(jar.key)
    )
    assert check(jar.build({EC_BLOCK: signed}), 24).signers[0].public_key == jar.key.public_key
    with pytest.raises(SignatureInvalid):
        check(jar.build({EC_BLOCK: signed}), 23)


def test_every_entry_must_have_the_same_signers(jar: Jar) -> None:
    manifest = jar.manifest()
    part = jar.signature_file(manifest).replace(jar.section("b", jar.section("b", b"2" * 100)), b"")
    other = {"META-INF/OTHER.SF": part, "META-INF/OTHER.EC": block(part, Signer(OTHER))}
    with pytest.raises(EntryNotSigned, match="'b' is not signed by all"):
        check(jar.build(other))
    with pytest.raises(EntryNotSigned, match="'b' is not signed"):
        check(jar.build({SF: part}))
    whole = jar.signature_file(manifest)
    both = {"META-INF/OTHER.SF": whole, "META-INF/OTHER.EC": block(whole, Signer(OTHER))}
    assert {item.public_key for item in check(jar.build(both)).signers} == {
        jar.key.public_key,
        OTHER.public_key,
    }


def test_one_broken_signature_spoils_all(jar: Jar) -> None:
    whole = jar.signature_file()
    both = {"META-INF/OTHER.SF": whole, "META-INF/OTHER.EC": block(b"", Signer(OTHER))}
    with pytest.raises(SignatureInvalid, match=r"META-INF/OTHER.EC"):
        check(jar.build(both))


def test_at_most_ten_signers(jar: Jar) -> None:
    whole = jar.signature_file()
    signed = block(whole, Signer(jar.key))
    files: dict[str, bytes | None] = {}
    for number in range(10):
        files |= {f"META-INF/S{number}.SF": whole, f"META-INF/S{number}.EC": signed}
    with pytest.raises(NoSigner, match="11 signers"):
        check(jar.build(files))
    assert len(check(jar.build({**files, SF: None, EC_BLOCK: None})).signers) == 10


def test_what_is_ignored_is_told(jar: Jar) -> None:
    odd = jar.signature_file()[24:]
    files = {"META-INF/ODD.SF": odd, "META-INF/ODD.EC": block(odd, Signer(OTHER))}
    files |= {"META-INF/LONE.RSA": b"", "META-INF/services/x": b"1"}
    verified = check(jar.build(files))
    assert [signer.name for signer in verified.signers] == ["CERT.EC"]
    found = "; ".join(verified.warnings)
    for text in ("ODD.EC is ignored", "LONE.RSA is ignored", "'META-INF/services/x' is not prot"):
        assert text in found


@pytest.mark.parametrize("schemes", ["2", "3", "2, 3", " 3 ,junk,2"])
def test_a_signature_that_was_removed_is_missed(jar: Jar, schemes: str) -> None:
    data = jar.signature_file(main=f"X-Android-APK-Signed: {schemes}\r\n")
    apk = jar.build({SF: data})
    known_in_24 = "2" in schemes
    assert verify_range(apk, min_sdk=18, max_sdk=23)
    if known_in_24:
        with pytest.raises(SignatureStripped, match="signed with v2"):
            verify_range(apk, min_sdk=18, max_sdk=24)
    else:
        assert verify_range(apk, min_sdk=18, max_sdk=27)
        with pytest.raises(SignatureStripped, match="signed with v3"):
            verify_range(apk, min_sdk=18, max_sdk=28)


def test_v1_does_not_suffice_for_a_new_target(key: SigningKey) -> None:
    apk = Jar(key, target_sdk=30).build()
    assert verify_range(apk, max_sdk=29)
    with pytest.raises(SchemeNotFound, match=r"SDK 30: .*target SDK 30 asks for v2"):
        verify_range(apk)


def test_guests_take_no_v1(jar: Jar) -> None:
    with pytest.raises(SchemeNotFound, match="has only a v1"):
        verify(jar.build(), allow_v2=True)


def test_the_owner_is_the_same_for_all_platforms(keys: dict[str, SigningKey]) -> None:
    unsigned, first, second = io.BytesIO(), io.BytesIO(), io.BytesIO()
    builder(min_sdk=18).write(unsigned)
    one, other = keys["rsa-2048"], keys["ec-p256"]
    sign_apk(unsigned, first, one, schemes=[Scheme.V1, Scheme.V2], min_sdk=18)
    assert [item.apk.scheme for item in verify_range(first)] == [Scheme.V1, Scheme.V2]
    from tests.apk.forge import Anatomy, Forger

    parts = Anatomy.of(first.getvalue())
    made = Forger(other, [(0x0201, parts.digest(other.algorithm))], has_range=False)
    second.write(parts.with_pairs((0x7109871A, made.block())).build())
    assert verify_range(second, min_sdk=24)
    with pytest.raises(SignerMismatch, match="of v1 and of v2"):
        verify_range(second)


@pytest.mark.parametrize(
    ("digest_name", "signature_oid", "accepted", "refused"),
    [
        ("sha1", RSA, (1, MAX_SDK), None),
        ("sha256", RSA, (18, MAX_SDK), (9, 17)),
        ("sha512", RSA, (18, MAX_SDK), (1, 17)),
        ("sha256", EC, (18, MAX_SDK), (1, 17)),
        ("md5", EC, None, (1, MAX_SDK)),
        ("sha256", DSA, (22, MAX_SDK), (1, 21)),
        ("sha1", DSA, (1, MAX_SDK), None),
        ("sha384", DSA, None, (1, MAX_SDK)),
    ],
)
def test_platforms_of_an_algorithm(
    digest_name: str,
    signature_oid: str,
    accepted: tuple[int, int] | None,
    refused: tuple[int, int] | None,
) -> None:
    from avf.apk.v1.ber import first

    pair = (first(oid(DIGEST_OIDS[digest_name])).oid, first(oid(signature_oid)).oid)
    if accepted:
        assert not_in(accepted, platforms(*pair)) == []
    if refused:
        assert not_in(refused, platforms(*pair)) == [refused]


def test_an_algorithm_that_is_too_new_is_named_with_its_platforms(jar: Jar) -> None:
    with pytest.raises(
        UnsupportedAlgorithm, match=r"META-INF/CERT\.EC: .*not accepted by SDK 9 to 17"
    ):
        check(jar.build(), 9)
