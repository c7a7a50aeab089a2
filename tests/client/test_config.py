import os
from pathlib import Path

import pytest

from avf.client import (
    AppConfig,
    ConfigError,
    CpuTopology,
    DebugLevel,
    Disk,
    Partition,
    RawConfig,
    load_raw_config,
)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name in ("apk", "idsig", "instance", "storage", "kernel", "initrd", "extra"):
        (tmp_path / name).write_text(name)
    return tmp_path


def app(files: Path, **changes: object) -> AppConfig:
    given: dict[str, object] = {
        "apk": files / "apk",
        "idsig": files / "idsig",
        "instance_image": files / "instance",
        "payload_binary_name": "lib.so",
    }
    return AppConfig(**(given | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"payload_binary_name": None, "config_path": "a.json", "extra_apks": ["x"]},
            "extra_apks: the file at config_path names the extra APKs itself",
        ),
        (
            {"extra_apks": ["x", "y"], "extra_idsigs": ["z"]},
            "extra_idsigs: 1 for 2 extra_apks",
        ),
    ],
)
def test_extra_apks_that_do_not_fit(files: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        app(files, **changes)


def test_an_extra_apk_that_is_not_there(files: Path) -> None:
    config = app(files, extra_apks=[files / "extra", files / "none"])
    before = open_fds()
    with pytest.raises(ConfigError, match=r"extra_apks\[1\]: Failed to open .*none"):
        config.open().__enter__()
    assert open_fds() == before


def open_fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_app_config_opens_what_it_names(files: Path) -> None:
    config = app(
        files,
        name="vm",
        extra_idsigs=[files / "extra"],
        encrypted_storage_image=files / "storage",
        debug_level=DebugLevel.FULL,
        memory_mib=300,
        cpu_topology=CpuTopology.MATCH_HOST,
        task_profiles=("a", "b"),
        gdb_port=3456,
    )
    before = open_fds()
    with config.open() as opened:
        made = opened.app_config
        assert made.payload.payload_config.payload_binary_name == "lib.so"
        assert (made.name, made.memory_mib, made.gdb_port) == ("vm", 300, 3456)
        assert (made.debug_level, made.cpu_topology) == (DebugLevel.FULL, CpuTopology.MATCH_HOST)
        assert made.task_profiles == ["a", "b"]
        assert made.apk is not None
        assert os.pread(made.apk.fileno(), 10, 0) == b"apk"
        for image in (made.instance_image, made.encrypted_storage_image):
            assert image is not None
            os.pwrite(image.fileno(), b"w", 0)
        assert os.pread(made.extra_idsigs[0].fileno(), 10, 0) == b"extra"
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.pwrite(made.apk.fileno(), b"w", 0)
    assert open_fds() == before


def test_a_config_path_names_the_payload(files: Path) -> None:
    config = app(files, payload_binary_name=None, config_path="assets/vm.json")
    with config.open() as opened:
        assert opened.app_config.payload.config_path == "assets/vm.json"


def test_open_files_stay_the_callers(files: Path) -> None:
    with open(files / "apk", "rb") as apk, open(files / "instance", "r+b") as instance:
        with app(files, apk=apk, instance_image=instance.fileno()).open() as opened:
            assert opened.app_config.apk is not None
            assert opened.app_config.apk.fileno() != apk.fileno()
        assert apk.read() == b"apk"
        assert instance.read() == b"instance"


def test_a_missing_file_is_named_and_the_others_are_closed(files: Path) -> None:
    before = open_fds()
    config = app(files, instance_image=files / "none")
    with pytest.raises(ConfigError, match=f"instance_image: Failed to open {files}/none: No such"):
        config.open().__enter__()
    assert open_fds() == before


@pytest.mark.parametrize("source", [-1, 987654])
def test_a_number_that_is_no_open_file_is_named(files: Path, source: int) -> None:
    with pytest.raises(ConfigError, match="apk: not an open file"):
        app(files, apk=source).open().__enter__()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"payload_binary_name": None}, "one of payload_binary_name and config_path is needed"),
        ({"payload_binary_name": "dir/a.so"}, "must not specify a path: dir/a.so"),
        ({"config_path": "x.json"}, "exclude each other"),
        ({"memory_mib": 0}, "memory_mib must be a whole number of MiB from 1"),
        ({"memory_mib": 1 << 31}, "memory_mib must be a whole number of MiB from 1"),
        ({"gdb_port": 65536}, "gdb_port must be"),
    ],
)
def test_app_config_refuses(files: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        app(files, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"memory_mib": "512M"}, "memory_mib must be a whole number of MiB from 1 .*, not '512M'"),
        ({"memory_mib": 512.0}, "memory_mib must be a whole number .*, not 512.0"),
        ({"memory_mib": True}, "memory_mib must be a whole number .*, not True"),
        ({"gdb_port": "1234"}, "gdb_port must be a whole number from 0 to 65535, not '1234'"),
        ({"gdb_port": None}, "gdb_port must be a whole number"),
        ({"gdb": 1}, "gdb must be True or False, not 1"),
        ({"protected": "no"}, "protected must be True or False, not 'no'"),
        ({"apk": 3.5}, "apk must be a path or an open file, not 3.5"),
        ({"apk": None}, "apk must be a path or an open file, not None"),
        ({"apk": b"app.apk"}, "apk must be a path or an open file, not b'app.apk'"),
        ({"apk": ""}, "apk must be a path or an open file, not an empty text"),
        ({"idsig": True}, "idsig must be a path or an open file, not True"),
        ({"instance_image": []}, "instance_image must be a path"),
        ({"encrypted_storage_image": 1.0}, "encrypted_storage_image must be a path"),
        ({"extra_apks": "x.apk"}, "extra_apks must be a list, not 'x.apk'"),
        ({"extra_apks": [None]}, r"extra_apks\[0\] must be a path"),
        ({"extra_idsigs": {"a"}}, "extra_idsigs must be a list"),
        ({"payload_binary_name": b"lib.so"}, "payload_binary_name must be text, not b'lib.so'"),
        ({"payload_binary_name": "a\0b"}, "payload_binary_name must not have a NUL"),
        ({"config_path": Path("x")}, "config_path must be text, not PosixPath"),
        ({"name": None}, "name must be text, not None"),
        ({"debug_level": "full"}, "debug_level must be one of DebugLevel.NONE, DebugLevel.FULL"),
        ({"cpu_topology": 2}, "cpu_topology must be one of CpuTopology.ONE_CPU, .*, not 2"),
        ({"task_profiles": "a"}, "task_profiles must be a list, not 'a'"),
        ({"task_profiles": [1]}, r"task_profiles\[0\] must be text, not 1"),
        ({"name": 7 * [b"x" * 100]}, r"name must be text, not \[b'x{97}\.\.\.$"),
    ],
)
def test_a_field_of_another_type_is_named(
    files: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        app(files, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernel": 2.5}, "kernel must be a path"),
        ({"initrd": ()}, "initrd must be a path"),
        ({"params": ["quiet"]}, "params must be text"),
        ({"platform_version": 1.0}, "platform_version must be text, not 1.0"),
        ({"disks": "disk.img"}, "disks must be a list"),
        ({"disks": ["disk.img"]}, r"disks\[0\] must be a Disk, not 'disk.img'"),
        ({"memory_mib": "64"}, "memory_mib must be"),
    ],
)
def test_a_field_of_a_raw_vm_of_another_type_is_named(
    changes: dict[str, object], message: str
) -> None:
    fields: dict[str, object] = {"kernel": "kernel"}
    with pytest.raises(ConfigError, match=message):
        RawConfig(**(fields | changes))  # type: ignore[arg-type]


