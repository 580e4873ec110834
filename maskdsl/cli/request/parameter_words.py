"""Reads values of parameters on the command line, with the parser of the language."""

import operator
from collections.abc import Callable, Mapping

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.commands.command import NotAValue
from maskdsl.base.source import Source
from maskdsl.syntax import tree
from maskdsl.syntax.parse import parse_expression

_Number = int | float

_ARITHMETIC: Mapping[str, Callable[[_Number, _Number], _Number]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}
_LARGEST_EXPONENT = 64


def read_value(text: str) -> object:
    """A number, a boolean, the name of an axis, or a tuple of such values. Raises `AttnError` (E505)."""
    return _value_of(parse_expression(Source("<command line>", text)))


def _value_of(node: tree.Expression) -> object:
    match node:
        case tree.Integer(value=number) | tree.Float(value=number) | tree.Boolean(value=number):
            return number
        case tree.Name(id=name):
            return name
        case tree.Tuple(items=items):
            return tuple(map(_value_of, items))
        case _:
            return _number_of(node)


def _number_of(node: tree.Expression) -> _Number:
    """The result of constant arithmetic."""
    match node:
        case tree.Integer(value=number) | tree.Float(value=number):
            return number
        case tree.Unary(operator="-", operand=operand):
            return -_number_of(operand)
        case tree.Unary(operator="+", operand=operand):
            return _number_of(operand)
        case tree.Binary(operator=sign, left=left, right=right) if sign in _ARITHMETIC:
            first, second = _number_of(left), _number_of(right)
            if sign != "**" or abs(second) <= _LARGEST_EXPONENT:
                try:
                    return _ARITHMETIC[sign](first, second)
                except ArithmeticError:
                    pass
    raise AttnError(NotAValue(text=node.span.text, span=node.span))
