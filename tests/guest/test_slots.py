"""How a guest ejects its devices, and gives new ones the place of the old."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from avf.apk import ApkBuilder, SigningKey
from avf.disk import ImageDisk
from avf.guest import slots
from avf.guest.errors import GuestError
from avf.guest.slots import find_slots
from avf.image import Image, build_image, default_cache
from avf.vmm import ExitCause, Qemu, TemplateFacts, VmProcess, VmSpec, make_template
from avf.vmm.qemu import devices
from tests.guest.machine import App, machine, make_app

REGISTERS = 0x40
CONTROL = REGISTERS + 0x18
ON, OFF = 0x0100, 0x0700
"""What the slot's control register holds beside 0x00C0."""
PRESENT = 0x0040
PCI_EXPRESS_WITH_SWITCH = bytes((0x10, 0, 0x42, 1)) + bytes(16) + b"\2" + bytes(11)
DEVICE = bytes.fromhex("f41a5310 0605 1000 01008007 00000000")
ADDRESSES = bytes.fromhex("00000000 0000c0fe 00000000 00000000 0c000000 fe000000")


def port_config(capabilities: bytes = PCI_EXPRESS_WITH_SWITCH, first: int = REGISTERS) -> bytes:
    header = bytearray(64)
    header[9:12], header[0x34] = b"\0\4\6", first
    return (bytes(header) + capabilities).ljust(256, b"\0")


def device_config(kind: bytes = DEVICE, addresses: bytes = bytes(24)) -> bytes:
    return (kind + addresses).ljust(0x34, b"\0") + b"\x98" + bytes(11)


