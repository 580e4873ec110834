"""Values of parameters as words of a command line, read by the language's own parser."""

import operator
from collections.abc import Callable, Mapping

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.commands.command import NotAValue
from maskdsl.base.source import Source
from maskdsl.syntax import tree
from maskdsl.syntax.parse import parse_expression

Number = int | float

ARITHMETIC: Mapping[str, Callable[[Number, Number], Number]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}
LARGEST_EXPONENT = 64


def read_value(text: str) -> object:
    """A number, a boolean, a name (of an axis), or a tuple of such values."""
    return value_of(parse_expression(Source("<command line>", text)))


def value_of(node: tree.Expression) -> object:
    match node:
        case tree.Integer(value=number) | tree.Float(value=number) | tree.Boolean(value=number):
            return number
        case tree.Name(id=name):
            return name
        case tree.Tuple(items=items):
            return tuple(map(value_of, items))
        case _:
            return number_of(node)


def number_of(node: tree.Expression) -> Number:
    """The result of constant arithmetic."""
    match node:
        case tree.Integer(value=number) | tree.Float(value=number):
            return number
        case tree.Unary(operator="-", operand=operand):
            return -number_of(operand)
        case tree.Unary(operator="+", operand=operand):
            return number_of(operand)
        case tree.Binary(operator=sign, left=left, right=right) if sign in ARITHMETIC:
            first, second = number_of(left), number_of(right)
            if sign != "**" or abs(second) <= LARGEST_EXPONENT:
                try:
                    return ARITHMETIC[sign](first, second)
                except ArithmeticError:
                    pass
    raise AttnError(NotAValue(text=node.span.text, span=node.span))
