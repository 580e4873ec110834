"""Simplifies expressions without changing any value. Each rule is one law; a rule returns None where it doesn't apply.

Sums and products of integers may be reassociated: `bind` has proven that they stay within 64 bits.
"""

from collections.abc import Callable
from itertools import chain
from math import ceil, floor

import numpy as np

from maskdsl.ir.expressions import (
    FALSE,
    TRUE,
    Apply,
    Compound,
    Constant,
    Expression,
    Head,
    children,
    substitute,
    with_children,
)
from maskdsl.ir.numpy_operators import apply_operator, constant_array
from maskdsl.ir.ops import Op, Type

Rule = Callable[[Expression], Expression | None]

_LARGEST_CONSTANT = 2**31
"""The largest constant that `gather` and `whole` make, so that none leaves 64 bits."""


def simplify(expression: Expression, known: dict[Expression, Expression] | None = None) -> Expression:
    """Applies the rules bottom-up, to each node until none applies.

    `known` caches results by node; pass one dictionary for many expressions that share subexpressions.
    """
    known = {} if known is None else known

    def simple(node: Expression) -> Expression:
        if not isinstance(node, Compound):
            return node
        if node not in known:
            known[node] = _settled(with_children(node, tuple(map(simple, children(node)))))
        return known[node]

    return simple(expression)


def _settled(node: Expression) -> Expression:
    while (simpler := _first(node)) is not None:
        node = simpler
    return node


def _first(node: Expression) -> Expression | None:
    return next((simpler for rule in _RULES if (simpler := rule(node)) is not None), None)


def fold(node: Expression) -> Expression | None:
    """An operator on constants is a constant."""
    match node:
        case Apply(op=op, arguments=arguments):
            constants = [each for each in arguments if isinstance(each, Constant)]
            if len(constants) == len(arguments):
                with np.errstate(all="ignore"):
                    return Constant(apply_operator(op, *map(constant_array, constants)).item())
    return None


def flatten(node: Expression) -> Expression | None:
    """`a and (b and c)` is `a and b and c`; `or` likewise."""
    match node:
        case Apply(op=Op.AND | Op.OR as op, arguments=arguments):
            if any(isinstance(each, Apply) and each.op is op for each in arguments):
                nested = (
                    each.arguments if isinstance(each, Apply) and each.op is op else (each,) for each in arguments
                )
                return Apply(op, tuple(chain.from_iterable(nested)), span=node.span)
    return None


def absorb(node: Expression) -> Expression | None:
    """`a and True` is a, `a and False` is False, `a and a` is a; `or` likewise."""
    match node:
        case Apply(op=Op.AND | Op.OR as op, arguments=arguments):
            neutral, strong = (TRUE, FALSE) if op is Op.AND else (FALSE, TRUE)
            if strong in arguments:
                return strong
            rest = tuple(dict.fromkeys(each for each in arguments if each != neutral))
            if not rest:
                return neutral
            if len(rest) == 1:
                return rest[0]
            return None if len(rest) == len(arguments) else Apply(op, rest, span=node.span)
    return None


def contain(node: Expression) -> Expression | None:
    """`a or (a and b)` is a; `a and (a or b)` is a."""
    match node:
        case Apply(op=Op.AND | Op.OR as op, arguments=arguments):
            other = Op.OR if op is Op.AND else Op.AND
            alone = set(arguments)
            rest = tuple(
                each
                for each in arguments
                if not (isinstance(each, Apply) and each.op is other and alone.intersection(each.arguments))
            )
            if len(rest) < len(arguments):
                return rest[0] if len(rest) == 1 else Apply(op, rest, span=node.span)
    return None


def double_not(node: Expression) -> Expression | None:
    """`not not a` is a."""
    match node:
        case Apply(op=Op.NOT, arguments=(Apply(op=Op.NOT, arguments=(inner,)),)):
            return inner
    return None


