"""What routes may find, against what they find."""

from pathlib import Path

import numpy as np
import pytest

import maskdsl
from maskdsl.ir.facts.route_candidates import least, most, selects
from maskdsl.ir.invariants import verify
from maskdsl.ir.meaning.evaluate import dense
from maskdsl.ir.meaning.route_meaning import with_routes
from maskdsl.ir.meaning.synthetic_inputs import synthetic_inputs

EXAMPLES = Path(__file__).parents[2] / "examples" / "routing"
PATTERNS = [
    (path.stem, name)
    for path in sorted(EXAMPLES.glob("*.attn"))
    for name, pattern in maskdsl.load(path).items()
    if path.stem != "vmoba" and selects(pattern.bind().ir)
]


@pytest.mark.parametrize(("file", "name"), PATTERNS)
def test_every_selection_is_between_the_bounds(file: str, name: str) -> None:
    pattern = maskdsl.load(EXAMPLES / f"{file}.attn")[name]
    small = {"n": 40, "t": 1, "h": 5, "w": 8, "block": 8, "segment": 16, "size": 5, "regions": 2, "top": 2, "stride": 4}
    chosen = {each: small[each] for each in pattern.parameters if each in small}
    mask = pattern.bind(heads=2, **chosen).ir
    inputs = synthetic_inputs(mask, 0, dim=8)
    random = np.random.default_rng(1)
    q, k = (random.normal(size=(1, 2, side.given_length, 8)) for side in (mask.queries, mask.keys))
    bounds = least(mask), most(mask)
    for each in bounds:
        verify(each)
        assert not selects(each)
    ranked = with_routes(mask, inputs)
    low, high = (dense(each, 0, 0, ranked) for each in bounds)
    found = dense(mask, 0, 0, with_routes(mask, inputs, q, k))
    assert not (low & ~found).any()
    assert not (found & ~high).any()
    assert high.sum() > low.sum()


def test_what_is_denied_is_bounded_the_other_way_round() -> None:
    text = """pattern p(n = 32) {
        space tokens[n]
        coord chunk = i // 8
        route past = topk(1, dot(q, mean(k by chunk))) where k.chunk < q.chunk
        attend not past and q.chunk != 1
        attend same(chunk) if past else k == 0
    }"""
    mask = maskdsl.parse(text)["p"].bind().ir
    random = np.random.default_rng(1)
    found = dense(mask, inputs=with_routes(mask, {}, *random.normal(size=(2, 1, 1, 32, 8))))
    low, high = dense(least(mask)), dense(most(mask))
    assert not (low & ~found).any()
    assert not (found & ~high).any()
    assert low.any()


@pytest.mark.parametrize(
    "worth", ["score s + float(q.near)", "weight 2.0 if past else 0.5", "scale 2.0 if past else float(k.near)"]
)
def test_what_is_found_may_say_what_pairs_are_worth(worth: str) -> None:
    text = f"""pattern p(n = 32) {{
        space tokens[n]
        input centroids: float[heads, 3, dim]
        coord chunk = i // 8
        route near = nearest(centroids)
        route past = topk(1, dot(q, mean(k by chunk)))
        attend near or past
        {worth}
    }}"""
    mask = maskdsl.parse(text)["p"].bind().ir
    for each in (least(mask), most(mask)):
        verify(each)
