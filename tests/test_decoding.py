"""What is said of a text that cannot be decoded."""

from typing import Annotated, Literal

import msgspec
import pytest

from avf.decoding import in_words


class Part(msgspec.Struct):
    path: str
    size: int = 0


class Whole(msgspec.Struct, forbid_unknown_fields=True):
    name: str | None = None
    count: Annotated[int, msgspec.Meta(ge=1)] = 1
    kind: Literal["one", "two"] = "one"
    parts: list[Part] = []
    on: bool = False
    share: float = 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"name": 3}', "name must be text or null, not a whole number"),
        ('{"count": 0}', "count must be a whole number >= 1"),
        ('{"kind": "three"}', "kind cannot be 'three'"),
        ('{"parts": [{"path": "a"}, {"size": 3}]}', "parts[1].path is missing"),
        ('{"parts": {}}', "parts must be a list, not an object"),
        ('{"on": 1}', "on must be true or false, not a whole number"),
        ('{"share": "1"}', "share must be a number, not text"),
        ('{"nom": ""}', "nom is no known field"),
        ("[]", "it must be an object, not a list"),
        ("", "it is no JSON, or a part is missing at the end"),
        ('{"name": "', "it is no JSON, or a part is missing at the end"),
        ("{]", "JSON is malformed: object keys must be strings (byte 1)"),
        ('{"share": 1e999}', "share: Number out of range"),
    ],
)
def test_the_field_and_what_it_must_be(text: str, said: str) -> None:
    with pytest.raises(msgspec.DecodeError) as caught:
        msgspec.json.decode(text, type=Whole)
    assert in_words(caught.value) == said


def test_what_is_nested_too_deeply() -> None:
    with pytest.raises(RecursionError) as caught:
        msgspec.json.decode("[" * 100_000)
    assert in_words(caught.value) == "it is nested too deeply"
