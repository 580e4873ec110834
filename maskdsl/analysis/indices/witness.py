"""Searches integer values for which a condition holds, by interval arithmetic on boxes that are bisected to points.

Exact: None means that there are none. The work follows the size of the condition's boundary.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from maskdsl.analysis.tiles.interval_program import Column, IntervalProgram, compile_program
from maskdsl.analysis.tiles.list_bounds import Bounded
from maskdsl.ir.expressions import Batch, Constant, Coordinate, Expression, Head, Side
from maskdsl.ir.facts.intervals import Array, Interval, point
from maskdsl.ir.facts.ranges import Range
from maskdsl.ir.facts.reads import reads

Values = dict[Expression, int]

_AT_ONCE = 1 << 13
"""Boxes evaluated at once, so that intermediate results stay in the cache."""
_FEWEST = 64
"""Smaller batches of boxes are bisected before they are evaluated: a batch of one costs as much."""
_TRIED = 64
"""Boxes of a batch that are tried at single points before they are bisected."""


class TooFine(Exception):
    """The search needs more boxes than its budget."""


def witness(
    condition: Expression, ranges: Mapping[Expression, Range], tables: Mapping[str, Bounded], budget: int
) -> Values | None:
    """Values of the variables that the condition reads for which it holds; None if there are none.

    `ranges` gives the variables with their ranges. Raises `TooFine` beyond `budget` boxes.
    """
    if isinstance(condition, Constant):
        return {} if condition.value else None
    leaves: tuple[Expression, ...] = tuple(leaf for leaf in reads(condition).leaves if leaf in ranges)
    positions = {leaf: number for number, leaf in enumerate(leaves)}

    def column(node: Expression) -> Column | None:
        return Column(Side.TOKEN, positions[node]) if node in positions else None

    program = compile_program(condition, tables, column)
    bounds = np.array([tuple(ranges[leaf]) for leaf in leaves], dtype=np.int64).reshape(-1, 2).T[:, :, None]
    values = _search(program, bounds[0], bounds[1], budget)
    return None if values is None else {leaf: int(value) for leaf, value in zip(leaves, values, strict=True)}


def value_at(expression: Expression, values: Mapping[Expression, int], tables: Mapping[str, Bounded]) -> int:
    """The value of an integer expression for these values of its leaves; missing ones are 0."""
    leaves: list[Expression] = []

    def column(node: Expression) -> Column | None:
        if not isinstance(node, Coordinate | Head | Batch):
            return None
        leaves.append(node)
        return Column(Side.TOKEN, len(leaves) - 1)

    program = compile_program(expression, tables, column)
    return int(program.run(lambda each: point(np.asarray(values.get(leaves[each.index], 0)))).low)


def _search(program: IntervalProgram, low: Array, high: Array, budget: int) -> Array | None:
    """int64 [variables]: a point of the boxes for which the program holds; bounds are int64 [variables, boxes]."""
    stack = [(low, high)]
    while stack:
        low, high = stack.pop()
        while low.shape[1] < _FEWEST and (low < high).any():
            low, high = _bisected(low, high)
        budget -= low.shape[1]
        if budget < 0:
            raise TooFine
        always, possible = _judge(program, low, high)
        if always.any():
            return np.asarray(low[:, np.argmax(always)])
        low, high = low[:, possible], high[:, possible]
        for tried in (low, (low + high) // 2, high):
            holds, _ = _judge(program, tried[:, :_TRIED], tried[:, :_TRIED])
            if holds.any():
                return np.asarray(tried[:, np.argmax(holds)])
        wide = (low < high).any(axis=0)
        if not wide.any():
            continue
        stack += _batches(*_bisected(low[:, wide], high[:, wide]))
    return None


def _judge(program: IntervalProgram, low: Array, high: Array) -> tuple[Array, Array]:
    """For each box, two bools: whether the program holds everywhere in it, and whether it may hold anywhere.

    Exact for boxes of one point.
    """
    single = (low == high).all(axis=0)
    always, possible = np.empty(low.shape[1], dtype=bool), np.empty(low.shape[1], dtype=bool)
    for boxes in (single, ~single):
        if boxes.any():
            these_low, these_high = low[:, boxes], high[:, boxes]
            same = (these_low == these_high).all(axis=1)
            columns = [
                point(these_low[leaf]) if same[leaf] else Interval(these_low[leaf], these_high[leaf])
                for leaf in range(len(low))
            ]
            result = program.run(lambda column, columns=columns: columns[column.index])  # type: ignore[misc]
            always[boxes], possible[boxes] = result.low, result.high
    return always, possible


def _bisected(low: Array, high: Array) -> tuple[Array, Array]:
    """Every box bisected across its longest side; boxes of one point stay whole."""
    boxes = np.arange(low.shape[1])
    axis = np.argmax(high - low, axis=0)
    middle = (low[axis, boxes] + high[axis, boxes]) // 2
    wide = low[axis, boxes] < high[axis, boxes]
    first_high, second_low = high.copy(), low.copy()
    first_high[axis, boxes] = middle
    second_low[axis, boxes] = middle + 1
    return np.hstack([low, second_low[:, wide]]), np.hstack([first_high, high[:, wide]])


def _batches(low: Array, high: Array) -> Iterator[tuple[Array, Array]]:
    slices = (slice(start, start + _AT_ONCE) for start in range(0, low.shape[1], _AT_ONCE))
    return ((low[:, each], high[:, each]) for each in slices)
