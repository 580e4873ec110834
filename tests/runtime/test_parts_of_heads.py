"""Some heads of an attention give what they give among all: with their tiles, their outputs, and all gradients."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import maskdsl
from maskdsl.base.diagnostics import AttnError
from maskdsl.emit.plan import make_plan
from maskdsl.runtime.attention import Attention
from maskdsl.runtime.backends.available import usable_backends
from maskdsl.runtime.compiled.compiled_mask import Bound
from tests.support.drawn import examples
from tests.support.properties import assert_close, calls, run
from tests.support.routed_parts import MODULE

ROUTING = Path(__file__).parents[2] / "examples" / "routing"
BY_HEAD = (
    "pattern p(n = 24) {\n    space tokens[n]\n    attend causal if head < heads // 2 else causal and backward(8)\n}\n"
)


def part_of(pattern, whole: int, first: int, count: int, key_heads: int | None = None) -> maskdsl.Mask:
    module = maskdsl.parse(pattern.text)["random_pattern"]
    return module.bind(heads=whole, key_heads=key_heads, first_head=first, local_heads=count)


@settings(max_examples=examples(20))
@given(calls(heads=4), st.sampled_from([(0, 2), (2, 2), (1, 1), (3, 1), (0, 4)]), st.sampled_from(usable_backends()))
def test_parts_are_what_they_are_in_the_whole(call, heads, backend):
    case, q, k, v = call
    first, count = heads
    here = slice(first, first + count)
    mask = part_of(case.pattern, 4, first, count)
    part = replace(case, mask=mask.ir)
    np.testing.assert_array_equal(part.dense, case.dense[:, here])
    tiles = mask.tiles(case.block, **case.inputs)
    whole = case.pattern.bind().tiles(case.block, **case.inputs)
    for head in range(count):
        np.testing.assert_array_equal(tiles.classes(head), whole.classes(first + head))
    k, v = (np.repeat(x, 4 // x.shape[1], axis=1) for x in (k, v))  # so that each part has keys of its own
    expected = run(case, backend, q, k, v, seed=0)
    results = {}
    for start in range(0, 4, count) if count != 1 else range(4):
        own = replace(case, mask=part_of(case.pattern, 4, start, count).ir)
        results[start] = run_part(own, backend, expected, q, k, v, slice(start, start + count))
    for start, found in results.items():
        chosen = slice(start, start + count)
        assert_close(found[0], expected.out[:, chosen], "output")
        for one, other in zip(found[1][:3], expected.gradients[:3], strict=True):
            assert_close(one, other[:, chosen], "gradient of q, k or v")
    for number in range(3, len(expected.gradients)):  # inputs serve all heads: their gradients add up
        total = sum(found[1][number] for found in results.values())
        assert_close(total, expected.gradients[number], "gradient of an input")


def run_part(case, backend, expected, q, k, v, heads):
    """The output and the gradients along the direction that `run` takes for the whole."""
    attention = Attention(Bound(make_plan(case.mask, *case.block), backend, checks_reads=True))
    tensors = [torch.tensor(x[:, heads], requires_grad=True) for x in (q, k, v)]
    inputs = {name: torch.tensor(value, requires_grad=value.dtype == np.float64) for name, value in case.inputs.items()}
    out, lse = attention(*tensors, return_lse=True, **inputs)
    random = np.random.default_rng(0)
    along = [torch.tensor(random.normal(size=x.shape)[:, heads]) for x in (expected.out, expected.lse)]
    loss = (out * along[0]).sum() + (lse * along[1])[lse.detach().isfinite()].sum()
    if loss.requires_grad:
        loss.backward()
    sources = [*tensors, *(x for x in inputs.values() if x.requires_grad)]
    return out.detach().numpy(), [np.zeros(x.shape) if x.grad is None else x.grad.numpy() for x in sources]


@settings(max_examples=examples(10))
@given(calls(heads=4), st.integers(0, 3), st.integers(0, 99))
def test_parts_decode_and_pack_as_the_whole_does(call, first, seed):
    case, q, k, v = call
    k, v = (np.repeat(x, 4 // x.shape[1], axis=1) for x in (k, v))
    inputs = {name: torch.tensor(value) for name, value in case.inputs.items()}
    start = seed % q.shape[2]
    whole, part = (mask.compile() for mask in (case.pattern.bind(), part_of(case.pattern, 4, first, 1)))
    tensors = [torch.tensor(x) for x in (q[:, :, start : start + 3], k, v)]
    expected = whole(*tensors, query_start=start, **inputs)
    found = part(*(x[:, first : first + 1] for x in tensors), query_start=start, **inputs)
    assert_close(found.numpy(), expected[:, first : first + 1].numpy(), "some queries")


ROUTED = [
    ("moba", {"n": 40, "block": 8, "top": 2}, 4, 2),
    ("sharing", {"n": 40}, 4, 2),
    ("routing_transformer_union", {"n": 40}, 4, 4),
    ("clusters", {"n": 40}, 4, 4),
    ("seer", {"n": 40}, 4, 4),
]


@pytest.mark.parametrize(("name", "values", "heads", "key_heads"), ROUTED, ids=[each[0] for each in ROUTED])
def test_routes_of_some_heads_select_what_they_select_among_all(name, values, heads, key_heads):
    module = MODULE if name == "sharing" else maskdsl.load(ROUTING / f"{name.removesuffix('_union')}.attn")
    pattern = module[name]
    values = {each: value for each, value in values.items() if each in pattern.parameters}
    whole = pattern.bind(heads=heads, **values)
    torch.manual_seed(3)
    q, k, v = (torch.randn(2, each, 40, 8, dtype=torch.float64) for each in (heads, key_heads, key_heads))
    inputs = {each.name: given_input(each, 2, 8) for each in whole.inputs}
    expected = whole.compile()(q, k, v, **inputs)
    first, count = heads // 2, heads // 2
    part = pattern.bind(heads=heads, key_heads=key_heads, first_head=first, local_heads=count, **values)
    own = slice(key_heads // 2, key_heads)
    for backend in usable_backends():
        found = part.compile(backend)(q[:, first:], k[:, own], v[:, own], **inputs)
        torch.testing.assert_close(found, expected[:, first:], rtol=0, atol=1e-12)
    attended = [part.dense(head, 1, q=q[:, first:], k=k[:, own], **inputs) for head in range(count)]
    of_whole = [whole.dense(first + head, 1, q=q, k=k, **inputs) for head in range(count)]
    np.testing.assert_array_equal(attended, of_whole)
    if name == "routing_transformer_union":  # whose queries choose together
        return
    rows = part.compile()(q[:, first:, 30:], k[:, own], v[:, own], query_start=30, **inputs)
    torch.testing.assert_close(rows, expected[:, first:, 30:], rtol=0, atol=1e-12)


def given_input(declared, batch: int, dim: int) -> torch.Tensor:
    lengths = {"batch": batch, "dim": dim, "free": 3}
    shape = [each.size or lengths[each.kind] for each in declared.dimensions]
    if declared.type == "float":
        return torch.randn(*shape, dtype=torch.float64)
    return torch.randint(0, 4, shape) if declared.type == "int" else torch.rand(*shape) < 0.5


def test_a_mask_of_some_heads_stays_one_in_another_order_and_when_it_follows():
    pattern = maskdsl.parse(BY_HEAD)["p"]
    part = pattern.bind(heads=4, first_head=2, local_heads=2)
    ordered = part.with_order("tokens by -i")
    np.testing.assert_array_equal(ordered.dense(0), part.dense(0))
    assert ordered.heads == 2 and pattern.bind(heads=4).dense(2).sum() == part.dense(0).sum()
    following = pattern.compile(heads=4, first_head=2, local_heads=2)
    q = torch.randn(1, 2, 24, 8)
    torch.testing.assert_close(following(q, q, q), part.compile()(q, q, q))
    compiled = torch.compile(following, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(q, q, q), part.compile()(q, q, q))


def test_layers_of_stacks_have_the_same_heads():
    stack = maskdsl.parse(BY_HEAD + "stack twice(n = 24) = 2 * p(n)\n").stack("twice")
    layers = stack.bind(heads=4, first_head=2, local_heads=2)
    np.testing.assert_array_equal(layers.layers[0].dense(1), maskdsl.parse(BY_HEAD)["p"].bind(heads=4).dense(3))


REFUSED = [
    ({"heads": 4, "first_head": 4, "local_heads": 1}, "E340"),
    ({"heads": 4, "first_head": 3, "local_heads": 2}, "E342"),
    ({"heads": 4, "local_heads": 0}, "E340"),
    ({"heads": 4, "local_heads": 2.0}, "E460"),
    ({"heads": 4, "first_head": True}, "E460"),
    ({"heads": 4, "first_head": -1}, "E340"),
    ({"heads": 4, "key_heads": 3}, "E341"),
    ({"heads": 4, "key_heads": 8}, "E340"),
    ({"heads": 8, "key_heads": 2, "first_head": 2, "local_heads": 4}, "E343"),
    ({"heads": 8, "key_heads": 2, "first_head": 1, "local_heads": 2}, "E343"),
]


@pytest.mark.parametrize(("given", "code"), REFUSED)
def test_heads_that_there_are_not(given, code):
    with pytest.raises(AttnError) as caught:
        maskdsl.parse(BY_HEAD)["p"].bind(**given)
    assert [each.code for each in caught.value.diagnostics] == [code]


def test_another_number_of_key_heads_is_an_error():
    mask = maskdsl.parse(BY_HEAD)["p"].bind(heads=8, key_heads=2, first_head=4, local_heads=4)
    q, k = torch.randn(1, 4, 24, 8), torch.randn(1, 2, 24, 8)
    attention = mask.compile()
    attention(q, k[:, :1], k[:, :1])
    for call in ({}, {"query_start": 0}):
        with pytest.raises(AttnError, match="E490"):
            attention(q, k, k, **call)
    shared = maskdsl.parse(BY_HEAD)["p"].bind(heads=8, key_heads=2, first_head=6, local_heads=2).compile()
    shared(q[:, :2], k[:, :1], k[:, :1])  # two processes share a key head


@pytest.mark.parametrize("given", [{}, {"key_heads": 1}])
def test_heads_that_are_pooled_together_stay_together(given):
    with pytest.raises(AttnError, match="E344"):
        MODULE["sharing"].bind(heads=4, first_head=2, local_heads=2, **given)
