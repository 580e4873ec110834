"""Dropout as a weight: a pair is kept by a pseudo-random number of its own, and divided by the chance to be kept.

What differs from call to call is in three inputs, so that one mask serves all rates and seeds.
"""

from dataclasses import replace

from maskdsl.ir.declared.inputs import Input
from maskdsl.ir.expressions import PAIR, Batch, Constant, Coordinate, Expression, Head, Read, apply
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Op, Type

SEED, BELOW, FACTOR = "dropout seed", "dropout below", "dropout factor"
DROPOUT_INPUTS = (SEED, BELOW, FACTOR)
"""The seed; the largest number, below 2**31, by which a pair is dropped; and the factor of the pairs that are kept.

No pattern can declare these names.
"""
_TYPES = {SEED: Type.INT, BELOW: Type.INT, FACTOR: Type.FLOAT}


def with_dropout(mask: MaskIR) -> MaskIR:
    """The mask that drops pairs, by declared positions and by heads of the whole attention; also in each branch."""
    computed = tuple(each for each in mask.inputs if each not in mask.given)
    weight = Constant(1.0) if mask.weight is None else mask.weight
    return replace(
        mask,
        inputs=(*mask.given, *(Input(name, kind, ()) for name, kind in _TYPES.items()), *computed),
        weight=apply(Op.SELECT, _is_kept(mask), apply(Op.MULTIPLY, weight, _read(FACTOR)), Constant(0.0)),
        branches=tuple(map(with_dropout, mask.branches)),
    )


def _is_kept(mask: MaskIR) -> Expression:
    head: Expression = Head()
    if mask.here.start:
        head = apply(Op.ADD, head, Constant(mask.here.start))
    query, key = (Coordinate(side, "i") for side in PAIR)
    return apply(Op.LESS, _read(BELOW), apply(Op.RANDOM, _read(SEED), Batch(), head, query, key))


def _read(name: str) -> Expression:
    return Read(name, (), _TYPES[name])
