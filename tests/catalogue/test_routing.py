"""Routing examples that are not held against released code yet, against their rules written a second time."""

import numpy as np
import pytest
import torch

import maskdsl
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.mask import MaskIR
from tests.catalogue import routing_oracles as rules
from tests.support.routing_examples import BATCH, CASES, DIM, EXAMPLES, HEADS, KEY_HEADS, tensors

RESTATED = [case for case in CASES if hasattr(rules, case[1])]
IDS = [f"{name}-{number}" for number, (_, name, _) in enumerate(RESTATED)]


def expected(name: str, mask: MaskIR, parameters, q, k, inputs) -> np.ndarray:
    """What the rule of this name finds."""
    rule = getattr(rules, name)
    renamed = {"top_count" if each == "top" else each: value for each, value in parameters.items()}
    entries = []
    for batch in range(BATCH):
        own = {
            each.name: inputs[each.name][batch] if each.dimensions[0].kind is DimensionKind.BATCH else inputs[each.name]
            for each in mask.given
        }
        entries.append(rule(q[batch], k[batch], **renamed, **own))
    return np.stack(entries)


@pytest.mark.parametrize(("file", "name", "parameters"), RESTATED, ids=IDS)
def test_the_same_pairs(file, name, parameters):
    mask = maskdsl.load(EXAMPLES / f"{file}.attn")[name].bind(heads=HEADS, key_heads=KEY_HEADS, **parameters)
    for seed in range(3):
        q, k, _, inputs = tensors(mask.ir, seed)
        wanted = expected(name, mask.ir, parameters, q, k, inputs)
        for batch, head in np.ndindex(BATCH, HEADS):
            np.testing.assert_array_equal(
                mask.dense(head=head, batch=batch, q=q, k=k, **inputs),
                wanted[batch, head],
                f"batch {batch} head {head}",
            )


@pytest.mark.parametrize("backend", ["reference", "tiled"])
@pytest.mark.parametrize(("file", "name", "parameters"), RESTATED, ids=IDS)
def test_outputs_and_gradients(file, name, parameters, backend):
    mask = maskdsl.load(EXAMPLES / f"{file}.attn")[name].bind(heads=HEADS, key_heads=KEY_HEADS, **parameters)
    q, k, v, inputs = tensors(mask.ir, 7)
    wanted = torch.as_tensor(expected(name, mask.ir, parameters, q, k, inputs))
    leaves = [torch.as_tensor(x).requires_grad_() for x in (q, k, v)]
    given = {each: torch.as_tensor(value) for each, value in inputs.items()}
    out = mask.compile(backend)(*leaves, **given)
    grad_out = torch.as_tensor(np.random.default_rng(1).normal(size=out.shape))
    found = [out, *torch.autograd.grad(out, leaves, grad_out)]
    right = plain_attention(*leaves, wanted)
    for one, other in zip(found, [right, *torch.autograd.grad(right, leaves, grad_out)], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def plain_attention(q, k, v, attends):
    """Dense attention over these pairs; zeros for queries without any."""
    k, v = (x.repeat_interleave(HEADS // KEY_HEADS, dim=1) for x in (k, v))
    score = (q @ k.transpose(-1, -2) * DIM**-0.5).masked_fill(~attends, -torch.inf)
    some = attends.any(dim=-1, keepdim=True)
    return torch.where(some, score.masked_fill(~some, 0).softmax(dim=-1), 0) @ v


def test_layers_that_the_caller_chooses():
    stack = maskdsl.load(EXAMPLES / "layer_choice.attn").stack("layer_choice").bind(n=64, size=8, dense=(0, 1, 0))
    assert [mask.name for mask in stack.layers] == ["window_layer", "causal_dense", "window_layer"]
    assert stack.layers[0] is stack.layers[2]
