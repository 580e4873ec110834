"""The values of all coordinates of one side's tokens, and the memory order of the tokens, on NumPy arrays."""

from collections.abc import Mapping
from dataclasses import field
from typing import assert_never

import numpy as np

from maskdsl.base.records import dataclass
from maskdsl.ir.declared.inputs import Dimension, DimensionKind
from maskdsl.ir.declared.sequences import Along, Computed, CoordinateSource, Given, Sequence, Shuffled, Space
from maskdsl.ir.expressions import Batch, Coordinate, Expression, Head, InSpace, Leaf, Score
from maskdsl.ir.facts.trace import dependencies
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.curves import curve_positions
from maskdsl.ir.numpy_operators import DTYPES, evaluate
from maskdsl.ir.ops import Array, Type
from maskdsl.ir.values.fixed_random import random_integers


@dataclass(frozen=True, eq=False)
class Coordinates:
    """The coordinates of one side of a mask, for one head and batch entry. `inputs` are arrays as given at the call."""

    mask: MaskIR
    sequence: Sequence
    inputs: Mapping[str, Array]
    batch: int = 0
    head: int = 0
    known: dict[str, Array] = field(default_factory=dict)

    def values(self, name: str) -> Array:
        """[length], in declared order; zero where a token lacks the coordinate. Cached."""
        if name not in self.known:
            for each in dependencies(self.sequence, [name]):
                if each not in self.known:
                    self.known[each] = np.arange(self.sequence.length) if each == "i" else self.gather(each)
        return self.known[name]

    def gather(self, name: str) -> Array:
        """[length]: the values of a coordinate, space by space, from values that are cached."""
        definition = self.sequence.definition(name)
        values = np.zeros(self.sequence.length, dtype=DTYPES[definition.type if definition else Type.INT])
        sources = dict(definition.sources) if definition else {}
        for space, offset in zip(self.sequence.spaces, self.sequence.offsets, strict=True):
            tokens = slice(offset, offset + space.size)
            if space.name in sources:
                values[tokens] = self.from_source(sources[space.name], space, tokens)
            elif definition is None and space.axis(name) is not None:
                values[tokens] = _axis_values(space, name)
        return values

    def from_source(self, source: CoordinateSource, space: Space, tokens: slice) -> Array:
        """The values that a source gives the tokens of a space, which are at the positions `tokens`."""
        match source:
            case Computed(value=expression):
                return self.evaluate(expression)[tokens]
            case Along(kind=kind, axes=names):
                lengths = tuple(_axis_length(space, name) for name in names)
                cell = np.ravel_multi_index([_axis_values(space, name) for name in names], lengths)
                return np.asarray(curve_positions(kind, lengths)[cell])
            case Shuffled(of="i", seed=seed):
                return shuffle(self.sequence.length, seed)[tokens]
            case Shuffled(of=name, seed=seed):
                return np.asarray(shuffle(_axis_length(space, name), seed)[_axis_values(space, name)])
            case Given(input=name):
                return self.from_input(name, space, tokens)
            case _:
                assert_never(source)

    def from_input(self, name: str, space: Space, tokens: slice) -> Array:
        """An input's values for the tokens of a space; the input may be declared over the space or the sequence."""
        declared = self.mask.input(name)
        assert declared is not None
        values = self.inputs[name][tuple(map(self.index_of, declared.dimensions))]
        over_space = any(each.kind is DimensionKind.TOKENS and each.text == space.name for each in declared.dimensions)
        return np.asarray(values if over_space and len(values) == space.size else values[tokens])

    def index_of(self, dimension: Dimension) -> int | slice:
        """The index into a dimension of an input for this head and batch entry."""
        match dimension.kind:
            case DimensionKind.BATCH:
                return self.batch
            case DimensionKind.HEADS:
                return self.head + (dimension.here[0] if dimension.here else 0)
            case _:
                return slice(None)

    def member(self, space: str) -> Array:
        """bool [length]: whether each token is in the space."""
        return np.concatenate([np.full(each.size, each.name == space) for each in self.sequence.spaces])

    def evaluate(self, expression: Expression) -> Array:
        """[length]: the values of an expression over one token."""

        def leaf(node: Leaf) -> Array:
            match node:
                case Coordinate(name=name):
                    return self.values(name)
                case InSpace(space=space):
                    return self.member(space)
                case Head():
                    return np.asarray(self.head)
                case Batch():
                    return np.asarray(self.batch)
                case Score():
                    raise AssertionError("a coordinate reads no score")
                case _:
                    assert_never(node)

        with np.errstate(all="ignore"):  # tokens without a coordinate read zero and may divide by it
            return np.broadcast_to(evaluate(expression, leaf, self.inputs), (self.sequence.length,))

    def permutation(self) -> Array | None:
        """int64 [length]: maps positions in memory order to declared positions; None for declared order."""
        if not any(self.sequence.order):
            return None
        positions = []
        for space, offset, keys in zip(self.sequence.spaces, self.sequence.offsets, self.sequence.order, strict=True):
            tokens = slice(offset, offset + space.size)
            columns = [self.evaluate(key)[tokens] for key in reversed(keys)]
            positions.append(offset + (np.lexsort(columns) if columns else np.arange(space.size)))
        return np.concatenate(positions)


def _axis_length(space: Space, name: str) -> int:
    axis = space.axis(name)
    assert axis is not None
    return axis.length


def _axis_values(space: Space, name: str) -> Array:
    """The index of each token on one axis of the row-major grid."""
    number = [axis.name for axis in space.axes].index(name)
    shape = [axis.length if each == number else 1 for each, axis in enumerate(space.axes)]
    indices = np.arange(space.axes[number].length).reshape(shape)
    return np.broadcast_to(indices, [axis.length for axis in space.axes]).reshape(-1)


def shuffle(length: int, seed: int) -> Array:
    """int64 [length]: a fixed permutation. The rank of each number's pseudo-random integer, ties in order."""
    drawn = random_integers(np.asarray(seed), np.arange(length))
    ranks = np.empty(length, dtype=np.int64)
    ranks[np.argsort(drawn, kind="stable")] = np.arange(length)
    return ranks
