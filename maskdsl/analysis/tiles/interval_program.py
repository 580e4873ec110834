"""A relation as straight-line code over intervals: common subexpressions once, results freed after their last use.

Subexpressions that read one side only are computed per token beforehand, not per pair: each is a `Column`.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import assert_never

import numpy as np

from maskdsl.analysis.tiles.list_bounds import Bounded, BoundedList
from maskdsl.analysis.tiles.table_bounds import BoundedTable
from maskdsl.base.records import dataclass
from maskdsl.ir.expressions import Apply, Batch, Constant, Coordinate, Expression, Head, InSpace, Read, Score, Side
from maskdsl.ir.facts.intervals import Interval, interval_of, point
from maskdsl.ir.numpy_operators import constant_array
from maskdsl.ir.ops import Op


@dataclass(frozen=True)
class Column:
    """Precomputed values of a side's tokens: number `index` of that side's arrays."""

    side: Side
    index: int


Action = Op | Bounded | Constant | Column
Load = Callable[[Column], Interval]


@dataclass(frozen=True)
class Step:
    """Computes one slot from earlier slots. The slots in `frees` are not needed afterwards."""

    action: Action
    slots: tuple[int, ...]
    frees: tuple[int, ...] = ()


@dataclass(frozen=True)
class IntervalProgram:
    """Steps in order; the last one computes the result."""

    steps: tuple[Step, ...]
    width: int
    """The most slots that are live at once."""

    def run(self, load: Load) -> Interval:
        """The interval of the result; `load` gives the interval of each column."""
        slots: dict[int, Interval] = {}
        with np.errstate(all="ignore"):
            for number, step in enumerate(self.steps):
                arguments = [slots[slot] for slot in step.slots]
                for slot in step.frees:
                    del slots[slot]
                slots[number] = _perform(step.action, arguments, load)
        return slots[len(self.steps) - 1]


def _perform(action: Action, arguments: list[Interval], load: Load) -> Interval:
    match action:
        case Op():
            return interval_of(action, *arguments)
        case BoundedTable() | BoundedList():
            return action.read(*arguments)
        case Constant():
            return point(constant_array(action))
        case Column():
            return load(action)
        case _:
            assert_never(action)


def compile_program(
    expression: Expression, tables: Mapping[str, Bounded], column: Callable[[Expression], Column | None]
) -> IntervalProgram:
    """Compiles an expression. `tables` holds the inputs read by index; `column` maps a node to its column, or None.

    Every leaf but constants must be a column.
    """
    numbers: dict[tuple[Action, tuple[int, ...]], int] = {}

    def number_of(action: Action, *slots: int) -> int:
        return numbers.setdefault((action, slots), len(numbers))

    slots: dict[Expression, int] = {}

    def slot(node: Expression) -> int:
        if node not in slots:
            known = column(node)
            slots[node] = fresh(node) if known is None else number_of(known)
        return slots[node]

    def fresh(node: Expression) -> int:
        match node:
            case Apply(op=Op.AND | Op.OR as op, arguments=(first, *rest)):  # pairwise, so that few slots are live
                number = slot(first)
                for operand in rest:
                    number = number_of(op, number, slot(operand))
                return number
            case Apply(op=op, arguments=arguments):
                return number_of(op, *map(slot, arguments))
            case Read(input=name, indices=indices):
                return number_of(tables[name], *map(slot, indices))
            case Constant():
                return number_of(node)
            case Coordinate() | InSpace() | Head() | Batch() | Score():
                raise AssertionError(f"{node} is no column")
            case _:
                assert_never(node)

    last = slot(expression)
    assert last == len(numbers) - 1
    return _with_lifetimes([Step(action, slots) for action, slots in numbers])


def _with_lifetimes(steps: list[Step]) -> IntervalProgram:
    uses = Counter(slot for step in steps for slot in set(step.slots))
    live, width, result = 0, 1, []
    for step in steps:
        uses.subtract(set(step.slots))
        frees = tuple(slot for slot in set(step.slots) if not uses[slot])
        width = max(width, live + 1)
        live += 1 - len(frees)
        result.append(Step(step.action, step.slots, frees))
    return IntervalProgram(tuple(result), width)
