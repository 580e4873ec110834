"""Bounds that hold whatever routes select, against what they do select, and against calls that reach them."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import maskdsl
from maskdsl.analysis.counts import guarantees
from maskdsl.analysis.counts.guarantees import guarantee
from maskdsl.ir.facts.route_candidates import monotone, selects
from maskdsl.ir.meaning.evaluate import dense
from maskdsl.ir.meaning.route_meaning import with_routes
from maskdsl.ir.meaning.synthetic_inputs import synthetic_inputs
from tests.support.drawn import examples
from tests.support.random_routes import routes

EXAMPLES = Path(__file__).parents[2] / "examples" / "routing"
PATTERNS = [
    (path.stem, name)
    for path in sorted(EXAMPLES.glob("*.attn"))
    for name, pattern in maskdsl.load(path).items()
    if path.stem != "vmoba" and selects(pattern.bind().ir)
]
SMALL = {"n": 45, "t": 1, "h": 5, "w": 9, "block": 8, "segment": 16, "size": 6, "regions": 2, "top": 2, "stride": 4}


def contained(bounds, found):
    keys = found.sum(axis=1)
    assert bounds.least_attended <= found.sum() <= bounds.most_attended
    assert bounds.least_keys <= keys.min() and keys.max() <= bounds.most_keys


@pytest.mark.parametrize(("file", "name"), PATTERNS)
def test_every_selection_is_between_the_bounds(file: str, name: str) -> None:
    pattern = maskdsl.load(EXAMPLES / f"{file}.attn")[name]
    mask = pattern.bind(heads=2, **{each: SMALL[each] for each in pattern.parameters if each in SMALL}).ir
    inputs = synthetic_inputs(mask, 0, dim=8)
    found = guarantee(mask, with_routes(mask, inputs))
    assert found.total.most_attended == sum(each.most_attended for each in found.heads)
    for seed in range(3):
        random = np.random.default_rng(seed)
        q, k = (random.normal(size=(1, 2, side.given_length, 8)) ** 3 for side in (mask.queries, mask.keys))
        selected = with_routes(mask, inputs, q, k)
        for head in range(2):
            contained(found.heads[head], dense(mask, head, 0, selected))


@given(routes(), st.integers(1, 40), st.integers(0, 1000))
@settings(max_examples=examples(25))
def test_of_random_routes(text: str, n: int, seed: int) -> None:
    mask = maskdsl.parse(text)["p"].bind(n=n, heads=2).ir
    inputs = synthetic_inputs(mask, seed, dim=4)
    found = guarantee(mask, inputs)
    q, k = np.random.default_rng(seed).normal(size=(2, 1, 2, n, 4))
    selected = with_routes(mask, inputs, q, k)
    for head in range(2):
        contained(found.heads[head], dense(mask, head, 0, selected))
        for route in found.routes:
            table = selected[route.name][0, head]
            exists = table.shape[0] == route.query_groups
            assert table.sum(axis=1).max() <= route.most
            assert not exists or table.sum(axis=1).min() >= route.least


REACHED = """pattern p(n = 22, top = 2) {
    space tokens[n]
    input worth: float[3, 3]
    coord chunk = i // 8
    route picked = topk(top, worth[q.chunk, k.chunk]) where %s
    attend %s
    order by shuffle(i, 3)
}"""


@pytest.mark.thinned(3, "where", "attend", "top")
@pytest.mark.parametrize("where", ["k.chunk < q.chunk", "k.chunk <= q.chunk", "q.chunk == 1", "True"])
@pytest.mark.parametrize(
    "attend",
    ["picked", "causal and picked", "causal and (picked or q - k < 5)", "picked or k < 9", "window(9) or picked"],
)
@pytest.mark.parametrize("top", [0, 1, 2, 5])
def test_some_scores_reach_the_bounds_of_one_route(where: str, attend: str, top: int) -> None:
    mask = maskdsl.parse(REACHED % (where, attend))["p"].bind(top=top).ir
    bounds = guarantee(mask, {"worth": np.zeros((3, 3))}).total
    attended = []
    for worth in product(range(3), repeat=3):
        found = dense(
            mask, inputs=with_routes(mask, {"worth": np.tile(worth, (3, 1)).astype(float)}, *np.zeros((2, 1, 1, 22, 1)))
        )
        contained(bounds, found)
        attended.append(found.sum(axis=1))
    # All queries choose alike here, so each may reach its own bound in another call.
    assert np.min(attended, axis=0).sum() == bounds.least_attended
    assert np.max(attended, axis=0).sum() == bounds.most_attended


def test_numbers_of_groups() -> None:
    mask = maskdsl.load(EXAMPLES / "moba.attn")["moba"].bind(n=300, block=32, top=3, heads=2).ir
    found = guarantee(mask, {})
    (past,) = found.routes
    assert (past.name, past.query_groups, past.key_groups) == ("past", 300, 10)
    assert (past.least, past.most, past.candidates) == (0, 2, 9)
    own = 9 * 32 * 33 // 2 + 12 * 13 // 2
    assert found.heads[1].least_attended == found.heads[1].most_attended == own + 32 * 32 + (300 - 64) * 64


def test_two_routes_add_up_above_and_the_best_counts_below() -> None:
    text = """pattern p(n = 24) {
        space tokens[n]
        input first: float[3]
        input second: float[3]
        coord third = i // 8
        route one = topk(1, first[k.third])
        route other = topk(2, second[k.third])
        attend one or other
    }"""
    mask = maskdsl.parse(text)["p"].bind().ir
    total = guarantee(mask, {"first": np.zeros(3), "second": np.zeros(3)}).total
    assert (total.least_keys, total.most_keys) == (16, 24)


@pytest.mark.parametrize(
    ("attend", "expected"),
    [("past", True), ("not past", False), ("past if head == 0 else k < 3", True), ("past == (k < 3)", False)],
)
def test_what_denies_is_told_from_what_only_adds(attend: str, expected: bool) -> None:
    text = f"""pattern p(n = 20) {{
        space tokens[n]
        coord chunk = i // 4
        route past = topk(1, dot(q, mean(k by chunk)))
        attend {attend}
    }}"""
    mask = maskdsl.parse(text)["p"].bind(heads=2).ir
    assert monotone(mask) is expected
    found = guarantee(mask, {})
    q, k = np.random.default_rng(0).normal(size=(2, 1, 2, 20, 4))
    for head in range(2):
        contained(found.heads[head], dense(mask, head, 0, with_routes(mask, {}, q, k)))


HEADS = """pattern p(n = 24) {
    space tokens[n]
    %s
    route picked = topk(%s, dot(q, mean(k by chunk)))%s
    attend picked%s
}"""


@pytest.mark.parametrize(
    ("declared", "count", "where", "also", "kinds"),
    [
        ("coord chunk = i // 4", "2", "", "", 1),
        ("coord chunk = i // 4", "1 + head // 2", "", "", 4),
        ("coord chunk = i // 4", "2", " where k.chunk <= q.chunk + head % 2", "", 4),
        ("coord chunk = i // (4 + 2 * (head % 2))", "2", "", "", 4),
        ("input chunk: int[heads, tokens]", "2", "", "", 4),
        ("input chunk: int[tokens]", "2", "", "", 1),
        ("coord chunk = i // 4", "2", "", " or (abs(q - k) < 2 if head < 3 else q == k)", 2),
    ],
)
def test_heads_that_are_alike_are_counted_once(monkeypatch, declared, count, where, also, kinds) -> None:
    """And are bounded as they are where each is counted."""
    text = HEADS % (declared, count, where, also)
    mask = maskdsl.parse(text)["p"].bind(heads=4).ir
    inputs = with_routes(mask, synthetic_inputs(mask, 3, dim=4))
    counted = []
    plain = guarantees._Counting.bounds
    monkeypatch.setattr(guarantees._Counting, "bounds", lambda self, *pair: counted.append(pair) or plain(self, *pair))
    once = guarantee(mask, inputs)
    assert len(counted) == kinds
    monkeypatch.setattr(guarantees._Counting, "kind", lambda self, batch, head: (batch, head))
    assert guarantee(mask, inputs) == once
