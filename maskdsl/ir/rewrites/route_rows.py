"""Masks for calls with some of the queries: tables with a row per query have one for each query of the call.

These are tables of selected groups, and products of vectors of queries. A query reads the row of its position less that
of the call's first query, which is an input.
"""

from dataclasses import replace

from maskdsl.ir.declared.inputs import Dimension, DimensionKind, Input
from maskdsl.ir.expressions import Batch, Constant, Coordinate, Expression, Read, Side, apply, rebuild
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.rewrites.product_inputs import with_given_products
from maskdsl.ir.routes import Route
from maskdsl.ir.values.token_vectors import ValueTerm

_BATCH = Dimension(DimensionKind.BATCH, None, "batch")
_QUERIES = Dimension(DimensionKind.FREE, None, "queries of the call")
_KEYS = Dimension(DimensionKind.FREE, None, "keys of the call")


def by_row(mask: MaskIR) -> MaskIR:
    """The mask with tables of selected groups of shape bool [batch, heads, queries of the call, key groups].

    Routes that select the same for all queries keep one row. The last input is the position of the first query.
    """
    routes = [each for each in mask.routed if isinstance(each, Route) and each.queries.by is not None]
    return _by_row(mask, {each.name: _QUERIES for each in routes})


def for_some_queries(mask: MaskIR) -> MaskIR:
    """The mask for calls with some of the queries: by row, with the results of routes as given inputs."""
    return replace(by_row(mask), routed=()) if mask.routed else mask


def products_by_row(mask: MaskIR, *masses: ValueTerm) -> MaskIR:
    """The mask for calls with some of the tokens: with products as given inputs, which have entries for these alone.

    `masses` are terms whose tables it reads. The last input is the position of the first query.
    """
    kinds = {Side.QUERY: _QUERIES, Side.KEY: _KEYS}
    sizes = {each.name: kinds[each.per] for each in mask.products if each.per is not None}
    sizes |= {each.name: _QUERIES for each in masses}
    return _by_row(with_given_products(mask), sizes)


def _by_row(mask: MaskIR, sizes: dict[str, Dimension]) -> MaskIR:
    """The mask with these dimensions of tokens in these tables."""
    start = _start_name(mask)
    row = apply(Op.SUBTRACT, Coordinate(Side.QUERY, "i"), Read(start, (Batch(),), Type.INT))
    rows = {name for name, size in sizes.items() if size is _QUERIES}

    def replaced(node: Expression) -> Expression | None:
        """A read of a table with rows, by row; None for other nodes."""
        match node:
            case Read(input=name, indices=(batch, head, query, *others)) if name in rows:
                assert not isinstance(query, Constant)
                return replace(node, indices=(batch, head, row, *others))
            case _:
                return None

    def resized(declared: Input) -> Input:
        if declared.name not in sizes:
            return declared
        batch, heads, _, *others = declared.dimensions
        return replace(declared, dimensions=(batch, heads, sizes[declared.name], *others))

    inputs = *map(resized, mask.inputs), Input(start, Type.INT, (_BATCH,))
    return replace(mask.mapped(lambda expression: rebuild(expression, replaced)), inputs=inputs)


def _start_name(mask: MaskIR) -> str:
    """The unused name of the input int [batch] that holds the position of each entry's first query."""
    name = "first_query"
    while mask.input(name) is not None:
        name += "_"
    return name
