"""Some queries of a mask against its first keys, as a mask of its own: what decoding and chunked prefill attend.

Every coordinate that pairs read becomes an input of its own, with the values of the tokens that are there, so that
whatever serves masks with inputs serves chunks: it is the same mask for all chunks of equal lengths.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from maskdsl.ir.coordinates import Coordinates, varies
from maskdsl.ir.expressions import Coordinate, Expression, InSpace, Read, Side, apply, rebuild, walk
from maskdsl.ir.mask import (
    Axis,
    CoordinateDefinition,
    Dimension,
    DimensionKind,
    Given,
    Input,
    MaskIR,
    Sequence,
    Space,
)
from maskdsl.ir.operators import DTYPES, Array
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.simplify import simplify

LETTERS = {Side.QUERY: "q", Side.KEY: "k"}
PRESENT = "k.present"
"""Which keys each batch entry has: bool[batch, keys]."""
Leaf = Coordinate | InSpace


@dataclass(frozen=True)
class Chunk:
    """A chunk of `queries` queries and the first `keys` keys of a mask. Names of inputs of its own hold a dot."""

    whole: MaskIR
    queries: int
    keys: int

    @cached_property
    def mask(self) -> MaskIR:
        whole = self.whole
        relation = apply(Op.AND, self.moved(whole.relation), Coordinate(Side.KEY, PRESENT, Type.BOOL))
        batch = Dimension(DimensionKind.BATCH, None, "batch")
        return replace(
            whole,
            queries=self.sequence(Side.QUERY, self.queries),
            keys=self.sequence(Side.KEY, self.keys, {PRESENT: Type.BOOL}),
            self_attention=False,
            inputs=(
                *(each for each in whole.inputs if each.name in self.tables),
                *(self.declared(node) for node in self.leaves),
                Input(PRESENT, Type.BOOL, (batch, Dimension(DimensionKind.TOKENS, self.keys, "keys"))),
            ),
            attend=(),
            require=(),
            relation=simplify(relation),
            scores=tuple(map(self.moved, whole.scores)),
            weight=None if whole.weight is None else self.moved(whole.weight),
            scale=None if whole.scale is None else self.moved(whole.scale),
        )

    @cached_property
    def expressions(self) -> tuple[Expression, ...]:
        whole = self.whole
        return tuple(each for each in (whole.relation, *whole.scores, whole.weight, whole.scale) if each is not None)

    @cached_property
    def leaves(self) -> tuple[Leaf, ...]:
        """What pairs read of their tokens."""
        nodes = (node for each in self.expressions for node in walk(each))
        return tuple(dict.fromkeys(node for node in nodes if isinstance(node, Coordinate | InSpace)))

    @cached_property
    def tables(self) -> frozenset[str]:
        """Inputs that pairs read by index."""
        return frozenset(node.input for each in self.expressions for node in walk(each) if isinstance(node, Read))

    def name(self, node: Leaf) -> str:
        """What the input is called that holds a leaf's values."""
        return f"{LETTERS[node.side]}.{node.name if isinstance(node, Coordinate) else f'in {node.space}'}"

    def moved(self, expression: Expression) -> Expression:
        def renamed(node: Expression) -> Expression | None:
            if isinstance(node, Coordinate | InSpace):
                return Coordinate(node.side, self.name(node), node.type)
            return None

        return rebuild(expression, renamed)

    def sequence(self, side: Side, length: int, more: Mapping[str, Type] | None = None) -> Sequence:
        types = {self.name(node): node.type for node in self.leaves if node.side is side} | dict(more or {})
        word = "queries" if side is Side.QUERY else "keys"
        return Sequence(
            (Space(word, (Axis(word, length),)),),
            tuple(CoordinateDefinition(name, kind, ((word, Given(name)),)) for name, kind in types.items()),
        )

    def declared(self, node: Leaf) -> Input:
        """Queries stand elsewhere in each batch entry; keys are the same in all, unless an input says otherwise."""
        length, word = (self.queries, "queries") if node.side is Side.QUERY else (self.keys, "keys")
        kinds = self.varying(node) | ({DimensionKind.BATCH} if node.side is Side.QUERY else set())
        dimensions = [
            Dimension(DimensionKind.BATCH, None, "batch"),
            Dimension(DimensionKind.HEADS, self.whole.heads, "heads"),
        ]
        own = tuple(each for each in dimensions if each.kind in kinds)
        return Input(self.name(node), node.type, (*own, Dimension(DimensionKind.TOKENS, length, word)))

    def varying(self, node: Leaf) -> frozenset[DimensionKind]:
        return varies(self.whole, self.tokens(node), (node,)) if isinstance(node, Coordinate) else frozenset()

    def tokens(self, node: Leaf) -> Sequence:
        return self.whole.queries if node.side is Side.QUERY else self.whole.keys

    def values(self, inputs: Mapping[str, Array], starts: Array) -> dict[str, Array]:
        """The chunk's own inputs, but for `PRESENT`, where entries begin with the queries `starts`.

        `inputs` are those of the whole mask, as arrays.
        """
        found = {}
        for node in self.leaves:
            kinds = [each.kind for each in self.declared(node).dimensions]
            batches = range(len(starts)) if DimensionKind.BATCH in kinds else range(1)
            heads = range(self.whole.heads) if DimensionKind.HEADS in kinds else range(1)
            rows = np.array([[self.row(node, inputs, starts, b, h) for h in heads] for b in batches])
            rows = rows if DimensionKind.HEADS in kinds else rows[:, 0]
            found[self.name(node)] = rows if DimensionKind.BATCH in kinds else rows[0]
        return found

    def row(self, node: Leaf, inputs: Mapping[str, Array], starts: Array, batch: int, head: int) -> Array:
        coordinates = Coordinates(self.whole, self.tokens(node), inputs, batch, head)
        values = coordinates.values(node.name) if isinstance(node, Coordinate) else coordinates.member(node.space)
        start, length = (int(starts[batch]), self.queries) if node.side is Side.QUERY else (0, self.keys)
        return np.asarray(values[start : start + length], dtype=DTYPES[node.type])
