"""What bounds say of the tiles of a mask, computed as kernels do it, in NumPy."""

from typing import Any

import numpy as np

from maskdsl.ir.expressions import Batch, Coordinate, Head, InSpace, Leaf, Side
from maskdsl.ir.facts.bounds import Bounder, Bounds
from maskdsl.ir.facts.boxes import Boxes, Counts
from maskdsl.ir.facts.ranges import Range, expression_range, mask_leaf
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.evaluate import Pairs
from maskdsl.ir.numpy_operators import evaluate

Array = np.ndarray[Any, Any]
PLACE = "place"


def ends(node: Leaf) -> Bounds:
    """The bounds of a leaf as two leaves."""
    match node:
        case Coordinate(side=side, name=name, type=kind):
            return Bounds(Coordinate(side, f"{name} low", kind), Coordinate(side, f"{name} high", kind))
        case InSpace(side=side, space=name):
            return Bounds(InSpace(side, f"{name} low"), InSpace(side, f"{name} high"))
        case _:
            return Bounds(node, node)


def classes(
    mask: MaskIR,
    inputs: dict[str, Array],
    block: tuple[int, int],
    head: int = 0,
    batch: int = 0,
    ordered: bool = False,
) -> tuple[Array, Array]:
    """Whether tiles are certain and possible, in declared order or as the mask lays tokens out."""
    zero = np.zeros((1, 1), dtype=np.int64)
    pairs = Pairs(mask, zero, zero, head, batch, inputs)
    ranges = mask_leaf(mask)

    def range_of(node: Leaf) -> Range:
        match node:
            case Coordinate(side=side, name=name, type=kind):
                own = name.rsplit(" ", 1)[0]
                return ranges(Coordinate(side, "i" if own == PLACE else own, kind))
            case _:
                return ranges(node)

    positions = {side: ends(Coordinate(side, PLACE)) for side in (Side.QUERY, Side.KEY) if ordered}
    boxes = Boxes(mask, lambda each: expression_range(each, range_of), positions)
    bounds = Bounder(ends, ranges, boxes.bounds).bounds(mask.relation)

    def leaf(node: Leaf) -> Array:
        match node:
            case Coordinate(side=side, name=name) | InSpace(side=side, space=name):
                own, which = name.rsplit(" ", 1)
                tokens = pairs.query if side is Side.QUERY else pairs.key
                if own == PLACE:
                    values = np.arange(len(tokens.values("i")))
                else:
                    values = tokens.values(own) if isinstance(node, Coordinate) else tokens.member(own)
                order = tokens.permutation() if ordered else None
                values = values if order is None or own == PLACE else np.asarray(values)[order]
                size = block[side is Side.KEY]
                reduce = np.minimum if which == "low" else np.maximum
                found = reduce.reduceat(values, np.arange(0, len(values), size))
                return np.asarray(found[:, None] if side is Side.QUERY else found[None, :])
            case Head():
                return np.asarray(head)
            case Batch():
                return np.asarray(batch)
            case _:
                return np.asarray(0)

    orders = {Side.QUERY: pairs.query.permutation(), Side.KEY: pairs.key.permutation()}
    tables = {**inputs, **{name: counts(each, inputs, orders) for name, each in boxes.used.items()}}
    shape = -(-mask.queries.length // block[0]), -(-mask.keys.length // block[1])
    with np.errstate(all="ignore"):
        low, high = (np.broadcast_to(evaluate(each, leaf, tables), shape) for each in bounds)
    return low, high


def counts(each: Counts, inputs: dict[str, Array], orders: dict[Side, Array | None]) -> Array:
    """The table of counts that bounds read."""
    table = np.asarray(inputs[each.table.name]).astype(np.int64)
    for axis, side in each.laid_out:
        order = orders[side]
        table = table if order is None else table.take(order, axis=axis)
    for axis in each.axes:
        table = np.cumsum(table, axis=axis)
        table = np.insert(table, 0, 0, axis=axis)
    return table
