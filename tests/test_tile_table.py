"""The table of tiles: it covers every call, its ladders lead down, and every entry says why."""

from itertools import pairwise, product

import pytest

import maskdsl
from maskdsl.analysis.cost.tile_table import (
    LAST,
    TABLE,
    Architecture,
    KernelName,
    TileChoice,
    TileWork,
    architecture_of,
    first_choice,
    ladder,
)
from maskdsl.emit.plan import make_plan

DIMS = (1, 16, 32, 40, 64, 80, 128, 192, 256)


def own_and_other(kernel: KernelName, choice: TileChoice) -> tuple[int, int]:
    return (choice.key_block, choice.query_block) if kernel is KernelName.KEY_GRADIENT else choice.block


def tokens(kernel: KernelName, choice: TileChoice) -> int:
    """How many tokens' rows a kernel holds: its own block, and the other side's in every stage."""
    own, other = own_and_other(kernel, choice)
    return own + 2 * choice.stages * other


def results(kernel: KernelName, choice: TileChoice) -> float:
    """How many tokens' results a warp holds in registers."""
    return own_and_other(kernel, choice)[0] / choice.warps


@pytest.mark.parametrize("architecture", Architecture)
@pytest.mark.parametrize("kernel", KernelName)
def test_every_call_has_a_ladder_that_leads_down(architecture: Architecture, kernel: KernelName) -> None:
    """Each configuration has at most as many pairs as the one above, and needs no more memory or fewer registers."""
    for dim, size, work in product(DIMS, (2, 4, 8), TileWork):
        choices = ladder(architecture, kernel, dim, size, work)
        assert choices and len(set(choices)) == len(choices)
        for above, below in pairwise(choices):
            assert below.query_block * below.key_block <= above.query_block * above.key_block
            fewer_results = results(kernel, below) < results(kernel, above)
            assert tokens(kernel, below) <= tokens(kernel, above) or fewer_results


@pytest.mark.parametrize("dim", [64, 128])
def test_tuning_tries_two_programs_at_a_time_on_hopper(dim: int) -> None:
    """Of 4 warps each, with up to 255 registers a thread, and half of the 227 KiB of shared memory."""
    choices = ladder(Architecture.SM90, KernelName.FORWARD, dim, 2)
    shared = {each: 2 * dim * (each.query_block + 2 * each.stages * each.key_block) for each in choices}
    paired = [each for each in choices if each.warps == 4 and 2 * shared[each] <= 227 * 1024]
    assert any(each.block == (64, 64) for each in paired)


def test_heavier_work_begins_further_down() -> None:
    for architecture, kernel, dim, size in product(Architecture, KernelName, DIMS, (2, 4, 8)):
        ladders = [ladder(architecture, kernel, dim, size, work) for work in TileWork]
        for lighter, heavier in pairwise(ladders):
            assert set(heavier) <= set(lighter)


def test_entries_say_why_and_are_all_of_use() -> None:
    assert all(entry.reason and len(entry.reason) < 60 for entry in TABLE)
    found = {
        choice
        for architecture, kernel, dim, size in product(Architecture, KernelName, DIMS, (2, 4, 8))
        for choice in ladder(architecture, kernel, dim, size, TileWork.WIDE)
    }
    assert {entry.choice for entry in TABLE} | set(LAST) == found
    for entry in TABLE:
        assert all(
            entry.choice in ladder(each, kernel, entry.dim, entry.element_size, TileWork.WIDE)
            for each in entry.architectures
            for kernel in entry.kernels
        )


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((8, 0), "sm80"), ((8, 9), "sm80"), ((9, 0), "sm90"), ((10, 0), "sm100"), ((12, 0), "sm80")],
)
def test_families(capability: tuple[int, int], expected: str) -> None:
    assert architecture_of(capability) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("attend tokens -> tokens", TileWork.WIDE),
        ("attend causal", TileWork.WIDE),
        ("attend causal score 30 * tanh(s / 30)", TileWork.WIDE),
        ("attend window(513)", TileWork.USUAL),
        ("input document: int[batch, tokens] attend same(document)", TileWork.USUAL),
        ("input bias: float[2 * n - 1] attend tokens -> tokens score s + bias[q - k + n - 1]", TileWork.BUSY),
        ("input slope: float[heads] attend tokens -> tokens score s - slope[head] * abs(q - k)", TileWork.WIDE),
        (" ".join(f"attend (q * {n} - k) % {n + 2} == 0" for n in range(2, 9)), TileWork.BUSY),
        (
            "input a: float[tokens, tokens] input b: float[tokens, tokens]"
            " attend causal score s + a[q.i, k.i] + b[q.i, k.i]",
            TileWork.HEAVY,
        ),
    ],
)
def test_work_of_patterns(body: str, expected: TileWork) -> None:
    for length in (96, 1024):
        mask = maskdsl.parse(f"pattern p(n) {{ space tokens[n] {body} }}")["p"].bind(n=length, heads=2)
        assert make_plan(mask.ir).work is expected


@pytest.mark.parametrize(
    ("spilled", "taken"),
    [
        ({}, 0),
        ({0: 8}, 1),
        ({0: 127, 1: 1}, 0),
        ({0: 128, 1: 1}, 2),
        ({0: 128, 1: 1, 2: 4}, 3),
        ({0: 128, 1: 1, 2: 4, 3: 4}, 0),
    ],
)
def test_the_smallest_tiles_are_taken_to_avoid_many_spills(spilled: dict[int, int], taken: int) -> None:
    choices = (TileChoice(64, 64, 8, 2), TileChoice(64, 32, 8, 1), *LAST)
    assert first_choice(choices, lambda _: True, lambda each: spilled.get(choices.index(each), 0)) == choices[taken]
