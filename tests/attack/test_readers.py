"""Hostile files: every reader refuses them with its own error, in time and memory in proportion to their size."""

import gzip
import io
import lzma
import os
import resource
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from avf.aidlc import AidlError
from avf.aidlc.limits import ERRORS
from avf.apk import ApkError, entries, open_entry
from avf.client import ConfigError
from avf.client.store import VmStore
from avf.disk import MetadataError, MetadataPartition
from avf.guest.cbor import CborError, decode, encode
from avf.guest.config import parse_config
from avf.guest.errors import GuestError
from avf.guest.metadata import parse_metadata
from avf.guest.tombstone import Crash, tombstone
from avf.guest.ziptree import ZipTree, ZipTreeError
from avf.image import KernelError, PackageError, deb
from avf.image.bzimage import extract_vmlinux
from avf.image.modules import ModuleTree, modinfo, read_module
from avf.policy import PolicyError, load_policy
from avf.proto3 import message_field, string_field, uint_field
from avf.virtmgr.apexes import load_list
from avf.virtmgr.errors import VirtmgrError
from avf.virtmgr.payload_config import PayloadConfigError, VmPayloadConfig
from avf.virtmgr.task_profiles import load_profiles
from avf.vmconfig import VmConfig, VmConfigError
from tests.aidlc.compiling import compile_texts
from tests.attack.counting import lines_run, peak_memory
from tests.image.test_bzimage import bzimage, lz4_legacy

Files = dict[str, str]

# AIDL


def interface(body: str) -> Files:
    return {"p/I.aidl": f"package p; interface I {{ {body} }}"}


def parcelable(body: str) -> Files:
    return {"p/P.aidl": f"package p; parcelable P {{ {body} }}"}


def each(n: int, text: str) -> str:
    """`text` n times, with its number for # and the next number for +."""
    return "".join(text.replace("#", str(i)).replace("+", str(i + 1)) for i in range(n))


INT = '@Backing(type="int")'
GROWING: dict[str, Callable[[int], Files]] = {
    "enumerators": lambda n: parcelable(f"{INT} enum E {{ {each(n, 'E#, ')} }}"),
    "enumerators, each from the one before": lambda n: parcelable(
        f"{INT} enum E {{ E0 = 0, {each(n, 'E+ = E#, ')} }}"
    ),
    "constants": lambda n: interface(f"const int X = 1; {each(n, 'const int C# = X;')}"),
    "terms of a sum": lambda n: interface(f"const int X = 0 {'| 1 ' * n};"),
    "strings of a sum": lambda n: interface("const String X = " + "+".join(['"a"'] * n) + ";"),
    "fields of an enum without 0": lambda n: parcelable(
        f"{INT} enum E {{ A = 1, {each(n, 'E#, ')} }} {each(n, 'E f#;')}"
    ),
    "arguments that come out": lambda n: interface(f"void m({each(n, 'out int[] a#, ')} int z);"),
    "methods of one type": lambda n: {
        "p/P.aidl": f"package p; parcelable P {{ {each(n, 'Q# q#;')} }} {each(n, 'parcelable Q# {}')}"
        f"interface I {{ {each(n, 'void m#(in P p);')} }}"
    },
    "imports": lambda n: {
        "p/P.aidl": f"package p; {each(n, 'import q.Q#;')} parcelable P {{ {each(n, 'Q# f#;')} }}",
        **{f"q/Q{i}.aidl": f"package q; parcelable Q{i} {{}}" for i in range(n)},
    },
    "files": lambda n: {f"p/P{i}.aidl": f"package p; parcelable P{i} {{}}" for i in range(n)},
    "packages in a row": lambda n: {
        **{
            f"p{i}/P.aidl": f"package p{i}; parcelable P {{ @nullable p{i + 1}.P next; }}"
            for i in range(n)
        },
        f"p{n}/P.aidl": f"package p{n}; parcelable P {{}}",
    },
    "packages in a ring": lambda n: {
        f"p{i}/P.aidl": f"package p{i}; parcelable P {{ @nullable p{(i + 1) % n}.P next; }}"
        for i in range(n)
    },
    "a long comment": lambda n: {"p/P.aidl": f"package p; /** {{@{'a' * n} */ parcelable P {{}}"},
    "unknown types": lambda n: parcelable(each(n, "Nope# f#;")),
    "characters": lambda n: parcelable("$ " * n),
    "numbers that are none": lambda n: parcelable("1x " * n),
    "lost statements": lambda n: interface("= ;" * n),
    "opening brackets": lambda n: interface(f"const int X = {'(' * n};"),
    "nested types": lambda n: {"p/P.aidl": "package p; " + "parcelable P {" * n + "}" * n},
    "generics": lambda n: parcelable(f"{'List<' * n}int{'>' * n} x;"),
    "arrays": lambda n: parcelable(f"int[] x = {'{' * n}{'}' * n};"),
    "annotations": lambda n: {"p/P.aidl": f"package p; {'@Hide ' * n} parcelable P {{}}"},
    "dimensions": lambda n: parcelable(f"int{'[1]' * n} x;"),
    "names with dots": lambda n: {"p/P.aidl": f"package {'a.' * n}p; parcelable P {{}}"},
}


