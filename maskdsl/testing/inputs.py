"""Draws arrays that fit a mask: its inputs, and queries, keys and values."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from maskdsl.ir.declared.inputs import DimensionKind, Input
from maskdsl.ir.expressions import Apply, Coordinate, Expression, Read, Score
from maskdsl.ir.facts.trace import pair_trace
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.inputs import relation_inputs
from maskdsl.ir.meaning.synthetic_inputs import entries_of, made_up_list, shape_of
from maskdsl.ir.ops import Op, Type

Array = NDArray[Any]

_SEEDS = st.integers(0, 2**32 - 1)
_EXTREMES = (-(2**31), 2**31 - 1)
LEAST = float(np.finfo(np.float32).min)
"""The least number of float32. Twice this number is minus infinity in float32, but finite in float64."""


@st.composite
def inputs_for(draw: st.DrawFn, mask: MaskIR, batch: int = 1, extremes: bool = True, dim: int = 4) -> dict[str, Array]:
    """An array for every input of the mask, by name; of a sparse one the tensor that stands for its list.

    `dim` is the head dimension of the call.

    Integers are small, some negative, sorted along the tokens or not; with `extremes`, a few are the largest and
    smallest integers of 32 bits. Numbers of pools are less than there are pools. Floats are float64; with `extremes`,
    an input that is only added to the score may hide pairs: a few of its elements, all of one index (such as all keys
    of a query), or all of them are minus infinity or the least number of float32.
    """
    arrays: dict[str, Array] = {}
    added: Counter[str] = _additions(mask) if extremes else Counter()
    for declared in mask.given:
        random = np.random.default_rng(draw(_SEEDS))
        sparse = mask.input(declared.lists) if declared.lists is not None else declared
        assert sparse is not None
        shape = shape_of(declared, batch, dim, entries_of(sparse, arrays.get(sparse.name)))
        if declared.sparse:
            arrays[declared.name] = made_up_list(declared, random, shape)
            continue
        arrays[declared.name] = _array(declared, shape, random, draw(st.booleans()))
        if extremes and declared.type is Type.INT and draw(st.integers(0, 4)) == 0:
            chosen = random.random(arrays[declared.name].shape) < 0.1
            arrays[declared.name][chosen] = random.choice(_EXTREMES)
        if declared.name in added and draw(st.booleans()):
            fill = LEAST if draw(st.booleans()) and sum(added.values()) == 1 else -np.inf
            arrays[declared.name][_hidden(arrays[declared.name].shape, random)] = fill
        if declared.name in mask.pool_counts:
            arrays[declared.name] = np.minimum(arrays[declared.name], mask.pool_counts[declared.name] - 1)
    return arrays


def _additions(mask: MaskIR) -> Counter[str]:
    """The inputs that are only added to the score, and how often the text adds each.

    A later line that does more than add, such as `score 0.5 * s` after `score s + k.w`, excludes them.
    """
    others: list[Expression] = [each for each in (mask.weight, mask.scale) if each is not None]
    others += mask.query_values
    added: list[Expression] = []
    for number, line in reversed([*enumerate(mask.scores)]):
        addends = list(_addends(line))
        if not any(isinstance(each, Score) for each in addends):
            others += mask.scores[: number + 1]
            break
        added += [each for each in addends if _is_read(each)]
        others += [each for each in addends if not _is_read(each)]
    elsewhere = relation_inputs(mask) | pair_trace(mask, others).inputs
    floats = {each.name for each in mask.given if each.type is Type.FLOAT} - elsewhere
    return Counter(name for each in added for name in pair_trace(mask, [each]).inputs if name in floats)


def _addends(expression: Expression) -> Iterator[Expression]:
    match expression:
        case Apply(op=Op.ADD, arguments=operands):
            for operand in operands:
                yield from _addends(operand)
        case _:
            yield expression


def _is_read(expression: Expression) -> bool:
    return isinstance(expression, Read | Coordinate)


def _hidden(shape: tuple[int, ...], random: np.random.Generator) -> Array:
    """Which elements of a bias hide their pairs."""
    hidden = np.asarray(random.random(shape) < 0.2)
    match random.integers(3):
        case 1 if shape:
            axis = int(random.integers(len(shape)))
            np.moveaxis(hidden, axis, 0)[random.integers(shape[axis])] = True
        case 2:
            hidden[...] = True
    return hidden


def _array(declared: Input, shape: tuple[int, ...], random: np.random.Generator, in_order: bool) -> Array:
    kinds = [each.kind for each in declared.dimensions]
    match declared.type:
        case Type.BOOL:
            return random.random(shape) < 0.6
        case Type.FLOAT:
            return np.asarray(random.normal(size=shape)).clip(-3, 3)[...]
        case Type.INT:
            values = random.integers(-3, 7, shape)
            return (
                np.sort(values, axis=kinds.index(DimensionKind.TOKENS))
                if in_order and declared.is_coordinate
                else values
            )


@st.composite
def tensors_for(
    draw: st.DrawFn, mask: MaskIR, batch: int = 1, dim: int = 4, key_heads: int | None = None
) -> tuple[Array, Array, Array]:
    """Float64 arrays q, k and v for an attention over the mask, [batch, heads, tokens, dim]."""
    random = np.random.default_rng(draw(_SEEDS))
    lengths = mask.queries.given_length, mask.keys.given_length, mask.keys.given_length
    heads = mask.heads, key_heads or mask.heads, key_heads or mask.heads
    q, k, v = (random.normal(size=(batch, h, length, dim)) for h, length in zip(heads, lengths, strict=True))
    return q, k, v
