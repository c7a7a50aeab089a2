"""Reading files of an APK in a guest, beside a plain ext4 partition in the same guest, both with empty caches.

apk.open_small_ratio       time to open and read 500 small uncompressed files, to that of ext4
apk.open_small_deflated_ratio   the same for compressed ones
apk.read_sequential_ratio  time to read 20 MiB of an uncompressed file, to that of ext4
apk.read_sequential.vs_verity   the same, to that of dm-verity's device, which checks every block that is read
"""

import json
import os
import random
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from avf.apk import ApkBuilder, SigningKey, create_or_update_idsig
from avf.client import Disk, Partition, RawConfig, connect
from avf.disk import MetadataPartition, PartitionKind, create_writable_partition

IMAGE = Path(os.environ.get("AVF_IMAGE_DIR", "build/image"))
PAYLOAD = Path(__file__).with_name("_apk_payload.py")
FILES = 500
LARGE = 20 << 20
TIMEOUT = 600


def run() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _make(folder)
        seconds = _measure(folder)
    return {
        "apk.open_small_ratio": _ratio(seconds, "stored.apk", "stored.ext4"),
        "apk.open_small_deflated_ratio": _ratio(seconds, "deflated.apk", "deflated.ext4"),
        "apk.read_sequential_ratio": _ratio(seconds, "large.apk", "large.ext4"),
        "apk.read_sequential.vs_verity": _ratio(seconds, "large.apk", "large.verity"),
    }


def _ratio(seconds: dict[str, list[float]], ours: str, peer: str) -> float:
    return median(a / b for a, b in zip(seconds[ours], seconds[peer], strict=True))


def _make(folder: Path) -> None:
    """The APK with its idsig, the ext4 image with the same files, and what else the guest needs."""
    noise = random.Random(1)
    builder = ApkBuilder("com.example.bench").add("bin/measure.py", PAYLOAD)
    task = {"type": "microdroid_launcher", "command": "measure.py", "run_as_root": True}
    builder.add("config.json", json.dumps({"task": task}).encode())
    files = {"large": noise.randbytes(LARGE)}
    for kind in ("stored", "deflated"):
        for number in range(FILES):
            files[f"{kind}/{number:03}"] = (
                noise.randbytes(noise.randrange(100, 2000)).hex().encode()
            )
    for path, data in files.items():
        builder.add(path, data, compress=path.startswith("deflated"))
        (folder / "ext4" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "ext4" / path).write_bytes(data)
    with (folder / "apk").open("w+b") as apk, (folder / "idsig").open("w+b") as idsig:
        builder.build(apk, SigningKey.generate())
        create_or_update_idsig(apk.fileno(), idsig.fileno())
    with (folder / "instance").open("w+b") as instance:
        create_writable_partition(instance.fileno(), 1 << 20, PartitionKind.ANDROID_VM_INSTANCE)
    metadata = MetadataPartition(config_path="/mnt/apk/config.json")
    (folder / "metadata").write_bytes(metadata.encode())
    with (folder / "plain").open("wb") as plain:
        plain.truncate(64 << 20)
    command = ["/usr/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-d"]
    subprocess.run([*command, folder / "ext4", folder / "plain"], check=True)


def _measure(folder: Path) -> dict[str, list[float]]:
    kept = Disk(
        partitions=[Partition(label="vm-instance", image=folder / "instance", writable=True)],
        writable=True,
    )
    given = {
        "payload-metadata": "metadata",
        "microdroid-apk": "apk",
        "microdroid-apk-idsig": "idsig",
        "plain": "plain",
    }
    parts = [Partition(label=label, image=folder / name) for label, name in given.items()]
    system = Disk(partitions=[Partition(label="system", image=IMAGE / "microdroid_system.img")])
    description = json.loads((IMAGE / "microdroid.json").read_bytes())
    config = RawConfig(
        kernel=IMAGE / "vmlinux",
        initrd=IMAGE / "microdroid_initrd_debuggable.img",
        params=f"{description['params']} {description['x-avf']['debuggable_params']}",
        disks=[system, kept, Disk(partitions=parts)],
        memory_mib=description["memory_mib"],
    )
    log = folder / "log"
    with ExitStack() as stack:
        runtime = stack.enter_context(tempfile.TemporaryDirectory())
        os.environ["AVF_RUNTIME_DIR"] = runtime
        service = stack.enter_context(connect())
        vm = stack.enter_context(service.create_vm(config, log=log))
        vm.start()
        vm.wait_for_death(TIMEOUT)
    for line in log.read_text(errors="replace").splitlines():
        if line.startswith("MEASURED "):
            measured: dict[str, list[float]] = json.loads(line.partition(" ")[2])
            return measured
    raise RuntimeError(f"the payload has measured nothing: {log.read_text(errors='replace')}")
