"""The tiled backend against the dense reference, forward and backward, in float64."""

import gc
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

import maskdsl
from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.emit.plan import clique_plan, make_plan
from maskdsl.ir.expressions import Constant
from maskdsl.ir.ops import Op
from maskdsl.runtime.attention import Attention
from maskdsl.runtime.backends import schedule as schedules
from maskdsl.runtime.backends.schedule import schedule
from maskdsl.runtime.compile import compile_mask
from tests.support.masks import apply, both, causal, either, k, mask, tokens, within


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Several, whatever the other tests have: tiles are shared out between them."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def masks(length: int, heads: int):
    near = within(20)
    first = apply(Op.LESS, k("i"), Constant(3))
    return [
        mask(relation, tokens(length), heads=heads)
        for relation in (causal(), near, either(near, first), both(near, causal()))
    ]


@pytest.mark.parametrize("length", [1, 5, 129, 700])
@pytest.mark.parametrize(("heads", "key_heads"), [(1, 1), (4, 2)])
def test_agrees_with_the_reference(length: int, heads: int, key_heads: int) -> None:
    torch.manual_seed(length)
    for each in masks(length, heads):
        query = torch.randn(2, heads, length, 16, dtype=torch.float64, requires_grad=True)
        key, value = (torch.randn(2, key_heads, length, 16, dtype=torch.float64, requires_grad=True) for _ in range(2))
        found = compile_mask(each, backend="tiled")(query, key, value)
        expected = compile_mask(each, backend="reference")(query, key, value)
        torch.testing.assert_close(found, expected)
        gradient = torch.randn_like(found)
        torch.testing.assert_close(
            torch.autograd.grad(found, (query, key, value), gradient),
            torch.autograd.grad(expected, (query, key, value), gradient),
        )


def test_masks_of_entries_that_share_tiles_are_their_own() -> None:
    """Of single pairs at random, in tiles that stand alike in every entry and head."""
    text = "pattern p(n) { space t[n]  attend backward(30) and random(1, batch, head, q, k) % 2 == 0"
    text += " attend all -> all where q == k }"
    pattern = maskdsl.parse(text)["p"].bind(n=500, heads=2)
    q, k, v = torch.randn(3, 2, 2, 500, 8, dtype=torch.float64)
    torch.testing.assert_close(pattern.compile("tiled")(q, k, v), pattern.compile("reference")(q, k, v))


def test_rows_that_may_be_empty_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are known beforehand, and not found by a first pass whose results are no numbers."""
    attention = maskdsl.parse("pattern p(n) { space t[n] attend causal and q >= 9 }")["p"].bind(n=80).compile("tiled")
    module, passes = attention._compiled.default_kernel.module, []
    run = module.run_forward
    monkeypatch.setattr(module, "run_forward", lambda *given: passes.append(given) or run(*given))
    out = attention(*torch.randn(3, 1, 1, 80, 8))
    assert len(passes) == 1 and not out[:, :, :9].any() and bool(out.isfinite().all())


MEMORY = """
import torch
import maskdsl
from tests.support.memory import peak

