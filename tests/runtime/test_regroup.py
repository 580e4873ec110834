"""Two passes where queries choose groups one by one: when they are taken, and that they are one attention."""

import numpy as np
import pytest
import torch

import maskdsl
from maskdsl.ir.invariants import verify
from maskdsl.ir.meaning.evaluate import dense
from maskdsl.ir.meaning.route_meaning import with_routes
from maskdsl.ir.rewrites.regroup import CHOSEN_GROUP, Copies, regrouping
from maskdsl.runtime.backends.available import usable_backends
from maskdsl.runtime.decode.regrouped import chosen_copies, merge_partials, two_passes

HEAD = "pattern p(n = 40) {\n space tokens[n]\n coord chunk = i // 8\n"
ROUTE = "route past = topk(2, dot(q, mean(k by chunk))) where k.chunk < q.chunk\n"


def mask_of(text: str, heads: int = 2) -> maskdsl.Mask:
    return maskdsl.parse(f"{HEAD}{text}}}")["p"].bind(heads=heads)


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        (f"{ROUTE} attend causal and same(chunk)\n attend past", True),
        (f"{ROUTE} attend past", True),
        (f"{ROUTE} attend causal and (past or q - k < 3)\n require k != 5", True),
        (f"{ROUTE} attend causal and not past", False),
        (f"{ROUTE} attend (past if head == 0 else causal)", False),
        (f"{ROUTE} attend causal", False),
        (f"{ROUTE} attend past\n weight 2.0 if past else 0.5", False),
        ("route best = topk(2, dot(q, k))\n attend best", False),
        ("route near = topk(2, dot(mean(q by chunk), mean(k by chunk)))\n attend near", False),
        ("route heavy = topp(0.5, dot(q, mean(k by chunk)))\n attend heavy", False),
        (f"{ROUTE} route first = topk(1, dot(q, max(k by chunk)))\n attend past or first", False),
    ],
)
def test_where_it_serves(text: str, taken: bool) -> None:
    mask = mask_of(text)
    assert (regrouping(mask.ir) is not None) is taken
    assert two_passes(mask.compile("reference")._compiled) is None
    assert (two_passes(mask.compile("tiled")._compiled) is not None) is taken


def test_the_passes_share_out_the_pairs() -> None:
    mask = mask_of(f"{ROUTE} attend causal and (past or q - k < 3)\n attend same(chunk)\n require k != 5").ir
    found = regrouping(mask)
    assert found is not None and found.fixed is not None
    for each in (found.fixed, found.added, Copies(found.added, 80, 40).mask):
        verify(each)
    random = np.random.default_rng(0)
    inputs = with_routes(mask, {}, *random.normal(size=(2, 1, 2, 40, 16)))
    for head in range(2):
        whole = dense(mask, head, 0, inputs)
        parts = dense(found.fixed, head, 0, inputs).astype(int)
        table = inputs["past"][0, head]
        for copy in range(found.copies):
            chosen = np.array([[*np.flatnonzero(row), -1, -1][copy] for row in table])
            choices = np.broadcast_to(chosen, (2, 40))
            parts += dense(found.added, head, 0, {**inputs, CHOSEN_GROUP: choices})
        np.testing.assert_array_equal(parts, whole)


def test_copies_stand_by_their_choice() -> None:
    random = np.random.default_rng(0)
    table = torch.as_tensor(random.random((2, 3, 11, 5)) < 0.3)
    copies = chosen_copies(table, 5)
    assert bool((copies.choices.diff(dim=-1) >= 0).all())
    at = copies.choices.gather(-1, copies.back).view(2, 3, 11, 5)
    for position in np.ndindex(2, 3, 11):
        chosen = sorted(int(each) for each in at[position] if each >= 0)
        assert chosen == table[position].nonzero().flatten().tolist()
    assert bool((copies.positions.gather(-1, copies.back).view(2, 3, 11, 5) == torch.arange(11)[:, None]).all())


def test_parts_without_any_key() -> None:
    out = torch.full((1, 1, 3, 4), 5.0)
    nothing = torch.zeros(1, 1, 3, 4), torch.full((1, 1, 3), -torch.inf)
    some = out, torch.tensor([[[0.5, -torch.inf, 2.0]]])
    whole, lse = merge_partials([nothing, some, nothing])
    assert torch.equal(whole[..., 0], torch.tensor([[[5.0, 0.0, 5.0]]]))
    assert torch.equal(lse, some[1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_partial_results_near_the_largest_number(dtype: torch.dtype) -> None:
    """They are divided before they are added: their mean is finite."""
    large = torch.full((1, 1, 3, 4), 0.9 * torch.finfo(dtype).max, dtype=dtype)
    lse = torch.tensor([[[0.5, 300.0, -300.0]]], dtype=torch.promote_types(dtype, torch.float32))
    whole, _ = merge_partials([(large, lse), (large, lse), (large, lse + 1)])
    torch.testing.assert_close(whole, large)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_log_sum_exp_and_gradients(dtype: torch.dtype) -> None:
    mask = mask_of(f"{ROUTE} attend causal and same(chunk)\n attend past\n score 3 * tanh(s)\n weight 1.5")
    torch.manual_seed(0)
    leaves = [torch.randn(2, heads, 40, 16, dtype=dtype).requires_grad_() for heads in (2, 1, 1)]
    results = {}
    for backend in usable_backends():
        out, lse = mask.compile(backend)(*leaves, return_lse=True)
        loss = (out.double() ** 2).sum() + lse.double().sin().sum()
        results[backend] = out, lse, *torch.autograd.grad(loss, leaves)
    tolerance = 1e-9 if dtype is torch.float64 else 5e-2
    for one, other in zip(results["tiled"], results["reference"], strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
