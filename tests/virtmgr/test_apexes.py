"""Which APEXes go into a VM: upstream's selection tables, and a list of a host that has some."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from avf.aidl.virtualizationservice import VirtualMachineAppConfig
from avf.disk import ApexPayload, MetadataPartition
from avf.virtmgr.apexes import (
    ApexInfo,
    collect,
    load_list,
    names_in_classpath,
    prefer_staged,
    select_apexes,
)
from avf.virtmgr.errors import VirtmgrError
from avf.virtmgr.fds import Fds
from avf.virtmgr.payload_config import Apex, VmPayloadConfig
from avf.virtmgr.payload_disk import payload_disk

FOUND = [
    ApexInfo("com.android.adbd", path="adbd", is_factory=True, is_active=True),
    ApexInfo("com.android.os.statsd", path="statsd", is_factory=True),
    ApexInfo("com.android.os.statsd", path="statsd/updated", is_active=True),
    ApexInfo("no_classpath", path="no_classpath", is_active=True),
    ApexInfo("has_classpath", path="has_classpath", has_classpath_jar=True, is_factory=True),
    ApexInfo("has_classpath", path="classpath/updated", has_classpath_jar=True, is_active=True),
    ApexInfo("apex-foo", path="apex-foo", is_factory=True),
    ApexInfo("apex-foo", path="apex-foo/updated", is_active=True),
    ApexInfo("sharedlibs", path="shared", is_factory=True, provides_shared_libs=True),
    ApexInfo("sharedlibs", path="shared/updated", is_active=True, provides_shared_libs=True),
]


def test_collect() -> None:
    chosen = collect(FOUND, ["apex-foo", "{CLASSPATH}"], debuggable=True)
    assert chosen == [FOUND[i] for i in (0, 2, 5, 7, 8, 9)]


def test_not_debuggable_and_nothing_wanted() -> None:
    assert collect(FOUND, [], debuggable=False) == [FOUND[i] for i in (2, 8, 9)]


def test_an_apex_nobody_has_is_passed_over() -> None:
    assert collect(FOUND, ["apex-bar"], debuggable=False) == collect(FOUND, [], debuggable=False)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            [ApexInfo("foo", 1, "foo.apex", is_factory=True, is_active=True)],
            [
                ApexInfo("foo", 2, "staged", last_update_seconds=1000, is_active=True),
                ApexInfo("foo", 1, "foo.apex", is_factory=True),
            ],
        ),
        (
            [
                ApexInfo("foo", 1, "foo.apex", is_factory=True),
                ApexInfo("foo", 2, "foo.downloaded.apex", is_active=True),
            ],
            [
                ApexInfo("foo", 1, "foo.apex", is_factory=True),
                ApexInfo("foo", 2, "staged", last_update_seconds=1000, is_active=True),
            ],
        ),
    ],
)
def test_staged_ones_take_the_place_of_active_ones(
    tmp_path: Path, before: list[ApexInfo], after: list[ApexInfo]
) -> None:
    file = tmp_path / "staged"
    file.touch()
    os.utime(file, (0, 1000))
    expected = [replace(a, path=str(file)) if a.path == "staged" else a for a in after]
    assert prefer_staged(before, ApexInfo("foo", 2, str(file))) == expected


def test_names_in_classpath() -> None:
    exports = (
        "export FOO /apex/unterminated\n"
        "export BAR /apex/valid.apex/something\n"
        "wrong\n"
        "export EMPTY\n"
        "export OTHER /foo/bar:/baz:/apex/second.valid.apex/:gibberish:"
    )
    assert names_in_classpath(exports) == {"valid.apex", "second.valid.apex"}


LIST = """<?xml version="1.0" encoding="utf-8"?>
<apex-info-list>
  <apex-info moduleName="b" modulePath="/b" versionCode="3" isFactory="true" isActive="true"
             lastUpdateMillis="5" provideSharedApexLibs="false"/>
  <apex-info moduleName="com.android.os.statsd" modulePath="/s" versionCode="1" isActive="true"/>
  <apex-info moduleName="a" modulePath="/a" versionCode="2" isActive="false"
             provideSharedApexLibs="true"/>
