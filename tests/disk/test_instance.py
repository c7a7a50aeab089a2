"""Instance images: sealed here and opened by the guest's own code, and the other way round; damage; crash order."""

import os
import struct
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avf.disk import (
    MICRODROID_UUID,
    PVMFW_UUID,
    SLOT_UUIDS,
    InstanceError,
    InstanceImage,
    PartitionKind,
    StoreState,
    create_qcow2,
    create_writable_partition,
    format_encryptedstore,
    format_instance,
    instance,
    instance_id,
    open_image,
    read_instance,
    read_payload,
    seal,
    sealing_key,
    store_state,
    unseal,
    write_payload,
)
from avf.disk.files import write_at
from avf.disk.reader import BytesReader
from avf.guest.identity import ApkData, PayloadIdentity
from avf.guest.instance import InstanceImage as GuestImage
from avf.guest.record import Record, decode_record
from avf.guest.record import instance_id as guest_instance_id
from avf.guest.secrets import Cdi, instance_key
from tests.disk.conftest import MakeFile, name_of, run

KEY = bytes(range(32))
OTHER = UUID("01234567-89ab-cdef-0123-456789abcdef")


@pytest.fixture
def fresh(make_file: MakeFile) -> int:
    fd = make_file()
    create_writable_partition(fd, 1 << 20, PartitionKind.ANDROID_VM_INSTANCE)
    return fd


def listed(fd: int) -> InstanceImage:
    with open_image(fd) as image:
        return read_instance(image)


def unsealed(fd: int, key: bytes = KEY, uuid: UUID = MICRODROID_UUID) -> bytes | None:
    with open_image(fd) as image:
        return unseal(image, key, uuid)


def test_a_fresh_image_has_no_entries(fresh: int) -> None:
    assert listed(fresh) == InstanceImage(1, (), 512)
    assert unsealed(fresh) is None


def test_what_was_sealed_is_there(fresh: int) -> None:
    seal(fresh, KEY, b"secret" * 100)
    write_payload(fresh, PVMFW_UUID, b"p" * 512)
    seal(fresh, KEY, b"", OTHER)
    assert unsealed(fresh) == b"secret" * 100
    assert unsealed(fresh, uuid=OTHER) == b""
    found = listed(fresh)
    assert [(entry.uuid, entry.offset, entry.size) for entry in found.entries] == [
        (MICRODROID_UUID, 512, 628),
        (PVMFW_UUID, 2048, 512),
        (OTHER, 3072, 28),
    ]
    assert found.free_offset == 4096
    pvmfw = found.find(PVMFW_UUID)
    assert pvmfw is not None and found.find(UUID(int=7)) is None
    with open_image(fresh) as image:
        assert read_payload(image, pvmfw) == b"p" * 512


def test_the_bytes_are_avfs(fresh: int) -> None:
    write_payload(fresh, MICRODROID_UUID, b"payload")
    header = os.pread(fresh, 512, 512)
    assert header[:24].hex() == "cf9afe9a066211eca329c32663a09d750700000000000000"
    assert header[24:] == bytes(488)
    assert os.pread(fresh, 512, 1024) == b"payload".ljust(512, b"\0")


def decoded(plain: bytes) -> Record:
    size = int.from_bytes(plain[:4], "little")
    assert plain[4 + size :] == bytes(len(plain) - 4 - size)
    return decode_record(plain[4 : 4 + size])


def test_an_image_that_no_guest_of_ours_has_written_has_no_id(fresh: int) -> None:
    seal(fresh, KEY, b"of another guest")
    with open_image(fresh) as image:
        assert instance_id(image) is None


