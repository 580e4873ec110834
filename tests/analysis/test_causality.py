"""Whether later tokens change what earlier queries select and get: what is derived, against the dense meaning."""

from pathlib import Path

import numpy as np
import pytest

import maskdsl
from maskdsl.analysis.causal.causality import causality
from maskdsl.base.diagnostics import AttnError
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.expressions import Side
from maskdsl.ir.meaning.evaluate import attention
from maskdsl.ir.meaning.route_meaning import RouteSearch, with_routes
from maskdsl.ir.meaning.synthetic_inputs import synthetic_inputs
from maskdsl.ir.ops import Type
from maskdsl.ir.routes import Route

FILES = [Path(__file__).parent / "routes.attn", *sorted((Path(__file__).parents[2] / "examples").glob("*/*.attn"))]
SMALL = {"n": 45, "h": 5, "w": 9, "t": 3, "block": 8, "segment": 16, "size": 6, "regions": 2, "top": 2, "stride": 4}
SMALL |= {"columns": 3, "diagonals": 3, "kept": 10, "recent": 3, "mass": 0.3}
PATTERNS = [
    (path.parent.name, path.name, name)
    for path in FILES
    for name, pattern in maskdsl.load(path).items()
    if "    route " in pattern.declaration.span.text
]
CUTS = (4, 11, 18, 30)


def small(folder, file, name):
    path = next(each for each in FILES if (each.parent.name, each.name) == (folder, file))
    pattern = maskdsl.load(path)[name]
    return pattern.bind(heads=2, **{each: SMALL[each] for each in pattern.parameters if each in SMALL}).ir


def changed(mask, inputs, tensors, cut, random):
    """The tensors and the inputs with all that belongs to tokens behind the cut drawn anew."""
    tensors = [np.where((np.arange(x.shape[2]) > cut)[:, None], random.normal(size=x.shape), x) for x in tensors]
    inputs = {name: np.array(values) for name, values in inputs.items()}
    for declared in mask.given:
        for axis, dimension in enumerate(declared.dimensions):
            if dimension.kind is DimensionKind.TOKENS and declared.type is Type.FLOAT:
                values = inputs[declared.name]
                later = (slice(None),) * axis + (slice(cut + 1, None),)
                values[later] = random.normal(size=values[later].shape)
    return inputs, tensors


def rows(mask, inputs, q, k, v, cut):
    """What queries up to the cut select by each route, and what they get."""
    found = {}
    for part in mask.branches or (mask,):
        selected = with_routes(part, inputs, q, k)
        for route in (each for each in part.routed if isinstance(each, Route)):
            groups, tokens = RouteSearch(part, inputs, None, None, 0, 0).having(Side.QUERY, route.queries)
            table = np.moveaxis(selected[route.name], -2, 0)
            found[route.name] = table[np.unique(groups[tokens <= cut])]
    return found, attention(mask, q, k, v, inputs)[0][:, :, : cut + 1]


def differences(mask, inputs, seed):
    """The names of routes whose rows of earlier queries change, and of the pattern, if its output does."""
    random = np.random.default_rng(seed)
    sizes = [mask.queries.given_length, *[mask.keys.given_length] * 2]
    tensors = [random.normal(size=(1, 2, each, 8)) for each in sizes]
    found = set()
    for cut in CUTS:
        before, out = rows(mask, inputs, *tensors, cut)
        others, later = changed(mask, inputs, tensors, cut, random)
        after, other = rows(mask, others, *later, cut)
        found |= {name for name, table in before.items() if not np.array_equal(table, after[name])}
        if not np.allclose(out, other, atol=1e-9, equal_nan=True):
            found.add("all")
    return found


@pytest.mark.thinned(2, "name")
@pytest.mark.parametrize(("folder", "file", "name"), PATTERNS)
def test_what_is_said_of_later_tokens_is_so(folder: str, file: str, name: str) -> None:
    mask = small(folder, file, name)
    inputs = synthetic_inputs(mask, 0, dim=8)
    said = {"all" if each.whole else each.name: each for each in causality(mask, inputs)}
    seen = set().union(*(differences(mask, inputs, seed) for seed in range(2)))
    tables = {each.name for part in mask.branches or (mask,) for each in part.routed if isinstance(each, Route)}
    for route in {*tables, "all"} & said.keys():
        if said[route].holds:
            assert route not in seen, route
        elif said[route].certain and folder == "analysis":  # at sizes at which random tokens show it
            assert route in seen, said[route]
    unread = {each.name for each in causality(mask) if each.holds}
    assert unread <= {each.name for each in said.values() if each.holds}, "inputs only add what is known"