def choose(node: Expression) -> Expression | None:
    """`a if True else b` is a; `a if c else a` is a."""
    match node:
        case Apply(op=Op.SELECT, arguments=(Constant(value=condition), then, otherwise)):
            return then if condition else otherwise
        case Apply(op=Op.SELECT, arguments=(_, then, otherwise)) if then == otherwise:
            return then
    return None


def neutral(node: Expression) -> Expression | None:
    """`x + 0`, `x - 0`, `x * 1` and `x // 1` are x, for integers."""
    match node:
        case Apply(op=Op.ADD | Op.SUBTRACT, arguments=(x, Constant(value=0))) if node.type is Type.INT:
            return x
        case Apply(op=Op.ADD, arguments=(Constant(value=0), x)) if node.type is Type.INT:
            return x
        case Apply(op=Op.MULTIPLY | Op.FLOOR_DIVIDE, arguments=(x, Constant(value=1))) if node.type is Type.INT:
            return x
        case Apply(op=Op.MULTIPLY, arguments=(Constant(value=1), x)) if node.type is Type.INT:
            return x
    return None


def vanish(node: Expression) -> Expression | None:
    """`x % 1` and `x * 0` are 0, for integers."""
    match node:
        case Apply(op=Op.FLOOR_MODULO, arguments=(_, Constant(value=1))):
            return Constant(0, span=node.span)
        case Apply(op=Op.MULTIPLY, arguments=(_, Constant(value=0)) | (Constant(value=0), _)) if node.type is Type.INT:
            return Constant(0, span=node.span)
    return None


def gather(node: Expression) -> Expression | None:
    """`(x + 8) - 1` is `x + 7`: the constants of a sum of integers are added."""
    if not isinstance(node, Apply):
        return None
    outer, inner = _shifted(node), _shifted(node.arguments[0])
    if outer is None or inner is None:
        return None
    x, offset = inner[0], outer[1] + inner[1]
    if abs(offset) > _LARGEST_CONSTANT:
        return None
    op = Op.ADD if offset >= 0 else Op.SUBTRACT
    return Apply(op, (x, Constant(abs(offset), span=node.span)), span=node.span)


def _shifted(node: Expression) -> tuple[Expression, int] | None:
    """(x, c) of `x + c`, (x, -c) of `x - c`; None for anything else."""
    match node:
        case Apply(op=Op.ADD | Op.SUBTRACT as op, arguments=(x, Constant(value=int(c)))) if node.type is Type.INT:
            return x, c if op is Op.ADD else -c
    return None


def whole(node: Expression) -> Expression | None:
    """`float(x) <= 2.5` is `x <= 2` and `2.5 < float(x)` is `2 < x`: integers are compared as integers."""
    match node:
        case Apply(Op.LESS | Op.LESS_EQUAL as op, (Apply(Op.TO_FLOAT, (x,)), Constant(float(bound)) as limit)):
            if abs(bound) <= _LARGEST_CONSTANT:
                nearest = Constant(floor(bound) if op is Op.LESS_EQUAL else ceil(bound), span=limit.span)
                return Apply(op, (x, nearest), span=node.span)
        case Apply(Op.LESS | Op.LESS_EQUAL as op, (Constant(float(bound)) as limit, Apply(Op.TO_FLOAT, (x,)))):
            if abs(bound) <= _LARGEST_CONSTANT:
                nearest = Constant(ceil(bound) if op is Op.LESS_EQUAL else floor(bound), span=limit.span)
                return Apply(op, (nearest, x), span=node.span)
    return None


_RULES: tuple[Rule, ...] = (fold, flatten, absorb, contain, double_not, choose, neutral, vanish, gather, whole)


def for_head(expression: Expression, head: int) -> Expression:
    """The expression for one head, simplified."""
    return simplify(substitute(expression, {Head(): Constant(head)}))


def head_classes(expression: Expression, heads: int) -> tuple[tuple[Expression, ...], tuple[int, ...]]:
    """The distinct expressions of the heads, and for each head the number of its class."""
    numbers: dict[Expression, int] = {}
    classes = tuple(numbers.setdefault(for_head(expression, head), len(numbers)) for head in range(heads))
    return tuple(numbers), classes
