"""`sign`, `verify` and `align` with apksigner's options, beside apksigner."""

import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from avf.apk import ApkBuilder, SigningError, SigningKey, rotate, verify_range
from avf.apk.__main__ import main
from avf.apk.crypto.names import certificate_subject
from avf.apk.signer_options import join_booleans
from avf.apk.signing_block import BlockId
from avf.apk.signing_plan import make_plan
from avf.apk.verify import Scheme
from tests.apk.conftest import builder, run_apksigner
from tests.apk.forge import Anatomy, Forger

MAX = 0x7FFFFFFF
Run = Callable[..., tuple[int, dict[str, object], str]]
Options = dict[str, list[str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """run(*arguments) -> exit status, report, what is on standard error."""

    def run_command(*arguments: object) -> tuple[int, dict[str, object], str]:
        status = main([*map(str, arguments), "--json"])
        captured = capsys.readouterr()
        return status, json.loads(captured.out), captured.err

    return run_command


@pytest.fixture(scope="module")
def options(keys: dict[str, SigningKey], tmp_path_factory: pytest.TempPathFactory) -> Options:
    """The options of each key."""
    directory = tmp_path_factory.mktemp("keys")
    made: Options = {}
    for kind, key in keys.items():
        paths = [directory / f"{kind}.key", directory / f"{kind}.cert"]
        for path, data in zip(paths, key.to_pem(), strict=True):
            path.write_bytes(data)
        made[kind] = ["--key", str(paths[0]), "--cert", str(paths[1])]
    return made


def unsigned_for(path: Path, low: int, *, debuggable: bool = False) -> Path:
    made = ApkBuilder(min_sdk=low, debuggable=debuggable)
    made.add("assets/text", b"text" * 500)
    made.add_native_library("libpayload.so", bytes(5000))
    with path.open("wb") as out:
        made.write(out)
    return path


def platforms(report: dict[str, object]) -> list[tuple[int, int, str]]:
    found = report["platforms"]
    assert isinstance(found, list)
    return [(item["min_sdk"], item["max_sdk"], item["scheme"]) for item in found]


@pytest.mark.parametrize(
    ("low", "more", "expected"),
    [
        (24, [], [(24, 27, "v2"), (28, MAX, "v3")]),
        (28, [], [(28, MAX, "v3")]),
        (24, ["--max-sdk-version", "27"], [(24, 27, "v2")]),
        (24, ["--v3-signing-enabled", "false"], [(24, MAX, "v2")]),
        (24, ["--v2-signing-enabled=false", "--min-sdk-version", "28"], [(28, MAX, "v3")]),
        (26, ["--min-sdk-version", "30"], [(30, MAX, "v3")]),
    ],
)
def test_schemes_follow_from_the_platforms(
    run: Run,
    options: Options,
    tmp_path: Path,
    low: int,
    more: list[str],
    expected: list[tuple[int, int, str]],
) -> None:
    apk, out = unsigned_for(tmp_path / "in.apk", low), tmp_path / "out.apk"
    status, report, _ = run("sign", *options["ec-p256"], *more, "--out", out, apk)
    assert (status, report["signed"], platforms(report)) == (0, str(out), expected)
    bounds = ["--min-sdk-version", str(expected[0][0])]
    if expected[-1][1] != MAX:
        bounds += ["--max-sdk-version", str(expected[-1][1])]
    run_apksigner("verify", *bounds, str(out))
    assert platforms(run("verify", out, *bounds)[1]) == expected


@pytest.mark.parametrize(
    ("low", "more", "message"),
    [
        (21, ["--v1-signing-enabled=false"], "min SDK 21: platforms before SDK 24 accept v1"),
        (17, [], "v1 signatures by EC keys are known since SDK 18"),
        (24, ["--v2-signing-enabled", "false"], "a platform would not accept the APK: SDK 24: "),
        (24, ["--max-sdk-version", "23"], "SDK range 24 to 23 is empty"),
        (24, ["--v2-signing-enabled=false", "--v3-signing-enabled=false"], "no scheme is left"),
    ],
)
def test_what_a_platform_would_refuse_is_not_written(
    run: Run, options: Options, tmp_path: Path, low: int, more: list[str], message: str
) -> None:
    apk, out = unsigned_for(tmp_path / "in.apk", low), tmp_path / "out.apk"
    status, report, error = run("sign", apk, *options["ec-p256"], "--out", out, *more)
    assert (status, report["error"]["code"]) == (1, "signing")  # type: ignore[index]
    assert message in error
    assert not out.exists()


def test_a_debuggable_apk_is_refused_on_request(run: Run, options: Options, tmp_path: Path) -> None:
    out = tmp_path / "out.apk"
    sign = ["sign", *options["ec-p256"], "--out", out, "--debuggable-apk-permitted"]
    for debuggable in (False, True):
        apk = unsigned_for(tmp_path / "in.apk", 24, debuggable=debuggable)
        assert run(*sign, apk)[0] == 0
        out.unlink()
        status, _, error = run(*sign, "false", apk)
        assert (status, "is debuggable" in error) == (int(debuggable), debuggable)
        assert out.exists() is not debuggable


def test_several_signers_sign_with_v2(
    run: Run, options: Options, keys: dict[str, SigningKey], unsigned: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.apk"
    kinds = ("ec-p256", "rsa-2048", "dsa-2048")
    first, *others = kinds
    signers = [*options[first]]
    for kind in others:
        signers += ["--next-signer", *options[kind]]
    status, _, error = run("sign", unsigned, "--out", out, *signers)
    assert (status, "v3 has one signer" in error) == (1, True)
    sign = ["sign", unsigned, "--out", out, "--v3-signing-enabled", "false", *signers]
    status, report, _ = run(*sign)
    assert (status, platforms(report)) == (0, [(24, MAX, "v2")])
    with out.open("rb") as file:
        found = verify_range(file)[0].apk.signers
    assert [signer.public_key for signer in found] == [keys[kind].public_key for kind in kinds]
    assert "Number of signers: 3" in run_apksigner("verify", "-v", str(out))
    status, _, error = run(*sign, "--v4-signing-enabled")
    assert (status, "v4 has one signer" in error) == (1, True)
    status, _, error = run(*sign, "--next-signer", *options[first])
    assert (status, "a signer is given twice" in error) == (1, True)


@pytest.mark.parametrize("kind", ["ec-p256", "rsa-2048", "dsa-2048", "rsa-4096", "ec-p384"])
def test_verity_digests_beside_others(
    run: Run, options: Options, unsigned: Path, tmp_path: Path, kind: str
) -> None:
    """Keys that sign over SHA-512 have no algorithm with a verity digest."""
    out = tmp_path / "out.apk"
    assert run("sign", unsigned, "--out", out, *options[kind], "--verity-enabled")[0] == 0
    claims = run("info", out)[1]["claims"]
    assert isinstance(claims, list)
    large = kind in ("rsa-4096", "ec-p384")
    for claim in claims:
        verity = [name for name in claim["algorithms"] if name.startswith("VERITY_")]
        assert (len(claim["algorithms"]), len(verity)) == ((1, 0) if large else (2, 1))
    run_apksigner("verify", str(out))


def test_an_idsig_beside_alone_and_without_its_tree(
    run: Run, options: Options, unsigned: Path, tmp_path: Path
) -> None:
    out, alone, bare = tmp_path / "out.apk", tmp_path / "alone", tmp_path / "bare"
    key = options["rsa-2048"]
    status, report, _ = run("sign", unsigned, "--out", out, *key, "--v4-signing-enabled")
    beside = tmp_path / "out.apk.idsig"
    assert (status, report["idsig"]) == (0, str(beside))
    before = out.read_bytes()
    only = ["sign", out, *key, "--v4-signing-enabled", "only", "--idsig"]
    assert run(*only, alone)[0] == 0
    assert run(*only, bare, "--v4-no-merkle-tree")[0] == 0
    assert out.read_bytes() == before
    assert alone.read_bytes() == beside.read_bytes()
    assert 0 < bare.stat().st_size < beside.stat().st_size
    for idsig in (beside, alone, bare):
        assert run("verify", out, "--v4-signature-file", idsig)[0] == 0
        verdict = run_apksigner("verify", "-v", "--v4-signature-file", str(idsig), str(out))
        assert "(APK Signature Scheme v4): true" in verdict
    other = ["sign", out, *options["ec-p256"], "--v4-signing-enabled", "only", "--idsig"]
    status, report, _ = run(*other, tmp_path / "other")
    assert report["error"]["code"] == "signer-mismatch"  # type: ignore[index]
    assert not (tmp_path / "other").exists()
    changed = bytearray(before)
    changed[len(changed) // 2] ^= 1
    out.write_bytes(changed)
    assert run("verify", out, "--v4-signature-file", bare, "--sdk", "34")[0] == 1


# Plans


@pytest.fixture(scope="module")
def lineage(keys: dict[str, SigningKey]) -> tuple[object, ...]:
    first = rotate(keys["ec-p256"], keys["rsa-2048"])
    return rotate(keys["rsa-2048"], keys["dsa-2048"], first)


OLD, MIDDLE, NEW = "ec-p256", "rsa-2048", "dsa-2048"
V2, V3 = Scheme.V2, Scheme.V3


@pytest.mark.parametrize(
    ("given", "low", "since", "schemes", "expected"),
    [
        ((OLD, NEW), 24, 33, {}, (NEW, OLD, 3)),
        ((NEW, MIDDLE, OLD), 24, 33, {}, (NEW, OLD, 3)),
        ((OLD, MIDDLE), 24, 33, {}, (MIDDLE, OLD, 2)),
        ((NEW,), 33, 33, {V2: False}, (NEW, None, 3)),
        ((NEW,), 28, 28, {V2: False}, (NEW, None, 3)),
        ((OLD,), 24, 33, {}, (OLD, None, 0)),
        ((OLD, NEW), 24, 33, {V3: False}, (OLD, None, 0)),
        ((NEW,), 24, 33, {}, "must sign for v2"),
        ((MIDDLE, NEW), 28, 35, {V2: False}, "must sign for platforms before SDK 35"),
        (("rsa-4096", NEW), 24, 33, {}, "does not hold the certificate with SHA-256"),
    ],
)
def test_which_key_signs_what(
    keys: dict[str, SigningKey],
    lineage: tuple[object, ...],
    given: tuple[str, ...],
    low: int,
    since: int,
    schemes: dict[Scheme, bool | None],
    expected: tuple[str, str | None, int] | str,
) -> None:
    def plan() -> object:
        return make_plan(
            [keys[kind] for kind in given],
            lineage,  # type: ignore[arg-type]
            min_sdk=low,
            max_sdk=MAX,
            enabled=schemes,
            rotation_min_sdk=since,
        )

    if isinstance(expected, str):
        with pytest.raises(SigningError, match=expected):
            plan()
        return
    made = plan()
    newest, oldest, length = expected
    rotation = made.rotation  # type: ignore[attr-defined]
    assert made.key is keys[newest]  # type: ignore[attr-defined]
    assert (len(rotation.lineage) if rotation else 0) == length
    if rotation:
        assert rotation.old is (keys[oldest] if oldest else None)


def test_booleans_take_a_value_or_none() -> None:
    given = ["--verity-enabled", "a.apk", "--v3-signing-enabled", "false", "--v4-signing-enabled"]
    assert join_booleans(given) == [
        *("--verity-enabled=true", "a.apk", "--v3-signing-enabled=false"),
        "--v4-signing-enabled=true",
    ]


# verify


def test_verify_follows_the_manifest(
    run: Run, options: Options, tmp_path: Path, unsigned: Path
) -> None:
    apk, out = unsigned_for(tmp_path / "in.apk", 21), tmp_path / "out.apk"
    run("sign", apk, "--min-sdk-version", "24", "--out", out, *options[OLD])
    status, report, error = run("verify", out)
    assert (status, report["error"]["code"]) == (1, "scheme-not-found")  # type: ignore[index]
    assert "SDK 21: " in error
    done = subprocess.run(["apksigner", "verify", str(out)], capture_output=True, check=False)
    assert done.returncode == 1
    assert run("verify", "--in", out, "--min-sdk-version", "24")[0] == 0
    assert run("verify", out, "--sdk", "24")[1]["scheme"] == "v2"
    status, report, _ = run("verify", out, "--min-sdk-version", "24", "--require-v3")
    assert (status, report["platforms"][0]["scheme"]) == (0, "v2")  # type: ignore[index]
    run("sign", unsigned, "--out", out, *options[OLD], "--v3-signing-enabled", "false")
    assert run("verify", out)[0] == 0
    assert run("verify", out, "--require-v3")[0] == 1


def test_certificates_as_apksigner_prints_them(
    run: Run, options: Options, unsigned: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.apk"
    for kind in (OLD, MIDDLE, NEW):
        run("sign", unsigned, "--out", out, *options[kind])
        report = run("verify", out, "--print-certs", "-v")[1]
        (signer,) = report["signers"]  # type: ignore[misc]
        certificate, key = signer["certificates"][0], signer["public_key"]
        printed = run_apksigner("verify", "--print-certs", "-v", str(out))
        for line in (
            f"certificate DN: {certificate['subject']}",
            f"certificate SHA-256 digest: {certificate['sha256']}",
            f"certificate SHA-1 digest: {certificate['sha1']}",
            f"certificate MD5 digest: {certificate['md5']}",
            f"key algorithm: {key['algorithm']}",
            f"key size (bits): {key['bits']}",
            f"public key SHA-256 digest: {key['sha256']}",
            f"public key SHA-1 digest: {key['sha1']}",
            f"public key MD5 digest: {key['md5']}",
        ):
            assert f"Signer #1 {line}\n" in printed
        assert "certificates" not in run("verify", out, "-v")[1]["signers"][0]  # type: ignore[index]


@pytest.mark.parametrize(
    "name",
    [
        "CN=Me, OU=Some unit, O=A company, L=Town, ST=Land, C=CH",
        'CN=Jürgen Müller, O=\\"Quoted\\" & Sons',
        "EMAILADDRESS=a@example.com, CN=mail, DC=example, UID=17",
    ],
)
def test_names_as_java_writes_them(tmp_path: Path, name: str) -> None:
    store = tmp_path / "store"
    command = ["keytool", "-genkeypair", "-keystore", str(store), "-storepass", "swordfish"]
    command += ["-dname", name, "-alias", "a", "-keyalg", "EC", "-J-Dsun.jnu.encoding=UTF-8"]
    subprocess.run(
        command, check=True, capture_output=True, env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin"}
    )
    key = SigningKey.from_key_store(store.read_bytes(), "swordfish")
    assert certificate_subject(key.certificate) == name


def test_what_is_odd_is_a_warning(
    run: Run, anatomy: Anatomy, key: SigningKey, tmp_path: Path
) -> None:
    attribute = (0x12345678).to_bytes(4, "little") + b"?"
    forger = Forger(key, [(key.algorithm, anatomy.digest(key.algorithm))], attributes=[attribute])
    path = tmp_path / "odd.apk"
    path.write_bytes(anatomy.with_pairs((BlockId.V3, forger.block())).build())
    verify = ["verify", path, "--min-sdk-version", "28"]
    status, report, _ = run(*verify)
    expected = ["v3 signer 1 has an unknown attribute 0x12345678"]
    assert (status, report["warnings"]) == (0, expected)
    status, report, error = run(*verify, "-Werr")
    assert (status, report["verified"], expected[0] in error) == (1, False, True)
    done = subprocess.run(
        ["apksigner", "verify", "-Werr", "--min-sdk-version", "28", str(path)],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1


# align


def shifted(path: Path, by: int) -> Path:
    """An unsigned APK whose stored entries begin nowhere in particular."""
    made = builder(min_sdk=24)
    made.add("assets/raw", b"raw")
    data = io.BytesIO()
    made.write(data)
    import zipfile

    with zipfile.ZipFile(data) as source, zipfile.ZipFile(path, "w") as target:
        target.writestr("pad", b"x" * by)
        for item in source.infolist():
            info = zipfile.ZipInfo(item.filename)
            info.compress_type = item.compress_type
            target.writestr(info, source.read(item))
    return path


@pytest.mark.parametrize("by", [1, 2, 3])
def test_align_checks_and_repairs(run: Run, tmp_path: Path, options: Options, by: int) -> None:
    apk, out = shifted(tmp_path / "in.apk", by), tmp_path / "out.apk"
    status, report, error = run("align", "--check", apk)
    assert (status, report["error"]["code"]) == (1, "entry")  # type: ignore[index]
    assert "does not begin on its boundary, nor do " in error
    status, report, _ = run("align", apk, "--out", out)
    assert (status, report["written"]) == (0, str(out))
    names = [item["name"] for item in report["misaligned"]]  # type: ignore[attr-defined]
    assert "lib/x86_64/libpayload.so" in names
    assert run("align", "--check", out)[1] == {"written": None, "misaligned": []}
    import zipfile

    with zipfile.ZipFile(out) as archive:
        assert archive.testzip() is None
    assert run("sign", apk, "--out", out, "--alignment-preserved", *options[OLD])[0] == 0
    assert run("align", "--check", out)[0] == 1
    status, _, error = run("align", out, "--in-place")
    assert (status, "is signed" in error) == (1, True)
    assert run("sign", apk, "--out", out, *options[OLD], "--lib-page-alignment", 4096)[0] == 0
    assert run("align", "--check", out, "--lib-page-alignment", 4096)[0] == 0
    assert run("align", apk, "--in-place")[0] == 0
    assert run("align", "--check", apk)[0] == 0
