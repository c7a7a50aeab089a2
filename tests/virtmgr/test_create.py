"""createVm and the other operations of IVirtualizationService: every refusal, in AVF's words, and nothing left."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from avf.aidl.virtualizationservice import (
    CpuTopology,
    DiskImage,
    IVirtualizationService,
    Partition,
    PartitionType,
    VirtualMachineAppConfig,
    VirtualMachineConfig,
    VirtualMachinePayloadConfig,
    VirtualMachineState,
)
from avf.aidl.vm_control import Refusal
from avf.apk import ApkBuilder, SigningKey
from avf.binder import ExceptionCode, ParcelFileDescriptor, RemoteException, dump, release
from tests.eventually import eventually
from tests.virtmgr.conftest import connected, create, opened, raw

MANAGED = 4096


def image(folder: Path, name: str, size: int = MANAGED) -> ParcelFileDescriptor:
    path = folder / name
    path.write_bytes(bytes(size))
    return opened(path, "r+b")


def partition(folder: Path, label: str, **changes: object) -> Partition:
    fields: dict[str, object] = {"label": label, "image": image(folder, label)}
    return Partition(**(fields | changes))  # type: ignore[arg-type]


def disk_of(*partitions: Partition, **changes: object) -> list[DiskImage]:
    return [DiskImage(partitions=list(partitions), **changes)]  # type: ignore[arg-type]


def world_writable(folder: Path) -> ParcelFileDescriptor:
    file = image(folder, "open to all")
    os.fchmod(file.fileno(), 0o666)
    return file


def labelled(folder: Path, label: str) -> ParcelFileDescriptor:
    file = image(folder, "labelled")
    os.setxattr(file.fileno(), "security.selinux", label.encode())
    return file


Case = tuple[Callable[[Path], dict[str, object]], ExceptionCode, str]
REFUSALS: dict[str, Case] = {
    "image and partitions": (
        lambda f: {"disks": disk_of(partition(f, "a"), image=image(f, "b"))},
        ExceptionCode.ILLEGAL_ARGUMENT,
        "DiskImage contains both image and partitions.",
    ),
    "empty disk": (
        lambda f: {"disks": [DiskImage()]},
        ExceptionCode.ILLEGAL_ARGUMENT,
        "DiskImage didn't contain image or partitions.",
    ),
    "partition without image": (
        lambda f: {"disks": disk_of(Partition(label="a"))},
        ExceptionCode.SERVICE_SPECIFIC,
        "Failed to make composite image: Invalid partition image file descriptor (partition 'a')",
    ),
    "duplicate label": (
        lambda f: {"disks": disk_of(partition(f, "a"), partition(f, "a"))},
        ExceptionCode.SERVICE_SPECIFIC,
        "Failed to make composite image: duplicate GPT partition label 'a'",
    ),
    "writable partition with half a block": (
        lambda f: {
            "disks": disk_of(
                partition(f, "a", image=image(f, "odd", 4000), writable=True), writable=True
            )
        },
        ExceptionCode.SERVICE_SPECIFIC,
        "Failed to make composite image: writable partition 'a' has 4000 bytes",
    ),
    "file that everyone can write": (
        lambda f: {"disks": disk_of(partition(f, "a", image=world_writable(f)))},
        ExceptionCode.SERVICE_SPECIFIC,
        "Partition a invalid\n\nCaused by:\n    Mode 666 is not allowed (everyone can write)",
    ),
    "file with an app's label": (
        lambda f: {
            "disks": disk_of(partition(f, "a", image=labelled(f, "u:object_r:app_data_file:s0")))
        },
        ExceptionCode.SERVICE_SPECIFIC,
        "Partition a invalid\n\nCaused by:\n    Label u:object_r:app_data_file:s0 is not allowed",
    ),
    "vm-instance is not exempt in a raw VM": (
        lambda f: {"disks": disk_of(partition(f, "vm-instance", image=world_writable(f)))},
        ExceptionCode.SERVICE_SPECIFIC,
        "Partition vm-instance invalid\n\nCaused by:\n    Mode 666",
    ),
    "topology": (
        lambda f: {"cpu_topology": CpuTopology(7)},
        ExceptionCode.SERVICE_SPECIFIC,
        "Failed to parse CPU topology value: 7",
    ),
    "no version requirement": (
        lambda f: {"platform_version": ""},
        ExceptionCode.BAD_PARCELABLE,
        "Invalid platform version requirement : empty string, expected a semver version",
    ),
    "neither kernel nor bootloader": (
        lambda f: {"kernel": None},
        ExceptionCode.SERVICE_SPECIFIC,
        "Failed to create VM: VM must have either a bootloader or a kernel image.",
    ),
    "kernel and bootloader": (
        lambda f: {"bootloader": image(f, "bios")},
        ExceptionCode.SERVICE_SPECIFIC,
        "Failed to create VM: Can't have both bootloader and kernel/initrd image.",
    ),
    "incompatible version": (
        lambda f: {"platform_version": "~2.0"},
        ExceptionCode.SERVICE_SPECIFIC,
        "Failed to create VM: Incompatible platform version. The config is compatible with platform"
        " version(s) ~2.0, but the actual platform version is 1.0.0",
    ),
    "protected": (
        lambda f: {"protected_vm": True},
        ExceptionCode.UNSUPPORTED_OPERATION,
        "Protected VMs are not supported: qemu cannot keep a guest's memory from the host",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refused_raw_configs(
    root: IVirtualizationService, runtime_dir: Path, tmp_path: Path, name: str
) -> None:
    changes, code, message = REFUSALS[name]
    with pytest.raises(RemoteException) as raised:
        create(root, raw(tmp_path, **changes(tmp_path)))
    assert raised.value.code is code
    assert raised.value.message.startswith(message)
    eventually(root.debug_list_vms, [])


def app(folder: Path, **changes: object) -> VirtualMachineConfig:
    apk = folder / "app.apk"
    if not apk.exists():
        builder = ApkBuilder()
        builder.add("good.json", b'{"task": {"command": "x"}, "extra_apks": [{"path": "/x.apk"}]}')
        builder.add("os.json", b'{"os": {"name": "debian"}}')
        builder.add("bad.json", b'{"task": {"command": 1}}')
        builder.add("apex.json", b'{"apexes": [{"name": "com.android.art"}]}')
        with apk.open("w+b") as file:
            builder.build(file, SigningKey.generate())
    fields: dict[str, object] = {
        "name": "app",
        "apk": opened(apk),
        "idsig": image(folder, "idsig"),
        "instance_image": image(folder, "instance"),
        "payload": VirtualMachineAppConfig.Payload(
            payload_config=VirtualMachinePayloadConfig(payload_binary_name="x.so")
        ),
    }
    return VirtualMachineConfig(app_config=VirtualMachineAppConfig(**(fields | changes)))  # type: ignore[arg-type]


def config_path(path: str) -> dict[str, object]:
    return {"payload": VirtualMachineAppConfig.Payload(config_path=path)}


def binary(name: str) -> dict[str, object]:
    payload = VirtualMachinePayloadConfig(payload_binary_name=name)
    return {"payload": VirtualMachineAppConfig.Payload(payload_config=payload)}


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        (
            binary("dir/x.so"),
            ExceptionCode.SERVICE_SPECIFIC,
            "Failed to load app config: Payload binary name must not specify a path: dir/x.so",
        ),
        (
            config_path("none.json"),
            ExceptionCode.SERVICE_SPECIFIC,
            "Failed to load app config: Couldn't read config from none.json\n\nCaused by:",
        ),
        (
            config_path("bad.json"),
            ExceptionCode.SERVICE_SPECIFIC,
            "Failed to load app config: Couldn't read config from bad.json\n\nCaused by:",
        ),
        (
            config_path("os.json"),
            ExceptionCode.SERVICE_SPECIFIC,
            'Failed to load app config: Unknown OS "debian"',
        ),
        (
            config_path("good.json"),
            ExceptionCode.SERVICE_SPECIFIC,
            "Failed to load app config: payload config has 1 apks, but app config has 0 idsigs",
        ),
        (
            config_path("apex.json"),
            ExceptionCode.SERVICE_SPECIFIC,
            "Failed to load app config: the payload config asks for com.android.art, and this host has",
        ),
        (
            {"instance_image": None},
            ExceptionCode.SERVICE_SPECIFIC,
            "Failed to load app config: instanceImage is missing",
        ),
        (
            {"forkable": True},
            ExceptionCode.SERVICE_SPECIFIC,
            "Failed to load app config: forkable: such a VM keeps nothing, but instanceImage is given",
        ),
        (
            {"forkable": True, "instance_image": None, "gdb_port": 3456},
            ExceptionCode.ILLEGAL_ARGUMENT,
            "forkable: a VM that waits for a debugger cannot be forked",
        ),
        (
            {"debug_level": VirtualMachineAppConfig.DebugLevel(9)},
            ExceptionCode.SERVICE_SPECIFIC,
            "Failed to load app config: unsupported debug level 9",
        ),
        (
            {"memory_mib": 96},
            ExceptionCode.SERVICE_SPECIFIC,
            "Failed to load app config: memoryMib is 96, but this guest image needs at least",
        ),
        (
            {"gdb_port": 3456},
            ExceptionCode.SECURITY,
            "Can't use gdb with non-debuggable VMs",
        ),
        (
            {"protected_vm": True},
            ExceptionCode.UNSUPPORTED_OPERATION,
            "Protected VMs are not supported",
        ),
    ],
)
def test_refused_app_configs(
    root: IVirtualizationService,
    tmp_path: Path,
    changes: dict[str, object],
    code: ExceptionCode,
    message: str,
) -> None:
    with pytest.raises(RemoteException) as raised:
        create(root, app(tmp_path, **changes))
    assert raised.value.code is code
    assert raised.value.message.startswith(message)


def signed(folder: Path, name: str) -> ParcelFileDescriptor:
    with (folder / name).open("w+b") as file:
        ApkBuilder(f"com.example.{name}").build(file, SigningKey.generate())
    return opened(folder / name)


def with_extras(folder: Path, apks: list[ParcelFileDescriptor], idsigs: int) -> dict[str, object]:
    payload = VirtualMachinePayloadConfig(payload_binary_name="x.so", extra_apks=apks)
    return {
        "payload": VirtualMachineAppConfig.Payload(payload_config=payload),
        "extra_idsigs": [image(folder, f"idsig{i}") for i in range(idsigs)],
    }


def test_extra_apks_as_descriptors(root: IVirtualizationService, tmp_path: Path) -> None:
    """Nothing of them, or of the metadata, is written into the VM's directory."""
    extras = [signed(tmp_path, "one"), signed(tmp_path, "two")]
    vm = create(root, app(tmp_path, **with_extras(tmp_path, extras, 2)))
    (info,) = root.debug_list_vms()
    assert info.cid == vm.get_cid()
    assert all(path.is_socket() for path in Path(info.temporary_directory).iterdir())