def compiled(files: Files) -> str:
    """What comes of files: the size of the modules, or the errors."""
    try:
        return f"{sum(map(len, compile_texts(files).values()))} characters"
    except AidlError as error:
        assert len(error.diagnostics) <= ERRORS
        return str(error)


@pytest.mark.parametrize("shape", GROWING)
def test_the_compiler_is_linear(shape: str) -> None:
    """Twice the input is twice the work at most, in whatever it grows."""
    small, large = (lines_run(lambda n=n: compiled(GROWING[shape](n))) for n in (300, 600))
    assert large <= 2.5 * small


@pytest.mark.parametrize("shape", GROWING)
def test_the_compilers_memory_is_linear(shape: str) -> None:
    small, large = (peak_memory(lambda n=n: compiled(GROWING[shape](n))) for n in (300, 600))
    assert large <= 2.5 * small + (64 << 10)


LONG_NAMES = each(60, f"union U# {{ U+ {'a' * 150}; }}") + "union U60 { int x; }"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (interface(f'const String S = "{"a" * 65536}";'), "at most 65535 characters"),
        (
            interface(f'const String S = "{"a" * 60000}"; {each(2000, "const String S# = S;")}'),
            "constants grow to more than 67108864 characters",
        ),
        (
            {"p/P.aidl": f"package p; {LONG_NAMES} parcelable P {{ {each(7000, 'U0 f#;')} }}"},
            "default values grow to more than 67108864 characters",
        ),
        (interface(f"const double X = {'1' * 100_000};"), "a number has at most 128 characters"),
        (interface(f"const double X = 0.{'1' * 100_000};"), "a number has at most 128 characters"),
        (interface(f"const long X = 0x{'f' * 100_000};"), "a number has at most 128 characters"),
        (interface(f"void m() = {'1' * 100_000};"), "a number has at most 128 characters"),
        (interface(f"const int {'x' * 201} = 1;"), "a name has at most 200 characters"),
        (parcelable(f"{'@Hide ' * 65} int x;"), "at most 64 annotations"),
        (parcelable(f"int{'[1]' * 17} x;"), "at most 16 dimensions"),
        (
            interface(f"{INT} enum E0 {{ A = 1 }}" + each(110, f"{INT} enum E+ {{ A = E#.A }}")),
            "ends a chain of more than 100 constants",
        ),
        (
            interface(each(99, f"const int C# = {'-' * 30}C+;") + "const int C99 = 1;"),
            "nested too deeply",
        ),
        (
            {"p/P.aidl": f"package p; {each(66, 'union U# { U+ x; }')} union U66 {{ int x; }}"},
            "in a chain of more than 64 types",
        ),
    ],
)
def test_what_the_compiler_does_not_take(files: Files, message: str) -> None:
    told: list[str] = []
    assert peak_memory(lambda: told.append(compiled(files))) < 256 << 20
    assert message in told[0]
    assert len(told[0]) < 64 << 10