def test_parts_of_a_disk_of_another_type_are_named() -> None:
    with pytest.raises(ConfigError, match="label must be text, not 1"):
        Partition(label=1, image="a")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="writable must be True or False, not 'yes'"):
        Partition(label="a", image="a", writable="yes")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"partitions\[0\] must be a Partition, not 'a'"):
        Disk(partitions=["a"])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="image must be a path"):
        Disk(image=1.5)  # type: ignore[arg-type]


def test_a_configuration_that_is_a_fifo(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "vm.json")
    with pytest.raises(ConfigError, match=r"vm\.json: not a regular file"):
        load_raw_config(tmp_path / "vm.json")


def test_raw_config_opens_what_it_names(files: Path) -> None:
    config = RawConfig(
        kernel=files / "kernel",
        initrd=files / "initrd",
        params="quiet",
        disks=[
            Disk(image=files / "storage", writable=True),
            Disk(partitions=[Partition(label="a", image=files / "instance", writable=True)]),
        ],
    )
    before = open_fds()
    with config.open() as opened:
        made = opened.raw_config
        assert made.platform_version == "~1.0"
        assert made.params == "quiet"
        assert made.bootloader is None
        assert made.disks[0].image is not None
        os.pwrite(made.disks[0].image.fileno(), b"w", 0)
        (part,) = made.disks[1].partitions
        assert (part.label, part.writable, made.disks[1].writable) == ("a", True, False)
        assert part.image is not None
        os.pwrite(part.image.fileno(), b"w", 0)
    assert open_fds() == before


