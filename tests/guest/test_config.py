import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avf.guest.config import PayloadConfig, Task, TaskType, explicit_config, parse_config
from avf.guest.errors import InvalidConfig


def parse(document: object) -> PayloadConfig:
    return parse_config(json.dumps(document).encode())


def test_everything() -> None:
    config = parse(
        {
            "os": {"name": "microdroid"},
            "task": {"type": "microdroid_launcher", "command": "x.so"},
            "apexes": [{"name": "com.android.art"}],
            "extra_apks": [{"path": "/data/a.apk"}, {"path": "/data/b.apk"}],
            "export_tombstones": False,
            "enable_authfs": True,
            "of the future": 1,
        }
    )
    assert config == PayloadConfig(Task(TaskType.LAUNCHER, "x.so"), 2, False, True)


def test_defaults() -> None:
    assert parse({}) == PayloadConfig(None, 0, None, False)
    assert parse({"task": {"command": "/bin/true"}}).task == Task(TaskType.EXECUTABLE, "/bin/true")
    assert explicit_config("x.so", 1) == PayloadConfig(
        Task(TaskType.LAUNCHER, "x.so"), 1, None, False
    )


def test_root_has_to_be_asked_for() -> None:
    task = parse({"task": {"command": "x", "run_as_root": True}}).task
    assert task == Task(TaskType.EXECUTABLE, "x", run_as_root=True)
    assert explicit_config("x.so", 0).task == Task(TaskType.LAUNCHER, "x.so", run_as_root=False)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "not a JSON object"),
        ({"task": "x"}, "task is not of type dict"),
        ({"task": {}}, "command is missing"),
        ({"task": {"type": "shell", "command": "x"}}, "unknown task type 'shell'"),
        ({"task": {"command": "x", "run_as_root": 1}}, "run_as_root is not of type bool"),
        ({"extra_apks": {}}, "extra_apks is not"),
        ({"extra_apks": ["x"]}, "path is missing"),
        ({"enable_authfs": "yes"}, "enable_authfs"),
    ],
)
def test_bad_documents_name_the_field(document: object, message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        parse(document)


@given(st.binary(max_size=60))
def test_garbage(data: bytes) -> None:
    try:
        parse_config(data)
    except InvalidConfig:
        pass


def test_deep_nesting_is_no_crash() -> None:
    with pytest.raises(InvalidConfig, match="not JSON"):
        parse_config(b"[" * 100_000)