</apex-info-list>
"""


def test_a_hosts_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "list.xml"
    path.write_text(LIST)
    monkeypatch.setenv("AVF_APEX_INFO", str(path))
    chosen = select_apexes(["b"], debuggable=False)
    assert chosen == [
        ApexInfo("a", 2, "/a", provides_shared_libs=True),
        ApexInfo("b", 3, "/b", last_update_seconds=5, is_factory=True, is_active=True),
        ApexInfo("com.android.os.statsd", 1, "/s", is_active=True),
    ]


def test_a_staged_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    update = tmp_path / "b.apex"
    update.touch()
    os.utime(update, (0, 77))
    listed, staged = tmp_path / "list.xml", tmp_path / "staged.xml"
    listed.write_text(LIST)
    staged.write_text(
        f'<apex-info-list><apex-info moduleName="b" modulePath="{update}" versionCode="4"/>'
        "</apex-info-list>"
    )
    monkeypatch.setenv("AVF_APEX_INFO", str(listed))
    monkeypatch.setenv("AVF_STAGED_APEX_INFO", str(staged))
    now = {a.name: a for a in select_apexes(["b"], debuggable=False)}
    then = {a.name: a for a in select_apexes(["b"], debuggable=False, with_staged=True)}
    assert now["b"].version == 3
    assert then["b"] == ApexInfo("b", 4, str(update), last_update_seconds=77, is_active=True)


def test_a_host_without_apexes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVF_APEX_INFO", str(tmp_path / "none"))
    assert select_apexes([], debuggable=True) == []
    with pytest.raises(
        VirtmgrError, match=r"asks for com\.android\.art, and this host has no APEXes"
    ):
        select_apexes(["com.android.art"], debuggable=True)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("<apex-info-list>", "no element found"),
        ('<l><apex-info modulePath="/b"/></l>', "an apex-info has no moduleName"),
        ('<l><apex-info moduleName="b"/></l>', "an apex-info has no modulePath"),
        ('<l><apex-info moduleName="b" modulePath="/b" versionCode="x"/></l>', "versionCode: 'x'"),
    ],
)
def test_broken_lists(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "list.xml"
    path.write_text(text)
    with pytest.raises(VirtmgrError) as raised:
        load_list(path, set())
    assert str(raised.value).startswith(f"{path}: ")
    assert complaint in str(raised.value)


def test_apexes_on_the_payload_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {name: tmp_path / name for name in ("a", "b", "s")}
    text = LIST
    for name, path in files.items():
        path.write_bytes(name.encode())
        text = text.replace(f'"/{name}"', f'"{path}"')
    listed = tmp_path / "list.xml"
    listed.write_text(text)
    monkeypatch.setenv("AVF_APEX_INFO", str(listed))
    fds = Fds()
    try:
        disk = payload_disk(
            -1,
            -1,
            [],
            VirtualMachineAppConfig.Payload(config_path="vm.json"),
            VmPayloadConfig(apexes=[Apex("b")]),
            fds,
            debuggable=False,
        )
        assert [p.label for p in disk.partitions] == [
            "payload-metadata",
            "microdroid-apex-0",
            "microdroid-apex-1",
            "microdroid-apex-2",
            "microdroid-apk",
            "microdroid-apk-idsig",
        ]
        assert [os.pread(p.fd, 9, 0) for p in disk.partitions[1:4]] == [b"a", b"b", b"s"]
        metadata = MetadataPartition.read(disk.partitions[0].fd)
    finally:
        fds.close()
    assert metadata.config_path == "/mnt/apk/vm.json"
    assert metadata.apexes[1] == ApexPayload(
        "b", "microdroid-apex-1", last_update_seconds=5, is_factory=True
    )