def test_a_file_in_a_disk_is_named_by_its_place(files: Path) -> None:
    disk = Disk(partitions=[Partition(label="a", image=files / "none")])
    config = RawConfig(kernel=files / "kernel", disks=[disk])
    with pytest.raises(ConfigError, match=r"disks\[0\]\.partitions\[0\]\.image: Failed to open"):
        config.open().__enter__()


def test_raw_config_needs_something_to_boot() -> None:
    with pytest.raises(ConfigError, match="either a bootloader or a kernel"):
        RawConfig()
    with pytest.raises(ConfigError, match="both bootloader and kernel"):
        RawConfig(bootloader="b", initrd="i")


@pytest.mark.parametrize(
    "fields", [{}, {"image": "i", "partitions": [Partition(label="a", image="b")]}]
)
def test_a_disk_is_an_image_or_partitions(fields: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="either an image or a list"):
        Disk(**fields)  # type: ignore[arg-type]


def test_json_paths_count_from_the_files_folder(files: Path) -> None:
    path = files / "vm.json"
    path.write_text(
        """{"kernel": "kernel", "initrd": "/abs/initrd", "params": "p", "memory_mib": 96,
        "platform_version": "~1.0", "cpu_topology": "match_host", "gpu": {"unknown": true},
        "disks": [{"writable": true, "partitions": [{"label": "a", "path": "storage"}]}]}"""
    )
    assert load_raw_config(path) == RawConfig(
        kernel=files / "kernel",
        initrd=Path("/abs/initrd"),
        params="p",
        memory_mib=96,
        cpu_topology=CpuTopology.MATCH_HOST,
        disks=(Disk(writable=True, partitions=(Partition(label="a", image=files / "storage"),)),),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "a part is missing at the end"),
        ('{"kernel": "k"}', "platform_version"),
        (
            '{"kernel": "k", "platform_version": "1", "memory_mib": 0}',
            "memory_mib must be a whole number >= 1",
        ),
        (
            '{"kernel": "k", "platform_version": "1", "disks": [{}]}',
            r"disks\[0\]\.writable is missing",
        ),
        (
            '{"kernel": "k", "platform_version": "1", "disks": [{"writable": true}]}',
            "Exactly one of image and partitions must be specified",
        ),
        ('{"platform_version": "1"}', "either a bootloader or a kernel image"),
    ],
)
def test_json_errors_name_file_and_field(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "vm.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_raw_config(path)
    assert str(path) in str(caught.value)


def test_a_json_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Failed to open .*none.json: No such file"):
        load_raw_config(tmp_path / "none.json")