CAUSAL = {"infllm", "quest", "dsa", "nosa"}


def test_of_the_algebra_these_are_causal() -> None:
    module = maskdsl.load(FILES[0])
    assert {name for name, each in module.items() if causality(each.bind(heads=2).ir)[-1].holds} == CAUSAL


TEXT = """pattern p(n = 37, block = 8) {
    space tokens[n]
    coord chunk = i // block
    input worth: float[batch, tokens]
    %s
    attend causal and picked
    assert causal(picked), "selected in time"
    assert causal(all), "all in time"
}"""
CLAIMS = {
    "route picked = topk(2, dot(q, mean(k by chunk))) where k.chunk < q.chunk": "",
    "route picked = topk(2, dot(q, mean(k by chunk))) where k.chunk <= q.chunk": "token 7",
    "route picked = topk(2, dot(q, mean(k by chunk))) where k.chunk <= q.chunk always same(chunk)": "",
    "route picked = topp(0.5, dot(q, mean(k by chunk))) where k.chunk <= q.chunk always same(chunk)": "token 7",
    "route picked = topk(2, dot(q, mean(k where i % block < 3 by chunk))) where k.chunk * block + 2 <= q": "",
    "route picked = topk(2, dot(q, mean(k where i % block < 3 by chunk))) where k.chunk * block + 1 <= q": "token 2",
    "route picked = topk(2, max(dot(q, mean(k by chunk, span = 2)) by k.chunk)) where k.chunk + 1 < q.chunk": "",
    "route picked = topk(2, max(dot(q, mean(k by chunk, span = 2)) by k.chunk)) where k.chunk < q.chunk": "token 15",
    "route picked = topk(2, dot(mean(q by chunk), mean(k by chunk))) where k.chunk < q.chunk": "token 7",
    "route picked = topk(2, dot(q, k)) where causal": "",
    "route picked = topk(2, dot(q, k) + softmax(dot(q, k))) where causal": "",
    "route picked = topk(2, softmax(dot(q, k), per = head)) where causal": "query 0 selects by `picked` depends on",
    "route picked = topk(20, dot(q, k), per = head) where causal": "query 0 selects by `picked` depends on",
    "route picked = topk(2, max(dot(q, k) by k.chunk)) where causal": "",
    "route picked = topk(2, max(dot(q, k) by k.chunk)) where k.chunk <= q.chunk": "token 1",
    "route picked = topk(2, max(dot(q, k) by k.chunk)) where k.chunk <= q.chunk always same(chunk)": "",
    "route picked = topk(2, max(dot(q, k) by (q.chunk, k.chunk))) where causal": "token 1",
    "route picked = topk(2, worth[batch, k])": "query 0 selects by `picked` depends on token 1",
    "route picked = topk(2, worth[batch, k]) where causal": "",
    "route picked = topk(2, worth[batch, k] + dot(q, q)) where causal": "",
    "route one = topk(3, dot(q, k))\n    route picked = topk(2, dot(q, k)) where causal and one": "`one` depends",
    "route one = topk(3, dot(q, k)) where causal\n    route picked = topk(2, dot(q, k)) where causal and not one": "",
}


@pytest.mark.parametrize("route", CLAIMS)
def test_asserts_hold_or_say_why_not(route: str) -> None:
    pattern = maskdsl.parse(TEXT % route)["p"]
    if not CLAIMS[route]:
        assert pattern.bind(heads=2).guarantee().causality[-1].holds
        return
    with pytest.raises(AttnError) as raised:
        pattern.bind(heads=2)
    assert [each.code for each in raised.value.diagnostics] == ["E381"] * 2
    assert str(raised.value).count(CLAIMS[route]) == 2, str(raised.value)


def test_long_patterns_take_no_time_for_all_pairs() -> None:
    (best, whole) = causality(maskdsl.load(FILES[0])["dsa"].bind(n=1 << 17).ir)
    assert best.holds and whole.holds