def write_only(folder: Path) -> ParcelFileDescriptor:
    return opened(folder / "written", "wb")


BAD_EXTRAS: dict[str, Callable[[Path], tuple[list[ParcelFileDescriptor], int, str]]] = {
    "no idsig": lambda folder: (
        [signed(folder, "a")],
        0,
        "payload config has 1 apks, but app config has 0 idsigs",
    ),
    "no APK": lambda folder: ([], 1, "payload config has 0 apks, but app config has 1 idsigs"),
    "not signed": lambda folder: (
        [signed(folder, "a"), image(folder, "plain")],
        2,
        "Failed to verify the extra apk #1",
    ),
    "a directory": lambda folder: (
        [ParcelFileDescriptor(os.open(folder, os.O_RDONLY))],
        1,
        "payloadConfig.extraApks[0] is a directory",
    ),
    "not open for reading": lambda folder: (
        [write_only(folder)],
        1,
        "payloadConfig.extraApks[0] is not open for reading",
    ),
}


@pytest.mark.parametrize("name", BAD_EXTRAS)
def test_extra_apks_that_are_refused(
    root: IVirtualizationService, tmp_path: Path, name: str
) -> None:
    apks, idsigs, message = BAD_EXTRAS[name](tmp_path)
    with pytest.raises(RemoteException) as raised:
        create(root, app(tmp_path, **with_extras(tmp_path, apks, idsigs)))
    assert raised.value.message.startswith(f"Failed to load app config: {message}")
    eventually(root.debug_list_vms, [])


