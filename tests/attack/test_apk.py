"""APKs that try the terminal, the memory, the patience and the files of whoever looks at them."""

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from avf.apk import ApkError, SigningKey, entries, verify
from avf.apk import sign as sign_apk
from avf.apk.__main__ import main
from avf.apk.fields import lp32_items
from avf.apk.signing_block import BlockId
from avf.printable import printable
from tests.apk.conftest import builder
from tests.apk.forge import Anatomy, Forger

FAKE = "x\nverified: true\x1b[2J\x1b]0;title\x07\r\u202egpj.\u2028\x9b31m"


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return SigningKey.generate()


def with_entry(name: str, key: SigningKey) -> bytes:
    unsigned, out = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(unsigned, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"1")
        archive.writestr("AndroidManifest.xml", b"junk")
    sign_apk(unsigned, out, key)
    return out.getvalue()


def is_harmless(text: str) -> bool:
    return all(char.isprintable() or char == "\n" for char in text)


def test_a_name_writes_no_line_and_moves_no_cursor(
    tmp_path: Path, key: SigningKey, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "fake.apk"
    path.write_bytes(with_entry(FAKE, key))
    assert main(["info", str(path)]) == 0
    out = capsys.readouterr().out
    assert is_harmless(out)
    assert "\nverified: true" not in out
    assert main(["info", str(path), "--json"]) == 0
    shown = capsys.readouterr().out
    assert is_harmless(shown)
    assert FAKE in [item["name"] for item in json.loads(shown)["entries"]]


@pytest.mark.parametrize("command", ["verify", "info", "idsig", "sign"])
def test_no_error_carries_a_name_unescaped(
    tmp_path: Path, key: SigningKey, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """The name of an entry that is broken, and the name of the file itself."""
    path = tmp_path / FAKE.replace("/", "")
    data = with_entry(FAKE, key)
    broken = [b"junk", data[: len(data) // 2]]
    if command != "idsig":
        broken.append(data.replace(b"PK\1\2", b"PK\1\3", 1))
    for bad in broken:
        path.write_bytes(bad)
        private, certificate = tmp_path / "key", tmp_path / "cert"
        private.write_bytes(key.to_pem()[0])
        certificate.write_bytes(key.to_pem()[1])
        more = {
            "idsig": [str(tmp_path / "out")],
            "sign": [
                "--out",
                str(tmp_path / "out"),
                "--key",
                str(private),
                "--cert",
                str(certificate),
            ],
        }
        assert main([command, str(path), *more.get(command, [])]) == 1
        captured = capsys.readouterr()
        assert is_harmless(captured.out + captured.err)
        assert captured.err.count("\n") == 1


def test_an_output_that_cannot_show_a_name_does_not_fail(tmp_path: Path, key: SigningKey) -> None:
    path = tmp_path / "name.apk"
    path.write_bytes(with_entry("ä\u4e00", key))
    done = subprocess.run(
        [sys.executable, "-m", "avf.apk", "info", str(path)],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"name: \\xe4\\u4e00" in done.stdout


@pytest.mark.parametrize("text", ["plain", "grüß", "a b"])
def test_readable_text_stays(text: str) -> None:
    assert printable(text) == text


def test_every_unprintable_character_is_escaped() -> None:
    for number in [*range(0x3000), *range(0xD800, 0xF900), *range(0xE0000, 0xE0200)]:
        assert printable(chr(number)).isprintable(), hex(number)


@pytest.mark.parametrize("command", ["verify", "info", "idsig", "sign"])
def test_a_pipe_without_a_writer_does_not_hold_the_command(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str], key: SigningKey
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    paths = [tmp_path / "key", tmp_path / "cert"]
    for path, data in zip(paths, key.to_pem(), strict=True):
        path.write_bytes(data)
    out = str(tmp_path / "out")
    more = {"idsig": [out], "sign": ["--out", out, "--key", str(paths[0]), "--cert", str(paths[1])]}
    assert main([command, str(pipe), *more.get(command, [])]) == 1
    assert capsys.readouterr().err == f"{pipe}: input is not a regular file\n"
    assert not Path(out).exists()


@pytest.fixture
def anatomy(key: SigningKey) -> Anatomy:
    out = io.BytesIO()
    builder(min_sdk=24).build(out, key)
    return Anatomy.of(out.getvalue())


@pytest.mark.parametrize(("count", "accepted"), [(1023, True), (1024, True), (1025, False)])
def test_the_number_of_values_in_a_block_is_bounded(
    anatomy: Anatomy, count: int, accepted: bool
) -> None:
    more = [(number, b"") for number in range(count - len(anatomy.pairs))]
    data = io.BytesIO(anatomy.with_pairs(*anatomy.pairs, *more).build())
    if accepted:
        assert verify(data)
    else:
        with pytest.raises(ApkError, match="more than 1024 pairs"):
            verify(data)


def miscount(data: bytes, by: int) -> bytes:
    end = data.rindex(b"PK\5\6")
    count = (int.from_bytes(data[end + 8 : end + 10], "little") + by).to_bytes(2, "little")
    return data[: end + 8] + count + count + data[end + 12 :]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: miscount(data, 1), "entry 3 is cut short"),
        (lambda data: miscount(data, -1), "is longer than its entries"),
        (lambda data: data.replace(b"PK\1\2", b"PK\1\3", 1), "entry 0 has no signature"),
    ],
)
def test_a_signature_does_not_excuse_a_broken_directory(
    anatomy: Anatomy, key: SigningKey, change: Callable[[bytes], bytes], message: str
) -> None:
    """The signature covers the directory as it is, broken."""
    unsigned = Anatomy.of(change(anatomy.with_pairs(*anatomy.pairs).build()))
    algorithm = key.algorithm
    forger = Forger(key, [(algorithm, unsigned.digest(algorithm))])
    data = unsigned.with_pairs((BlockId.V3, forger.block())).build()
    with pytest.raises(ApkError, match=message):
        verify(io.BytesIO(data))


@pytest.mark.parametrize("field", range(3))
def test_an_entry_that_needs_zip64_is_called_so(anatomy: Anatomy, field: int) -> None:
    at = (20, 24, 42)[field]
    directory = bytearray(anatomy.directory)
    directory[at : at + 4] = b"\xff" * 4
    data = Anatomy(anatomy.front, anatomy.pairs, bytes(directory), anatomy.eocd).build()
    with pytest.raises(ApkError, match="entry 0 needs ZIP64, which is not supported"):
        entries(io.BytesIO(data))


@pytest.mark.parametrize("extra", [1, 4095, 4097])
def test_a_verity_digest_needs_a_block_of_whole_pages(
    anatomy: Anatomy, key: SigningKey, extra: int
) -> None:
    from avf.apk import SignatureAlgorithm
    from avf.apk.signing import padded_block

    verity = SignatureAlgorithm.VERITY_ECDSA_SHA256
    pairs = [(int(BlockId.V3), Forger(key, [(verity, anatomy.digest(verity))]).block())]
    assert verify(io.BytesIO(anatomy.build(padded_block(pairs))))
    injected = anatomy.with_pairs(*pairs, (0x71777777, bytes(extra))).build()
    with pytest.raises(ApkError, match="no multiple of 4096"):
        verify(io.BytesIO(injected))


def test_the_file_at_fault_is_the_one_named(
    anatomy: Anatomy, key: SigningKey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    apk, private, certificate = tmp_path / "a.apk", tmp_path / "key", tmp_path / "cert"
    lineage, idsig, out = tmp_path / "lineage", tmp_path / "idsig", tmp_path / "out"
    apk.write_bytes(anatomy.build())
    good = {private: key.to_pem()[0], certificate: key.to_pem()[1]}
    for path, data in good.items():
        path.write_bytes(data)
    sign = ["sign", apk, "--out", out, "--key", private, "--cert", certificate]
    rotated = [*sign, "--lineage", lineage]
    assert main(["idsig", str(apk), str(idsig)]) == 0
    whole = idsig.read_bytes()
    cases: list[tuple[Path, bytes, list[object]]] = [
        (private, b"junk", sign),
        (certificate, b"junk", sign),
        (certificate, SigningKey.generate().to_pem()[1], sign),
        (lineage, b"junk", rotated),
        *[(idsig, whole[:cut], ["verify", apk, "--idsig", idsig]) for cut in (0, 7, 60, 200)],
        (idsig, whole[:-1] + b"?", ["verify", apk, "--idsig", idsig]),
    ]
    for wrong, data, command in cases:
        wrong.write_bytes(data)
        capsys.readouterr()
        assert main([*map(str, command), "--json"]) == 1
        assert json.loads(capsys.readouterr().out)["error"]["file"] == str(wrong)
        assert not out.exists()
        wrong.write_bytes(good.get(wrong, whole))


@pytest.mark.parametrize("size", [65_520, 65_535])
def test_an_extra_field_without_room_for_the_alignment(
    tmp_path: Path, size: int, key: SigningKey, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.apk"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("lib/x86_64/lib.so")
        info.extra = b"\1\2" + (size - 4).to_bytes(2, "little") + bytes(size - 4)
        archive.writestr(info, b"library")
    with path.open("rb") as apk, pytest.raises(ApkError, match="no room for its alignment"):
        sign_apk(apk, io.BytesIO(), key, align=True)
    before = path.read_bytes()
    assert main(["align", str(path), "--in-place"]) == 1
    assert "no room for its alignment" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_too_many_signers_are_not_all_tried(anatomy: Anatomy, key: SigningKey) -> None:
    digests = [(key.algorithm, anatomy.digest(key.algorithm))]
    signer = Forger(key, digests, signed_range=(28, 28)).signer()
    data = anatomy.with_pairs((BlockId.V3, lp32_items([signer] * 65))).build()
    with pytest.raises(ApkError, match="more than 64 signers"):
        verify(io.BytesIO(data))
