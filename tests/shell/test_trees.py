"""Trees of files from one folder to another, and what stands in their way."""

import os
import stat
from collections.abc import Iterable
from pathlib import Path

import pytest

from avf.shell import (
    Frame,
    Kind,
    LinkRule,
    ProtocolError,
    TransferError,
    find_place,
    receive_tree,
    send_tree,
)
from avf.shell.entries import MAX_DEPTH, Entry, Link, stays_inside


def sent(path: Path) -> list[Frame]:
    frames: list[Frame] = []
    send_tree(os.fsencode(path), lambda kind, payload: frames.append(Frame(kind, payload)))
    return frames


def receive(
    frames: Iterable[Frame],
    target: Path,
    name: bytes = b"thing",
    *,
    into: bool = False,
    links: LinkRule = LinkRule.INSIDE,
) -> list[str]:
    source = iter(frames)
    place = find_place(os.fsencode(target), name, into=into)
    try:
        return receive_tree(lambda: next(source, None), place, links)
    finally:
        place.close()


def copy(source: Path, target: Path, **options: object) -> list[str]:
    return receive(sent(source), target, os.fsencode(source.name), **options)  # type: ignore[arg-type]


def folder(name: bytes = b"", mode: int = 0o755) -> Frame:
    return Frame(Kind.FOLDER, Entry(name, mode, 0).encode())


def file(name: bytes = b"", mode: int = 0o644, changed: int = 0) -> Frame:
    return Frame(Kind.FILE, Entry(name, mode, changed).encode())


def link(name: bytes, target: bytes) -> Frame:
    return Frame(Kind.LINK, Link(name, target).encode())


def data(content: bytes) -> Frame:
    return Frame(Kind.DATA, content)


END = Frame(Kind.END, b"")


def listing(folder: Path) -> dict[str, tuple[int, bytes | str | None]]:
    """Path -> mode and contents, or target of a link."""
    found: dict[str, tuple[int, bytes | str | None]] = {}
    for path in sorted(folder.rglob("*")):
        content: bytes | str | None = None
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file():
            content = path.read_bytes()
        found[str(path.relative_to(folder))] = (stat.S_IMODE(path.lstat().st_mode), content)
    return found


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "sub/deep").mkdir(parents=True)
    (tree / "file").write_bytes(b"content")
    (tree / "file").chmod(0o751)
    (tree / "sub/deep/large").write_bytes(os.urandom(200_000))
    (tree / "sub/up").symlink_to("../file")
    (tree / os.fsdecode(b"\xff odd")).write_bytes(b"")
    (tree / "sub").chmod(0o500)
    os.utime(tree / "sub", ns=(1, 1_234_567_890_123_456_789))
    os.utime(tree / "file", ns=(1, -5))
    return tree


def test_a_tree_arrives_as_it_is(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    assert copy(tree, tmp_path / "there") == []
    assert listing(tmp_path / "there/tree") == listing(tree)
    for name in ("sub", "file"):
        assert (tmp_path / "there/tree" / name).stat().st_mtime_ns == (
            tree / name
        ).stat().st_mtime_ns
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["tree"]


def test_a_tree_gets_a_new_name(tree: Path, tmp_path: Path) -> None:
    copy(tree, tmp_path / "new")
    assert listing(tmp_path / "new") == listing(tree)
    with pytest.raises(TransferError, match="nowhere: No such file or directory"):
        copy(tree, tmp_path / "nowhere/new")
    with pytest.raises(TransferError, match="No such file or directory"):
        copy(tree, tmp_path / "absent", into=True)
    with pytest.raises(TransferError, match="Not a directory"):
        copy(tree, tmp_path / "new/file", into=True)


def test_set_user_id_does_not_travel(tmp_path: Path) -> None:
    (tmp_path / "program").write_bytes(b"")
    (tmp_path / "program").chmod(0o6755)
    copy(tmp_path / "program", tmp_path / "copy")
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o755
    receive([file(mode=0o7777), END], tmp_path / "hostile")
    assert stat.S_IMODE((tmp_path / "hostile").stat().st_mode) == 0o777


def test_a_file_takes_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"old")
    receive([file(), data(b"new"), END], tmp_path / "old")
    assert (tmp_path / "old").read_bytes() == b"new"


KINDS = ["file", "folder", "link", "pipe"]


def make(kind: str, path: Path) -> None:
    match kind:
        case "file":
            path.write_bytes(b"kept")
        case "folder":
            path.mkdir()
            (path / "inside").write_bytes(b"kept")
        case "link":
            path.symlink_to("elsewhere")
        case _:
            os.mkfifo(path)


def frames_of(kind: str, name: bytes) -> list[Frame]:
    return {
        "file": [file(name), data(b"new"), END],
        "folder": [folder(name), file(b"new"), END, END],
        "link": [link(name, b"x")],
    }[kind]


