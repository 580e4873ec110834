"""Terms of scores that depend on positions through the difference of one coordinate alone, as T5's buckets do.

Such a term is a function of one number. Where it takes longer to compute than to load, kernels read it from a table.
"""

from functools import cached_property

import numpy as np

from maskdsl.base.records import dataclass
from maskdsl.ir.expressions import Apply, Coordinate, Expression, Side, apply, children, substitute, walk
from maskdsl.ir.facts.ranges import INT32, Range, mask_leaf
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.numpy_operators import evaluate
from maskdsl.ir.ops import Array, Op, Type

_DISTANCE = Coordinate(Side.TOKEN, "k - q")
"""Stands for the difference: of the key's coordinate, minus the query's."""
_LIGHT = frozenset(
    {Op.ADD, Op.SUBTRACT, Op.MULTIPLY, Op.NEGATE, Op.ABSOLUTE, Op.MINIMUM, Op.MAXIMUM, Op.SELECT}
    | {Op.EQUAL, Op.NOT_EQUAL, Op.LESS, Op.LESS_EQUAL, Op.NOT, Op.AND, Op.OR, Op.TO_FLOAT}
)
_HEAVY_COST = 4
"""The light operations that one of the others takes as long as."""
_LONG = 6
"""So many light operations take longer than a load."""
_MOST_DISTANCES = 2**22


@dataclass(frozen=True)
class DistanceTerm:
    """An integer of a pair."""

    value: Apply
    coordinate: str
    """The name of the coordinate whose difference it reads."""
    distances: Range
    """The differences, of any key and any query."""

    @cached_property
    def of_distance(self) -> Expression:
        """The term as an expression of the leaf `_DISTANCE`."""
        query, key = (Coordinate(side, self.coordinate) for side in (Side.QUERY, Side.KEY))
        ahead, behind = apply(Op.SUBTRACT, key, query), apply(Op.SUBTRACT, query, key)
        return substitute(self.value, {ahead: _DISTANCE, behind: apply(Op.NEGATE, _DISTANCE)})

    @cached_property
    def values(self) -> Array:
        """Its value at each distance, int64."""
        distances = np.arange(self.distances.low, self.distances.high + 1)
        with np.errstate(all="ignore"):
            return evaluate(self.of_distance, lambda _: distances, {})

    @property
    def range(self) -> Range:
        """The least and the largest of its values."""
        return Range(int(self.values.min()), int(self.values.max()))

    @property
    def is_long(self) -> bool:
        """Whether it takes longer to compute than to load."""
        nodes = {node for node in walk(self.of_distance) if isinstance(node, Apply) and reads(node).leaves}
        return sum(1 if node.op in _LIGHT else _HEAVY_COST for node in nodes) >= _LONG


def distance_terms(mask: MaskIR) -> tuple[DistanceTerm, ...]:
    """The largest integers in the scale, the scores and the weight that are such terms."""
    stack = [each for each in (mask.weight, *reversed(mask.scores), mask.scale) if each is not None]
    seen: set[Expression] = set()
    terms = []
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        term = _term(mask, node)
        if term is None:
            stack += reversed(children(node))
        else:
            terms.append(term)
    return tuple(terms)


def _term(mask: MaskIR, node: Expression) -> DistanceTerm | None:
    """The node as a term; None for what is none, or is not long."""
    read = reads(node)
    if not isinstance(node, Apply) or node.type is not Type.INT or read.inputs:
        return None
    if len(read.leaves) != 2 or len(read.coordinates) != 2:
        return None
    (name, *others), leaf = {each.name for each in read.coordinates}, mask_leaf(mask)
    if others:
        return None
    query, key = (leaf(Coordinate(side, name)) for side in (Side.QUERY, Side.KEY))
    distances = Range(key.low - query.high, key.high - query.low)
    term = DistanceTerm(node, name, distances)
    if reads(term.of_distance).leaves != (_DISTANCE,) or not term.is_long:
        return None
    most = min(mask.queries.length + mask.keys.length, _MOST_DISTANCES)
    if distances.high - distances.low >= most:
        return None
    return term if term.range.low in INT32 and term.range.high in INT32 else None
