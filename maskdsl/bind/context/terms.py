"""Applies operators to typed terms: promotion, type errors, static ranges, constant folding, limits of size."""

from collections.abc import Sequence
from math import isfinite, isinf

import numpy as np

from maskdsl.base.errors.language.limits import TooDeep, TooLarge
from maskdsl.base.errors.language.types import (
    BooleanArithmetic,
    DivisionByZero,
    IntegerDivision,
    NotFinite,
    Overflow,
    PossibleZero,
    RoundsUnbounded,
    TypeMismatch,
    WrongExponent,
)
from maskdsl.base.source import Span
from maskdsl.bind.context.bound_values import BAD, Bad, Term, Value, constant, describe, why_unknown
from maskdsl.bind.context.frame import Frame
from maskdsl.bind.context.report import DEEPEST, MOST_NODES
from maskdsl.ir.expressions import Apply, Constant, Expression, Read
from maskdsl.ir.facts.intervals import Interval
from maskdsl.ir.facts.ranges import ENTRY_NUMBERS, INT32, INT64, Range, Reach, apply_reach
from maskdsl.ir.numpy_operators import apply_operator, constant_array
from maskdsl.ir.ops import BOOL, COMPARISONS, FLOAT, INT, OPERATORS, ROUNDINGS, Op, Type
from maskdsl.ir.simplify import absorb, choose


def operate(frame: Frame, op: Op, span: Span, *operands: Value) -> Term | Bad:
    """Applies an operator to operands of any kind; BAD, with a report, if they do not fit."""
    terms = as_terms(frame, op, span, operands)
    if terms is None:
        return BAD
    if op is Op.POWER and not _check_exponent(frame, span, terms):
        return BAD
    if op in (Op.FLOOR_DIVIDE, Op.FLOOR_MODULO):
        divisor = terms[1].range
        assert isinstance(divisor, Range)
        if 0 in divisor:
            at = terms[1].expression.span or span
            if divisor.low == divisor.high:
                return frame.add(DivisionByZero(span=at))
            return frame.add(PossibleZero(span=at, low=divisor.low, high=divisor.high))
    if op is Op.DIVIDE and terms[1].constant == 0:
        return frame.add(DivisionByZero(span=terms[1].expression.span or span))
    if op in ROUNDINGS and not _may_round(frame, op, terms[0]):
        return BAD
    return make(frame, span, Apply(op, tuple(term.expression for term in terms), span=span), terms)


def make(frame: Frame, span: Span, node: Apply | Read, operands: Sequence[Term]) -> Term | Bad:
    """The term of a node with these operands, folded if all are constant. Raises `AttnError` at the limits of size."""
    reach = _range(node, operands)
    if isinstance(reach, Range) and (reach.low not in INT64 or reach.high not in INT64):
        low, high = (_shown(bound) for bound in reach)
        return frame.add(Overflow(span=span, low=low, high=high, advice=_advice(operands)))
    expression: Expression = node
    if isinstance(node, Apply):
        if all(isinstance(each.expression, Constant) for each in operands):
            return _fold(frame, span, node)
        expression = absorb(node) or choose(node) or node
    size = 1 + sum(each.size for each in operands)
    depth = 1 + max((each.depth for each in operands), default=0)
    if size > MOST_NODES:
        frame.report.stop(TooLarge(span=span, what="the pattern is", limit=MOST_NODES), frame.calls)
    if depth > DEEPEST:
        frame.report.stop(TooDeep(span=span, limit=DEEPEST), frame.calls)
    return Term(expression, reach, size, depth)


def _shown(bound: int) -> str:
    if -(10**19) < bound < 10**19:
        return f"{bound:,}"
    sign = "-" if bound < 0 else ""
    return f"{sign}2**{abs(bound).bit_length() - 1} and more"


def _advice(operands: Sequence[Term]) -> str:
    """How to bound an operand that may be any integer: one that was rounded, of an input."""
    anything = next((each.expression.span for each in operands if each.range == INT64), None)
    return "" if anything is None else f"bound what an input decides: `clamp({anything.text}, -1000, 1000)`"


def _range(node: Apply | Read, operands: Sequence[Term]) -> Reach:
    if isinstance(node, Apply):
        return apply_reach(node, tuple(each.range for each in operands))
    if node.type is not Type.INT:
        return None
    return ENTRY_NUMBERS if node.sparse else INT32


