"""v1 signatures that are written here: byte for byte those of apksigner."""

import io
import zipfile
from pathlib import Path

import pytest

from avf.apk import ApkBuilder, EntryError, SigningError, SigningKey, verify_range
from avf.apk import sign as sign_apk
from avf.apk.__main__ import main
from avf.apk.v1.sign import V1Party, safe_name, signature_files
from avf.apk.verify import Scheme
from tests.apk.conftest import key_arguments, run_apksigner

ALL = (Scheme.V1, Scheme.V2, Scheme.V3)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An APK with names that are long, not ASCII, in META-INF, and a manifest."""
    path = tmp_path_factory.mktemp("v1") / "odd.apk"
    made = ApkBuilder(min_sdk=1, target_sdk=28).add("assets/a", b"abc" * 500, compress=True)
    made.add("META-INF/services/x", b"1").add("META-INF/note", b"2").add("é\U0001f600" * 20, b"3")
    made.add("\uff61", b"4").add("x" * 63, b"5").add("META-INF/OLD.SF", b"6")
    made.add(
        "META-INF/MANIFEST.MF",
        b"Manifest-Version: 1.1\r\nX-Zoo: y\r\nApp: " + b"z" * 40 + b"\r\n " + b"z" * 40 + b"\r\n",
    )
    with path.open("wb") as out:
        made.write(out)
    return path


def signed(path: Path, key: SigningKey, min_sdk: int, *schemes: Scheme) -> io.BytesIO:
    out = io.BytesIO()
    with path.open("rb") as apk:
        sign_apk(apk, out, key, schemes=schemes, min_sdk=min_sdk)
    return out


@pytest.mark.parametrize(
    ("kind", "min_sdk", "schemes"),
    [("rsa-2048", 1, "1"), ("rsa-2048", 18, "123"), ("dsa-2048", 21, "12"), ("ec-p256", 18, "1")],
)
def test_the_files_are_those_of_apksigner(
    odd: Path,
    keys: dict[str, SigningKey],
    tmp_path: Path,
    kind: str,
    min_sdk: int,
    schemes: str,
) -> None:
    theirs = tmp_path / "theirs.apk"
    options = [f"--v{n}-signing-enabled={str(n in schemes).lower()}" for n in "123"]
    options += ["--v1-signer-name", "CERT", "--min-sdk-version", str(min_sdk)]
    run_apksigner(
        "sign",
        *key_arguments(keys[kind], tmp_path / "key"),
        *options,
        "--out",
        str(theirs),
        str(odd),
    )
    ours = signed(odd, keys[kind], min_sdk, *[ALL[int(n) - 1] for n in schemes])
    with zipfile.ZipFile(theirs) as one, zipfile.ZipFile(ours) as other:
        assert sorted(one.namelist()) == sorted(other.namelist())
        for name in one.namelist():
            if name.startswith("META-INF/") and (kind == "rsa-2048" or name.endswith("F")):
                assert one.read(name) == other.read(name), name
    path = tmp_path / "ours.apk"
    path.write_bytes(ours.getvalue())
    run_apksigner("verify", "--min-sdk-version", str(min_sdk), str(path))


def test_the_same_input_gives_the_same_bytes(odd: Path, keys: dict[str, SigningKey]) -> None:
    one, other = (signed(odd, keys["rsa-2048"], 1, *ALL) for _ in range(2))
    assert one.getvalue() == other.getvalue()


def test_a_file_of_a_multiple_of_1024_bytes_gets_a_line_more(keys: dict[str, SigningKey]) -> None:
    """The platform cannot read such signature files before Android 2."""
    sizes = set()
    for length in range(1024):
        name = f"{'d' * (length % 60)}/" * 16 + "x" * length
        files = dict(_files(keys["rsa-2048"], {name: bytes(32)}))
        sizes.add(len(files["META-INF/CERT.SF"]) % 1024)
    assert 0 not in sizes
    assert 2 in sizes


def _files(key: SigningKey, digests: dict[str, bytes]) -> list[tuple[str, bytes]]:
    party = V1Party(key, "CERT")
    return signature_files([party], digests, min_sdk=18, schemes=[])


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\0b"])
def test_names_that_v1_cannot_hold(key: SigningKey, name: str) -> None:
    with pytest.raises(SigningError, match="cannot sign a ZIP entry of the name"):
        _files(key, {name: b""})


@pytest.mark.parametrize(
    ("text", "name"),
    [("release", "RELEASE"), ("my key.jks", "MY_KEY_J"), ("a-b_c9", "A-B_C9"), ("é/..", "____")],
)
def test_names_of_signature_files(text: str, name: str) -> None:
    assert safe_name(text) == name


def test_what_cannot_be_signed(odd: Path, keys: dict[str, SigningKey]) -> None:
    for kind, min_sdk, schemes, text in (
        ("ec-p256", 17, [Scheme.V1], "known since SDK 18"),
        ("rsa-2048", 21, [Scheme.V2], "accept v1"),
    ):
        with pytest.raises(SigningError, match=text):
            signed(odd, keys[kind], min_sdk, *schemes)
    with odd.open("rb") as apk:
        for names, text in ((["A", "B"], "2 names for 1"), (["a/b"], "no name for signature")):
            with pytest.raises(SigningError, match=text):
                sign_apk(apk, io.BytesIO(), keys["rsa-2048"], schemes=[Scheme.V1], v1_names=names)
        others = [keys["ec-p256"]]
        with pytest.raises(SigningError, match="two signers of v1 have the name A"):
            sign_apk(
                apk, io.BytesIO(), keys["rsa-2048"],
                schemes=[Scheme.V1], min_sdk=18, others=others, v1_names=["A", "A"],
            )  # fmt: skip


def test_two_entries_of_one_name_are_not_signed(odd: Path, keys: dict[str, SigningKey]) -> None:
    forged = io.BytesIO(odd.read_bytes().replace(b"META-INF/note", b"META-INF/MORE"))
    with zipfile.ZipFile(forged, "a") as archive, pytest.warns(UserWarning):
        archive.writestr("META-INF/MORE", b"other")
    with pytest.raises(SigningError, match="occurs twice") as caught:
        sign_apk(forged, io.BytesIO(), keys["rsa-2048"], schemes=[Scheme.V1], min_sdk=18)
    assert isinstance(caught.value.__cause__, EntryError)


def test_the_command_signs_for_old_platforms(
    odd: Path, keys: dict[str, SigningKey], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With v1 where the manifest names such platforms; two signers, each with a name."""
    out = tmp_path / "out.apk"
    files = key_arguments(keys["rsa-2048"], tmp_path / "first.key")
    more = key_arguments(keys["ec-p256"], tmp_path / "second.key")
    assert main(["sign", str(odd), "--out", str(out), *files]) == 0
    with zipfile.ZipFile(out) as archive:
        assert "META-INF/FIRST.RSA" in archive.namelist()
    with out.open("rb") as apk:
        found = [item.apk.scheme for item in verify_range(apk)]
    assert found == [Scheme.V1, Scheme.V2, Scheme.V3]
    both = [*files, "--next-signer", *more, "--v1-signer-name", "more", "--min-sdk-version", "18"]
    assert main(["sign", str(odd), "--out", str(out), "--v3-signing-enabled=false", *both]) == 0
    with zipfile.ZipFile(out) as archive:
        assert {"META-INF/FIRST.RSA", "META-INF/MORE.EC"} <= set(archive.namelist())
    run_apksigner("verify", "--min-sdk-version", "18", str(out))
    assert main(["verify", "--min-sdk-version", "18", str(out)]) == 0
    assert "scheme: v1" in capsys.readouterr().out
