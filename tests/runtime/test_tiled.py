"""The tiled backend against the dense reference, forward and backward, in float64."""

import pytest
import torch

from maskdsl.ir.expressions import Constant
from maskdsl.ir.ops import Op
from maskdsl.runtime.compile import compile_mask
from tests.runtime.patterns import apply, both, causal, either, k, mask, tokens, within


def masks(length: int, heads: int):
    near = within(20)
    first = apply(Op.LESS, k("i"), Constant(3))
    return [
        mask(relation, tokens(length), heads=heads)
        for relation in (causal(), near, either(near, first), both(near, causal()))
    ]


@pytest.mark.parametrize("length", [1, 5, 129, 700])
@pytest.mark.parametrize(("heads", "key_heads"), [(1, 1), (4, 2)])
def test_agrees_with_the_reference(length: int, heads: int, key_heads: int) -> None:
    torch.manual_seed(length)
    for each in masks(length, heads):
        query = torch.randn(2, heads, length, 16, dtype=torch.float64, requires_grad=True)
        key, value = (torch.randn(2, key_heads, length, 16, dtype=torch.float64, requires_grad=True) for _ in range(2))
        found = compile_mask(each, backend="tiled")(query, key, value)
        expected = compile_mask(each, backend="reference")(query, key, value)
        torch.testing.assert_close(found, expected)
        gradient = torch.randn_like(found)
        torch.testing.assert_close(
            torch.autograd.grad(found, (query, key, value), gradient),
            torch.autograd.grad(expected, (query, key, value), gradient),
        )
