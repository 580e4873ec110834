"""A few queries on a CPU: keys are read where they lie, and NaN of keys reaches nobody who does not attend them."""

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import maskdsl

TEXT = """
pattern whole(n = 512) { space t[n]  attend causal }
pattern near(n = 512) { space t[n]  attend causal and backward(100) }
pattern strided(n = 512) { space t[n]  attend causal and (q - k) % 8 == 0 }
pattern by_head(n = 512) { space t[n]  attend causal and (q - k) % 2 == head % 2  score s - 0.1 * head * (q - k) }
pattern sunk(n = 512) { space t[n]  input logit: float[heads]  attend causal and backward(3)  sink logit[head] }
pattern nobody(n = 512) { space t[n]  attend k > q }
"""
MODULE = maskdsl.parse(TEXT)
HEADS, KEY_HEADS, DIM = 6, 2, 16


def tensors(queries: int) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, *shape, DIM) for shape in ((HEADS, queries), (KEY_HEADS, 512), (KEY_HEADS, 512)))
    return q, k, v, {"logit": torch.randn(HEADS)}


def expected(name: str, q: Tensor, k: Tensor, v: Tensor, given: dict[str, Tensor], first: int) -> Tensor:
    """The rows of a call with all queries, in float64."""
    mask = MODULE[name].bind(heads=HEADS, key_heads=KEY_HEADS)
    whole = torch.zeros(2, HEADS, 512, DIM, dtype=torch.float64)
    whole[:, :, first : first + q.shape[2]] = q
    out = mask.compile("reference")(whole, k.double(), v.double(), **given)
    return out[:, :, first : first + q.shape[2]].float()


@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("name", list(MODULE))
def test_any_keys(name: str, queries: int) -> None:
    q, k, v, inputs = tensors(queries)
    attention = MODULE[name].bind(heads=HEADS, key_heads=KEY_HEADS).compile("tiled")
    given = inputs if name == "sunk" else {}
    for first in (0, 7, 512 - queries):
        found = attention(q, k, v, query_start=first, **given)
        torch.testing.assert_close(found, expected(name, q, k, v, given, first))


@pytest.mark.parametrize("name", ["whole", "near"])
def test_keys_and_values_are_not_copied(name: str) -> None:
    q, k, v, _ = tensors(1)
    attention = MODULE[name].bind(heads=HEADS, key_heads=KEY_HEADS).compile("tiled")
    attention(q, k, v, query_start=500)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled, torch.no_grad():
        attention(q, k, v, query_start=500)
    largest = max(each.self_cpu_memory_usage for each in profiled.events())
    assert 0 < largest <= 2 * 8 * HEADS * 512 < k.nbytes, "scores and masks alone"


@pytest.mark.parametrize("paged", [False, True])
def test_values_that_another_head_attends_reach_nobody_else(paged: bool) -> None:
    """Key 400 is attended by heads 0, 2 and 4, key 401 by the others, and key 501 by no query before."""
    q, k, v, _ = tensors(1)
    attention = MODULE["by_head"].bind(heads=HEADS, key_heads=KEY_HEADS).compile("tiled")
    clean = attention(q, k, v, query_start=500)
    v[:, :, 401], k[:, :, 501:], v[:, :, 501:] = torch.nan, torch.nan, torch.nan
    pages = {}
    if paged:
        k, v = (x.unflatten(2, (32, 16)).transpose(1, 2).flatten(0, 1) for x in (k, v))
        pages = {"page_table": torch.arange(64).view(2, 32)}
    found = attention(q, k, v, query_start=500, **pages)
    assert torch.equal(found[:, 0::2].isfinite(), torch.ones_like(found[:, 0::2], dtype=torch.bool))
    torch.testing.assert_close(found[:, 0::2], clean[:, 0::2])
    assert found[:, 1::2].isnan().all()
