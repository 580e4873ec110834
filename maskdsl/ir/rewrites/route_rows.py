"""Masks for calls with some of the queries: tables with a row per query have one for each query of the call.

These are tables of selected groups, and products of vectors of queries. A query reads the row of its position less that
of the call's first query, which is an input.
"""

from dataclasses import replace

from maskdsl.ir.declared.inputs import KEY_HEADS, Dimension, DimensionKind, Input
from maskdsl.ir.expressions import Batch, Constant, Coordinate, Expression, Read, Side, apply, rebuild
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.rewrites.product_inputs import with_given_products
from maskdsl.ir.routes import Scored
from maskdsl.ir.values.group_scores import GroupScores
from maskdsl.ir.values.token_vectors import ValueTerm

_ENTRIES = (DimensionKind.BATCH, DimensionKind.HEADS)
_BATCH = Dimension(DimensionKind.BATCH, None, "batch")
_QUERIES = Dimension(DimensionKind.FREE, None, "queries of the call")
_KEYS = Dimension(DimensionKind.FREE, None, "keys of the call")


def by_row(mask: MaskIR) -> MaskIR:
    """The mask with tables of selected groups of shape bool [batch, heads, queries of the call, key groups].

    Routes that select the same for all queries keep one row. The last input is the position of the first query.
    """
    routes = [each for each in mask.routed if isinstance(each, Scored)]
    queries = {each.name: each.result[0] if isinstance(each, GroupScores) else each.queries for each in routes}
    return _by_row(mask, {name: _QUERIES for name, each in queries.items() if each.by is not None})


def for_some_queries(mask: MaskIR) -> MaskIR:
    """The mask for calls with some of the queries: by row, with the results of routes as given inputs."""
    return replace(by_row(mask), routed=()) if mask.routed else mask


def reads_rows_of_call(mask: MaskIR) -> bool:
    """Whether an input has a row for each query of a call, as the masks that are made here have."""
    return any(_QUERIES in each.dimensions for each in mask.inputs)


def products_by_row(mask: MaskIR, *masses: ValueTerm) -> MaskIR:
    """The mask for calls with some of the tokens: with products as given inputs, which have entries for these alone.

    `masses` are terms whose tables it reads. The last input is the position of the first query.
    """
    kinds = {Side.QUERY: _QUERIES, Side.KEY: _KEYS}
    sizes = {each.name: kinds[each.per] for each in mask.products if each.per is not None}
    sizes |= {each.name: _QUERIES for each in masses}
    return _by_row(with_given_products(mask), sizes)


def products_by_slice(mask: MaskIR, *masses: ValueTerm) -> MaskIR:
    """As `products_by_row`, for consecutive keys: the last but one input is the position of the first key."""
    rows = products_by_row(mask, *masses)
    products = {each.name for each in mask.products if each.per is Side.KEY}
    return _from_first(rows, Side.KEY, products, _unused_name(rows, "first_key"), -1)


def _by_row(mask: MaskIR, sizes: dict[str, Dimension]) -> MaskIR:
    """The mask with these dimensions of tokens in these tables."""

    def resized(declared: Input) -> Input:
        if declared.name not in sizes:
            return declared
        row = _row_axis(declared)
        before, behind = declared.dimensions[:row], declared.dimensions[row + 1 :]
        return replace(declared, dimensions=(*before, sizes[declared.name], *behind))

    mask = replace(mask, inputs=tuple(map(resized, mask.inputs)))
    rows = {name for name, size in sizes.items() if size is _QUERIES}
    return _from_first(mask, Side.QUERY, rows, _unused_name(mask, "first_query"), len(mask.inputs))


def _row_axis(declared: Input) -> int:
    """The axis of a table behind those of batch entries and heads."""
    leading = [each for each in declared.dimensions if each.kind in _ENTRIES or each.text == KEY_HEADS]
    return len(leading)


def _from_first(mask: MaskIR, side: Side, tables: set[str], start: str, at: int) -> MaskIR:
    """The mask that reads the rows of tables of a side by a token's position less that of the first one.

    `start` is a new input before the input number `at`, int [batch].
    """
    row = apply(Op.SUBTRACT, Coordinate(side, "i"), Read(start, (Batch(),), Type.INT))

    def replaced(node: Expression) -> Expression | None:
        """A read of a table with rows, by row; None for other nodes."""
        match node:
            case Read(input=name, indices=indices) if name in tables:
                declared = mask.input(name)
                assert declared is not None
                at = _row_axis(declared)
                assert not isinstance(indices[at], Constant)
                return replace(node, indices=(*indices[:at], row, *indices[at + 1 :]))
            case _:
                return None

    inputs = *mask.inputs[:at], Input(start, Type.INT, (_BATCH,)), *mask.inputs[at:]
    return replace(mask.mapped(lambda expression: rebuild(expression, replaced)), inputs=inputs)


def _unused_name(mask: MaskIR, name: str) -> str:
    """A name of a new input that no input of the mask has."""
    while mask.input(name) is not None:
        name += "_"
    return name
