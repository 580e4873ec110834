"""Stacks whose layers have routes: bound, measured, followed and computed as each layer is alone."""

import numpy as np
import pytest
import torch

import maskdsl
from maskdsl.base.diagnostics import AttnError

TEXT = """
pattern near(n) {
    space tokens[n]
    attend backward(3)
}

pattern moba(n, block, top) {
    space tokens[n]
    coord chunk = i // block
    route picked = topk(top, dot(q, mean(k by chunk))) where k.chunk < q.chunk
    attend causal and (picked or same(chunk))
}

pattern clusters(n) {
    space tokens[n]
    input centroids: float[heads, 3, dim]
    route picked = nearest(centroids)
    attend picked
    order by picked
}

pattern ranked(n) {
    space tokens[n]
    input worth: float[heads, tokens]
    coord place = rank(worth)
    route best = topk(2, dot(mean(q by chunk), mean(k by chunk)))
    coord chunk = place // 4
    attend best
}

stack deep(n = 20) = 2 * moba(n, 4, 1) + clusters(n) + moba(n, 5, 2) + ranked(n) + near(n)
"""


@pytest.fixture
def stack():
    return maskdsl.parse(TEXT).stack("deep").bind(heads=2)


@pytest.fixture
def given():
    random = np.random.default_rng(0)
    q, k = random.normal(size=(2, 1, 2, 20, 8))
    return {"q": q, "k": k, "centroids": random.normal(size=(2, 3, 8)), "worth": random.normal(size=(2, 20))}


def own(mask, given):
    """What one layer takes of what all take."""
    names = {each.name for each in mask.inputs} | ({"q", "k"} if mask.ir.routed else set())
    return {name: value for name, value in given.items() if name in names}


def test_layers_with_routes(stack, given):
    assert [mask.name for mask in stack.layers] == ["moba", "moba", "clusters", "moba", "ranked", "near"]
    assert stack.layers[0] is stack.layers[1] and len(stack.different) == 5
    assert [each.name for each in stack.inputs] == ["centroids", "worth"]


def test_figures_and_field_are_those_of_the_layers(stack, given):
    found = stack.stats(block=(4, 4), **given)
    alone = [mask.stats(block=(4, 4), **own(mask, given)) for mask in stack.different]
    assert [each.total.attended for each in found.different] == [each.total.attended for each in alone]
    assert found.total.attended == sum(alone[number].total.attended for number in stack.ir.index)
    assert stack.predict("H100", **given).forward_seconds > 0

    pairs = [mask.dense(head=0, **own(mask, given)) | mask.dense(head=1, **own(mask, given)) for mask in stack.layers]
    counts = []
    for layers in range(7):
        reached = np.arange(20) == 11
        for attends in reversed(pairs[:layers]):
            reached = reached | attends[reached].any(axis=0)
        counts.append(int(reached.sum()))
    draws = stack.field(token=11, **given).draws
    assert [draws.count(layers) for layers in range(7)] == [(count, count) for count in counts]


def test_a_pattern_again_and_again(stack, given):
    mask = stack.layers[0]
    vectors = own(mask, given)
    draws = mask.field(token=19, **vectors).draws
    assert draws.count(1)[0] == (mask.dense(head=0, **vectors) | mask.dense(head=1, **vectors))[19].sum()
    selected = np.zeros((1, 2, 20, 5), dtype=bool)
    assert mask.field(token=19, picked=selected).draws.count(1)[0] == 4  # its own block


def test_an_input_of_the_name_of_another_layers_route(given):
    text = """
    pattern given(n) {
        space tokens[n]
        input picked: float[heads, tokens]
        attend k.picked > 0.0
    }
    stack both(n = 20) = given(n) + moba(n, 4, 1)
    """
    stack = maskdsl.parse(TEXT + text).stack("both").bind(heads=2)
    found = stack.stats(q=given["q"], k=given["k"], picked=given["worth"]).different
    assert found[0].total.attended == 20 * (given["worth"] > 0).sum()
    assert found[1].total.attended == stack.layers[1].stats(q=given["q"], k=given["k"]).total.attended


def test_outputs(stack, given):
    """One layer behind the other, each finding pairs in vectors of its own."""
    random = np.random.default_rng(1)
    x = torch.as_tensor(random.normal(size=(2, 2, 20, 8)))
    inputs = {name: torch.as_tensor(given[name]) for name in ("centroids", "worth")}
    for attention, mask in zip(stack.compile("tiled"), stack.layers, strict=True):
        here = {name: value for name, value in inputs.items() if name in own(mask, given)}
        vectors = {"q": x.numpy(), "k": x.numpy()} if mask.ir.routed else {}
        pairs = [
            mask.dense(head=head, batch=batch, **vectors, **{name: value.numpy() for name, value in here.items()})
            for batch, head in np.ndindex(2, 2)
        ]
        allowed = torch.as_tensor(np.stack(pairs)).view(2, 2, 20, 20)
        score = (x @ x.mT * 8**-0.5).masked_fill(~allowed, -torch.inf)
        expected = score.softmax(dim=-1).nan_to_num(0.0) @ x
        x = attention(x, x, x, **here)
        torch.testing.assert_close(x, expected, rtol=1e-10, atol=1e-10)


def test_given_scores_need_no_vectors():
    text = """
    pattern gated(n) {
        space tokens[n]
        input gate: float[batch, heads, 5, 5]
        coord chunk = i // 4
        route picked = topk(2, gate[batch, head, q.chunk, k.chunk])
        attend picked
    }
    stack twice(n = 20) = 2 * gated(n)
    """
    module = maskdsl.parse(text)
    gate = np.random.default_rng(0).normal(size=(3, 2, 5, 5))
    found = module["gated"].bind(n=20, heads=2).stats(gate=gate).total.attended
    assert found == 3 * 2 * 20 * 8
    assert module.stack("twice").bind(heads=2).stats(gate=gate).total.attended == 2 * found


def test_what_is_missing_or_unfit(stack, given):
    with pytest.raises(AttnError, match="E451"):
        stack.stats(**{name: value for name, value in given.items() if name != "k"})
    with pytest.raises(AttnError, match="E410"):
        stack.stats(**{name: value for name, value in given.items() if name != "centroids"})
    with pytest.raises(AttnError, match="E407"):
        stack.stats(**given | {"q": given["q"][:, :, 1:]})
    plain = maskdsl.parse(TEXT + "stack plain() = 2 * near(20)").stack("plain").bind(heads=2)
    with pytest.raises(AttnError, match="`q`"):
        plain.stats(q=given["q"])
