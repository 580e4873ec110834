"""Every example compiled ahead of time for three NVIDIA generations and one of AMD, and budgets on what kernels use."""

import re
from pathlib import Path

import pytest

import maskdsl
from maskdsl.plan import TileChoice, make_plan
from maskdsl.runtime.ahead import KERNELS, TARGETS, compile_ahead, kernel_names

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
FILES = sorted(EXAMPLES.rglob("*.attn"))
PATTERNS = [(file, name, target) for file in FILES for name in maskdsl.load(file) for target in TARGETS]
EVERYTHING = HERE / "everything.attn"
PATTERNS += [(EVERYTHING, name, "sm90") for name in maskdsl.load(EVERYTHING)]
WINDOW = "pattern window_layer(n = 4096, size = 513) { space tokens[n] attend window(size) }"
SMALL = TileChoice(32, 32, 4, 1)
"""Tiles that compile fast; those that calls get are compiled for one target."""
SHARED = {"sm80": 163 * 1024, "sm90": 227 * 1024, "sm100": 227 * 1024, "gfx942": 64 * 1024}
"""Bytes of shared memory that a program may have."""


@pytest.mark.parametrize(
    ("file", "name", "target"), PATTERNS, ids=[f"{file.stem}-{name}-{target}" for file, name, target in PATTERNS]
)
def test_every_pattern_compiles(file: Path, name: str, target: str) -> None:
    mask = maskdsl.load(file)[name].bind(heads=4)
    compiled = compile_ahead(mask.ir, target, choice=None if target == "sm90" else SMALL)
    assert "forward_kernel" in compiled.assembly
    assert compiled.usage.registers > 16
    assert compiled.usage.shared <= SHARED[target]


GRADIENTS = [(file, name, target) for file, name, target in PATTERNS if target in ("sm90", "gfx942")]


@pytest.mark.parametrize("kernel", KERNELS[1:])
@pytest.mark.parametrize(
    ("file", "name", "target"), GRADIENTS, ids=[f"{file.stem}-{name}-{target}" for file, name, target in GRADIENTS]
)
def test_every_backward_kernel_compiles(file: Path, name: str, target: str, kernel: str) -> None:
    mask = maskdsl.load(file)[name].bind(heads=4)
    compiled = compile_ahead(mask.ir, target, kernel_name=kernel, choice=SMALL)
    assert kernel in compiled.assembly
    assert compiled.usage.shared <= SHARED[target]


FOUND = [(file, name) for file, name, target in PATTERNS if target == "sm90"]


@pytest.mark.parametrize(("file", "name"), FOUND, ids=[f"{file.stem}-{name}" for file, name in FOUND])
def test_every_kernel_that_finds_tiles_compiles(file: Path, name: str) -> None:
    mask = maskdsl.load(file)[name].bind(heads=4).ir
    for target in TARGETS if "tiles_kernel" in kernel_names(make_plan(mask)) else ():
        usage = compile_ahead(mask, target, kernel_name="tiles_kernel").usage
        assert usage.spills == 0
        assert usage.shared <= SHARED[target]


BUDGETS = [(dim, dtype, "sm90") for dim in (64, 128, 256) for dtype in ("bf16", "fp32")]
BUDGETS += [(64, "bf16", target) for target in TARGETS] + [(256, "fp32", target) for target in TARGETS]


@pytest.mark.parametrize("kernel", KERNELS[1:])
@pytest.mark.parametrize(("dim", "dtype", "target"), dict.fromkeys(BUDGETS))
def test_budget_of_a_windows_gradients(kernel: str, dim: int, dtype: str, target: str) -> None:
    mask = maskdsl.parse(WINDOW)["window_layer"].bind().ir
    usage = compile_ahead(mask, target, dim, dtype, kernel).usage
    assert usage.shared <= SHARED[target]
    if dtype == "bf16" and dim == 64:
        assert usage.spills <= (64 if target == "sm80" else 0)


EVERY_TYPE = [(dim, dtype, "sm90") for dim in (16, 64, 80, 128, 256) for dtype in ("bf16", "fp16", "fp32", "fp64")]


@pytest.mark.parametrize(("dim", "dtype", "target"), dict.fromkeys([*EVERY_TYPE, *BUDGETS]))
def test_budget_of_a_window(dim: int, dtype: str, target: str) -> None:
    """Head dimensions and types; the kernels that models run most keep all of their registers."""
    usage = compile_ahead(maskdsl.parse(WINDOW)["window_layer"].bind().ir, target, dim, dtype).usage
    assert usage.shared <= SHARED[target]
    if dtype in ("bf16", "fp16") and dim in (64, 128):
        assert usage.spills == 0


def kernel(pattern: maskdsl.Pattern, **lengths: int) -> str:
    """The device code: all functions that Triton compiles."""
    source = pattern.bind(**lengths).compile("triton").source
    return "\n".join(re.findall(r"^@triton.jit.*\n(?:.+\n|\n(?! *\n))*", source, flags=re.MULTILINE))


def test_lengths_are_no_part_of_the_kernel() -> None:
    """Another length or another image: the same device code, so that nothing is compiled again."""
    packed = maskdsl.load(EXAMPLES / "language" / "packed.attn")["packed"]
    assert kernel(packed, n=100) == kernel(packed, n=8192)
    blocks = maskdsl.load(EXAMPLES / "vision" / "maxvit.attn")["block"]
    assert kernel(blocks, h=14, w=14) == kernel(blocks, h=56, w=28)
    assert "attends &= " in kernel(blocks, h=14, w=14)