def _may_round(frame: Frame, op: Op, term: Term) -> bool:
    """Whether what is rounded stays within 64 bits, unless an input decides it; reported if not."""
    if not isinstance(term.range, Interval):
        return True
    low, high = float(term.range.low), float(term.range.high)
    span, function = term.expression.span, OPERATORS[op].function
    if not (isfinite(low) and isfinite(high)):
        frame.add(RoundsUnbounded(span=span, function=function))
        return False
    if low < -(2.0**63) or high >= 2.0**63:
        frame.add(Overflow(span=span, low=_shown(int(low)), high=_shown(int(high))))
        return False
    return True


def _fold(frame: Frame, span: Span, node: Apply) -> Term | Bad:
    operands = [each for each in node.arguments if isinstance(each, Constant)]
    with np.errstate(all="ignore"):
        value = apply_operator(node.op, *map(constant_array, operands)).item()
    is_meant = value == value and any(isinf(each.value) for each in operands)
    if not isfinite(value) and not is_meant:
        return frame.add(NotFinite(span=span, value=value))
    return constant(value, span)


def as_terms(frame: Frame, op: Op, span: Span, operands: Sequence[Value]) -> list[Term] | None:
    """The operands with the types that the operator needs; None if they do not have them."""
    terms: list[Term] = []
    for operand in operands:
        match operand:
            case Bad():
                pass
            case Term():
                terms.append(operand)
            case _:
                result = describe(operand)
                expected = "a boolean" if OPERATORS[op].types == BOOL else "a number"
                frame.add(TypeMismatch(span=span, what="an operand", found=result, expected=expected))
    if len(terms) < len(operands):
        return None
    types = OPERATORS[op].types
    if op is Op.TO_FLOAT:
        return _numbers(frame, terms, span)
    if types in (BOOL, INT):
        return _all_of(frame, terms, span, types[0])
    if op is Op.SELECT:
        condition, *branches = terms
        if _all_of(frame, [condition], span, Type.BOOL) is None:
            return None
        unified = _unified(frame, branches, span)
        return None if unified is None else [condition, *unified]
    if op in COMPARISONS:
        if op in (Op.EQUAL, Op.NOT_EQUAL) and all(term.type is Type.BOOL for term in terms):
            return terms
        return _unified(frame, terms, span) if _numbers(frame, terms, span) else None
    if _numbers(frame, terms, span) is None:
        return None
    if op is Op.DIVIDE and all(term.type is Type.INT for term in terms):
        frame.add(IntegerDivision(span=span))
        return None
    if types == FLOAT:
        return [promoted(frame, term) for term in terms]
    return _unified(frame, terms, span)


def promoted(frame: Frame, term: Term) -> Term:
    """The term converted to a float if it is an integer."""
    if term.type is not Type.INT:
        return term
    span = term.expression.span or Span(frame.declared.program.root.span.source, 0, 0)
    made = make(frame, span, Apply(Op.TO_FLOAT, (term.expression,), span=span), [term])
    assert isinstance(made, Term)
    return made


def _unified(frame: Frame, terms: list[Term], span: Span) -> list[Term] | None:
    """The terms in one type: integers are promoted if one is a float. None, with a report, for mixed booleans."""
    types = {term.type for term in terms}
    if len(types) == 1:
        return terms
    if Type.BOOL in types:
        wrong = next(term for term in terms if term.type is not Type.BOOL)
        mismatch = TypeMismatch(span=span, what="one of the two", found=describe(wrong), expected="a boolean")
        frame.add(mismatch)
        return None
    return [promoted(frame, term) for term in terms]


def _numbers(frame: Frame, terms: list[Term], span: Span) -> list[Term] | None:
    wrong = [term for term in terms if term.type is Type.BOOL]
    for term in wrong:
        frame.add(BooleanArithmetic(span=term.expression.span or span))
    return None if wrong else terms


def _all_of(frame: Frame, terms: list[Term], span: Span, kind: Type) -> list[Term] | None:
    wrong = [term for term in terms if term.type is not kind]
    for term in wrong:
        expected = {Type.INT: "an integer", Type.FLOAT: "a float", Type.BOOL: "a boolean"}[kind]
        mismatch = TypeMismatch(span=term.expression.span or span, what="this", found=describe(term), expected=expected)
        frame.add(mismatch)
    return None if wrong else terms


def _check_exponent(frame: Frame, span: Span, terms: list[Term]) -> bool:
    base, exponent = terms
    at = exponent.expression.span or span
    if exponent.constant is None:
        frame.add(WrongExponent(span=at, expected="a constant", found=why_unknown(exponent)))
        return False
    if base.type is Type.INT and exponent.constant < 0:
        expected = "at least 0 for an integer base"
        frame.add(WrongExponent(span=at, expected=expected, found=f"this is {exponent.constant}"))
        return False
    return True
