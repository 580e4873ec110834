"""Loads are 16 bytes wide and asynchronous for every head dim that 8 divides: strides are in units of 8 elements."""

import re
from itertools import product
from pathlib import Path

import pytest
import torch
from ahead import DECODE_KERNELS, KERNELS, Started, compile_ahead, compile_selection, machine_code, started_kernels
from assembly import tile_loops

import maskdsl
from maskdsl.analysis.cost.tile_table import TileChoice
from maskdsl.codegen.triton_functions import strides_in_units
from maskdsl.emit.plan import make_plan
from maskdsl.ir.mask import MaskIR

EXAMPLES = Path(__file__).parents[2] / "examples"
CAUSAL = "pattern causal_layer(n = 4096) { space tokens[n] attend causal }"
NARROW = re.compile(r"\bLDG\.E(\.\w+)*\.[US]16\b")
BLOCK = TileChoice(128, 64, 8, 3)
WHOLE = [("causal", kernel, dim) for kernel, dim in product((*KERNELS, DECODE_KERNELS[0]), (72, 40, 88))]
WHOLE += [(name, kernel, 72) for name, kernel in product(("longformer", "packed"), (*KERNELS, DECODE_KERNELS[0]))]
SHORT = [each for number, each in enumerate(WHOLE) if each[2] == 72 and (each[0] == "causal" or number % 3 == 0)]
PARAMS = [pytest.param(*each, marks=() if each in SHORT else pytest.mark.long) for each in WHOLE]


def mask_of(name: str) -> MaskIR:
    if name == "causal":
        return maskdsl.parse(CAUSAL)["causal_layer"].bind(heads=4).ir
    return maskdsl.load(EXAMPLES / "language" / f"{name}.attn")[name].bind(heads=4).ir


@pytest.mark.parametrize(("name", "kernel", "dim"), PARAMS)
def test_loads_are_as_wide_as_can_be(name: str, kernel: str, dim: int) -> None:
    """None is of 2 bytes; those of tiles are asynchronous, but where a condition is around them: decoding by lists."""
    code = machine_code(compile_ahead(mask_of(name), "sm90", dim, kernel_name=kernel))
    assert not NARROW.search(code)
    wide = "LDG" if kernel == DECODE_KERNELS[0] and name != "causal" else "LDGSTS"
    assert re.search(rf"\b{wide}\.E(\.\w+)*\.128\b", code)


@pytest.mark.parametrize("name", ["causal", "longformer", "packed"])
def test_loops_are_as_short_as_those_of_the_padded_dim(name: str) -> None:
    """72 dims are padded to 128: masks of the others are all that is added to the loop."""
    loops = {
        dim: tile_loops(machine_code(compile_ahead(mask_of(name), "sm90", dim, choice=BLOCK)))[0].instructions
        for dim in (72, 128)
    }
    assert loops[72] <= min(loops[128] + 5, 402)  # FlexAttention: 437


def layouts(dim: int) -> dict[str, torch.Tensor]:
    """Usual layouts of [batch, heads, tokens, dim]; no number but `dim` is a multiple of 8."""
    batch, heads, tokens = 3, 5, 7
    together = torch.empty(batch, tokens, 3, heads, dim, device="meta")
    return {
        "contiguous": torch.empty(batch, heads, tokens, dim, device="meta"),
        "tokens first": torch.empty(batch, tokens, heads, dim, device="meta").transpose(1, 2),
        "q, k, v in one": together[:, :, 1].transpose(1, 2),
        "some heads": torch.empty(batch, 2 * heads, tokens, dim, device="meta")[:, heads:],
        "every third token": torch.empty(batch, heads, 3 * tokens, dim, device="meta")[:, :, ::3],
        "expanded": torch.empty(1, 1, tokens, dim, device="meta").expand(batch, heads, -1, -1),
        "one token of an odd row": torch.empty(batch, heads, dim * tokens, device="meta").unfold(2, dim, 1)[:, :, :1],
    }


@pytest.mark.parametrize(("dim", "unit"), [(64, 8), (72, 8), (40, 8), (104, 8), (20, 4), (18, 2), (17, 1)])
def test_units_of_usual_layouts(dim: int, unit: int) -> None:
    """They depend on the head dim alone, so that kernels are compiled once."""
    for name, x in layouts(dim).items():
        found, strides = strides_in_units(x, x)
        assert found == unit, name
        expected = [stride if size > 1 else 0 for size, stride in zip(x.shape[:3], x.stride()[:3], strict=True)]
        assert [stride * found for stride in strides] == 2 * expected


def test_the_unit_divides_all_strides() -> None:
    even, odd = torch.empty(2, 3, 4, 64), torch.empty(2, 3, 4, 65)[..., 1:]
    assert strides_in_units(even, odd)[0] == 1
    assert strides_in_units(even, torch.empty(2, 3, 4, 68)[..., :64])[0] == 4


def strides_of(started: Started) -> list[str]:
    """The parameters of a kernel that are strides of q, k, v or the gradient of the output."""
    return [name for name in started.values if re.fullmatch(r"(q|k|v|grad)_(batch|head|token)_stride", name)]


def test_kernels_are_not_compiled_again_for_other_strides() -> None:
    """Triton would compile for strides that are 1, or multiples of 16 units."""
    plan = make_plan(mask_of("longformer"))
    for name, started in started_kernels(plan, BLOCK, (64, 64), torch.bfloat16, "ieee").items():
        parameters = {each.name: each for each in started.kernel.params}
        assert len(strides_of(started)) == (3 if name == "delta_kernel" else 9)
        assert all(parameters[each].do_not_specialize for each in strides_of(started))
        assert started.values["STRIDE_UNIT"] == 8


def test_the_kernel_of_delta_loads_wide() -> None:
    """It reads the gradient of the output by strides."""
    code = machine_code(compile_ahead(mask_of("causal"), "sm90", 72, kernel_name="delta_kernel"))
    assert not NARROW.search(code)


def test_kernels_that_select_load_wide() -> None:
    """The pool of blocks of keys, and the products of queries with pools."""
    (pattern,) = maskdsl.load(EXAMPLES / "routing" / "moba.attn").values()
    kernels = compile_selection(pattern.bind(heads=4).ir, "sm90", 72)
    assert {"pool_kernel", "past_scores_kernel"} <= {*kernels}
    assert not [name for name, each in kernels.items() if NARROW.search(machine_code(each))]
