"""NaN scores: never selected, on any backend, and an error with `debug=True`."""

import numpy as np
import pytest
import torch

import maskdsl
from maskdsl.base.diagnostics import AttnError
from maskdsl.ir.meaning.route_meaning import with_routes
from maskdsl.runtime.backends.available import usable_backends

TEXT = """pattern p(n = 24) {
    space tokens[n]
    coord chunk = i // 8
    route near = topk(1, dot(q, mean(k by chunk))) where k.chunk != q.chunk
    attend near
}"""


def vectors(kind=torch.float64):
    return torch.randn(3, 2, 4, 24, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(kind)


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_a_score_that_is_no_number_is_an_error(kind):
    attention = maskdsl.parse(TEXT)["p"].bind(heads=4).compile()
    q, k, v = vectors(kind)
    expected = attention(q, k, v)
    assert torch.equal(attention(q, k, v, debug=True), expected)
    k[1, 2, 17] = torch.nan  # of the last chunk, which chunks 0 and 1 choose from
    with pytest.raises(AttnError) as raised:
        attention(q, k, v, debug=True)
    text = str(raised.value)
    assert text.startswith(
        "error[E456]: the score of `near` is NaN in batch entry 1, head 2: query group 0, key group 2\n --> <text>:4:"
    )
    assert "16 scores of this route are NaN" in text


def test_parts_are_not_debugged():
    q, k, v = vectors()
    with pytest.raises(AttnError, match="E457"):
        maskdsl.parse(TEXT)["p"].bind(heads=4).compile()(q[:, :, 8:9], k, v, query_start=8, debug=True)


def test_inputs_of_scores_and_patterns_of_any_length():
    text = """pattern p(n) {
        space tokens[n]
        input worth: float[tokens]
        route best = topk(2, log(k.worth))
        attend best
    }"""
    attention = maskdsl.parse(text)["p"].compile(heads=2)
    worth = torch.ones(20)
    q, k, v = torch.randn(3, 1, 2, 20, 8)
    attention(q, k, v, worth=worth, debug=True)
    worth[3] = 0  # minus infinity, which is no NaN
    attention(q, k, v, worth=worth, debug=True)
    worth[5] = -1
    with pytest.raises(AttnError, match="query group 0, key group 5"):
        attention(q, k, v, worth=worth, debug=True)


@pytest.mark.parametrize("backend", usable_backends())
@pytest.mark.parametrize("selector", ["topk(2, {})", "topp(0.9, {})", "topp(0.9, {}, per = head)", "above(-5.0, {})"])
def test_no_selector_takes_it(selector, backend):
    route = selector.format("dot(mean(q by chunk), mean(k by chunk))")
    text = TEXT.replace("topk(1, dot(q, mean(k by chunk)))", route)
    mask = maskdsl.parse(text)["p"].bind(heads=4)
    q, k, v = vectors()
    k[:, :, 10] = torch.nan
    v[:, :, 8:16] = torch.nan
    out = mask.compile(backend)(q, k, v)
    assert bool(out.isfinite().all())
    selected = with_routes(mask.ir, {}, q.numpy(), k.numpy())["near"]
    assert not selected[..., 1].any() and selected.any()


CLUSTERS = """pattern p(n = 24) {{
    space tokens[n]
    input centroids: float[heads, 3, dim]
    route together = {}
    attend together
}}"""


@pytest.mark.parametrize("route", ["nearest(centroids)", "balanced(9, centroids)", "balanced(30, centroids)"])
@pytest.mark.parametrize("where", ["centroids", "tokens"])
def test_centroids(route, where):
    mask = maskdsl.parse(CLUSTERS.format(route))["p"].bind(heads=4)
    q, k, v = vectors()
    centroids = torch.randn(4, 3, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    if where == "centroids":
        centroids[:, 1] = torch.nan
    else:
        q[:, :, 5], k[:, :, 7] = torch.nan, torch.nan
    attention = mask.compile("tiled")
    found = with_routes(mask.ir, {"centroids": centroids.numpy()}, q.numpy(), k.numpy())
    for name, tensor in zip(
        ("together_queries", "together_keys"), attention._compiled.route_finder.find(q, k, [centroids]), strict=True
    ):
        np.testing.assert_array_equal(tensor.numpy(), found[name])
    queries, keys = found["together_queries"], found["together_keys"]
    if where == "centroids":
        forbidden = 1 if "nearest" in route else 2
        assert not (queries == 1).any() if "nearest" in route else not (queries & forbidden).any()
    elif "nearest" in route:
        assert not queries[..., 5].any() and not keys[..., 7].any()  # all are equally far: the lowest
    else:
        assert not queries[..., 5].any() and not keys[..., 7].any()  # no row takes it
    with pytest.raises(AttnError, match=r"E456.*`together`"):
        attention(q, k, v, centroids=centroids, debug=True)
