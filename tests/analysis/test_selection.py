"""What routes selected, counted a second time from dense tables and pairs."""

from pathlib import Path

import numpy as np
import pytest

import maskdsl
from maskdsl.analysis.counts import selected_pairs as selection
from maskdsl.analysis.counts.selected_pairs import selections
from maskdsl.base.diagnostics import AttnError
from maskdsl.ir.meaning.evaluate import dense
from maskdsl.ir.meaning.route_meaning import with_routes
from maskdsl.ir.meaning.synthetic_inputs import synthetic_inputs

EXAMPLES = Path(__file__).parents[2] / "examples" / "routing"


def found_in(name: str, heads: int = 3, batch: int = 2, **parameters: int):
    mask = maskdsl.load(EXAMPLES / f"{name.removesuffix('_union')}.attn")[name].bind(heads=heads, **parameters).ir
    random = np.random.default_rng(0)
    inputs = synthetic_inputs(mask, 0, batch, dim=8)
    q, k = random.normal(size=(2, batch, heads, mask.queries.length, 8))
    return mask, with_routes(mask, inputs, q, k)


def jaccard(one, other):
    return (one & other).sum() / (one | other).sum()


def test_groups_and_their_load():
    mask, inputs = found_in("moba", n=70, block=16, top=3)
    (past,) = selections(mask, inputs)
    assert (past.name, past.query_groups, past.key_groups) == ("past", 70, 5)
    for head, own in enumerate(past.heads):
        table = inputs["past"][:, head]
        load = table.sum(axis=1)  # of each batch entry
        assert own.share == table.mean()
        assert (own.chosen.least, own.chosen.most, own.chosen.mean) == (0, 2, table.sum(axis=2).mean())
        assert (own.load.least, own.load.most) == (load.min(), load.max())
        assert own.load.mean == pytest.approx(load.mean())
        assert own.load.variation == pytest.approx(load.std() / load.mean())
        assert own.profile == tuple(load[0])
    for one in range(3):
        for other in range(3):
            tables = (inputs["past"][:, head] for head in (one, other))
            assert past.overlap[one][other] == pytest.approx(jaccard(*tables))
    assert past.mean_overlap == pytest.approx((past.overlap[0][1] + past.overlap[0][2] + past.overlap[1][2]) / 3)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("clusters", {"n": 40}), ("routing_transformer_union", {"n": 40, "clusters": 35, "size": 4})],
)
def test_clusters(name, parameters):
    mask, inputs = found_in(name, **parameters)
    (found,) = selections(mask, inputs)
    assert found.query_groups == 40
    assert found.key_groups == inputs["centroids"].shape[1]
    for one in range(3):
        for other in range(3):
            pairs = (np.stack([free(mask, inputs, head, batch) for batch in range(2)]) for head in (one, other))
            assert found.overlap[one][other] == pytest.approx(jaccard(*pairs))
    if name == "clusters":
        numbers = inputs["cluster_queries"][0, 1]
        assert found.heads[1].profile == tuple(np.bincount(numbers, minlength=found.key_groups))
    else:
        assert found.name == "together"
        assert all((own.load.least, own.load.most, own.load.variation) == (4, 4, 0) for own in found.heads)


def free(mask, inputs, head, batch):
    """The pairs of a route, without `causal`."""
    found = dense(mask, head, batch, inputs)
    if mask.name == "clusters":
        return found
    words = zip((0, 31), ("together_0", "together_31"), strict=True)
    pairs = [inputs[f"{word}_queries"][batch, head][:, None] & inputs[f"{word}_keys"][batch, head] for _, word in words]
    return np.any([each != 0 for each in pairs], axis=0)


def test_large_tables_are_compared_at_some_rows(monkeypatch):
    mask, inputs = found_in("moba", n=70, block=16, top=3)
    monkeypatch.setattr(selection, "PAIRS", 50)
    (past,) = selections(mask, inputs)
    rows = inputs["past"][:, :, ::7]
    assert past.overlap[0][2] == pytest.approx(jaccard(rows[:, 0], rows[:, 2]))


def test_nothing_selected_and_one_head():
    mask, inputs = found_in("moba", heads=1, n=20, block=16, top=1)
    (past,) = selections(mask, inputs)
    assert past.heads[0].load == selection.Distribution(0, 0.0, 0, 0.0)
    assert past.mean_overlap is None
    assert past.overlap == ((1.0,),)


CHUNKS = """
pattern chunks(n = 12) {
    space tokens[n]
    input chunk: int[tokens]
    route picked = topk(1, dot(root(q by chunk), root(k by chunk))) where k.chunk < q.chunk
    attend causal and (picked or same(chunk))
}
"""


def test_groups_without_tokens_do_not_count():
    mask = maskdsl.parse(CHUNKS)["chunks"].bind().ir
    chunk = np.array([0, 0, 2, 2, 2, 5, 5, 5, 5, 9, 9, 9])
    inputs = with_routes(mask, {"chunk": chunk}, *np.random.default_rng(0).normal(size=(2, 1, 1, 12, 4)))
    (picked,) = selections(mask, inputs)
    assert (picked.query_groups, picked.key_groups) == (4, 4)
    assert picked.heads[0].chosen.mean == 0.75


BUDGETED = """
pattern budgeted(n = 64, block = 8) {
    space tokens[n]
    input budget: int[heads]
    coord chunk = i // block
    route picked = topk(budget[head], dot(mean(q by chunk), mean(k by chunk))) where k.chunk <= q.chunk
    attend causal and (picked or same(chunk))
}
"""


def test_from_python():
    mask = maskdsl.load(EXAMPLES / "moba.attn")["moba"].bind(n=70, block=16, top=3, heads=3)
    q, k = np.random.default_rng(0).normal(size=(2, 2, 3, 70, 8))
    (past,) = mask.selections(q=q, k=k)
    assert past == selections(mask.ir, with_routes(mask.ir, {}, q, k))[0]
    bounds = mask.guarantee().heads[0]
    assert bounds.least_density <= mask.stats(q=q, k=k).heads[0].density <= bounds.most_density
    with pytest.raises(AttnError, match="E451"):
        mask.selections()
    with pytest.raises(AttnError, match="E407"):
        mask.selections(q=q[:, :, 1:], k=k)
    gated = maskdsl.parse(BUDGETED)["budgeted"].bind(heads=2)
    with pytest.raises(AttnError, match=r"E410.*`budget`"):
        gated.guarantee()
    few, many = gated.guarantee(budget=np.array([1, 4])).heads
    assert few.most_keys == 16 and many.most_keys == 40
