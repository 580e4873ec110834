"""`return_routes`: what calls have selected, by the names of routes."""

from pathlib import Path

import numpy as np
import pytest
import torch

import maskdsl
from maskdsl.ir.meaning.route_meaning import with_routes

ROUTES = maskdsl.load(Path(__file__).parents[1] / "analysis" / "routes.attn")
TEXT = """pattern past(n = 37, block = 8) {
    space tokens[n]
    coord chunk = i // block
    route best = topk(2, dot(q, mean(k by chunk))) where k.chunk < q.chunk
    attend causal and (best or same(chunk))
}
pattern clusters(n = 37) {
    space tokens[n]
    input centroids: float[heads, 3, dim]
    route near = nearest(centroids)
    attend near
}"""


def tensors(mask, seed=0):
    torch.manual_seed(seed)
    return [torch.randn(2, 2, each, 8) for each in (mask.query_length, mask.key_length, mask.key_length)]


@pytest.mark.parametrize("name", ["infllm", "quest", "vmoba_block", "chunks", "vsa"])
def test_whole_calls_return_what_is_selected(name: str) -> None:
    mask = ROUTES[name].bind(heads=2)
    q, k, v = tensors(mask)
    inputs = {"chunk": torch.arange(45).expand(2, -1) // 7} if name == "chunks" else {}
    attention = mask.compile(backend="tiled")
    out, lse, routes = attention(q, k, v, return_lse=True, return_routes=True, **inputs)
    torch.testing.assert_close(out, attention(q, k, v, **inputs))
    assert lse.shape[0] == 2
    arrays = {name: np.asarray(each) for name, each in inputs.items()}
    for part in mask.ir.branches or (mask.ir,):
        meant = with_routes(part, arrays, q.numpy(), k.numpy())
        for route, table in routes.items():
            if route in meant:
                assert np.array_equal(table.numpy(), meant[route]), route
    assert set(routes) == ({"best", "coarse.other"} if name == "vsa" else {"picked"})


def test_selections_are_what_masks_take() -> None:
    mask = maskdsl.parse(TEXT)["past"].bind(heads=2)
    q, k, v = tensors(mask)
    _, routes = mask.compile()(q, k, v, return_routes=True)
    selected = {name: each.numpy() for name, each in routes.items()}
    assert np.array_equal(mask.dense(1, 1, **selected), mask.dense(1, 1, q=q.numpy(), k=k.numpy()))


def test_partial_calls_return_the_rows_of_their_queries() -> None:
    mask = maskdsl.parse(TEXT)["past"].bind(heads=2)
    q, k, v = tensors(mask)
    attention = mask.compile()
    _, whole = attention(q, k, v, return_routes=True)
    state = attention.routing_state(2)
    for start in range(0, 37, 5):
        end = min(start + 5, 37)
        for options in ({}, {"routing_state": state}):
            part = q[:, :, start:end], k[:, :, :end], v[:, :, :end]
            _, routes = attention(*part, query_start=start, return_routes=True, **options)
            assert torch.equal(routes["best"], whole["best"][:, :, start:end])


def test_clusters_are_returned_by_token_and_nothing_without_routes() -> None:
    pattern = maskdsl.parse(TEXT)["clusters"].bind(heads=2)
    q, k, v = tensors(pattern)
    centroids = torch.randn(2, 3, 8)
    _, routes = pattern.compile()(q, k, v, centroids=centroids, return_routes=True)
    distances = (q.unsqueeze(-2) - centroids[:, None]).square().sum(-1)
    assert torch.equal(routes["near_queries"], distances.argmin(-1))
    assert set(routes) == {"near_queries", "near_keys"}
    plain = maskdsl.parse("pattern p(n = 9) { space tokens[n] attend causal }")["p"].bind(heads=2).compile()
    assert plain(*(x[:, :, :9] for x in (q, k, v)), return_routes=True)[1] == {}
    with pytest.raises(maskdsl.AttnError, match="`return_routes`"):
        plain(*(x[:, :, :9] for x in (q, k, v)), return_routes=1)
