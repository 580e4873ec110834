"""Masks whose products of vectors are given: those that kernels compute, once a call has computed the products."""

from dataclasses import replace

from maskdsl.ir.expressions import apply
from maskdsl.ir.facts.trace import pair_trace, pooling_trace
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Op
from maskdsl.ir.values.token_vectors import ValueTerm


def with_given_products(mask: MaskIR) -> MaskIR:
    """The mask with products and the results of routes as given inputs, without the inputs that vectors alone read."""
    read = pair_trace(mask, mask.expressions, ordered=True).inputs | pooling_trace(mask.groupings).inputs
    inputs = tuple(each for each in mask.inputs if each.is_coordinate or each.name in read)
    # Keys may come with as many heads as queries.
    whole = None if mask.whole is None else replace(mask.whole, key_heads=None)
    plain = replace(mask, whole=whole, key_value=None, values=())
    return replace(plain, inputs=inputs, routed=(), products=(), pairs=())


def weighed(mask: MaskIR, term: ValueTerm) -> MaskIR:
    """The mask whose weights are multiples of the elements of the term's table: their derivatives are its masses."""
    weight = term.weight if mask.weight is None else apply(Op.MULTIPLY, mask.weight, term.weight)
    return replace(mask, weight=weight, key_value=None, values=())


def unpooled(mask: MaskIR) -> MaskIR:
    """The mask whose pools are given as other tokens are."""
    queries, keys = (
        replace(sequence, spaces=tuple(replace(each, pooling=None) for each in sequence.spaces))
        for sequence in (mask.queries, mask.keys)
    )
    return replace(mask, queries=queries, keys=keys)


def without_products(mask: MaskIR) -> MaskIR:
    """The mask with the relation of this one, and scores that read no products."""
    plain = replace(mask, scores=(), scale=None, key_value=None, values=())
    return replace(plain, inputs=mask.unmultiplied, products=(), pairs=())
