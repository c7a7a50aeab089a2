"""Modules lose the calls by which functions are traced, and nothing else."""

import re
import subprocess
from pathlib import Path

import pytest

from avf.image import KernelError
from avf.image.untraced import without_tracing

SOURCE = """
int other(int);
int one(int a) { return other(a) + 1; }
int two(int a) { return one(a) * other(a + 7); }
__attribute__((section(".init.text"))) int three(int a) { return two(a); }
__attribute__((no_instrument_function)) int four(int a) { return three(a); }
"""
_NOTHING = ("nop", "R_X86_64_NONE")


def compile_object(path: Path, *options: str) -> bytes:
    """As the kernel's build compiles modules."""
    command = ["gcc", "-c", "-O1", "-fno-pic", "-mcmodel=kernel", *options]
    command += ["-x", "c", "-o", str(path), "-"]
    subprocess.run(command, input=SOURCE.encode(), check=True)
    return path.read_bytes()


def code(path: Path) -> str:
    """What it does, with relocations, without addresses and without what does nothing."""
    command = ["objdump", "-d", "-r", "--no-show-raw-insn", str(path)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = (line.strip().partition(":")[2].strip() for line in listing.splitlines()[2:])
    kept = (re.sub(r"[0-9a-f]+ <\w+\+0x[0-9a-f]+>", "HERE", line) for line in lines)
    return "\n".join(line for line in kept if line and not line.startswith(_NOTHING))


def test_a_traced_module_becomes_one_that_is_not(tmp_path: Path) -> None:
    plain, traced, result = (tmp_path / name for name in ("plain.o", "traced.o", "result.o"))
    compile_object(plain)
    image = compile_object(traced, "-pg", "-mfentry")
    changed = without_tracing(image)
    result.write_bytes(changed)
    assert code(traced).count("__fentry__") == 3
    assert code(result) == code(plain)
    assert len(changed) == len(image)
    assert without_tracing(changed) == changed


def test_a_module_that_is_not_traced_stays_as_it_is(tmp_path: Path) -> None:
    image = compile_object(tmp_path / "plain.o")
    assert without_tracing(image) == image


@pytest.mark.parametrize("image", [b"", b"\x7fELF\x02\x01", b"\x7fELF\x02\x01" + b"\xff" * 64])
def test_what_is_no_module_is_refused(image: bytes) -> None:
    with pytest.raises(KernelError, match="not a 64-bit ELF module"):
        without_tracing(image)
