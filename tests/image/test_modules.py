import lzma
import subprocess
from pathlib import Path

import pytest
import zstandard

from avf.image import KernelError, KernelFiles, module_closure, module_name, read_module
from avf.image.modules import (
    ModuleTree,
    modinfo,
    without_signature,
    without_unused_sections,
)

C_MODULE = '__attribute__((section(".modinfo"), used)) static const char info[] = "{info}";'


def compile_module(path: Path, *info: str) -> Path:
    """An object file with a .modinfo section, as the kernel's build makes them."""
    source = C_MODULE.format(info="\\0".join((*info, "license=GPL")))
    plain = path.with_suffix(".ko") if path.suffix != ".ko" else path
    plain.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", "-c", "-x", "c", "-o", plain, "-"], input=source.encode(), check=True)
    return plain


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    compile_module(
        tmp_path / "kernel/top-most.ko",
        "depends=middle,side",
        "softdep=pre: wished absent post: late",
    )
    compile_module(tmp_path / "kernel/middle.ko", "depends=bottom")
    compile_module(tmp_path / "kernel/side.ko", "depends=bottom,compiled_in")
    compile_module(tmp_path / "kernel/bottom.ko", "depends=")
    compile_module(tmp_path / "kernel/wished.ko")
    compile_module(tmp_path / "kernel/late.ko")
    (tmp_path / "modules.builtin").write_text("kernel/lib/compiled-in.ko\n")
    return tmp_path


def names(paths: list[Path]) -> list[str]:
    return [module_name(path) for path in paths]


def test_needed_modules_come_first_and_once(tree: Path) -> None:
    assert names(ModuleTree(tree).closure(["top-most"])) == [
        "bottom",
        "middle",
        "side",
        "wished",
        "top_most",
    ]


def test_built_in_modules_are_there_but_not_loaded(tree: Path) -> None:
    modules = ModuleTree(tree)
    assert "compiled-in" in modules
    assert modules.closure(["compiled_in"]) == []


def test_a_missing_module_is_named(tree: Path) -> None:
    (tree / "kernel/bottom.ko").unlink()
    with pytest.raises(KernelError, match=r"no kernel module bottom \(needed by middle\)"):
        ModuleTree(tree).closure(["top_most"])


def test_a_circle_is_an_error(tmp_path: Path) -> None:
    compile_module(tmp_path / "a.ko", "depends=b")
    compile_module(tmp_path / "b.ko", "depends=a")
    with pytest.raises(KernelError, match="a -> b -> a"):
        ModuleTree(tmp_path).closure(["a"])


def test_compressed_modules(tree: Path) -> None:
    plain = tree / "kernel/bottom.ko"
    image = plain.read_bytes()
    plain.unlink()
    for name, compress in (
        (".ko.xz", lzma.compress),
        (".ko.zst", zstandard.ZstdCompressor().compress),
    ):
        packed = tree / f"kernel/bottom{name}"
        packed.write_bytes(compress(image))
        assert read_module(packed) == image
        assert names(ModuleTree(tree).closure(["middle"])) == ["bottom", "middle"]
        packed.unlink()


@pytest.mark.parametrize(
    "damage", [b"", b"\x7fELF", b"\x7fELF\x01\x01" + bytes(100), b"\x7fELF\x02\x01" + b"\xff" * 100]
)
def test_what_is_no_module_is_refused(damage: bytes) -> None:
    with pytest.raises(KernelError, match="not a 64-bit ELF module"):
        modinfo(damage)


def test_real_kernel(kernel: KernelFiles) -> None:
    found = names(
        module_closure(kernel, ["dm-verity", "vmw_vsock_virtio_transport", "virtio_mmio"])
    )
    for earlier, later in [
        ("dm_mod", "dm_verity"),
        ("vsock", "vmw_vsock_virtio_transport_common"),
        ("vmw_vsock_virtio_transport_common", "vmw_vsock_virtio_transport"),
    ]:
        assert found.index(earlier) < found.index(later)
    assert len(found) == len(set(found))


def test_signatures_are_cut_off(kernel: KernelFiles) -> None:
    for path in module_closure(kernel, ["dm-verity"]):
        signed = read_module(path)
        assert signed.endswith(b"~Module signature appended~\n")
        plain = without_signature(signed)
        assert signed.startswith(plain)
        assert modinfo(plain) == modinfo(signed)
        assert without_signature(plain) == plain


def test_a_signature_longer_than_its_module_is_refused() -> None:
    with pytest.raises(KernelError, match="longer"):
        without_signature(b"\x7fELF" + bytes(8) + b"\x7f\0\0\0" + b"~Module signature appended~\n")


def sections(module: Path) -> set[str]:
    done = subprocess.run(
        ["objdump", "-h", "-w", module], capture_output=True, text=True, check=True
    )
    return {line.split()[1] for line in done.stdout.splitlines() if line[:3].strip().isdigit()}


@pytest.mark.parametrize("section", [".BTF", "__mcount_loc", ".static_call_sites"])
def test_sections_of_no_use_are_taken_out(tmp_path: Path, section: str) -> None:
    module = compile_module(tmp_path / "a.ko", "depends=x")
    image = module.read_bytes()
    assert without_unused_sections(image) == image
    content = tmp_path / "content"
    content.write_bytes(b"content")
    added = [f"--add-section={section}={content}", f"--add-section={section}s={content}"]
    subprocess.run(["objcopy", *added, module], check=True)
    assert {section, f"{section}s"} <= sections(module)
    stripped = tmp_path / "b.ko"
    stripped.write_bytes(without_unused_sections(module.read_bytes()))
    assert sections(stripped) == sections(module) - {section}
    assert "depends=x" in modinfo(stripped.read_bytes())


@pytest.mark.parametrize("image", [b"", b"\x7fELF\x02\x01", b"\x7fELF\x02\x01" + b"\xff" * 64])
def test_sections_of_no_module(image: bytes) -> None:
    with pytest.raises(KernelError, match="not a 64-bit ELF module"):
        without_unused_sections(image)
