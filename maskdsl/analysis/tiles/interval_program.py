"""A relation as straight-line code over intervals: common subexpressions once, results freed after their last use.

Subexpressions that read one side only are computed per token beforehand, not per pair: each is a `Column`.
"""

from collections import Counter
from collections.abc import Callable, Container, Mapping
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
        last = len(self.steps) - 1
        return self.values(load, {last})[last]

    def values(self, load: Load, kept: Container[int]) -> dict[int, Interval]:
        """The intervals of some steps, by number."""
        slots: dict[int, Interval] = {}
        with np.errstate(all="ignore"):
            for number, step in enumerate(self.steps):
                arguments = [slots[slot] for slot in step.slots]
                for slot in step.frees:
                    if slot not in kept:
                        del slots[slot]
                slots[number] = _perform(step.action, arguments, load)
        return slots


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
    steps = _OpenProgram(tables, column)
    last = steps.slot(expression)
    assert last == len(steps.numbers) - 1
    return _with_lifetimes([Step(action, slots) for action, slots in steps.numbers])


class _OpenProgram:
    """The numbered steps of a program that is being compiled. No closures: a cycle of these would keep the tables."""

    def __init__(self, tables: Mapping[str, Bounded], column: Callable[[Expression], Column | None]) -> None:
        self.tables, self.column = tables, column
        self.numbers: dict[tuple[Action, tuple[int, ...]], int] = {}
        self.slots: dict[Expression, int] = {}

    def number_of(self, action: Action, *slots: int) -> int:
        """The number of a step, which is added if it is new."""
        return self.numbers.setdefault((action, slots), len(self.numbers))

    def slot(self, node: Expression) -> int:
        """The number of the step that computes a node."""
        if node not in self.slots:
            known = self.column(node)
            self.slots[node] = self.fresh(node) if known is None else self.number_of(known)
        return self.slots[node]

    def fresh(self, node: Expression) -> int:
        """Likewise, for a node that is no column."""
        match node:
            case Apply(op=Op.AND | Op.OR as op, arguments=(first, *rest)):  # pairwise, so that few slots are live
                number = self.slot(first)
                for operand in rest:
                    number = self.number_of(op, number, self.slot(operand))
                return number
            case Apply(op=op, arguments=arguments):
                return self.number_of(op, *map(self.slot, arguments))
            case Read(input=name, indices=indices):
                return self.number_of(self.tables[name], *map(self.slot, indices))
            case Constant():
                return self.number_of(node)
            case Coordinate() | InSpace() | Head() | Batch() | Score():
                raise AssertionError(f"{node} is no column")
            case _:
                assert_never(node)


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