def test_the_guest_reads_what_the_host_sealed_and_back(fresh: int) -> None:
    identity = PayloadIdentity(b"s" * 64, ApkData(b"r" * 32, b"key"), (ApkData(b"x", b"y"),))
    write_payload(fresh, PVMFW_UUID, b"before it")
    GuestImage(fresh).write(KEY, Record(identity))
    plain = unsealed(fresh, uuid=SLOT_UUIDS[0])
    assert plain is not None
    assert decoded(plain).identity == identity._replace(first_authority=identity.authority)
    seal(fresh, KEY, plain, SLOT_UUIDS[1])
    assert GuestImage(fresh).read(KEY) == decoded(plain)
    assert [entry.uuid for entry in listed(fresh).entries] == [
        PVMFW_UUID,
        MICRODROID_UUID,
        *SLOT_UUIDS,
    ]
    with open_image(fresh) as image:
        assert instance_id(image) == guest_instance_id(b"s" * 64)


def test_the_key_is_the_guests() -> None:
    assert sealing_key(b"c" * 32) == instance_key(Cdi(attest=b"a" * 32, seal=b"c" * 32))


def test_the_size_is_for_ever(fresh: int) -> None:
    seal(fresh, KEY, b"first")
    before = os.pread(fresh, 8192, 0)
    with pytest.raises(InstanceError, match="Can't change payload size from 33 to 34"):
        seal(fresh, KEY, b"second")
    assert os.pread(fresh, 8192, 0) == before
    seal(fresh, KEY, b"again")
    assert unsealed(fresh) == b"again"
    assert os.pread(fresh, 12, 1024) != before[1024:1036]


@pytest.mark.parametrize("offset", [512 + 100, 512 + 511, 1024, 1036, 1056])
def test_everything_is_authenticated(fresh: int, offset: int) -> None:
    seal(fresh, KEY, b"first")
    (byte,) = os.pread(fresh, 1, offset)
    os.pwrite(fresh, bytes([byte ^ 1]), offset)
    with pytest.raises(InstanceError, match="not sealed with this key") as caught:
        unsealed(fresh)
    assert name_of(fresh) in str(caught.value)


def test_another_key(fresh: int) -> None:
    seal(fresh, KEY, b"first")
    with pytest.raises(InstanceError, match="not sealed with this key"):
        unsealed(fresh, bytes(32))
    with pytest.raises(ValueError):
        seal(fresh, b"short", b"first")


def test_a_qcow2_instance_image_as_android_13_made_them(make_file: MakeFile) -> None:
    raw, qcow2 = make_file(), make_file()
    create_writable_partition(raw, 1 << 20, PartitionKind.ANDROID_VM_INSTANCE)
    seal(raw, KEY, b"old instance")
    create_qcow2(qcow2, 1 << 20)
    copy = ("convert", "-n", "-f", "raw", "-O", "qcow2", name_of(raw), name_of(qcow2))
    run("qemu-img", *copy)
    assert unsealed(qcow2) == b"old instance"
    with pytest.raises(InstanceError, match="only raw ones can be written"):
        seal(qcow2, KEY, b"new instance")


def entry(uuid: UUID, size: int) -> bytes:
    return (uuid.bytes + struct.pack("<Q", size)).ljust(512, b"\0")


START = (b"Android-VM-instance" + b"\1\0").ljust(512, b"\0")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "header: bad magic"),
        (b"Android-VM-instanc_" + START[19:], "header: bad magic"),
        (START[:511], "header: cut off"),
        (START[:19] + b"\0\0" + START[21:], "header: version 0"),
        (START[:19] + b"\2\0" + START[21:], "header: version 2"),
        (START[:19] + b"\1\1" + START[21:], "header: version 257"),
        (START + entry(OTHER, 1), "entry 1: 1 bytes do not fit"),
        (START + entry(OTHER, 1 << 20), "entry 1: 1048576 bytes do not fit"),
        (START + entry(OTHER, (1 << 64) - 1), "entry 1: payload of 18446744073709551615 bytes"),
        (START + entry(OTHER, 0) * 2, "entry 2: a second one of 01234567"),
        (START + b"".join(entry(UUID(int=n), 0) for n in range(1, 67)), "more than 64 entries"),
    ],
)
def test_damaged_images(content: bytes, message: str) -> None:
    with pytest.raises(InstanceError, match=message):
        read_instance(BytesReader("image", content))


