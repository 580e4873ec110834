"""Conditions that read two integers by their difference alone, as `q - k`: one variable in place of two.

`k <= q` is `0 <= q - k`. Exact: the differences of two full ranges are one full range.
"""

from collections.abc import Mapping
from itertools import product

from maskdsl.ir.expressions import Apply, Constant, Coordinate, Expression, Side, apply, rebuild
from maskdsl.ir.facts.ranges import Range
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.ops import COMPARISONS, Op, Type

Values = dict[Expression, int]
_Sum = dict[Expression | None, int]
"""Integer factors of terms; of None, the constant."""
Shift = tuple[Coordinate, Coordinate, Coordinate]
"""A query's coordinate, a key's, and their difference."""


def shifted(
    condition: Expression, ranges: Mapping[Expression, Range]
) -> tuple[Expression, dict[Expression, Range], list[Shift]]:
    """The condition over differences where it can be, with the ranges of all that varies, and what was replaced."""
    found, shifts = dict(ranges), []
    leaves = reads(condition)
    for q, k in product(leaves.of(Side.QUERY), leaves.of(Side.KEY)):
        if not {q, k} <= set(reads(condition).leaves):
            continue
        difference = Coordinate(Side.TOKEN, f"{q.name} - {k.name}")
        replaced = rebuild(condition, lambda node, q=q, k=k, d=difference: _replacement(node, q, k, d))  # type: ignore[misc]
        if not {q, k} & set(reads(replaced).leaves):
            condition = replaced
            found[difference] = Range(found[q].low - found[k].high, found[q].high - found[k].low)
            shifts.append((q, k, difference))
    return condition, found, shifts


def unshifted(values: Mapping[Expression, int], ranges: Mapping[Expression, Range], shifts: list[Shift]) -> Values:
    """The values with those of the coordinates that were replaced."""
    found = dict(values)
    for q, k, difference in shifts:
        if difference in found:
            apart = found.pop(difference)
            found[k] = max(ranges[k].low, ranges[q].low - apart)
            found[q] = found[k] + apart
    return found


def _replacement(node: Expression, q: Expression, k: Expression, difference: Expression) -> Expression | None:
    """`q - k + x` as `difference + x`, and `k <= q + x` as `-difference - x <= 0`."""
    match node:
        case Apply(op=op, arguments=(a, b)) if op in COMPARISONS and a.type is Type.INT:
            balanced = _over_difference(_linear(apply(Op.SUBTRACT, a, b)), q, k, difference)
            return None if balanced is None else apply(op, balanced, Constant(0))
        case Apply(op=Op.ADD | Op.SUBTRACT | Op.NEGATE | Op.MULTIPLY) if node.type is Type.INT:
            return _over_difference(_linear(node), q, k, difference)
        case _:
            return None


def _over_difference(terms: _Sum, q: Expression, k: Expression, difference: Expression) -> Expression | None:
    factor = terms.get(q, 0)
    if not factor or terms.get(k, 0) != -factor:
        return None
    rest: _Sum = {difference: factor, **{term: each for term, each in terms.items() if term not in (q, k)}}
    total: Expression = Constant(rest.pop(None, 0))
    for term, each in rest.items():
        if each:
            assert term is not None
            total = apply(Op.ADD, total, apply(Op.MULTIPLY, Constant(each), term))
    return total


def _linear(expression: Expression) -> _Sum:
    """An integer as a sum of multiples of terms that are no sums themselves."""
    match expression:
        case Constant(value=value):
            return {None: int(value)}
        case Apply(op=Op.ADD | Op.SUBTRACT as op, arguments=(a, b)):
            return _added(_linear(a), _linear(b), 1 if op is Op.ADD else -1)
        case Apply(op=Op.NEGATE, arguments=(a,)):
            return _added({}, _linear(a), -1)
        case Apply(op=Op.MULTIPLY, arguments=(a, Constant(value=factor)) | (Constant(value=factor), a)):
            return _added({}, _linear(a), int(factor))
        case _:
            return {expression: 1}


def _added(a: _Sum, b: _Sum, factor: int) -> _Sum:
    return {term: a.get(term, 0) + factor * b.get(term, 0) for term in {**a, **b}}