class Sysfs:
    """A port with one device, as files; a device ejects itself where `obeys`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pci, self.virtio = folder / "pci", folder / "virtio"
        self.port = self.pci / "devices" / "0000:00:02.0"
        self.device = self.port / "0000:01:00.0"
        self.config = self.port / "config"
        (self.device / "virtio5").mkdir(parents=True)
        self.driver = self.virtio / "drivers" / "virtio_transport"
        self.driver.mkdir(parents=True)
        for name in ("bind", "unbind"):
            (self.driver / name).touch()
        for path in (self.pci / "rescan", self.device / "remove"):
            path.touch()
        (self.device / "virtio5" / "driver").symlink_to(self.driver)
        (self.device / "virtio5" / "device").write_text("0x0013\n")
        self.config.write_bytes(port_config())
        self.set_slot(0x00C0 | ON, present=False)
        (self.device / "config").write_bytes(device_config(addresses=ADDRESSES))
        monkeypatch.setattr(slots, "PCI", str(self.pci))
        monkeypatch.setattr(slots, "VIRTIO", str(self.virtio))
        monkeypatch.setattr(slots, "_slots", [])

    def set_slot(self, control: int, *, present: bool) -> None:
        content = bytearray(self.config.read_bytes())
        content[CONTROL : CONTROL + 2] = control.to_bytes(2, "little")
        content[CONTROL + 2] = PRESENT if present else 0
        self.config.write_bytes(content)

    @property
    def control(self) -> int:
        return int.from_bytes(self.config.read_bytes()[CONTROL : CONTROL + 2], "little")

    def put(self, config: bytes) -> None:
        """A new device, while the slot is off."""
        (self.device / "config").write_bytes(config)
        self.set_slot(self.control, present=True)


@pytest.fixture
def sysfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sysfs:
    return Sysfs(tmp_path, monkeypatch)


def test_a_device_is_ejected_and_its_like_takes_its_place(sysfs: Sysfs) -> None:
    slots.eject_vsock()
    assert (sysfs.driver / "unbind").read_text() == "virtio5"
    assert sysfs.control == 0x00C0 | OFF
    slots.plug_in()  # nothing is there yet
    assert sysfs.control == 0x00C0 | OFF
    sysfs.put(device_config())
    slots.plug_in()
    assert sysfs.control == 0x00C0 | ON
    config = (sysfs.device / "config").read_bytes()
    assert config[0x10:0x28] == ADDRESSES
    assert config[4:6] == DEVICE[4:6]
    assert (sysfs.driver / "bind").read_text() == "virtio5"
    assert (sysfs.pci / "rescan").read_text() == ""
    (sysfs.driver / "bind").write_text("")
    slots.plug_in()  # it is on already
    assert (sysfs.driver / "bind").read_text() == ""


@pytest.mark.parametrize("at", [0, 3, 8, 11, 0x2C, 0x2F, 0x34])
def test_a_device_of_another_kind_is_left_to_the_kernel(sysfs: Sysfs, at: int) -> None:
    slots.eject_vsock()
    other = bytearray(device_config())
    other[at] ^= 1
    sysfs.put(bytes(other))
    slots.plug_in()
    assert (sysfs.device / "config").read_bytes() == other
    assert (sysfs.device / "remove").read_text() == (sysfs.pci / "rescan").read_text() == "1"
    assert (sysfs.driver / "bind").read_text() == ""


def test_a_device_that_the_driver_refuses_is_left_to_the_kernel(sysfs: Sysfs) -> None:
    slots.eject_vsock()
    (sysfs.driver / "bind").unlink()
    sysfs.put(device_config())
    slots.plug_in()
    assert (sysfs.device / "remove").read_text() == (sysfs.pci / "rescan").read_text() == "1"


def test_a_device_in_a_slot_that_was_empty_is_left_to_the_kernel(sysfs: Sysfs) -> None:
    sysfs.set_slot(0x00C0 | OFF, present=True)
    slots.plug_in()
    assert sysfs.control == 0x00C0 | ON
    assert (sysfs.pci / "rescan").read_text() == "1"


def test_a_device_that_stays_is_an_error(sysfs: Sysfs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "_GONE_SECONDS", 0)
    sysfs.set_slot(0x00C0 | ON, present=True)
    with pytest.raises(GuestError, match="is not ejected"):
        slots.eject_vsock()


@pytest.mark.parametrize(
    ("number", "size", "is_ejected"),
    [
        ("0x0013", None, True),
        ("0x0002", "0", True),
        ("0x0002", "8", False),
        ("0x0004", None, False),
    ],
)
def test_what_stands_in_for_another_is_ejected(
    sysfs: Sysfs, number: str, size: str | None, is_ejected: bool
) -> None:
    (sysfs.device / "virtio5" / "device").write_text(f"{number}\n")
    if size is not None:
        (sysfs.device / "virtio5" / "block" / "vdb").mkdir(parents=True)
        (sysfs.device / "virtio5" / "block" / "vdb" / "size").write_text(f"{size}\n")
    slots.eject_stand_ins()
    assert (sysfs.control == 0x00C0 | OFF) is is_ejected


@pytest.mark.parametrize(
    "config",
    [
        b"",
        port_config()[:64],
        port_config(first=0),
        port_config(first=0x20),
        port_config(first=0xFF),
        port_config(bytes((5, 0x44, 0, 0, 5, 0x40, 0, 0))),  # a ring
        port_config(bytes((0x10, 0, 0x42, 0)) + bytes(16) + b"\2"),  # has no slot
        port_config(bytes((0x10, 0, 0x42, 1)) + bytes(16) + b"\1"),  # has no switch
        port_config().replace(b"\4\6", b"\0\2"),  # is no bridge
    ],
)
def test_what_has_no_switch_is_no_slot(sysfs: Sysfs, config: bytes) -> None:
    sysfs.config.write_bytes(config)
    assert find_slots() == []
    slots.eject_vsock()
    slots.plug_in()


def test_a_capability_behind_others_is_found(sysfs: Sysfs) -> None:
    sysfs.config.write_bytes(
        port_config(bytes((5, 0x50)).ljust(16, b"\0") + PCI_EXPRESS_WITH_SWITCH)
    )
    assert [slot._control for slot in find_slots()] == [0x50 + 0x18]


Warm = Callable[[VmSpec], VmProcess]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return build_image(tmp_path_factory.mktemp("image"), cache=default_cache())


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> App:
    apk = ApkBuilder("com.example.slots")
    apk.add("bin/disks.py", b"import os\nprint('disks', *sorted(os.listdir('/sys/block')))\n")
    return make_app(tmp_path_factory.mktemp("app"), apk, SigningKey.generate(), "disks.py")


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Warm:
    """Starts a VM as a clone of a template, which the first one has made."""
    path = tmp_path_factory.mktemp("template") / "state"
    known: list[TemplateFacts] = []

    def start(spec: VmSpec) -> VmProcess:
        if not known:
            with path.open("wb") as state:
                known.append(make_template(Qemu(), spec, state.fileno()))
        with path.open("rb") as state:
            return Qemu().start_clone(spec, state.fileno(), known[0])

    return start


def run(image: Image, folder: Path, app: App, start: Warm) -> tuple[list[str], int]:
    """The disks that the payload has, and how many vsock devices the kernel has found."""
    with machine(image, folder, app, start=start) as running:
        outcome = running.finish()
    assert outcome.report.cause is ExitCause.SHUTDOWN, outcome
    assert outcome.heard == [("started",), ("finished", 0)], outcome
    (line,) = (line for line in outcome.log.splitlines() if line.startswith("disks"))
    disks = [name for name in line.split()[1:] if name.startswith("vd")]
    return disks, outcome.console.count("[1af4:1053]")


@pytest.mark.vm
def test_a_clone_has_its_devices_where_the_template_had_others(
    image: Image, app: App, warm: Warm, tmp_path: Path
) -> None:
    assert run(image, tmp_path, app, warm) == (["vda", "vdb", "vdc"], 1)


@pytest.mark.vm
def test_a_clone_has_more_disks_than_the_template_had(
    image: Image, app: App, warm: Warm, tmp_path: Path
) -> None:
    more = tmp_path / "more"
    more.write_bytes(bytes(1 << 20))

    def start(spec: VmSpec) -> VmProcess:
        with more.open("rb") as file:
            extra = (ImageDisk(file.fileno()),) * 2
            return warm(replace(spec, disks=(*spec.disks, *extra)))

    disks, vsocks = run(image, tmp_path, app, start)
    assert disks == ["vda", "vdb", "vdc", "vdd", "vde"]
    assert vsocks == 1


@pytest.mark.vm
def test_a_clone_has_devices_of_another_kind_than_the_template_had(
    image: Image, app: App, warm: Warm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk where vsock was, and vsock where a disk was."""
    place, other = devices.in_slot, {1: 5, 5: 1}

    def start(spec: VmSpec) -> VmProcess:
        with monkeypatch.context() as patch:
            patch.setattr(
                devices, "in_slot", lambda device, index: place(device, other.get(index, index))
            )
            return warm(spec)

    (tmp_path / "first").mkdir()
    run(image, tmp_path / "first", app, warm)  # which has a template, if it is the only test
    disks, vsocks = run(image, tmp_path, app, start)
    assert (len(disks), vsocks) == (3, 2)
