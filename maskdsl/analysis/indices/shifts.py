"""Replaces two variables by their difference in conditions that read only that, such as `q - k`.

`k <= q` is `0 <= q - k`. Exact: the differences of two ranges form one range without gaps.
"""

from collections.abc import Mapping
from itertools import product

from maskdsl.ir.expressions import Apply, Constant, Coordinate, Expression, Side, apply, rebuild
from maskdsl.ir.facts.ranges import Range
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.ops import COMPARISONS, Op, Type

Values = dict[Expression, int]
_Sum = dict[Expression | None, int]
"""A linear sum: the integer factor of each term; the constant is that of None."""
Shift = tuple[Coordinate, Coordinate, Coordinate]
"""A coordinate of the query, one of the key, and the variable for their difference."""


def shifted(
    condition: Expression, ranges: Mapping[Expression, Range]
) -> tuple[Expression, dict[Expression, Range], list[Shift]]:
    """The condition over differences where possible, the ranges of all variables, and the replacements made."""
    all_ranges, shifts = dict(ranges), []
    leaves = reads(condition)
    for q, k in product(leaves.of(Side.QUERY), leaves.of(Side.KEY)):
        if not {q, k} <= set(reads(condition).leaves):
            continue
        difference = Coordinate(Side.TOKEN, f"{q.name} - {k.name}")
        replaced = rebuild(condition, lambda node, q=q, k=k, d=difference: _replacement(node, q, k, d))  # type: ignore[misc]
        if not {q, k} & set(reads(replaced).leaves):
            condition = replaced
            all_ranges[difference] = Range(
                all_ranges[q].low - all_ranges[k].high, all_ranges[q].high - all_ranges[k].low
            )
            shifts.append((q, k, difference))
    return condition, all_ranges, shifts


def unshifted(values: Mapping[Expression, int], ranges: Mapping[Expression, Range], shifts: list[Shift]) -> Values:
    """The values with differences replaced by values of their two coordinates."""
    result = dict(values)
    for q, k, difference in shifts:
        if difference in result:
            distance = result.pop(difference)
            result[k] = max(ranges[k].low, ranges[q].low - distance)
            result[q] = result[k] + distance
    return result


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
    result: Expression = Constant(rest.pop(None, 0))
    for term, each in rest.items():
        if each:
            assert term is not None
            result = apply(Op.ADD, result, apply(Op.MULTIPLY, Constant(each), term))
    return result


def _linear(expression: Expression) -> _Sum:
    """An integer expression as a linear sum of terms that are not sums themselves."""
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