def test_a_file_of_too_many_tokens_is_not_read_to_its_end() -> None:
    assert "at most 200000 tokens; what follows is not read" in compiled(
        parcelable(";" * 1_000_000)
    )


def test_doubling_constants_end_early() -> None:
    constants = 'const String S0 = "aaaaaaaaaaaaaaaa";' + "".join(
        f"const String S{i + 1} = S{i} + S{i};" for i in range(60)
    )
    told: list[str] = []
    assert peak_memory(lambda: told.append(compiled(interface(constants)))) < 4 << 20
    assert "p/I.aidl:1:" in told[0]
    assert "a string has at most 65535 characters" in told[0]


# Payload metadata


def metadata(n: int) -> bytes:
    """Fields of every kind, n of each."""
    apk = message_field(3, message_field(2, b"a") * n)
    return uint_field(1, 1) * n + apk * 2 + b"\x7b\x7c" * n + message_field(5, b"") * n


def read_metadata(data: bytes) -> None:
    MetadataPartition.decode(len(data).to_bytes(4, "big") + data)
    parse_metadata(data)


def test_payload_metadata_are_linear() -> None:
    small, large = (lines_run(lambda n=n: read_metadata(metadata(n))) for n in (500, 1000))
    assert large <= 2.5 * small


def test_payload_metadata_of_many_apexes_end_early() -> None:
    apex = message_field(2, string_field(1, "a"))
    data = uint_field(1, 1) + apex * 100_000
    with pytest.raises(MetadataError, match="more than 128 of them"):
        MetadataPartition.decode(len(data).to_bytes(4, "big") + data)
    with pytest.raises(GuestError, match="more than 128 of them"):
        parse_metadata(data)


# CBOR


def test_cbor_is_linear() -> None:
    small, large = (lines_run(lambda n=n: decode(encode([{"a": 1}] * n))) for n in (500, 1000))
    assert large <= 2.5 * small


@pytest.mark.parametrize(
    "data", [b"\x81" * 5000, b"\xa1\x01" * 5000, b"\x9b" + b"\xff" * 8, b"\xbb" + b"\xff" * 8]
)
def test_cbor_that_claims_much(data: bytes) -> None:
    def read() -> None:
        with pytest.raises(CborError):
            decode(data)

    assert peak_memory(read) < 4 << 20


# JSON, TOML, XML

BAD_JSON = {
    "deep": b'{"x": ' + b"[" * 100_000,
    "no UTF-8": b'{"x": "\xff"}',
    "UTF-16": "{}".encode("utf-16"),
    "NaN": b'{"x": NaN}',
    "cut off": b'{"x": "',
    "a lone surrogate": b'{"task": {"command": "\\ud800"}, "apk": "\\ud800", "kernel": "\\ud800"}',
    "no object": b"[]",
    "a number": b"1" * 10_000,
}


@pytest.mark.parametrize("what", BAD_JSON)
def test_json_is_refused_alike(what: str, tmp_path: Path) -> None:
    text = BAD_JSON[what]
    with pytest.raises(PayloadConfigError, match=r"vm_config\.json: "):
        VmPayloadConfig.parse(text, "vm_config.json")
    with pytest.raises(GuestError, match="VM config"):
        parse_config(text)
    path = tmp_path / "vm.json"
    path.write_bytes(text)
    with pytest.raises(VmConfigError, match=r"vm\.json: "):
        VmConfig.load(path)
    (tmp_path / "vm").mkdir()
    (tmp_path / "vm/config.json").write_bytes(text)
    vm = VmStore(tmp_path).get("vm")
    assert vm is not None
    with pytest.raises(ConfigError, match=r"config\.json: "):
        vm.config  # noqa: B018


