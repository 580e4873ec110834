"""One softmax for each key as one for each query: the mask in which queries and keys have changed places.

With P the probabilities of a mask that has `normalize softmax by k`, its output is P v. In the transposed mask P^T is a
softmax by query, whose log-sum-exps make P of scores: P v is attention without a softmax. All gradients are those of
P^T u, as P v is the gradient of <v, P^T u> by u: `runtime/kernels/key_softmax.py`.
"""

from dataclasses import replace

from maskdsl.ir.declared.inputs import Dimension, DimensionKind, Input
from maskdsl.ir.declared.sequences import CoordinateDefinition, Given, Sequence
from maskdsl.ir.expressions import Coordinate, Expression, InSpace, Score, Side, apply, rebuild
from maskdsl.ir.mask import MaskIR, Normalize
from maskdsl.ir.ops import Op, Type

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


_SUMS, _REST = "log of sum", "rest of sum"
"""The inputs that hold the log-sum-exp of each key, in two numbers that are subtracted one after the other.

A large one has lost low bits of the logarithm. No pattern can declare these names.
"""


def without_softmax(mask: MaskIR) -> MaskIR:
    """The mask that makes probabilities of scores by the sums of keys, its last two inputs. Pools are given."""
    sums, rest = (Coordinate(Side.KEY, name, Type.FLOAT) for name in (_SUMS, _REST))
    p = apply(Op.EXPONENTIAL, apply(Op.SUBTRACT, apply(Op.SUBTRACT, Score(), sums), rest))
    plain = replace(mask, queries=_given(mask.queries), keys=_given(mask.keys), routed=(), normalize=Normalize.NONE)
    return _with_numbers(replace(plain, scores=(*mask.scores, p)), Side.KEY, _SUMS, _REST)


def less_sums(mask: MaskIR) -> MaskIR:
    """The transposed mask with scores less the sums of its queries, its last input: its own sums are what remains."""
    plain = transposed(mask)
    shifted = apply(Op.SUBTRACT, Score(), Coordinate(Side.QUERY, _SUMS, Type.FLOAT))
    return _with_numbers(replace(plain, scores=(*plain.scores, shifted)), Side.QUERY, _SUMS)


def _with_numbers(mask: MaskIR, side: Side, *names: str) -> MaskIR:
    """The mask with further inputs at the end: a float of each token of a side, in each head and batch entry."""
    tokens = mask.sequences[side]
    sizes = (DimensionKind.BATCH, None), (DimensionKind.HEADS, mask.heads), (DimensionKind.TOKENS, tokens.length)
    texts = "batch", "heads", side.plural
    dimensions = tuple(Dimension(*size, text) for size, text in zip(sizes, texts, strict=True))
    given = (CoordinateDefinition(name, Type.FLOAT, _sources(tokens, name)) for name in names)
    changed = replace(tokens, coordinates=(*tokens.coordinates, *given))
    inputs = (*mask.inputs, *(Input(name, Type.FLOAT, dimensions) for name in names))
    queries, keys = (changed, mask.keys) if side is Side.QUERY else (mask.queries, changed)
    return replace(mask, queries=queries, keys=keys, inputs=inputs, self_attention=False)


def _sources(tokens: Sequence, name: str) -> tuple[tuple[str, Given], ...]:
    return tuple((space.name, Given(name)) for space in tokens.spaces)


def _other_side(node: Expression) -> Expression | None:
    if isinstance(node, Coordinate | InSpace) and node.side in _OTHER:
        return replace(node, side=_OTHER[node.side])
    return None


def _given(sequence: Sequence) -> Sequence:
    return replace(sequence, spaces=tuple(replace(space, pooling=None) for space in sequence.spaces))