def test_too_little_to_unseal(fresh: int) -> None:
    write_payload(fresh, MICRODROID_UUID, b"p" * 27)
    with pytest.raises(InstanceError, match="payload of 27 bytes"):
        unsealed(fresh)


def test_full_images(make_file: MakeFile) -> None:
    fd = make_file()
    create_writable_partition(fd, 4096, PartitionKind.ANDROID_VM_INSTANCE)
    write_payload(fd, OTHER, b"x" * 2048)
    with pytest.raises(InstanceError, match="no room for 513 bytes more"):
        write_payload(fd, PVMFW_UUID, b"x" * 513)
    write_payload(fd, PVMFW_UUID, b"x" * 512)
    with pytest.raises(InstanceError, match="no room for 28 bytes more"):
        seal(fd, KEY, b"")
    assert len(listed(fd).entries) == 2


def test_a_first_write_that_was_cut_off(fresh: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves no entry, and what it left behind is not taken for one later."""

    def cut_off(fd: int, offset: int, data: bytes) -> None:
        if offset == 512:
            raise OSError("cut off")
        write_at(fd, offset, data)

    with monkeypatch.context() as patch:
        patch.setattr(instance, "write_at", cut_off)
        with pytest.raises(OSError, match="cut off"):
            write_payload(fresh, OTHER, b"\xff" * 5000)
    assert os.pread(fresh, 5000, 1024) == b"\xff" * 5000
    assert listed(fresh).entries == ()
    write_payload(fresh, PVMFW_UUID, b"short")
    assert [one.size for one in listed(fresh).entries] == [5]
    write_payload(fresh, OTHER, b"\xee" * 700)
    assert [one.size for one in listed(fresh).entries] == [5, 700]


def test_too_many_entries(fresh: int) -> None:
    for number in range(1, 65):
        write_payload(fresh, UUID(int=number), b"")
    with pytest.raises(InstanceError, match="no room"):
        write_payload(fresh, OTHER, b"")
    assert len(listed(fresh).entries) == 64


def test_what_cannot_be_an_entry(fresh: int) -> None:
    with pytest.raises(ValueError):
        write_payload(fresh, UUID(int=0), b"x")
    with pytest.raises(InstanceError, match="payload of 1048577 bytes"):
        write_payload(fresh, OTHER, bytes((1 << 20) + 1))


@given(
    st.dictionaries(st.uuids().filter(lambda uuid: uuid.int), st.binary(max_size=2000), max_size=8)
)
def test_round_trip(payloads: dict[UUID, bytes]) -> None:
    fd = os.memfd_create("instance")
    try:
        create_writable_partition(fd, 1 << 20, PartitionKind.ANDROID_VM_INSTANCE)
        for uuid, payload in payloads.items():
            write_payload(fd, uuid, payload)
        with open_image(fd) as image:
            entries = read_instance(image).entries
            assert {one.uuid: read_payload(image, one) for one in entries} == payloads
    finally:
        os.close(fd)


@given(st.binary(max_size=2000))
def test_random_content_never_crashes(content: bytes) -> None:
    try:
        read_instance(BytesReader("image", START + content))
    except InstanceError:
        pass


def test_the_states_of_an_encryptedstore(make_file: MakeFile) -> None:
    fd = make_file(size=8192)
    states = []
    for change in (
        lambda: None,
        lambda: format_encryptedstore(fd),
        lambda: os.pwrite(fd, b"\7" * 4096, 0),
    ):
        change()
        with open_image(fd) as image:
            states.append(store_state(image))
    assert states == [StoreState.BLANK, StoreState.UNFORMATTED, StoreState.IN_USE]


def test_marking_an_image_keeps_its_entries(fresh: int) -> None:
    """`format_instance` only writes the mark."""
    write_payload(fresh, OTHER, b"x")
    format_instance(fresh)
    assert [one.uuid for one in listed(fresh).entries] == [OTHER]
