"""Gradients through routed attention against finite differences in float64, away from ties.

Of queries, keys and values in every routing example, of float inputs that only decide (nothing), and of gates and
biases that pairs read once they are selected.
"""

import pytest
import torch

import maskdsl
from maskdsl.ir.ops import Type
from maskdsl.runtime.backends.available import usable_backends
from tests.support.finite_differences import GATED, READ, check_differences, leaves
from tests.support.routing_examples import CASES, EXAMPLES, HEADS, KEY_HEADS

POOLED_OR_FIXED = [
    ("core_context", "core_context", {"n": 37, "group": 4, "size": 9}),
    ("pyramid", "pyramid", {"n": 37, "block": 8, "levels": 3}),
    ("proxy_tokens", "proxy_tokens", {"t": 3, "h": 3, "w": 5, "window_t": 2, "window_h": 2, "window_w": 3}),
]
EXAMPLES_ONCE = {name: (file, name, parameters) for file, name, parameters in (*CASES, *POOLED_OR_FIXED)}


@pytest.mark.thinned(2, "backend", "file")
@pytest.mark.parametrize("backend", usable_backends())
@pytest.mark.parametrize(("file", "name", "parameters"), EXAMPLES_ONCE.values(), ids=EXAMPLES_ONCE)
def test_examples(file, name, parameters, backend):
    mask = maskdsl.load(EXAMPLES / f"{file}.attn")[name].bind(heads=HEADS, key_heads=KEY_HEADS, **parameters)
    given, attention = leaves(mask, 11), mask.compile(backend)
    check_differences(attention, given, ["q", "k", "v"])
    deciding = [given[each.name] for each in mask.inputs if each.type is Type.FLOAT]
    if deciding:
        grads = torch.autograd.grad(attention(**given).sum(), deciding, allow_unused=True, materialize_grads=True)
        assert not any(grad.any() for grad in grads)


@pytest.mark.parametrize("backend", usable_backends())
@pytest.mark.parametrize(("name", "read"), READ.items())
def test_gates_and_biases(name, read, backend):
    mask = maskdsl.parse(GATED)[name].bind(heads=HEADS)
    given, attention = leaves(mask, 3), mask.compile(backend)
    check_differences(attention, given, ["q", "k", "v", *read])
    grads = torch.autograd.grad(attention(**given).square().sum(), [given[each] for each in read])
    assert all(grad.abs().max() > 1e-3 for grad in grads)


@pytest.mark.parametrize("rows", [slice(0, 12), slice(8, 9)], ids=["whole", "one query"])
def test_selections_send_nothing_to_what_they_read_alone(rows: slice) -> None:
    text = """
    pattern p() {
        space tokens[12]
        input turn: float[heads, dim]
        route picked = topk(1, dot(q, k) + dot(q, turn[head]))
        attend picked
    }"""
    q, k, v = (torch.randn(1, 2, 12, 4, dtype=torch.float64) for _ in "qkv")
    turn = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    attention = maskdsl.parse(text)["p"].bind(heads=2).compile("tiled")
    attention(q[:, :, rows], k, v, turn=turn, query_start=rows.start).sum().backward()
    assert turn.grad is not None and not turn.grad.any()
