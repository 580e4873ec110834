"""The tile table takes what its derivation says, and the model of clocks counts what is in machine code."""

import json

import pytest
from ahead import Compiled, Usage
from clocks import PROCESSORS, group_products, resident, tensor_products, warp_products
from ladders import EQUAL, PATTERNS, RESULTS, candidates, keeps, name_of, ranked, rungs, spelled, taken, tiles_of

from maskdsl.analysis.cost.tile_table import KernelName, TileChoice

RECORD = json.loads(RESULTS.read_text())["results"]
CELLS = [(target, int(dim), KernelName(kernel)) for target, dim, kernel in map(str.split, RECORD)]


@pytest.mark.parametrize("cell", CELLS, ids=name_of)
def test_no_configuration_on_record_is_faster_than_what_the_table_takes(cell: tuple[str, int, KernelName]) -> None:
    """By the model, of those that spill nothing; and what stands above it in its ladder is on record too."""
    for pattern, used in RECORD[name_of(cell)].items():
        present = taken(cell, pattern, used)
        scores = {choice: score for score, choice in ranked(used)}
        ladder = rungs(cell, pattern)
        assert {spelled(each) for each in ladder[: ladder.index(present) + 1]} <= {*used}
        assert keeps(used[spelled(present)])
        assert scores[spelled(present)] <= EQUAL, pattern


@pytest.mark.parametrize("target", PROCESSORS)
def test_the_record_has_every_kernel_at_128_dims(target: str) -> None:
    assert {(target, 128, kernel) for kernel in KernelName} <= {*CELLS}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_tiles_of_patterns_are_counted(pattern: str) -> None:
    programs, full, partial = tiles_of(pattern, (128, 64), KernelName.KEY_GRADIENT)
    assert 0 < programs <= full + partial


@pytest.mark.parametrize("cell", CELLS, ids=name_of)
def test_candidates_have_room(cell: tuple[str, int, KernelName]) -> None:
    target, dim, _ = cell
    assert candidates(cell)
    for choice in candidates(cell):
        assert choice.stages * min(choice.block) * dim * 4 <= PROCESSORS[target].shared


@pytest.mark.parametrize(
    ("instruction", "clocks"),
    [
        ("HGMMA.64x16x16.F32.BF16 R24, gdesc[UR8], R24", 20),
        ("HGMMA.64x32x16.F32.BF16 R24, gdesc[UR8], RZ, !UPT", 24),
        ("HGMMA.64x64x16.F32.BF16 R24, gdesc[UR8], R24, gsb0", 32),
        ("HGMMA.64x16x16.F32.BF16 R24, R4, gdesc[UR8].tnspB, R24", 8),
        ("HGMMA.64x128x16.F32.BF16 R24, R4, gdesc[UR8].tnspB, R24", 64),
    ],
)
def test_clocks_of_warp_groups(instruction: str, clocks: float) -> None:
    """A left operand in shared memory is read for at least 16 clocks, and the right one for N / 4."""
    assert group_products(f"        /*0110*/   {instruction} ;\n") == clocks


def test_clocks_of_single_warps() -> None:
    """An A100's multiprocessor multiplies and adds 1,024 times a clock, that of an L40 half as often."""
    text = "        /*0110*/   HMMA.16816.F32.BF16 R108, R152.reuse, R56, RZ ;\n" * 3
    assert warp_products(text, PROCESSORS["sm80"]) == 3 * 8
    assert warp_products(text, PROCESSORS["sm89"]) == 3 * 16
    assert warp_products("\tv_mfma_f32_32x32x8_bf16 v[32:47], v[1:2], v[3:4], 0\n", PROCESSORS["gfx942"]) == 32


def test_clocks_of_tensor_memory() -> None:
    """128 by 64 of 128 dims: 128 KiB of Q and K read for 2 ** 20 products; those with V are bound by 4,096 a clock."""
    choice = TileChoice(128, 64, 8, 2)
    scores, results = 8 * 48, 4 * 64
    assert tensor_products(KernelName.FORWARD, choice, 128) == scores + results
    assert tensor_products(KernelName.QUERY_GRADIENT, choice, 128) == 2 * scores + results


@pytest.mark.parametrize(
    ("target", "registers", "shared", "warps", "programs"),
    [
        ("sm90", 222, 72 * 1024, 4, 2),
        ("sm90", 125, 48 * 1024, 8, 2),
        ("sm90", 168, 112 * 1024, 4, 2),
        ("sm90", 182, 128 * 1024, 8, 1),
        ("sm89", 126, 48 * 1024, 8, 2),
        ("gfx942", 216, 16 * 1024, 4, 2),
        ("gfx942", 512, 60 * 1024, 4, 1),
    ],
)
def test_programs_that_share_a_processor(target: str, registers: int, shared: int, warps: int, programs: int) -> None:
    assert resident(Compiled(Usage(registers, 0, shared), "", b""), target, warps) == programs


def test_programs_that_share_tensor_memory() -> None:
    allocation = "@%p3 tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%r81], 512;"
    assert resident(Compiled(Usage(100, 0, 1024), allocation, b""), "sm100", 4) == 1
