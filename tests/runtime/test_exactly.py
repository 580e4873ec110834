"""What docs/language.md says of ties, missing numbers, few candidates, empty and ragged groups: every rule by hand."""

import numpy as np
import pytest
import torch

import maskdsl
from maskdsl.ir.meaning.route_meaning import with_routes
from maskdsl.runtime.backends.available import usable_backends

INF, NAN = float("inf"), float("nan")
TEXT = """pattern p(n = 22) {{
    space tokens[n]
    input worth: float[3, 3]
    coord chunk = i // 8
    route picked = {} {}
    attend picked
}}"""
WORTH = "worth[q.chunk, k.chunk]"
LOG2 = float(np.log(2))

CASES = [
    ("ties", "topk(1, {})", "", [2, 2, 2], [1, 0, 0]),
    ("ties behind the best", "topk(2, {})", "", [1, 2, 1], [1, 1, 0]),
    ("ties of a share", "topp(0.3, {})", "", [2, 2, 2], [1, 0, 0]),
    ("shares down to the mass", "topp(0.6, {})", "", [LOG2, 0, 0], [1, 1, 0]),
    ("a mass that is reached exactly", "topp(0.5, {})", "", [LOG2, 0, 0], [1, 0, 0]),
    ("NaN", "topk(3, {})", "", [NAN, 1, 0], [0, 1, 1]),
    ("NaN and a share", "topp(1.0, {})", "", [NAN, 1, -INF], [0, 1, 0]),
    ("NaN and a threshold", "above(-5.0, {})", "", [NAN, 1, -INF], [0, 1, 0]),
    ("minus infinity", "topk(3, {})", "", [-INF, -INF, 5], [0, 0, 1]),
    ("infinity", "topk(1, {})", "", [0, INF, INF], [0, 1, 0]),
    ("infinity takes the mass", "topp(0.4, {})", "", [INF, 3, INF], [1, 0, 0]),
    ("infinities share the mass", "topp(0.6, {})", "", [INF, 3, INF], [1, 0, 1]),
    ("nothing but NaN", "topk(2, {})", "", [NAN, NAN, NAN], [0, 0, 0]),
    ("fewer candidates than the count", "topk(2, {})", "where k.chunk == 1", [9, 0, 9], [0, 1, 0]),
    ("no candidates", "topk(2, {})", "where k.chunk > 5", [1, 2, 3], [0, 0, 0]),
    ("a count of nothing", "topk(0, {})", "", [1, 2, 3], [0, 0, 0]),
    ("a count below nothing", "topk(0 - 3, {})", "", [1, 2, 3], [0, 0, 0]),
    ("more than there are", "topk(9, {})", "", [1, 2, 3], [1, 1, 1]),
    ("a mass of nothing", "topp(0.0, {})", "", [1, 2, 3], [0, 0, 0]),
    ("the threshold itself", "above(2.0, {})", "", [1, 2, 3], [0, 0, 1]),
]


@pytest.mark.parametrize(
    ("selector", "where", "worth", "expected"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_rules_of_selection(selector, where, worth, expected):
    mask = maskdsl.parse(TEXT.format(selector.format(WORTH), where))["p"].bind()
    table = np.tile(worth, (3, 1)).astype(float)
    q, k = np.zeros((2, 1, 1, 22, 4))
    assert with_routes(mask.ir, {"worth": table}, q, k)["picked"].astype(int).tolist() == [[expected] * 3]
    v = torch.arange(22.0, dtype=torch.float64).view(1, 1, 22, 1).expand(1, 1, 22, 4).contiguous()
    chosen = [token for token in range(22) if expected[token // 8]]
    for backend in usable_backends():
        out = mask.compile(backend)(torch.zeros_like(v), torch.zeros_like(v), v, worth=torch.tensor(table))
        torch.testing.assert_close(out, torch.full_like(v, np.mean(chosen) if chosen else 0.0))


def test_ties_over_a_head_go_to_the_lower_query_group_first():
    mask = maskdsl.parse(TEXT.format(f"topp(0.5, {WORTH}, per = head)", ""))["p"].bind()
    found = with_routes(mask.ir, {"worth": np.zeros((3, 3))}, *np.zeros((2, 1, 1, 22, 4)))["picked"]
    assert found.astype(int).tolist() == [[[1, 1, 1], [1, 1, 0], [0, 0, 0]]]
    attention = mask.compile("tiled")
    (same,) = attention._compiled.route_finder.find(*torch.zeros(2, 1, 1, 22, 4), [torch.zeros(3, 3)])
    np.testing.assert_array_equal(same.numpy(), found)


def test_a_ragged_group_and_one_without_tokens():
    text = """pattern p(n = 9) {
        space tokens[n]
        input chunk: int[tokens]
        route picked = topk(2, dot(q, mean(k by chunk)))
        attend picked
    }"""
    mask = maskdsl.parse(text)["p"].bind()
    chunk = np.array([0, 0, 0, 2, 2, 2, 5, 5, 5])  # there are no groups 1, 3, 4
    chunk[-1] = 7  # a group of one token, whose mean is itself
    k = np.zeros((1, 1, 9, 1))
    k[0, 0, :, 0] = [-3, -3, -3, -1, -1, -1, -2, -2, -0.5]  # the mean of no tokens, 0, would be above all
    found = with_routes(mask.ir, {"chunk": chunk}, np.ones((1, 1, 9, 1)), k)["picked"]
    assert np.flatnonzero(found[0, 0, 4]).tolist() == [2, 7]
    out = mask.compile("tiled")(
        torch.ones(1, 1, 9, 1), torch.tensor(k).float(), torch.tensor(k).float(), chunk=torch.tensor(chunk)
    )
    weights = np.exp(k[0, 0, [3, 4, 5, 8], 0])
    assert out[0, 0, 0, 0].item() == pytest.approx((weights * k[0, 0, [3, 4, 5, 8], 0]).sum() / weights.sum(), rel=1e-5)


def test_nan_stands_last_in_ranks():
    text = """pattern p(n = 5) {
        space tokens[n]
        input worth: float[tokens]
        coord place = rank(-worth)
        attend k.place < 2
    }"""
    mask = maskdsl.parse(text)["p"].bind()
    worth = np.array([NAN, 1, INF, NAN, -INF])
    assert with_routes(mask.ir, {"worth": worth})[mask.ir.routed[0].name].ravel().tolist() == [3, 1, 0, 4, 2]
    v = torch.eye(5, dtype=torch.float64).view(1, 1, 5, 5)
    out = mask.compile("tiled")(torch.zeros_like(v), torch.zeros_like(v), v, worth=torch.tensor(worth))
    assert out[0, 0, 0].tolist() == [0, 0.5, 0.5, 0, 0]
