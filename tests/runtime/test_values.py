"""Inputs of a whole attention as some of its heads take them, and their gradients, by hand."""

import torch

import maskdsl
from maskdsl.ir.declared.inputs import Dimension, DimensionKind, Input
from maskdsl.ir.ops import Type
from maskdsl.runtime.base.input_tensors import as_given, as_value


def test_values_of_the_heads_that_are_here() -> None:
    heads = Dimension(DimensionKind.HEADS, 5, "heads", here=(1, 2))
    declared = Input("heat", Type.FLOAT, (heads, Dimension(DimensionKind.TOKENS, 3, "tokens")))
    given = torch.arange(15.0).view(5, 3)
    value = as_value(declared, given)
    assert value.tolist() == [[[3, 4, 5], [6, 7, 8]]]
    expected = torch.zeros(5, 3)
    expected[1:3] = given[1:3]
    assert torch.equal(as_given(declared, value), expected)


def test_axes_in_any_order_are_those_of_their_gradients() -> None:
    kinds = (DimensionKind.TOKENS, DimensionKind.BATCH, DimensionKind.HEADS)
    declared = Input("heat", Type.FLOAT, tuple(Dimension(kind, None, kind.value) for kind in kinds))
    given = torch.arange(24.0).view(2, 3, 4)
    value = as_value(declared, given)
    assert value.shape == (3, 4, 2) and torch.equal(as_given(declared, value), given)


def test_heads_are_counted_in_the_whole() -> None:
    pattern = maskdsl.parse("pattern p(n = 8) { space tokens[n] attend q - k == head }")["p"]
    whole, part = pattern.bind(heads=4), pattern.bind(heads=4, first_head=2, local_heads=2)
    for head in range(2):
        assert (part.dense(head=head) == whole.dense(head=head + 2)).all()