def test_a_pipe_for_a_stored_configuration(tmp_path: Path) -> None:
    (tmp_path / "vm").mkdir()
    os.mkfifo(tmp_path / "vm/config.json")
    vm = VmStore(tmp_path).get("vm")
    assert vm is not None
    with pytest.raises(ConfigError, match=r"config\.json: not a regular file"):
        vm.config  # noqa: B018


BAD_TOML = {
    "deep": "x = " + "[" * 5000,
    "deep tables": f"[a{'.a' * 5000}]",
    "a long number": f"x = {'9' * 5000}",
    "long": "#" * (64 << 10),
    "no TOML": "x = ",
}


@pytest.mark.parametrize("what", BAD_TOML)
def test_toml_is_refused(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.toml"
    path.write_text(BAD_TOML[what] + "\n")
    path.chmod(0o644)
    with pytest.raises(PolicyError, match=r"file\.toml: "):
        load_policy(system=True, file=path)
    monkeypatch.setenv("AVF_TASK_PROFILES", str(path))
    with pytest.raises(VirtmgrError, match=r"file\.toml: "):
        load_profiles()


LAUGHS = (
    b'<!DOCTYPE l [<!ENTITY a0 "ha">'
    + b"".join(b'<!ENTITY a%d "%s">' % (n + 1, b"&a%d;" % n * 10) for n in range(9))
    + b']><l><apex-info moduleName="&a9;" modulePath="x"/></l>'
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "a document type is not allowed"),
        (b'<!DOCTYPE l SYSTEM "file:///etc/passwd"><l/>', "a document type is not allowed"),
        (b"<l>" + b"<apex-info/>" * 1025 + b"</l>", "more than 1024 APEXes"),
        (b"<l>" * 100_000, "no element found"),
        (b'<?xml version="1.0" encoding="shift_jis"?><l>\xff</l>', "not well-formed"),
        (
            b'<l><apex-info moduleName="a" modulePath="b" versionCode="' + b"9" * 5000 + b'"/></l>',
            "versionCode",
        ),
        (b"<l " + b" ".join(b'a%d=""' % n for n in range(50_000)), "unclosed token"),
    ],
)
def test_a_list_of_apexes(text: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "apex-info-list.xml"
    path.write_bytes(text)

    def read() -> None:
        with pytest.raises(VirtmgrError, match=message) as caught:
            load_list(path, ())
        assert str(path) in str(caught.value)
        assert len(str(caught.value)) < 1000

    assert peak_memory(read) < 64 << 20


# ZIP


def zip_of(entries_: list[tuple[bytes, bytes, int]]) -> bytes:
    """An archive of (name, deflated content, length that is recorded)."""
    body, directory = b"", b""
    for name, content, size in entries_:
        fields = struct.pack("<HHHHIIIHH", 0, 8, 0, 0, 0, len(content), size, len(name), 0)
        directory += b"PK\x01\x02" + struct.pack("<HH", 20, 20) + fields
        directory += struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + name
        body += b"PK\x03\x04" + struct.pack("<H", 20) + fields + name + content
    end = struct.pack("<4H2IH", 0, 0, len(entries_), len(entries_), len(directory), len(body), 0)
    return body + directory + b"PK\x05\x06" + end


def deflated(data: bytes) -> bytes:
    return zlib.compress(data, wbits=-15)


def test_every_broken_deflate_stream_is_an_entry_error() -> None:
    """Also where the damage is behind the last byte that was wanted."""
    whole = deflated(bytes(range(256)) * 8)
    for content in (
        b"",
        b"\x07",
        whole[:-1],
        whole + b"x",
        b"\x02\x00" + whole,
        deflated(b"") + b"\x07",
    ):
        for size in (0, 1, 2048):
            file = io.BytesIO(zip_of([(b"a", content, size)]))
            (entry,) = entries(file)
            try:
                with open_entry(file, entry) as reader:
                    reader.readall()
            except ApkError as error:
                assert "'a'" in str(error)


def test_a_tree_of_very_many_directories_is_refused(tmp_path: Path) -> None:
    names = [b"/".join([b"%d" % n, *[b"d"] * 60, b"f"]) for n in range(5000)]
    path = tmp_path / "x.zip"
    path.write_bytes(zip_of([(name, deflated(b""), 0) for name in names]))
    with open(path, "rb") as file, pytest.raises(ZipTreeError, match="more than 262144 files"):
        ZipTree(file.fileno())


# Tombstones


def test_a_payload_cannot_spoil_its_tombstone_by_its_mappings(tmp_path: Path) -> None:
    (tmp_path / "maps").write_text(
        "\n".join(
            [
                "1000-2000 r-xp 0 0:0 1 /tmp/a\x0cb",
                "",
                "zz",
                "x-y r-xp",
                "4000-5000 r-xp 0 0:0 1 /lib/c",
            ]
        )
        + "\n7f12"
    )
    crash = Crash(
        dict.fromkeys(
            ["rax", "rbx", "rcx", "rdx", "rdi", "rsi", "rbp", "rsp", "rip", "eflags"], 16400
        ),
        1,
        2,
    )
    registers = crash.registers | {f"r{n}": 0 for n in range(8, 16)}
    text = tombstone(str(tmp_path), 1, 1, 11, 0, crash._replace(registers=registers))
    assert "pc 0000000000000010  /lib/c" in text


# The image builder


def ar(*members: tuple[str, bytes]) -> bytes:
    parts = [b"!<arch>\n"]
    for name, content in members:
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        parts += [header, content, b"\n" * (len(content) % 2)]
    return b"".join(parts)


def tar(*infos: tuple[tarfile.TarInfo, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for info, content in infos:
            info.size = len(content) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def member(
    name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, content


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
    "": bytes,
}


def package(path: Path, data: bytes, suffix: str = "") -> Path:
    path.write_bytes(ar(("debian-binary", b"2.0\n"), (f"data.tar{suffix}", PACKERS[suffix](data))))
    return path


GOOD = tar(
    member("./usr/bin/tool", b"tool" * 3000),
    member("./usr/bin/alias", kind=tarfile.SYMTYPE, target="tool"),
)


@pytest.mark.parametrize("suffix", PACKERS)
def test_packages_cut_off_or_damaged(tmp_path: Path, suffix: str) -> None:
    whole = package(tmp_path / "x.deb", GOOD, suffix).read_bytes()
    assert [path for path, _ in deb.entries(tmp_path / "x.deb")] == [
        "usr/bin/tool",
        "usr/bin/alias",
    ]
    broken = [whole[:end] for end in range(0, len(whole) - 1100, max(1, len(whole) // 150))]
    broken += [
        whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]
        for at in range(8, len(whole), max(1, len(whole) // 400))
    ]
    path = tmp_path / "broken.deb"
    for content in broken:
        path.write_bytes(content)
        try:
            list(deb.entries(path))
        except PackageError as error:
            assert str(path) in str(error)


def header(size: bytes = b"00000000001 ", kind: bytes = b"0", name: bytes = b"a") -> bytes:
    block = bytearray(512)
    block[: len(name)] = name
    block[100:108], block[124:136], block[156:157] = b"0000644 ", size, kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tar(member("../../etc/passwd")), "'../../etc/passwd'.: unsafe path"),
        (tar(member("/etc/passwd")), "unsafe path"),
        (tar(member("a/../../b")), "unsafe path"),
        (tar(member("a//b")), "unsafe path"),
        (tar(member("/".join("a" * 65))), "at most 64 parts of 255 bytes"),
        (tar(member("a" * 256)), "at most 64 parts of 255 bytes"),
        (tar(member("a" * 5000)), "a long name: 5001 bytes, at most 4096 allowed"),
        (tar(member("a" * 200), form=tarfile.PAX_FORMAT), "type b'x' is not known"),
        (header(b"77777777777 ") + bytes(512), "8589934591 bytes, at most 536870912"),
        (header(b"\x80" + b"\xff" * 11), "bytes, at most 536870912"),
        (header(b"\xff" * 12), "is not a number"),
        (header(b"-0000000001 "), "is not a number"),
        (header(b"\x80" + b"\xff" * 11, b"L"), "a long name: "),
        (header(kind=b"S"), "type b'S' is not known"),
        (header(name=b"\xff"), "not UTF-8"),
        (header()[:-1] + b"x", "member 1: wrong checksum"),
        (header(), r"member 1 \('a'\): the archive ends early"),
        (b"", "the archive ends early, after 0 members"),
    ],
)
def test_archives_that_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = package(tmp_path / "x.deb", data)
    with pytest.raises(PackageError, match=message) as caught:
        list(deb.entries(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"!<arch>\n" + b"x" * 60,
        ar(("data.tar.lzma", b"")),
        ar(*[("x", b"")] * 1000, ("data.tar", GOOD)),
        ar(("data.tar", GOOD)).replace(b"%-10d" % len(GOOD), b"-1        "),
        ar(("x", b"yy")).replace(b"2         ", b"-62       "),
    ],
)
def test_containers_that_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.deb"
    path.write_bytes(content)
    with pytest.raises(PackageError, match=str(path)):
        list(deb.entries(path))


def test_devices_are_left_out(tmp_path: Path) -> None:
    kinds = (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)
    data = tar(*(member(f"d{n}", kind=kind) for n, kind in enumerate(kinds)), member("f"))
    assert [path for path, _ in deb.entries(package(tmp_path / "x.deb", data))] == ["f"]


@pytest.mark.parametrize(
    "infos",
    [
        [member("a", kind=tarfile.SYMTYPE, target="{outside}"), member("a/b", b"evil")],
        [member("a/b", kind=tarfile.SYMTYPE, target="{outside}/b"), member("a/b", b"evil")],
        [member("a", b"x"), member("a/b", b"evil")],
        [member("a/b", b"x"), member("a", b"evil")],
        [member("x", b"evil"), member("b", kind=tarfile.LNKTYPE, target="{outside}/secret")],
    ],
)
def test_nothing_is_written_or_read_through_a_link(
    tmp_path: Path, infos: list[tuple[tarfile.TarInfo, bytes]]
) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    (outside / "secret").write_text("secret")
    for info, _ in infos:
        info.linkname = info.linkname.format(outside=outside)
    try:
        for path, entry in deb.entries(package(tmp_path / "x.deb", tar(*infos))):
            deb.write(root, path, entry)
    except PackageError:
        pass
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]
    assert (outside / "secret").read_text() == "secret"
    assert not [
        p
        for p in root.rglob("*")
        if p.is_file() and not p.is_symlink() and p.read_bytes() == b"secret"
    ]


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_a_package_that_unpacks_without_end(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deb, "MAX_UNPACKED", 16 << 20)
    many = tar(*(member(f"f{n}", bytes(1 << 20)) for n in range(48)))
    path = package(tmp_path / "x.deb", many, suffix)

    def read() -> None:
        with pytest.raises(PackageError, match="unpacks to more than 16777216 bytes"):
            for _ in deb.entries(path):
                pass

    assert peak_memory(read) < 40 << 20


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst", "lz4"])
def test_a_kernel_that_is_larger_than_it_says(suffix: str) -> None:
    large = b"\x7fELF" + bytes(64 << 20)
    packed = lz4_legacy(large) if suffix == "lz4" else PACKERS[suffix](large)
    payload = packed[: -4 if suffix == ".gz" else None] + struct.pack("<I", 1 << 20)
    image = bzimage(payload)

    def read() -> None:
        with pytest.raises(KernelError, match=r"(more than|larger than the) 1048576 bytes"):
            extract_vmlinux(image)

    assert peak_memory(read) < 48 << 20


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_kernels_cut_off_or_damaged(suffix: str) -> None:
    packed = PACKERS[suffix](b"\x7fELF" + bytes(range(256)) * 64)
    size = struct.pack("<I", 4 + 256 * 64)
    for at in range(4, len(packed)):
        for payload in (packed[:at], packed[:at] + bytes([packed[at] ^ 0x55]) + packed[at + 1 :]):
            try:
                extract_vmlinux(bzimage(payload[:-4] + size if suffix == ".gz" else payload + size))
            except KernelError:
                continue


@pytest.mark.parametrize("suffix", [".xz", ".zst"])
def test_modules_that_are_damaged(tmp_path: Path, suffix: str) -> None:
    packed = PACKERS[suffix](bytes(65 << 20))
    path = tmp_path / f"a.ko{suffix}"
    for content, message in [
        (packed, "more than 67108864"),
        (packed[:-3], "damaged module"),
        (b"x", "damaged"),
    ]:
        path.write_bytes(content)
        with pytest.raises(KernelError, match=message) as caught:
            read_module(path)
        assert str(path) in str(caught.value)


def elf(sections: list[tuple[int, int, int]], names: tuple[int, int], body: bytes) -> bytes:
    """A module of sections (name's offset, offset, size), the one with the names first."""
    table = 64 + len(body)
    head = b"\x7fELF\x02\x01".ljust(0x28, b"\0") + struct.pack("<Q", table)
    head = head.ljust(0x3A, b"\0") + struct.pack("<HHH", 64, len(sections) + 1, 0)
    rows = [(0, *names), *sections]
    return head + body + b"".join(struct.pack("<I20xQQ", *row).ljust(64, b"\0") for row in rows)


def test_section_names_are_not_copied_for_each_section() -> None:
    body = b"x" * (1 << 20) + b"\0"
    image = elf([(n, 64, 1) for n in range(2000)], (64, len(body)), body)

    def read() -> None:
        with pytest.raises(KernelError, match=r"no \.modinfo section"):
            modinfo(image)

    assert peak_memory(read) < 16 << 20


def test_modules_that_need_one_another_in_a_long_row(tmp_path: Path) -> None:
    for n in range(80):
        info = b"depends=m%d\0" % (n + 1)
        body = b"\0.modinfo\0" + info
        image = elf([(1, 64 + 10, len(info))], (64, 10), body)
        (tmp_path / f"m{n}.ko").write_bytes(image)
    with pytest.raises(KernelError, match="more than 64 modules need each other: m0 to m64"):
        ModuleTree(tmp_path).closure(["m0"])


def test_lists_of_builtin_modules_in_any_bytes(tmp_path: Path) -> None:
    (tmp_path / "modules.builtin").write_bytes(b"\xff\xfe\n\0kernel/a.ko\n")
    assert "b" not in ModuleTree(tmp_path)


# A net below: what is quadratic inside of C is not counted above

SLOW = {
    "decimals": "compiled(parcelable('double x = ' + '1' * 1_000_000 + ';'))",
    "a comment": "compiled({'p/P.aidl': 'package p; /** ' + '{@a' * 300_000 + ' */ parcelable P {}'})",
    "tags": "compiled({'p/P.aidl': 'package p; /** ' + '<a ' * 300_000 + ' */ parcelable P {}'})",
    "quotes": "compiled(parcelable(chr(34) * 900_000))",
    "spaces": "compiled(parcelable(' ' * 900_000))",
    "a word": "compiled(parcelable('aA_' * 300_000))",
}


def limited(code: str) -> Iterator[str]:
    yield "from tests.attack.test_readers import *"
    yield code


@pytest.mark.parametrize("what", SLOW)
def test_in_a_bounded_time(what: str) -> None:
    """Each takes well below a second; the bound is for what would take hours."""
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(limited(SLOW[what]))],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (60, 60)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