def test_more_extra_apks_than_a_disk_has_partitions(
    root: IVirtualizationService, tmp_path: Path
) -> None:
    one = signed(tmp_path, "one")
    with pytest.raises(RemoteException, match="128"):
        create(root, app(tmp_path, **with_extras(tmp_path, [one] * 64, 64)))
    eventually(root.debug_list_vms, [])


def test_no_guest_image(runtime_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVF_IMAGE_DIR", str(tmp_path))
    with connected() as root, pytest.raises(RemoteException) as raised:
        create(root, app(tmp_path))
    assert raised.value.message == (
        f"Failed to load app config: no guest image (microdroid.json) in {tmp_path}"
    )


def test_a_vm_that_is_not_started(
    root: IVirtualizationService, runtime_dir: Path, tmp_path: Path
) -> None:
    vm = create(root, raw(tmp_path, disks=disk_of(partition(tmp_path, "data"))))
    cid = vm.get_cid()
    assert vm.get_state() is VirtualMachineState.NOT_STARTED
    assert [info.cid for info in root.debug_list_vms()] == [cid]
    for operation, message in (
        (vm.stop, "VM is not running"),
        (lambda: vm.connect_vsock(5678), "VM is not running"),
    ):
        with pytest.raises(RemoteException) as raised:
            operation()
        assert raised.value.service_specific == Refusal.NOT_RUNNING
        assert raised.value.message == message
    release(vm)
    eventually(root.debug_list_vms, [])
    eventually(Path(runtime_dir, "vms", str(cid)).exists, False)


def test_cids_are_not_used_again_at_once(root: IVirtualizationService, tmp_path: Path) -> None:
    cids = []
    for _ in range(3):
        vm = create(root, raw(tmp_path))
        cids.append(vm.get_cid())
        release(vm)
    assert cids == [2048, 2049, 2050]


@pytest.mark.parametrize(
    ("kind", "size", "start"),
    [
        (PartitionType.RAW, 5000, b""),
        (PartitionType.ANDROID_VM_INSTANCE, 10 << 20, b"Android-VM-instance\x01\x00"),
        (PartitionType.ENCRYPTEDSTORE, 4096, b"UNFORMATTED-STORAGE"),
    ],
)
def test_writable_partitions(
    root: IVirtualizationService, tmp_path: Path, kind: PartitionType, size: int, start: bytes
) -> None:
    path = tmp_path / "partition"
    path.write_bytes(start.ljust(100_000, b"x") if start else b"")
    with opened(path, "r+b") as file:
        os.lseek(file.fileno(), 100, os.SEEK_SET)
        root.initialize_writable_partition(file, size, kind)
    content = path.read_bytes()
    assert len(content) == -(-size // 4096) * 4096
    assert content.rstrip(b"\0") == start.rstrip(b"\0")


@pytest.mark.parametrize(
    ("size", "kind", "code", "message"),
    [
        (-1, PartitionType.RAW, ExceptionCode.ILLEGAL_ARGUMENT, "Invalid size -1"),
        (4096, PartitionType(9), ExceptionCode.SERVICE_SPECIFIC, "Failed to initialize partition"),
        ((1 << 63) - 1, PartitionType.RAW, ExceptionCode.SERVICE_SPECIFIC, "Failed to"),
    ],
)
def test_refused_partitions(
    root: IVirtualizationService,
    tmp_path: Path,
    size: int,
    kind: PartitionType,
    code: ExceptionCode,
    message: str,
) -> None:
    with image(tmp_path, "partition") as file, pytest.raises(RemoteException) as raised:
        root.initialize_writable_partition(file, size, kind)
    assert raised.value.code is code
    assert raised.value.message.startswith(message)


def test_descriptors_that_are_not_open_for_their_use(
    root: IVirtualizationService, tmp_path: Path
) -> None:
    """The error says which one, and what it lacks."""
    (tmp_path / "file").write_bytes(bytes(100))
    pipe = ParcelFileDescriptor(os.pipe()[0])
    with (
        ParcelFileDescriptor(os.open(tmp_path / "file", os.O_WRONLY)) as written,
        ParcelFileDescriptor(os.open(tmp_path / "file", os.O_RDONLY)) as read,
        ParcelFileDescriptor(os.open(tmp_path, os.O_RDONLY)) as folder,
        pipe,
    ):
        kind = PartitionType.RAW
        for call, problem in (
            (
                lambda: root.create_or_update_idsig_file(written, read),
                "input is not open for reading",
            ),
            (
                lambda: root.initialize_writable_partition(read, 1, kind),
                "image is not open for writing",
            ),
            (lambda: root.initialize_writable_partition(folder, 1, kind), "image is a directory"),
            (lambda: root.initialize_writable_partition(pipe, 1, kind), "image is a FIFO"),
        ):
            with pytest.raises(RemoteException, match=problem):
                call()
    assert (tmp_path / "file").read_bytes() == bytes(100)


def test_idsig_of_nothing_and_of_a_directory(root: IVirtualizationService, tmp_path: Path) -> None:
    with image(tmp_path, "empty.apk", 0) as empty, image(tmp_path, "idsig", 0) as idsig:
        with pytest.raises(RemoteException) as raised:
            root.create_or_update_idsig_file(empty, idsig)
        assert raised.value.service_specific == -1
        directory = ParcelFileDescriptor(os.open(tmp_path, os.O_RDONLY))
        with directory, pytest.raises(RemoteException, match="input is not a regular file"):
            root.create_or_update_idsig_file(directory, idsig)
        assert os.fstat(idsig.fileno()).st_size == 0


def test_dump(root: IVirtualizationService, tmp_path: Path, runtime_dir: Path) -> None:
    assert dumped(root) == "Running 0 VMs:\n"
    vm = create(root, raw(tmp_path))
    cid = vm.get_cid()
    first, second, state, *rest = dumped(root).splitlines()
    assert [first, second] == ["Running 1 VMs:", f"VM CID: {cid}"]
    assert state.startswith("\tState: NotStarted { ")
    assert "name: 'raw'" in state
    assert " object at 0x" not in state
    assert "PosixPath" not in state
    assert rest == [
        "\tPayload state Starting",
        "\tProtected: false",
        f"\ttemporary_directory: {runtime_dir}/vms/{cid}",
        f"\trequester_uid: {os.getuid()}",
        f"\trequester_debug_pid: {os.getpid()}",
    ]
    release(vm)


def dumped(root: IVirtualizationService) -> str:
    read_end, write_end = os.pipe()
    with open(read_end) as reader:
        with ParcelFileDescriptor(write_end) as writer:
            dump(root, writer.fileno(), [])
        return reader.read()