torch.ones(8, 8, requires_grad=True).matmul(torch.ones(8, 8)).sum().backward()
before, n = peak(), 32768
attention = maskdsl.parse("pattern p(n) { space tokens[n] attend window(129) attend globals_first(1) }")["p"].bind(n=n)
q, k, v = (torch.randn(1, 1, n, 16, requires_grad=True) for _ in range(3))
attention.compile("tiled")(q, k, v).sum().backward()
print(peak() - before)
"""


def test_tiles_are_freed_when_they_are_done() -> None:
    """Their values are in no cycle, which would keep them until the garbage collector runs."""
    text = "pattern p(n) { space t[n] input r: float[n] input g: float[t] attend causal score s + r[q - k] * k.g }"
    attention = maskdsl.parse(text)["p"].bind(n=80).compile("tiled")
    given = {name: torch.randn(1, 1, 80, 8, requires_grad=True) for name in "qkv"}
    given |= {name: torch.randn(80, requires_grad=True) for name in "rg"}
    attention(**given).sum().backward()
    gc.collect()
    gc.disable()
    try:
        attention(**given).sum().backward()
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_memory_does_not_grow_with_all_pairs() -> None:
    """As many bytes as there are pairs would be a gigabyte."""
    ended = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert int(ended.stdout) < 300e6


SHIFTED = """pattern swin(size = 4, shift = 2) {
    space image[y = 16, x = 16]
    input table: float[heads, 2 * size - 1, 2 * size - 1]
    attend rolled_blocks((size, size), shift)
    require same_side((shift, shift))
    score s + table[head, q.y - k.y + size - 1, q.x - k.x + size - 1]
}"""


def test_windows_of_which_some_need_masks_are_one_group() -> None:
    ir = maskdsl.parse(SHIFTED)["swin"].bind().ir
    chosen = clique_plan(make_plan(ir))
    (group,) = schedule(tiles(chosen.mask, (16, 16)).head_classes[0], tiles(chosen.mask, (16, 16)))
    assert (group.rows, group.size, group.partial) == (16, 16, ((0, 16),))


def test_rows_keep_their_partial_tiles_where_masks_of_all_would_be_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "MASKED", 16 * 16 * 16 - 1)
    chosen = clique_plan(make_plan(maskdsl.parse(SHIFTED)["swin"].bind().ir))
    groups = schedule(tiles(chosen.mask, (16, 16)).head_classes[0], tiles(chosen.mask, (16, 16)))
    assert {each.partial for each in groups} == {(), ((0, 16),)}
    assert sum(each.rows for each in groups) == 16


def test_what_positions_decide_about_scores_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For all windows, calls and heads: one window's indices into the table, as their other pairs do not attend."""
    attention = maskdsl.parse(SHIFTED)["swin"].bind(heads=2).compile("tiled")
    kernel, calls = attention._compiled.default_kernel, []
    of_module = kernel.module.fixed
    monkeypatch.setattr(kernel.module, "fixed", lambda **values: calls.append(values) or of_module(**values))
    q, k, v, table = (*torch.randn(3, 2, 2, 256, 8), torch.randn(2, 7, 7))
    out = attention(q, k, v, table=table)
    made = len(calls)
    assert made
    torch.testing.assert_close(attention(q, k, v, table=table * 2), attention(q, k, v, table=table + table))
    assert len(calls) == made
    kept = [each for key, values in _masks(attention).items() if key[-1] == "fixed" for each in values]
    assert kept and all(each.shape == (1, 1, 16, 16) and each.dtype == torch.int8 for each in kept)
    reference = maskdsl.parse(SHIFTED)["swin"].bind(heads=2).compile("reference")
    torch.testing.assert_close(out, reference(q, k, v, table=table), rtol=1e-5, atol=1e-5)


def _masks(attention: Attention) -> dict[tuple[object, ...], list[torch.Tensor]]:
    """What the calls of an attention without deciding inputs keep of tiles."""
    (state,) = attention._compiled.default_kernel.states.states.values()
    return state.kept["masks"].cached


def test_numbers_in_the_fewest_bytes() -> None:
    module = maskdsl.parse(SHIFTED)["swin"].bind().compile("tiled")._compiled.default_kernel.module
    for most, kind in ((127, torch.int8), (128, torch.int16), (-(2**15), torch.int16), (2**15, torch.int32)):
        assert module.in_fewest_bytes(torch.tensor([0, most])).dtype == kind
    assert module.in_fewest_bytes(torch.tensor([0, 2**31])).dtype == torch.int64
    assert module.in_fewest_bytes(torch.tensor([True])).dtype == torch.bool


def test_one_row_of_values_that_agree_where_pairs_attend() -> None:
    module = maskdsl.parse(SHIFTED)["swin"].bind().compile("tiled")._compiled.default_kernel.module
    x = torch.tensor([[[[1, -2], [9, 9]]], [[[1, 7], [8, 5]]]])
    attends = torch.tensor([[[[True, True], [False, False]]], [[[True, False], [False, True]]]])
    assert module.of_one_row(x, attends).tolist() == [[[[1, -2], [0, 5]]]]
    assert module.of_one_row(x, torch.ones_like(attends)) is x
    assert module.of_one_row(x > 0, attends).tolist() == [[[[True, False], [False, True]]]]


def test_inputs_have_other_names_than_kept_values() -> None:
    text = "pattern p(n = 60) { space t[n] input fixed_1: float[60] input fixed_3: float[60] attend causal "
    text += "score s + fixed_1[q - k] * fixed_3[abs(q - k)] }"
    mask, q, given = maskdsl.parse(text)["p"].bind(), torch.randn(1, 1, 60, 8), torch.randn(2, 60)
    inputs = {"fixed_1": given[0], "fixed_3": given[1]}
    out, expected = (mask.compile(each)(q, q, q, **inputs) for each in ("tiled", "reference"))
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
