"""Masks for calls with some of the queries: tables of selected groups have a row per query of the call, not per group.

A query reads the row of its position less that of the call's first query, which is an input.
"""

from dataclasses import replace

from maskdsl.ir.expressions import Batch, Constant, Coordinate, Expression, Read, Side, apply, rebuild
from maskdsl.ir.mask import Dimension, DimensionKind, Input, MaskIR
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.routes import Route

_BATCH = Dimension(DimensionKind.BATCH, None, "batch")
_QUERIES = Dimension(DimensionKind.FREE, None, "queries of the call")


def by_row(mask: MaskIR) -> MaskIR:
    """The mask with tables of selected groups of shape bool [batch, heads, queries of the call, key groups].

    Routes that select the same for all queries keep one row. The last input is the position of the first query.
    """
    rows = _ByRow(mask)
    tables = {route.name for route in rows.routes}
    inputs = (_row_table(each) if each.name in tables else each for each in mask.inputs)
    return replace(mask.mapped(rows.moved), inputs=(*inputs, Input(_start_name(mask), Type.INT, (_BATCH,))))


def for_some_queries(mask: MaskIR) -> MaskIR:
    """The mask for calls with some of the queries: by row, with the results of routes as given inputs."""
    return replace(by_row(mask), routed=()) if mask.routed else mask


def _start_name(mask: MaskIR) -> str:
    """The unused name of the input int [batch] that holds the position of each entry's first query."""
    name = "first_query"
    while mask.input(name) is not None:
        name += "_"
    return name


def _row_table(declared: Input) -> Input:
    batch, heads, _, groups = declared.dimensions
    return replace(declared, dimensions=(batch, heads, _QUERIES, groups))


class _ByRow:
    """Rewrites reads of selected groups."""

    def __init__(self, mask: MaskIR) -> None:
        self.routes = [each for each in mask.routed if isinstance(each, Route) and each.queries.by is not None]
        self.names = {each.name for each in self.routes}
        start = Read(_start_name(mask), (Batch(),), Type.INT)
        self.row = apply(Op.SUBTRACT, Coordinate(Side.QUERY, "i"), start)

    def moved(self, expression: Expression) -> Expression:
        """The expression with row reads."""
        return rebuild(expression, self.replaced)

    def replaced(self, node: Expression) -> Expression | None:
        """A read of a table of selected groups, by row; None for other nodes."""
        match node:
            case Read(input=name, indices=(batch, head, query, key)) if name in self.names:
                assert not isinstance(query, Constant)
                return replace(node, indices=(batch, head, self.row, key))
            case _:
                return None
