"""Reference semantics of vectors of groups on NumPy arrays, for `ir/meaning/route_meaning.py`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, assert_never

import numpy as np

from maskdsl.base.records import dataclass
from maskdsl.ir.expressions import Expression, Side
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.meaning.product_meaning import HeadVectors, pooled_vector
from maskdsl.ir.numpy_operators import apply_operator
from maskdsl.ir.ops import Array
from maskdsl.ir.values.group_scores import Grouping
from maskdsl.ir.values.token_vectors import (
    Elementwise,
    Multiple,
    OfGroup,
    OfToken,
    OfValue,
    Sum,
    TableRow,
    Vector,
    Window,
)

if TYPE_CHECKING:
    from maskdsl.ir.meaning.route_meaning import RouteSearch

_ALONE = Grouping(None, 1)
Groupings = Mapping[Side, Grouping]


@dataclass(frozen=True, eq=False)
class GroupVectors:
    """The vectors of groups in one head of one batch entry, in float64."""

    search: "RouteSearch"

    def of(self, vector: Vector, groupings: Groupings) -> Array:
        """[groups of the side that the vector depends on, or 1, dim]."""
        match vector:
            case OfToken(side=side):
                return self.search.vectors(side, self.search.head)
            case OfGroup():
                return self.pooled(vector)
            case TableRow(input=name, indices=indices):
                plain = [each for each in indices if not isinstance(each, Window)]
                read = [self.evaluate(each, groupings) for each in plain]
                return np.asarray(np.asarray(self.search.inputs[name], dtype=np.float64)[tuple(read)])
            case Multiple(factor=factor, vector=inner):
                return np.asarray(self.evaluate(factor, groupings)[:, None] * self.of(inner, groupings))
            case Sum(terms=terms):
                return np.asarray(sum(self.of(each, groupings) for each in terms))
            case Elementwise(op=op, operands=operands):
                values = (
                    self.of(each, groupings) if isinstance(each, Vector) else self.evaluate(each, groupings)[:, None]
                    for each in operands
                )
                return np.asarray(apply_operator(op, *values))
            case OfValue():
                raise AssertionError("values are no vectors of routes")
            case _:
                assert_never(vector)

    def evaluate(self, expression: Expression, groupings: Groupings) -> Array:
        """[groups]: an expression over the groups of one side, [1] if it reads neither."""
        level = groupings.get(Side.QUERY, _ALONE), groupings.get(Side.KEY, _ALONE)
        values: Array = self.search.evaluate(expression, level)
        read = reads(expression)
        if read.of(Side.KEY):
            return np.asarray(values[0])
        return np.asarray(values[:, 0] if read.of(Side.QUERY) else values[0, :1])

    def pooled(self, group: OfGroup) -> Array:
        """[groups, dim]: the pooled vector of each group; zeros where no token is pooled."""
        search, pool, side = self.search, group.pool, group.side
        groups, tokens = search.having(side, Grouping(group.by, group.count, pool.span))
        assert search.q is not None and search.k is not None
        heads = HeadVectors(search.mask, search.inputs, search.q, search.k, search.batch, search.head)
        length = search.mask.sequences[side].length
        if pool.among is not None:
            among = np.broadcast_to(heads.evaluate(pool.among, side), length)[tokens]
            groups, tokens = groups[among], tokens[among]
        of = OfToken(side) if pool.of is None else pool.of
        vectors = [heads.at(head).vector(of, side) for head in heads.heads_of(group)]
        vectors = [np.broadcast_to(each, (length, each.shape[-1])) for each in vectors]
        result = np.zeros((group.count, vectors[0].shape[-1]))
        for number in np.unique(groups):
            members = tokens[groups == number]
            result[number] = pooled_vector(pool.kind, np.concatenate([each[members] for each in vectors]))
        return result
