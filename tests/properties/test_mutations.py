"""The properties notice mistakes: each of these breaks one thing on purpose, and a property must then fail.

The properties hold for the same cases while nothing is broken. `make mutants` breaks more, and runs the tests
themselves.
"""

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pytest

from maskdsl.emit.torch import pooling_function
from maskdsl.emit.torch.torch_printer import ATOM, COMPARISON, TorchPrinter
from maskdsl.ir import simplify
from maskdsl.ir.expressions import Apply, walk
from maskdsl.ir.facts import intervals
from maskdsl.ir.facts.intervals import Interval
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.numpy_operators import apply_operator
from maskdsl.ir.ops import Op
from tests.support.properties import (
    Case,
    calls,
    check_backends,
    check_intervals,
    check_simplify,
    check_tiles,
    expressions,
    sample,
)

pytestmark = pytest.mark.long
COUNT = 300


@cache
def drawn() -> list[tuple]:
    """Cases with tensors, their dense masks known before anything is broken."""
    found = [sample(calls(), number) for number in range(COUNT)]
    assert all(call[0].dense.ndim == 4 for call in found)
    return found


def using(op: Op) -> list[tuple]:
    """The cases in which an operator occurs."""
    return [call for call in drawn() if any(node.op is op for node in applications(call[0].mask))]


def applications(mask: MaskIR) -> Iterator[Apply]:
    return (node for each in expressions(mask) for node in walk(each) if isinstance(node, Apply))


def holds(check: Callable[..., None], calls: list[tuple]) -> bool:
    """Whether a property holds for all cases. Errors other than that it fails are errors here too."""
    assert len(calls) >= 10
    try:
        for call in calls:
            check(*call)
    except AssertionError:
        return False
    return True


def of_case(check: Callable[[Case], None]) -> Callable[..., None]:
    return lambda case, *_: check(case)


def intervals_hold(case: Case) -> None:
    for number in range(3):
        check_intervals(case, number)


@pytest.mark.parametrize("check", [intervals_hold, check_tiles, check_simplify])
def test_unbroken(check):
    assert holds(of_case(check), drawn()[:100])


def test_unbroken_backends():
    assert holds(check_backends, drawn()[:60])


# Rules of intervals


def ends(op: Op):
    """The operator on both low ends and on both high ends, as if it rose in every operand."""
    return lambda *operands: Interval(
        apply_operator(op, *(each.low for each in operands)), apply_operator(op, *(each.high for each in operands))
    )


def toward_zero(a: Interval, b: Interval) -> Interval:
    with np.errstate(all="ignore"):
        quotients = [np.trunc(x / y).astype(np.int64) for x in (a.low, a.high) for y in (b.low, b.high)]
    return Interval(np.minimum.reduce(quotients), np.maximum.reduce(quotients))


BROKEN_RULES = {
    Op.ADD: lambda a, b: Interval(a.low + b.high, a.high + b.high),
    Op.SUBTRACT: ends(Op.SUBTRACT),
    Op.MULTIPLY: ends(Op.MULTIPLY),
    Op.FLOOR_DIVIDE: toward_zero,
    Op.FLOOR_MODULO: ends(Op.FLOOR_MODULO),
    Op.NEGATE: lambda a: Interval(-a.low, -a.high),
    Op.ABSOLUTE: ends(Op.ABSOLUTE),
    Op.MINIMUM: lambda a, b: Interval(np.maximum(a.low, b.low), np.minimum(a.high, b.high)),
    Op.MAXIMUM: lambda a, b: Interval(np.maximum(a.low, b.low), np.minimum(a.high, b.high)),
    Op.LESS: ends(Op.LESS),
    Op.LESS_EQUAL: lambda a, b: Interval(a.high <= b.high, ~(a.low > b.high)),
    Op.EQUAL: ends(Op.EQUAL),
    Op.NOT_EQUAL: lambda a, b: Interval(a.low != b.low, a.high != b.high),
    Op.NOT: lambda a: Interval(~a.low, ~a.high),
    Op.AND: lambda *parts: parts[0],
    Op.OR: lambda *parts: parts[-1],
    Op.SELECT: lambda condition, then, otherwise: then,
    Op.IS_POWER_OF_TWO: ends(Op.IS_POWER_OF_TWO),
}


@pytest.mark.parametrize("op", BROKEN_RULES)
def test_a_broken_interval_is_noticed(op, monkeypatch):
    monkeypatch.setitem(intervals.RULES, op, BROKEN_RULES[op])
    assert not holds(of_case(intervals_hold), using(op))


@pytest.mark.parametrize("op", [Op.SUBTRACT, Op.ABSOLUTE, Op.LESS_EQUAL, Op.NOT, Op.FLOOR_MODULO])
def test_wrong_tiles_are_noticed(op, monkeypatch):
    monkeypatch.setitem(intervals.RULES, op, BROKEN_RULES[op])
    assert not holds(of_case(check_tiles), using(op))


# Printers and rules of simplification (the Triton printer: see test_triton.py)


@pytest.mark.parametrize("op", [Op.FLOOR_DIVIDE, Op.FLOOR_MODULO])
def test_rounding_toward_zero_is_noticed_in_torch(op, monkeypatch):
    right = TorchPrinter.apply

    def apply(self, each, arguments):
        if each is not op:
            return right(self, each, arguments)
        a, b = (f"torch.as_tensor({self.operand(argument, COMPARISON)})" for argument in arguments)
        text = f'torch.div({a}, {b}, rounding_mode="trunc")' if op is Op.FLOOR_DIVIDE else f"torch.fmod({a}, {b})"
        return text, ATOM

    monkeypatch.setattr(TorchPrinter, "apply", apply)
    assert not holds(check_backends, using(op))


def test_a_wrong_law_is_noticed(monkeypatch):
    """`x - c + d` as if it were `x + c + d`."""

    def shifted(node):
        found = right(node)
        return None if found is None else (found[0], abs(found[1]))

    right = simplify._shifted
    monkeypatch.setattr(simplify, "_shifted", shifted)
    assert not holds(of_case(check_simplify), using(Op.SUBTRACT))


@pytest.mark.parametrize(
    ("right", "wrong"), [("count.clamp(min=1)", "torch.tensor(box).prod()"), ("in (0, count)", "in (count, 0)")]
)
def test_wrong_boxes_at_borders_are_noticed(right, wrong, monkeypatch):
    """Means over whole boxes where the border cuts them, and boxes that are cut at the first token."""
    lines = pooling_function.definitions("pooling")
    assert any(right in line for line in lines)
    monkeypatch.setattr(pooling_function, "definitions", lambda name: [line.replace(right, wrong) for line in lines])
    assert not holds(check_backends, [call for call in drawn() if call[0].mask.keys.is_pooled])
