"""Sizes on the command line."""

import click
import pytest

from avf.cli.sizes import Size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("10M", 10 << 20),
        ("10m", 10 << 20),
        ("10MiB", 10 << 20),
        ("10MB", 10 << 20),
        ("1 G", 1 << 30),
        ("2T", 2 << 40),
        ("7B", 7),
    ],
)
def test_bytes(text: str, size: int) -> None:
    assert Size().convert(text, None, None) == size


@pytest.mark.parametrize(
    ("text", "size"), [("512", 512), ("512M", 512), ("2G", 2048), ("1024k", 1)]
)
def test_mebibytes(text: str, size: int) -> None:
    assert Size("m", minimum=1).convert(text, None, None) == size


@pytest.mark.parametrize(
    "text", ["", "M", "-1", "1.5G", "10X", "10iB", "1e6", "0x10", "9" * 30, "99999999T", "10M 5"]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"size|from 0 to"):
        Size().convert(text, None, None)


@pytest.mark.parametrize("text", ["0", "1k", "512k", "1M5", "4P"])
def test_what_is_no_amount_of_memory(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Size("m", minimum=1).convert(text, None, None)
