"""Expressions made simpler without changing any value. Each rule is one law; None means that it doesn't apply.

Sums and products of integers may be regrouped: `bind` has proven that they stay within 64 bits.
"""

from collections.abc import Callable
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

_LARGEST_GATHERED = 2**31


def simplify(expression: Expression, known: dict[Expression, Expression] | None = None) -> Expression:
    """Applies the rules bottom-up, each node until none applies.

    `known` remembers what nodes have become, for many expressions that are made of each other.
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
            constants = [part for part in arguments if isinstance(part, Constant)]
            if len(constants) == len(arguments):
                with np.errstate(all="ignore"):
                    return Constant(apply_operator(op, *map(constant_array, constants)).item())
    return None


def flatten(node: Expression) -> Expression | None:
    """`a and (b and c)` is `a and b and c`; `or` likewise."""
    match node:
        case Apply(op=Op.AND | Op.OR as op, arguments=arguments):
            if any(isinstance(part, Apply) and part.op is op for part in arguments):
                nested = (
                    part.arguments if isinstance(part, Apply) and part.op is op else (part,) for part in arguments
                )
                return Apply(op, tuple(each for parts in nested for each in parts), span=node.span)
    return None


def absorb(node: Expression) -> Expression | None:
    """`a and True` is a, `a and False` is False, `a and a` is a; `or` likewise."""
    match node:
        case Apply(op=Op.AND | Op.OR as op, arguments=arguments):
            neutral, strong = (TRUE, FALSE) if op is Op.AND else (FALSE, TRUE)
            if strong in arguments:
                return strong
            rest = tuple(dict.fromkeys(part for part in arguments if part != neutral))
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
                part
                for part in arguments
                if not (isinstance(part, Apply) and part.op is other and alone.intersection(part.arguments))
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
    x, total = inner[0], outer[1] + inner[1]
    if abs(total) > _LARGEST_GATHERED:
        return None
    op = Op.ADD if total >= 0 else Op.SUBTRACT
    return Apply(op, (x, Constant(abs(total), span=node.span)), span=node.span)


def _shifted(node: Expression) -> tuple[Expression, int] | None:
    """x and c, of `x + c` or `x - c`."""
    match node:
        case Apply(op=Op.ADD | Op.SUBTRACT as op, arguments=(x, Constant(value=int(c)))) if node.type is Type.INT:
            return x, c if op is Op.ADD else -c
    return None


def whole(node: Expression) -> Expression | None:
    """`float(x) <= 2.5` is `x <= 2` and `2.5 < float(x)` is `2 < x`: integers are compared with integers."""
    match node:
        case Apply(Op.LESS | Op.LESS_EQUAL as op, (Apply(Op.TO_FLOAT, (x,)), Constant(float(bound)) as limit)):
            if abs(bound) <= _LARGEST_GATHERED:
                nearest = Constant(floor(bound) if op is Op.LESS_EQUAL else ceil(bound), span=limit.span)
                return Apply(op, (x, nearest), span=node.span)
        case Apply(Op.LESS | Op.LESS_EQUAL as op, (Constant(float(bound)) as limit, Apply(Op.TO_FLOAT, (x,)))):
            if abs(bound) <= _LARGEST_GATHERED:
                nearest = Constant(ceil(bound) if op is Op.LESS_EQUAL else floor(bound), span=limit.span)
                return Apply(op, (nearest, x), span=node.span)
    return None


_RULES: tuple[Rule, ...] = (fold, flatten, absorb, contain, double_not, choose, neutral, vanish, gather, whole)


def for_head(expression: Expression, head: int) -> Expression:
    """What an expression is for one head."""
    return simplify(substitute(expression, {Head(): Constant(head)}))


def head_classes(expression: Expression, heads: int) -> tuple[tuple[Expression, ...], tuple[int, ...]]:
    """The different expressions that the heads have, and which of them each head has."""
    numbers: dict[Expression, int] = {}
    classes = tuple(numbers.setdefault(for_head(expression, head), len(numbers)) for head in range(heads))
    return tuple(numbers), classes
