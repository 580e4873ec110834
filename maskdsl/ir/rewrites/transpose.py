"""One softmax for each key as one for each query: the mask in which queries and keys have changed places.

With P the probabilities of a mask that has `normalize softmax by k`, its output is P v. In the transposed mask P^T is a
softmax by query, and P^T u is ordinary attention over values u. Then P v is the gradient of <v, P^T u> by u. All other
gradients follow from that attention too: `runtime/kernels/key_softmax.py`.
"""

from dataclasses import replace

from maskdsl.ir.declared.sequences import Sequence
from maskdsl.ir.expressions import Coordinate, Expression, InSpace, Side, apply, rebuild
from maskdsl.ir.mask import MaskIR, Normalize
from maskdsl.ir.ops import Op

_OTHER = {Side.QUERY: Side.KEY, Side.KEY: Side.QUERY}


def transposed(mask: MaskIR) -> MaskIR:
    """The mask of the pairs (k, q), with a softmax for each of its queries. A factor of the others is one of weights.

    Results of routes become given inputs, and pooled tokens are given.
    """
    factors = [each for each in (mask.weight, mask.factor) if each is not None]
    weight = apply(Op.MULTIPLY, *factors) if len(factors) == 2 else (*factors, None)[0]
    plain = replace(mask, routed=(), weight=weight, factor=None)
    moved = plain.mapped(lambda expression: rebuild(expression, _other_side))
    return replace(
        moved,
        queries=_given(mask.keys),
        keys=_given(mask.queries),
        normalize=Normalize.BY_QUERY,
    )


def _other_side(node: Expression) -> Expression | None:
    if isinstance(node, Coordinate | InSpace) and node.side in _OTHER:
        return replace(node, side=_OTHER[node.side])
    return None


def _given(sequence: Sequence) -> Sequence:
    return replace(sequence, spaces=tuple(replace(space, pooling=None) for space in sequence.spaces))
