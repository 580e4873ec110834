"""The tiled backend against the dense reference, forward and backward, in float64."""

import gc
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

import maskdsl
from maskdsl.ir.expressions import Constant
from maskdsl.ir.ops import Op
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
