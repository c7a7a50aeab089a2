"""How fast idsigs are made and APKs verified, beside the `fsverity` C tool and `apksigner` in the same run."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from avf.apk import ApkBuilder, Scheme, SigningKey, create_or_update_idsig

SIZE = 256 << 20
ROUNDS = 3
_MIB = 1 << 20
_ENTRIES = 4000


def run() -> dict[str, float]:
    """idsig.mb_per_s, idsig.vs_fsverity (fsverity's best time over ours; 1 is level), idsig.peak_mib (memory that
    making one adds); apk.verify_mb_per_s, apk.verify_vs_apksigner (whole commands, likewise), and apk.verify_v1_...
    of an APK with a v1 signature alone and 4,000 compressed entries."""
    with tempfile.TemporaryDirectory() as directory:
        apk = Path(directory, "big.apk")
        _make_apk(apk)
        size = apk.stat().st_size
        ours = _best(lambda: _make_idsig(apk))
        theirs = _best(lambda: _run_fsverity(apk, Path(directory, "tree")))
        verified = _best(lambda: _run([sys.executable, "-m", "avf.apk", "verify", str(apk)]))
        by_apksigner = _best(lambda: _run(["apksigner", "verify", str(apk)]))
        old = Path(directory, "old.apk")
        _make_v1_apk(old)
        platforms = ["--min-sdk-version", "18", "--max-sdk-version", "25"]
        old_ours = _best(
            lambda: _run([sys.executable, "-m", "avf.apk", "verify", *platforms, str(old)])
        )
        old_theirs = _best(lambda: _run(["apksigner", "verify", *platforms, str(old)]))
        return {
            "apk.verify_v1_entries_per_s": _ENTRIES / old_ours,
            "apk.verify_v1_vs_apksigner": old_theirs / old_ours,
            "idsig.mb_per_s": size / ours / 1e6,
            "idsig.vs_fsverity": theirs / ours,
            "idsig.peak_mib": _peak_mib(apk),
            "apk.verify_mb_per_s": size / verified / 1e6,
            "apk.verify_vs_apksigner": by_apksigner / verified,
        }


def _make_apk(path: Path) -> None:
    block = os.urandom(_MIB)
    payload = path.with_suffix(".payload")
    with payload.open("wb") as file:
        for _ in range(SIZE // _MIB):
            file.write(block)
    builder = ApkBuilder().add("assets/payload", payload)
    with path.open("w+b") as out:
        builder.build(out, SigningKey.generate())
    payload.unlink()


def _make_v1_apk(path: Path) -> None:
    builder = ApkBuilder(min_sdk=18, target_sdk=28)
    for number in range(_ENTRIES):
        text = " ".join(str(number * step) for step in range(4000)).encode()
        builder.add(f"res/raw/{number}.txt", text, compress=True)
    with path.open("w+b") as out:
        builder.build(out, SigningKey.generate("rsa-2048"), schemes=[Scheme.V1])


def _make_idsig(apk: Path) -> None:
    with apk.open("rb") as file, tempfile.TemporaryFile(dir=apk.parent) as idsig:
        if not create_or_update_idsig(file.fileno(), idsig.fileno()):
            raise RuntimeError("a new idsig was expected")


def _run_fsverity(apk: Path, tree: Path) -> None:
    _run(["fsverity", "digest", f"--out-merkle-tree={tree}", str(apk)])


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _best(action: Callable[[], None]) -> float:
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def _peak_mib(apk: Path) -> float:
    """Growth of a fresh process's peak memory, measured in that process."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.idsig", str(apk)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    return float(done.stdout)


def _print_peak(apk: Path) -> None:
    before = _high_water_kib()
    _make_idsig(apk)
    print((_high_water_kib() - before) / 1024)


def _high_water_kib() -> int:
    """Of this program alone; getrusage would count what the parent used before exec."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _print_peak(Path(sys.argv[1]))
    else:
        for name, value in run().items():
            print(f"{name} {value:.2f}")
