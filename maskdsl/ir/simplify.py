"""Expressions made simpler without changing any value. Each rule is one law; None means that it doesn't apply."""

import numpy as np

from maskdsl.ir.expressions import FALSE, TRUE, Apply, Constant, Expression, Head, rebuild, substitute
from maskdsl.ir.operators import apply_operator, constant_array
from maskdsl.ir.ops import Op


def simplify(expression: Expression) -> Expression:
    return rebuild(expression, lambda node: fold(node) or absorb(node) or choose(node))


def fold(node: Expression) -> Expression | None:
    """An operator on constants is a constant."""
    match node:
        case Apply(op=op, arguments=arguments):
            constants = [part for part in arguments if isinstance(part, Constant)]
            if len(constants) == len(arguments):
                with np.errstate(all="ignore"):
                    return Constant(apply_operator(op, *map(constant_array, constants)).item())
    return None


def absorb(node: Expression) -> Expression | None:
    """`a and True` is a, `a and False` is False, and so on for `or`."""
    match node:
        case Apply(op=Op.AND | Op.OR as op, arguments=arguments):
            neutral, strong = (TRUE, FALSE) if op is Op.AND else (FALSE, TRUE)
            if strong in arguments:
                return strong
            rest = tuple(dict.fromkeys(part for part in arguments if part != neutral))
            if len(rest) == 1:
                return rest[0]
            return None if len(rest) == len(arguments) else Apply(op, rest, span=node.span)
    return None


def choose(node: Expression) -> Expression | None:
    """`a if True else b` is a."""
    match node:
        case Apply(op=Op.SELECT, arguments=(Constant(value=condition), then, otherwise)):
            return then if condition else otherwise
    return None


def for_head(expression: Expression, head: int) -> Expression:
    """What an expression is for one head."""
    return simplify(substitute(expression, {Head(): Constant(head)}))


def head_classes(expression: Expression, heads: int) -> tuple[tuple[Expression, ...], tuple[int, ...]]:
    """The different expressions that the heads have, and which of them each head has."""
    numbers: dict[Expression, int] = {}
    classes = tuple(numbers.setdefault(for_head(expression, head), len(numbers)) for head in range(heads))
    return tuple(numbers), classes