@pytest.mark.parametrize("present", KINDS)
@pytest.mark.parametrize("new", ["file", "folder", "link"])
def test_nothing_of_another_kind_is_replaced(present: str, new: str, tmp_path: Path) -> None:
    """Nor is anything else changed then."""
    target = tmp_path / "target"
    (target / "sub").mkdir(parents=True)
    make(present, target / "sub/x")
    before = listing(target)
    frames = [folder(), file(b"a"), END, folder(b"sub"), *frames_of(new, b"x"), END, END]
    if present == new:
        receive(frames, tmp_path, b"target")
        assert {*before, "a"} <= {*listing(target)}
    else:
        with pytest.raises(TransferError, match=f"target/sub/x is a {present}, not a {new}"):
            receive(frames, tmp_path, b"target")
        assert listing(target) == before
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_folder_is_added_to(tmp_path: Path) -> None:
    (tmp_path / "target/sub").mkdir(parents=True)
    (tmp_path / "target/sub/old").write_bytes(b"old")
    frames = [
        folder(),
        folder(b"sub", 0o500),
        file(b"new"),
        END,
        folder(b"more", 0o500),
        END,
        END,
        END,
    ]
    receive(frames, tmp_path, b"target")
    assert sorted(listing(tmp_path / "target")) == ["sub", "sub/more", "sub/new", "sub/old"]
    assert stat.S_IMODE((tmp_path / "target/sub/more").stat().st_mode) == 0o500


def test_what_is_no_file_is_left_out_and_told(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    os.mkfifo(tree / "pipe")
    (tree / "file").touch()
    assert copy(tree, tmp_path / "copy") == [f"{tree}/pipe: is neither a file, a folder nor a link"]
    assert list(listing(tmp_path / "copy")) == ["file"]
    with pytest.raises(TransferError, match="pipe is neither a file nor a folder"):
        sent(tree / "pipe")


def test_the_top_may_be_a_link_but_none_inside_is_followed(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "way").symlink_to("tree/file")
    copy(tmp_path / "way", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"content"
    assert not (tmp_path / "copy").is_symlink()
    kinds = [frame.kind for frame in sent(tree)]
    assert kinds.count(Kind.LINK) == 1


INSIDE = [(b"a", 0), (b"./a/b", 0), (b"../a", 1), (b"../../a/./b", 2), (b".", 0), (b"..", 1)]
OUTSIDE = [
    (b"/", 5), (b"/etc/passwd", 0), (b"..", 0), (b"../a", 0), (b"../../a", 1), (b"a/..", 0),
    (b"a/../../b", 5), (b"./../a", 0), (b"", 0), (b"../..", 1), (b"//a", 1),
]  # fmt: skip


@pytest.mark.parametrize(("target", "depth"), INSIDE)
def test_links_that_stay_inside(target: bytes, depth: int) -> None:
    assert stays_inside(target, depth)


@pytest.mark.parametrize(("target", "depth"), OUTSIDE)
def test_links_that_may_lead_out(target: bytes, depth: int) -> None:
    assert not stays_inside(target, depth)


def test_links_that_lead_out_are_left_out_or_made_by_the_rule(tmp_path: Path) -> None:
    frames = [
        folder(),
        link(b"good", b"x"),
        link(b"bad", b"/etc"),
        folder(b"s"),
        link(b"up", b"../.."),
        END,
        END,
    ]
    remarks = receive(frames, tmp_path / "checked")
    assert len(remarks) == 2
    assert remarks[0].endswith("/checked/bad: is a link that leads out, to /etc")
    assert sorted(listing(tmp_path / "checked")) == ["good", "s"]
    assert receive(frames, tmp_path / "all", links=LinkRule.ALL) == []
    assert sorted(listing(tmp_path / "all")) == ["bad", "good", "s", "s/up"]


def test_what_cannot_end_well_leaves_nothing(tmp_path: Path) -> None:
    for frames in (
        [folder(), file(b"a"), data(b"x")],
        [file(), data(b"x"), Frame(Kind.FAILED, b"\x01it broke")],
        [folder(b"", 0o500), folder(b"locked", 0o000), END],
    ):
        with pytest.raises(TransferError):
            receive(frames, tmp_path / "target")
        assert list(tmp_path.iterdir()) == []


def test_the_deepest_folders_arrive(tmp_path: Path) -> None:
    here = tmp_path / "deep"
    for _ in range(MAX_DEPTH):
        here.mkdir()
        here = here / "d"
    copy(tmp_path / "deep", tmp_path / "copy")
    assert len(listing(tmp_path / "copy")) == MAX_DEPTH - 1
    here.mkdir()
    with pytest.raises(TransferError, match=f"nested more than {MAX_DEPTH} deep"):
        copy(tmp_path / "deep", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_frames_out_of_order(tmp_path: Path) -> None:
    for frames in (
        [data(b"x")],
        [END],
        [link(b"a", b"b")],
        [folder(), data(b"x")],
        [folder(), file(b"a"), file(b"b")],
        [folder(), file(b"a"), link(b"b", b"c")],
        [Frame(Kind.FOLDER, b"x")],
        [Frame(Kind.INPUT, b"")],
        [Frame(Kind.DONE, b"")],
        [folder(), Frame(Kind.LINK, b"\xff\xff")],
    ):
        with pytest.raises(ProtocolError):
            receive(frames, tmp_path / "target")
        assert list(tmp_path.iterdir()) == []
