"""A query without any score of more than minus infinity is an empty row, on every backend and every way to it."""

import pytest
import torch

import maskdsl
from maskdsl.runtime.backends.available import usable_backends
from maskdsl.runtime.decode.regrouped import two_passes
from tests.support.empty_rows import FILLS, RELATIONS, WAYS, Padded

BACKENDS = usable_backends()


@pytest.mark.thinned(3, "relation", "fill", "dtype", "backend")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("relation", RELATIONS)
def test_gradients_of_output_and_log_sum_exp(relation, fill, dtype, backend):
    Padded(relation, fill, dtype).check_gradients_of_both(backend)


@pytest.mark.thinned(2, "way", "relation", "fill", "dtype", "backend")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("way", ["in pages", "packed"])
def test_pages_and_packed_sequences(way, relation, fill, dtype, backend):
    Padded(relation, fill, dtype, 96, way).check_gradients_of_both(backend)


@pytest.mark.thinned(2, "way", "relation", "fill", "dtype")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("way", WAYS)
def test_passes_that_are_merged(way, relation, fill, dtype):
    given = Padded(relation, fill, dtype, 96, way, routed=True)
    assert two_passes(given.mask.compile("tiled")._compiled) is not None
    given.check_gradients_of_both("tiled")


@pytest.mark.thinned(2, "relation", "fill", "dtype", "length")
@pytest.mark.parametrize(
    ("backend", "length"),
    [("reference", 256), ("tiled", 256), ("tiled", 1024), pytest.param("reference", 1024, marks=pytest.mark.long)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("relation", RELATIONS)
def test_as_near_as_torch_itself(relation, fill, dtype, length, backend):
    Padded(relation, fill, dtype, length).check_against_sdpa(backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("fill", FILLS)
def test_some_of_the_queries(fill, backend):
    """Without gradients, in which a few queries gather their keys, and with them; as among all queries."""
    given = Padded("causal", fill, torch.float32)
    tensors = given.tensors()
    q, k, v, pad = (tensors[name] for name in ("q", "k", "v", "pad"))
    attention, rows = given.mask.compile(backend), slice(90, 130)
    expected, expected_lse = (
        x[:, :, rows].float() for x in given.softmax(q.double(), k.double(), v.double(), pad.double())
    )
    for recorded in (False, True):
        leaves = [x.clone().requires_grad_(recorded) for x in (q[:, :, rows], k, v)]
        out, lse = attention(*leaves, query_start=rows.start, return_lse=True, pad=pad)
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(lse, expected_lse, rtol=1e-5, atol=1e-5)
        if recorded:
            empty = lse.detach() == -torch.inf
            grads = torch.autograd.grad(
                (out, lse), leaves, (out.detach(), torch.ones_like(lse).masked_fill(empty, torch.nan))
            )
            assert all(bool(grad.isfinite().all()) for grad in grads)


@pytest.mark.parametrize("backend", BACKENDS)
def test_shards_that_are_merged(backend):
    """Halves of the keys, merged by their log-sum-exps: gradients of queries that are empty in both stay their own."""
    attention = maskdsl.parse("pattern p(n) { space tokens[n] attend backward(40) and q >= 9 }")["p"]
    attention = attention.bind(n=80).compile(backend)
    tensors = [torch.randn(1, 1, 80, 8, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    one, two = (attention(*tensors, return_lse=True) for _ in range(2))
    lse = torch.logaddexp(one[1], two[1])
    out = sum(x * (own - lse).exp().unsqueeze(-1) for x, own in (one, two))
    counted = (out[:, :, 9:].square().sum(), lse[:, :, 9:].sum())
    found = torch.autograd.grad(sum(counted), tensors)
    whole = attention(*tensors, return_lse=True)
    expected = torch.autograd.grad(whole[0].square().sum() + whole[1][:, :, 9:].sum(), tensors)
    torch.testing.assert_close(found, expected)
